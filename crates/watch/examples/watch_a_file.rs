//! Watches a file, or makes one and changes it where no path is given.
#![expect(clippy::print_stdout, reason = "an example prints")]

use std::path::{Path, PathBuf};

use handover_watch::Watcher;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    if let Some(path) = std::env::args_os().nth(1) {
        let mut watcher = Watcher::new([PathBuf::from(path)])?;
        loop {
            report(&mut watcher).await;
        }
    }
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("app.conf");
    std::fs::write(&file, "workers = 2")?;
    let mut watcher = Watcher::new([&file])?;
    replace(&file, "workers = 3")?;
    report(&mut watcher).await;
    Ok(())
}

/// Waits for other content and prints where it is.
async fn report(watcher: &mut Watcher) {
    let change = watcher.changed().await;
    for path in &change.paths {
        println!("{} has other content", path.display());
    }
    for gap in watcher.gaps() {
        println!("some changes may go unreported: {gap}");
    }
}

/// A rename shows the new content whole, or the old one.
fn replace(file: &Path, content: &str) -> std::io::Result<()> {
    let new = file.with_extension("new");
    std::fs::write(&new, content)?;
    std::fs::rename(new, file)
}
