//! The tokio driver of Handover: one control loop around the state machine of `handover-core`.
//!
//! **What it is.** An [`Agent`] drives a [`Proxy`]: it runs one instance per epoch, reports to the
//! state machine what happened, and carries out its outputs. A [`Handle`] requests configurations
//! from any task. The crates `handover-process` and `handover-watch` have child processes and
//! watched files.
//!
//! **What it does not do.** The agent decides nothing. The policy and `handover-core` decide what
//! is started, retried, aborted or given up. The crate knows no particular proxy; that of Envoy is
//! `handover-envoy`.
//!
//! **Who calls it.** A program that keeps another program running. A single-threaded runtime is
//! enough.
//!
//! **Which types first.** [`Proxy`], which you implement, then [`Agent`] and [`Handle`].
//!
//! ```
//! use std::sync::Arc;
//!
//! use async_trait::async_trait;
//! use handover_core::{Epoch, Outcome, Policy, Target, Urgency};
//! use handover_tokio::{Agent, Proxy, RunControl, RunError};
//!
//! struct Hello;
//!
//! #[async_trait]
//! impl Proxy for Hello {
//!     type Config = String;
//!
//!     async fn run(
//!         &self,
//!         target: Target<String>,
//!         epoch: Epoch,
//!         control: RunControl,
//!     ) -> Result<(), RunError> {
//!         let Target::Serve(config) = target else { return Ok(()) }; // There is nothing to drain.
//!         println!("epoch {epoch} serves {config}");
//!         control.live();
//!         tokio::select! {
//!             // A newer epoch serves. There is nothing to finish, so this one ends.
//!             by = control.retired() => {
//!                 println!("epoch {epoch} gives way to {by}");
//!                 Ok(())
//!             }
//!             _ = control.abort() => Err(RunError::Aborted),
//!         }
//!     }
//!
//!     fn cleanup(&self, epoch: Epoch) {
//!         println!("epoch {epoch} is gone");
//!     }
//!
//!     fn panic(&self, config: &String) {
//!         println!("gave {config} up");
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let agent = Agent::new(Arc::new(Hello), Policy::resilient())?;
//! let handle = agent.handle();
//! let running = tokio::spawn(agent.run(std::future::pending()));
//!
//! assert_eq!(handle.apply_and_wait("good morning".into()).await?, Epoch::ZERO);
//! assert_eq!(handle.apply_and_wait("good evening".into()).await?, Epoch::new(1));
//! // Each retired epoch has ended, so the cap of `resilient` holds nothing back.
//! handle.apply_and_wait("good night".into()).await?;
//! handle.terminate(Urgency::Drain);
//! assert_eq!(running.await?, Outcome::Drained);
//! # Ok(())
//! # }
//! ```

mod agent;
mod control;
mod handle;
mod log;
mod observer;
mod proxy;
mod status;
#[cfg(any(test, doctest))]
mod told;

pub use handover_core as core;

pub use agent::Agent;
pub use control::RunControl;
pub use handle::{Applied, ApplyError, Followed, Handle, NotLive};
pub use observer::Observer;
pub use proxy::{Proxy, RunError};
pub use status::{Failure, Status, error_chain};

/// The example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadMe;
