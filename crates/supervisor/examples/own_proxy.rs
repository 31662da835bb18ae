//! A server of one's own under a supervisor: signals, a watched file, a control socket.
//!
//! Run it with a file and the path of a socket. Change the file, ask `handover status --socket SOCKET`, send
//! SIGHUP, then SIGTERM.

#![expect(clippy::print_stdout, reason = "the example shows what it does")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use async_trait::async_trait;
use handover_supervisor::agent::core::{Epoch, Target};
use handover_supervisor::agent::{Proxy, RunControl, RunError};
use handover_supervisor::control::Socket;
use handover_supervisor::{BoxError, Files, Operate, Read, Signals, Source, Supervisor};

struct Greeter;

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
            return Ok(()); // There is nothing to drain.
        };
        println!("epoch {epoch} says {}", greeting.trim());
        control.live();
        tokio::select! {
            _ = control.retired() => Ok(()),
            _ = control.abort() => Err(RunError::Aborted),
        }
    }

    fn cleanup(&self, _epoch: Epoch) {}

    fn panic(&self, _greeting: &String) {}
}

impl Operate for Greeter {}

struct Greeting(PathBuf);

impl Source for Greeting {
    type Config = String;

    fn name(&self) -> String {
        self.0.display().to_string()
    }

    fn read(&self, _files: &Files) -> Read<String> {
        let file = self.0.clone();
        Box::pin(async { Ok(std::fs::read_to_string(file)?) })
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, BoxError> {
    let mut words = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(file), Some(socket)) = (words.next(), words.next()) else {
        return Err("usage: own_proxy FILE SOCKET".into());
    };
    let signals = Signals::take_over()?;
    let supervisor = Supervisor::builder(Arc::new(Greeter), Greeting(file.clone()))
        .watch([file])
        .control(Socket::bind(&socket)?)
        .build()?;
    let ended = supervisor.run(signals).await?;
    println!("{ended}");
    Ok(ended.exit_code().into())
}
