//! Keeps a state that only one process at a time may change.
#![expect(clippy::print_stdout, reason = "an example prints")]

use handover_files::{Digest, LockFile, PrivateDir, TryLock, replace_durably};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let parent = tempfile::tempdir()?;
    let dir = PrivateDir::create(&parent.path().join("state"))?;
    match LockFile::try_lock(&dir.path().join("state.lock"), "the example")? {
        TryLock::HeldBy(owner) => println!("held by {}", owner.trim()),
        TryLock::Locked(_lock) => {
            let state = b"version 2";
            replace_durably(dir.path(), "state", &[state])?;
            println!("kept {}", Digest::of(state));
        }
    }
    Ok(())
}
