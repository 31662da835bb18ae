//! The Envoy adapter of Handover: everything it knows of Envoy's flags, files and admin endpoint.
//!
//! The crate prints nothing, reads no environment variable and starts no serving Envoy by itself.
//! Each module stands alone; in the order in which a hand-over needs them:
//!
//! - `template` (with the feature of that name): the configuration, from a template;
//! - [`version`], [`bootstrap`], [`args`], [`validate`]: is this binary an Envoy, what does the
//!   configuration say, what is the command line, is the configuration good;
//! - [`files`], [`hot_restart`]: the configuration file of each epoch, the base id and its lock, and
//!   the repair of shared memory after a failed epoch;
//! - [`admin`]: is the epoch live;
//! - [`failure`], [`report`]: why did it end, and what is left of it;
//! - [`last_good`], [`Digest`]: which configuration went live last;
//! - [`drain`], [`connections`], [`quiet`]: has the old one finished its work.
//!
//! ```no_run
//! use handover_envoy::admin::{AdminClient, LivePoll};
//! use handover_envoy::bootstrap::Bootstrap;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let bootstrap = Bootstrap::read("/etc/envoy/envoy.yaml".as_ref())?;
//! let admin = AdminClient::new(bootstrap.admin);
//! let info = admin.wait_live(0, &LivePoll::default()).await?;
//! assert_eq!(info.restart_epoch, 0);
//! # Ok(())
//! # }
//! ```

mod adapter;
pub mod admin;
pub mod args;
pub mod bootstrap;
pub mod connections;
pub mod drain;
pub mod failure;
pub mod files;
pub mod hot_restart;
pub mod last_good;
pub mod quiet;
pub mod report;
#[cfg(feature = "template")]
pub mod template;
pub mod validate;
pub mod version;

#[cfg(any(test, feature = "__fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;

mod capture;
mod heard;
mod listening;
mod proc_net;
mod sock_diag;
mod text;

pub use adapter::{
    ConfigError, EndedEpoch, Envoy, EnvoyConfig, EnvoyFailed, EnvoySettings, EpochOverview,
    Holding, HungAction, NotSideBySide, OnRequestError, Overview, SetupError, StopOptions,
    Watchdog,
};

#[cfg(feature = "template")]
pub use adapter::RenderError;

pub use handover_files::{Digest, DirectoryError};

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
