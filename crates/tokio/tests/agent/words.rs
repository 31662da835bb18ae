//! Errors and states in words.

use std::error::Error as _;
use std::sync::Arc;

use handover_core::{Epoch, Policy, Target};
use handover_tokio::{Agent, Failure, Proxy, RunControl, RunError, error_chain};

struct Tells;

#[async_trait::async_trait]
impl Proxy for Tells {
    type Config = ();

    async fn run(&self, _: Target<()>, _: Epoch, control: RunControl) -> Result<(), RunError> {
        Err(RunError::transient(format!("{control:?}")))
    }

    fn cleanup(&self, _: Epoch) {}

    fn panic(&self, (): &()) {}
}

fn failure(epoch: u32, message: &'static str) -> Failure {
    Failure {
        epoch: Epoch::new(epoch),
        error: Arc::new(std::io::Error::other(message)),
    }
}

#[test]
fn failures_are_equal_by_their_epochs_and_messages() {
    assert_eq!(failure(1, "a"), failure(1, "a"));
    assert_ne!(failure(1, "a"), failure(2, "a"));
    assert_ne!(failure(1, "a"), failure(1, "b"));
    assert_ne!(failure(1, "a"), failure(2, "b"));
}

#[test]
fn the_error_of_a_run_tells_its_severity_and_its_source() {
    let chains = [
        RunError::Aborted,
        RunError::transient("the port is taken"),
        RunError::permanent("an unknown field"),
    ]
    .map(|error| error_chain(&error));
    assert_eq!(
        chains,
        [
            "the epoch was aborted",
            "the epoch failed: the port is taken",
            "the epoch failed for good: an unknown field",
        ]
    );
    assert!(RunError::Aborted.source().is_none());
}

#[tokio::test(start_paused = true)]
async fn the_agent_its_handle_and_an_epoch_show_their_state() {
    let agent = Agent::new(Arc::new(Tells), Policy::default()).expect("it can be honoured");
    let handle = agent.handle();
    for shown in [format!("{agent:?}"), format!("{handle:?}")] {
        assert!(shown.contains("phase: Running"), "{shown}");
    }
    let running = tokio::spawn(agent.run(std::future::pending()));
    handle.apply(()).await.expect("it is taken in");
    let mut status = handle.status();
    let failed = status.wait_for(|status| status.last_failure.is_some());
    let told = failed.await.expect("it runs").last_failure.clone();
    let message = told.map(|failure| failure.message());
    let shown = "RunControl { withdrawn: false, retired_by: None, aborted: None, .. }";
    assert_eq!(message.as_deref(), Some(shown));
    handle.terminate(handover_core::Urgency::Kill);
    running.await.expect("the agent does not panic");
}
