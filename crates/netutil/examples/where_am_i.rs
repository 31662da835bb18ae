//! Prints the addresses of this host, and the one from which a destination is reached:
//! `cargo run --example where_am_i example.com:https`.

#![expect(clippy::print_stdout, reason = "an example shows what it finds")]

use std::env;
use std::error::Error;
use std::time::Duration;

use handover_netutil::{private_ips, resolve_addr, source_address};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let found = private_ips(Some(Duration::from_secs(2))).await;
    for address in &found.addresses {
        println!("this host has {address}");
    }
    if !found.complete {
        println!("an interface still waits for its address, or there is none");
    }

    let destination = env::args().nth(1);
    let destination = resolve_addr(destination.as_deref().unwrap_or("localhost:80")).await?;
    let source = source_address(destination)?;
    println!("{destination} is reached from {source}");
    Ok(())
}
