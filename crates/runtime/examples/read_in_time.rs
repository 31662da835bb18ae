//! Reads a file that may be on a slow file system, and gives it five seconds.
#![expect(clippy::print_stdout, reason = "an example prints")]

use std::time::Duration;

use handover_runtime::Shortage;
use handover_runtime::offload::{self, offload};
use handover_runtime::time_limit::timeout;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A lack of threads is found here, where the program may still end.
    offload::prepare()?;
    let path = std::env::args().nth(1).unwrap_or("/etc/hostname".into());
    let reading = offload(move || std::fs::read(path));
    match timeout(Duration::from_secs(5), reading).await? {
        Ok(content) => println!("{} bytes", content?.len()),
        Err(error) => match Shortage::of(&error) {
            Some(shortage) => println!("worth another try: there are not enough {shortage}"),
            None => return Err(error.into()),
        },
    }
    Ok(())
}
