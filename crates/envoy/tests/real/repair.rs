//! The flag that a failed epoch leaves set, and its repair.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use handover_envoy::failure::Failure;
use handover_envoy::hot_restart::{Repair, State};

use crate::support::{Epoch, Host, envoy, get};

/// Starts epoch 1 and kills it the moment it has set the flag; again where the kill came late.
fn killed_with_the_flag_set(host: &Host) {
    let memory = host.base_id.shared_memory();
    for _ in 0..20 {
        let mut epoch = host.start(1);
        let started = Instant::now();
        while memory.inspect().unwrap()
            == (State::Known {
                initializing: false,
            })
            && started.elapsed() < Duration::from_secs(2)
        {
            std::thread::sleep(Duration::from_micros(200));
        }
        epoch.kill();
        if memory.inspect().unwrap() == (State::Known { initializing: true }) {
            return;
        }
    }
    panic!("the flag was never seen set after a kill");
}

#[tokio::test]
async fn a_stuck_flag_blocks_and_its_repair_unblocks_while_requests_are_served() {
    let Some(binary) =
        envoy("a_stuck_flag_blocks_and_its_repair_unblocks_while_requests_are_served")
    else {
        return;
    };
    let host = Host::new(binary);
    let memory = host.base_id.shared_memory();
    assert_eq!(memory.inspect().unwrap(), State::Absent);
    let mut first = host.start_live(0).await;
    assert_eq!(
        memory.inspect().unwrap(),
        State::Known {
            initializing: false
        }
    );

    // A client that makes one request after the other, from here to the end.
    let stop = Arc::new(AtomicBool::new(false));
    let client = std::thread::spawn({
        let (stop, web) = (Arc::clone(&stop), host.web);
        move || {
            let mut served = 0;
            while !stop.load(Ordering::Relaxed) {
                get(web, "/").map_err(|error| format!("after {served}: {error}"))?;
                served += 1;
            }
            Ok::<u32, String>(served)
        }
    });

    host.write(1, &host.config(host.web));
    killed_with_the_flag_set(&host);
    // It blocks every further try.
    let mut blocked: Epoch = host.start(1);
    let status = blocked.wait();
    assert_eq!(
        Failure::classify(status, &blocked.stderr(), false),
        Failure::StillInitializing
    );
    assert_eq!(memory.clear_initializing().unwrap(), Repair::Cleared);
    assert_eq!(memory.clear_initializing().unwrap(), Repair::NotNeeded);

    // The same number goes live, the old epoch ends by itself.
    let mut second = host.start_live(1).await;
    assert!(first.wait().success());
    assert!(second.is_running());
    stop.store(true, Ordering::Relaxed);
    let served = client.join().unwrap().unwrap();
    assert!(served > 100, "only {served} requests");
}
