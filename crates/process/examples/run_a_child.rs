//! Starts a server, waits for its first line, and ends it.
#![expect(clippy::print_stdout, reason = "an example prints")]

use std::time::Duration;

use handover_process::{Command, Stop, queue};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (sink, mut lines) = queue(64);
    let child = Command::new("sh")
        .args(["-c", "echo serving; exec sleep 60"])
        .output(sink)
        .spawn()
        .await?;

    let line = lines.recv().await.ok_or("it ended without a word")?;
    println!("child: {}", String::from_utf8_lossy(&line.bytes));

    // SIGTERM, five seconds of grace, then SIGKILL to the whole process group.
    let stopped = child.stop(Stop::within(Duration::from_secs(5))).await?;
    println!("the child was {}", stopped.cause);
    Ok(())
}
