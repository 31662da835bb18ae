//! How much memory an agent takes that has nothing to do.

use std::sync::Arc;

use async_trait::async_trait;
use handover_core::{Epoch, Policy, Target};
use handover_tokio::{Agent, Proxy, RunControl, RunError};

/// Serves until it is told to stop.
struct Idle;

#[async_trait]
impl Proxy for Idle {
    type Config = u32;

    async fn run(&self, _: Target<u32>, _: Epoch, control: RunControl) -> Result<(), RunError> {
        control.live();
        control.abort().await;
        Err(RunError::Aborted)
    }

    fn cleanup(&self, _: Epoch) {}

    fn panic(&self, _: &u32) {}
}

/// Returns the bytes that this process has in memory.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has /proc");
    let mut lines = status.lines();
    let size = lines.find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB"));
    let kilobytes: Option<usize> = size.and_then(|size| size.trim().parse().ok());
    kilobytes.expect("the kernel reports the resident memory") * 1_024
}

#[tokio::test]
async fn an_idle_agent_with_a_live_epoch_takes_a_few_kilobytes() {
    const AGENTS: usize = 2_000;
    let before = resident();
    let mut handles = Vec::with_capacity(AGENTS);
    for _ in 0..AGENTS {
        let agent = Agent::new(Arc::new(Idle), Policy::resilient()).unwrap();
        handles.push(agent.handle());
        let _running = tokio::spawn(agent.run(std::future::pending()));
    }
    for handle in &handles {
        assert_eq!(handle.apply_and_wait(1).await, Ok(Epoch::ZERO));
    }
    let each = resident().saturating_sub(before) / AGENTS;
    println!("{each} bytes for each agent");
    // The buffer of the events alone takes 16 kB. It is made with the first receiver.
    assert!(each < 10_000, "{each} bytes for each agent");
}
