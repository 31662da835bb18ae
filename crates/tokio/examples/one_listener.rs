//! A server of one's own under an agent. Each configuration is an epoch, and all epochs share one listening socket.
//!
//! The next epoch accepts before the one before it stops, so no client is refused.
#![expect(clippy::print_stdout, reason = "an example prints")]

use std::sync::Arc;

use async_trait::async_trait;
use handover_core::{Epoch, Policy, Target, Urgency};
use handover_tokio::{Agent, Proxy, RunControl, RunError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Sends its configuration to each client.
struct Greeter {
    listener: TcpListener,
}

#[async_trait]
impl Proxy for Greeter {
    type Config = String;

    async fn run(
        &self,
        target: Target<String>,
        epoch: Epoch,
        control: RunControl,
    ) -> Result<(), RunError> {
        let Target::Serve(greeting) = target else {
            // An epoch answers a client before it looks at anything else: no connection is left to drain.
            return Ok(());
        };
        control.live();
        loop {
            tokio::select! {
                // In this order, so that a retired epoch takes no further client from the newer one.
                biased;
                _ = control.abort() => return Err(RunError::Aborted),
                by = control.retired() => {
                    println!("epoch {epoch} gives way to epoch {by}");
                    return Ok(());
                }
                accepted = self.listener.accept() => {
                    let (mut client, _) = accepted.map_err(RunError::transient)?;
                    if let Err(error) = client.write_all(greeting.as_bytes()).await {
                        println!("epoch {epoch} has lost a client: {error}");
                    }
                }
            }
        }
    }

    fn cleanup(&self, _: Epoch) {
        // The socket belongs to all epochs, and nothing else is left of one.
    }

    fn panic(&self, greeting: &String) {
        println!("`{greeting}` was given up");
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let agent = Agent::new(Arc::new(Greeter { listener }), Policy::resilient())?;
    let handle = agent.handle();
    let running = tokio::spawn(agent.run(std::future::pending()));

    // `resilient` lets two epochs run at once. The third one starts because each retired epoch ends.
    for greeting in ["good morning", "good evening", "good night"] {
        let epoch = handle.apply_and_wait(greeting.to_owned()).await?;
        let mut answer = String::new();
        let mut client = TcpStream::connect(address).await?;
        client.read_to_string(&mut answer).await?;
        println!("epoch {epoch} says {answer}");
    }
    handle.terminate(Urgency::Drain);
    println!("the agent has ended: {}", running.await?);
    Ok(())
}
