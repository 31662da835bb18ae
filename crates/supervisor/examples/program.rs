//! Any server that takes listening sockets, under a supervisor: each change of a file leads to a new process
//! on the same socket.
//!
//! Run it with a file to watch and a command. The command gets the socket as `sd_listen_fds(3)` describes.

#![expect(clippy::print_stdout, reason = "the example shows what it does")]

use std::process::ExitCode;
use std::sync::Arc;

use handover_supervisor::program::{Program, Sockets, WatchedFiles};
use handover_supervisor::{BoxError, Signals, Supervisor};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, BoxError> {
    let mut words = std::env::args_os().skip(1);
    let (Some(file), Some(command)) = (words.next(), words.next()) else {
        return Err("usage: program FILE COMMAND [ARGUMENT]..".into());
    };
    let signals = Signals::take_over()?;
    let mut sockets = Sockets::new(false);
    let address = sockets.bind("http", ([127, 0, 0, 1], 0).into())?;
    println!("listening on {address}");
    let source = WatchedFiles::of(command.to_string_lossy());
    let program = Program::builder(command)
        .args(words)
        .sockets(sockets)
        .build();
    let supervisor = Supervisor::builder(Arc::new(program), source)
        .watch([file])
        .build()?;
    let ended = supervisor.run(signals).await?;
    println!("{ended}");
    Ok(ended.exit_code().into())
}
