//! Waits until something listens on an address: `cargo run --example wait_for_port 127.0.0.1:8080`.
//!
//! The policy says how often to try and how long to wait; the program waits and draws the random
//! number. Without an argument the example listens itself, so that it ends well.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "an example shows what it does, and only the caller of the library waits"
)]

use std::hash::{BuildHasher as _, RandomState};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;
use std::{env, io, thread};

use handover_retry::{Jitter, Retry};

fn main() -> io::Result<()> {
    let own = TcpListener::bind("127.0.0.1:0")?;
    let address = match env::args().nth(1) {
        Some(address) => address,
        None => own.local_addr()?.to_string(),
    };

    let policy = Retry::new(5, Duration::from_millis(100)).with_jitter(Jitter::percent(20));
    // The jitter spreads programs that start together, so each one needs another seed.
    let seed = RandomState::new().hash_one(&address);
    let mut delays = policy.delays(seed);
    loop {
        let Err(error) = TcpStream::connect(&address) else {
            println!("{address} is there");
            return Ok(());
        };
        let Some(delay) = delays.next() else {
            return Err(error);
        };
        println!("{address}: {error}; next try in {delay:?}");
        thread::sleep(delay);
    }
}
