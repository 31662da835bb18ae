//! Runs a real Envoy, and hands over to another one with a second configuration.
//!
//! Usage: `hand_over ENVOY FIRST.yaml SECOND.yaml`
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{env::args_os, path::Path, sync::Arc};

use handover_envoy::handover_core::Policy;
use handover_envoy::handover_tokio::Agent;
use handover_envoy::{Envoy, EnvoyConfig};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [binary, first, second] = [1, 2, 3].map(|at| args_os().nth(at).unwrap_or_default());
    let envoy = Envoy::builder(binary).build()?;
    let agent = Agent::new(Arc::new(envoy), Policy::resilient())?;
    let handle = agent.handle();
    let running = tokio::spawn(agent.run(std::future::pending()));
    for config in [first, second] {
        let config = Arc::new(EnvoyConfig::read(Path::new(&config))?);
        println!("epoch {} serves", handle.apply_and_wait(config).await?);
    }
    handle.terminate();
    println!("{:?}", running.await?);
    Ok(())
}
