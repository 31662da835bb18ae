//! The flag that a failed epoch leaves set, and its repair.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use handover_envoy::failure::Failure;
use handover_envoy::hot_restart::{Repair, SharedMemoryState};
use handover_test_support::require_envoy;

use crate::support::{Epoch, Host, get};

/// A live epoch 0 whose epoch 1 was killed just when it had set the flag. A kill that comes late hits an
/// epoch 1 that has taken over the listeners already; then everything starts again.
async fn killed_with_the_flag_set(binary: &Path) -> (Host, Epoch) {
    for _ in 0..20 {
        let host = Host::new(binary.to_owned());
        let memory = host.base_id.shared_memory();
        assert_eq!(memory.inspect().unwrap(), SharedMemoryState::Absent);
        let first = host.start_live(0).await;
        let clear = SharedMemoryState::Known {
            initializing: false,
        };
        assert_eq!(memory.inspect().unwrap(), clear);
        host.write(1, &host.config(host.web));
        let mut second = host.start(1);
        let started = Instant::now();
        while memory.inspect().unwrap() == clear && started.elapsed() < Duration::from_secs(2) {
            std::thread::sleep(Duration::from_micros(200));
        }
        second.kill();
        if memory.inspect().unwrap() == (SharedMemoryState::Known { initializing: true }) {
            return (host, first);
        }
    }
    panic!("the flag was never seen set after a kill");
}

#[tokio::test]
async fn a_stuck_flag_blocks_and_its_repair_unblocks_while_requests_are_served() {
    let binary = require_envoy!();
    let (host, mut first) = killed_with_the_flag_set(&binary).await;
    let memory = host.base_id.shared_memory();

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
