//! The Envoy adapter of Handover: everything it knows of Envoy's flags, files and admin endpoint.
//!
//! **What it is.** [`Envoy`] is a `Proxy` of `handover-tokio`: an `Agent` runs one Envoy per epoch
//! with it, and replaces it by hot restart without losing a request. [`Envoy::builder`] has a default
//! for every setting. A whole program, which hands over once and then drains:
//!
//! ```no_run
//! use std::{env::args_os, path::Path, sync::Arc};
//!
//! use handover_envoy::handover_core::{Policy, Urgency};
//! use handover_envoy::handover_tokio::Agent;
//! use handover_envoy::{Envoy, EnvoyConfig};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let [binary, first, second] = [1, 2, 3].map(|at| args_os().nth(at).unwrap_or_default());
//!     let envoy = Envoy::builder(binary).build()?;
//!     let agent = Agent::new(Arc::new(envoy), Policy::resilient())?;
//!     let handle = agent.handle();
//!     let running = tokio::spawn(agent.run(std::future::pending()));
//!     for config in [first, second] {
//!         let config = Arc::new(EnvoyConfig::read(Path::new(&config))?);
//!         println!("epoch {} serves", handle.apply_and_wait(config).await?);
//!     }
//!     handle.terminate(Urgency::Drain);
//!     println!("{:?}", running.await?);
//!     Ok(())
//! }
//! ```
//!
//! **What it does not do.** The crate prints nothing, reads no environment variable but `TMPDIR`, and
//! decides neither when an epoch is started nor how often: `handover-core` does.
//!
//! **What may grow.** Types with which this crate *tells* something are `#[non_exhaustive]`, so a
//! `match` needs an arm for the rest. Types that a caller *gives* are closed, and so is
//! [`validate::Verdict`].
//!
//! **What else is here.** Parts of the adapter that are useful alone:
//!
//! - `template` (with the feature of that name): renders a configuration from a template;
//! - [`bootstrap`], [`args`]: read the configuration and make the command line;
//! - [`version`], [`validate`]: ask the binary which version it is and whether a configuration is
//!   good;
//! - [`hot_restart`], [`files`]: own a base id, repair the shared memory, stand in for a dead parent,
//!   write the configuration file of each epoch;
//! - [`admin`]: asks the admin endpoint;
//! - [`failure`], [`report`], [`last_good`], [`Digest`]: explain an end, and keep what is needed
//!   later.
//!
//! The crates whose types stand in its signatures are re-exported, so a program needs no second dependency
//! for them:
//!
//! ```
//! use handover_envoy::handover_core::retry::Retry;
//! use handover_envoy::handover_process::{ExitCause, Signal, SpawnError, WaitError, queue};
//! use handover_envoy::handover_runtime::{Shortage, offload::OffloadError};
//! use handover_envoy::{Digest, DirectoryError, Envoy};
//!
//! let (sink, mut lines) = queue(64);
//! let builder = Envoy::builder("/usr/bin/envoy").output(sink);
//! ```

mod adapter;
pub mod admin;
pub mod args;
pub mod bootstrap;
#[doc(hidden)]
pub mod drain;
pub mod failure;
pub mod files;
pub mod hot_restart;
pub mod last_good;
pub mod overlay;
pub mod report;
mod syn_filter;
#[cfg(feature = "template")]
pub mod template;
pub mod validate;
pub mod version;

#[cfg(any(test, feature = "__fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;

mod capture;
mod gate;
mod listening;
mod rejection_reason;
mod statistics;
mod stopped;
mod text;

// The crates whose types stand in signatures of this one.
pub use handover_core;
pub use handover_process;
pub use handover_runtime;
pub use handover_tokio;

pub use adapter::{
    ClusterCounts, ConfigError, EndedEpoch, Envoy, EnvoyBuilder, EnvoyConfig, EnvoyFailed,
    EpochListeners, EpochOverview, EpochStatistics, Examination, Holding, HungAction,
    ListenerPurpose, ListenerSeen, MissingCluster, MissingListener, NotScraped, NotSideBySide,
    Observed, OnRequestError, Overview, RequestTotals, SetupError, StopOptions, Watchdog,
};

#[cfg(feature = "template")]
pub use adapter::RenderError;

pub use handover_files::{Digest, DirectoryError};
#[doc(hidden)]
pub use handover_netutil::connections;

/// What is found by the look around after a missed time limit can still be reported to the agent
/// before its own look around is over.
const _: () = {
    use handover_runtime::time_limit;
    assert!(time_limit::LATE.as_millis() == handover_core::LATE.as_millis());
    assert!(time_limit::LOOK_AROUND.as_millis() + 100 <= handover_core::LOOK_AROUND.as_millis());
};

/// The example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadMe;
