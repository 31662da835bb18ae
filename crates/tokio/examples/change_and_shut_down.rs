//! What happens to a change that is good, to one that is bad, and at a shutdown, as the events of the agent show it.
#![expect(clippy::print_stdout, reason = "an example prints")]

use std::sync::Arc;

use async_trait::async_trait;
use handover_core::{Epoch, Event, Policy, Target};
use handover_tokio::{Agent, NotLive, Proxy, RunControl, RunError};
use tokio::sync::{broadcast, oneshot};

/// Serves nobody, and rejects one configuration.
struct Server;

#[async_trait]
impl Proxy for Server {
    type Config = &'static str;

    async fn run(
        &self,
        target: Target<&'static str>,
        _: Epoch,
        control: RunControl,
    ) -> Result<(), RunError> {
        match target {
            // A server with clients waits here until they are gone. It must not wait for ever: the agent aborts
            // a drain that takes longer than its policy allows.
            Target::Drain => Ok(()),
            // A retry cannot mend it, so there is none.
            Target::Serve("broken") => Err(RunError::permanent("line 1: there is no port")),
            Target::Serve(_) => {
                control.live();
                tokio::select! {
                    _ = control.retired() => Ok(()),
                    _ = control.abort() => Err(RunError::Aborted),
                }
            }
        }
    }

    fn cleanup(&self, epoch: Epoch) {
        println!("    remove what epoch {epoch} has left");
    }

    fn panic(&self, configuration: &&'static str) {
        println!("    `{configuration}` was given up, and nothing else serves");
    }
}

/// Prints the events until the agent has ended.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "an example shows a few of the events"
)]
async fn show(mut events: broadcast::Receiver<Event>) {
    while let Ok(event) = events.recv().await {
        match event {
            Event::Started { epoch, .. } => println!("    epoch {epoch} starts"),
            Event::Live { epoch, .. } => println!("    epoch {epoch} is live"),
            Event::Exited { epoch, .. } => println!("    epoch {epoch} has ended"),
            Event::GaveUp { epoch, why, .. } => {
                println!("    the configuration of epoch {epoch} is given up: {why}");
            }
            // There are more, and later versions may have further ones.
            _ => {}
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let agent = Agent::new(Arc::new(Server), Policy::resilient())?;
    let handle = agent.handle();
    let shown = tokio::spawn(show(handle.events()));
    // In a program of yours this is `tokio::signal::ctrl_c()` or SIGTERM.
    let (shut_down, told) = oneshot::channel::<()>();
    let running = tokio::spawn(agent.run(async {
        // A sender that is gone asks for a shutdown too.
        let _gone = told.await;
    }));

    println!("good:");
    handle.apply_and_wait("port 8080").await?;
    println!("another good one:");
    handle.apply_and_wait("port 8081").await?;
    println!("a bad one:");
    match handle.apply_and_wait("broken").await {
        Err(NotLive::GivenUp { failure, .. }) => {
            let why = failure.map(|failure| failure.message());
            println!("  not live: {}", why.unwrap_or_default());
        }
        other => println!("  {other:?}"),
    }
    for running in &handle.status().borrow().epochs {
        println!("  epoch {} is {:?}", running.epoch, running.state);
    }

    println!("shutdown:");
    drop(shut_down);
    let outcome = running.await?;
    drop(handle);
    shown.await?;
    println!("the agent has ended: {outcome}");
    Ok(())
}
