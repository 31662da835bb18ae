//! An agent that replaces Envoy, and a test of it that needs no Envoy: the program is the fake itself.

#![expect(clippy::print_stdout, reason = "an example shows what it finds")]

use std::process::{Child, Command, ExitCode};
use std::time::Duration;

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    // Started with arguments, this program is the Envoy.
    if std::env::args().len() > 1 {
        return Ok(handover_fake_envoy::run(std::env::args_os()));
    }
    // Ten times as fast as the real one; the first try of epoch 1 crashes as it takes the listeners.
    let state = std::env::temp_dir().join(format!("test-your-agent-{}", std::process::id()));
    let fault = "--fake-time-scale 0.1 --fake-fault crash@listeners:epoch=1,once";
    let fake = format!("{fault} --fake-state {}", state.display());
    let mut old = start(0, &fake)?;
    let crashed = start(1, &fake)?.wait()?;
    println!("the first try of epoch 1 ended with {crashed}");
    let old_serves = old.try_wait()?.is_none();
    println!("epoch 0 still runs: {old_serves}");
    // Here a real agent clears the flag in shared memory, and starts epoch 1 again. This one gives up.
    old.kill()?;
    old.wait()?;
    std::fs::remove_dir_all(&state)?;
    std::fs::remove_file(format!("/dev/shm/envoy_shared_memory_{}0", base_id()))?;
    let as_expected = old_serves && !crashed.success();
    Ok(ExitCode::from(u8::from(!as_expected)))
}

/// Starts an epoch and gives it time, as an agent does that does not look.
fn start(epoch: u32, fake: &str) -> std::io::Result<Child> {
    let child = Command::new(std::env::current_exe()?)
        .args(["--config-yaml", "{}", "--restart-epoch", &epoch.to_string()])
        .args(["--base-id", &base_id().to_string()])
        .env(handover_fake_envoy::VARIABLE, fake)
        .spawn();
    std::thread::sleep(Duration::from_millis(500));
    child
}

/// A base id that no Envoy of this host has.
fn base_id() -> u32 {
    100_000_000 + std::process::id()
}
