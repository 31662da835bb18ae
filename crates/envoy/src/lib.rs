//! The Envoy adapter of Handover: everything it knows of Envoy's flags, files and admin endpoint.
//!
//! The crate prints nothing, reads no environment variable and starts no serving Envoy by itself.
//! Each module stands alone; in the order in which a hand-over needs them:
//!
//! - [`version`], [`bootstrap`], [`args`], [`validate`]: is this binary an Envoy, what does the
//!   configuration say, what is the command line, is the configuration good;
//! - [`files`], [`hot_restart`]: the configuration file of each epoch, the base id and its lock, and
//!   the repair of shared memory after a failed epoch;
//! - [`admin`]: is the epoch live;
//! - [`failure`]: why did it end;
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
pub mod quiet;
pub mod validate;
pub mod version;

mod capture;
mod proc_net;
mod text;

pub use adapter::{
    ConfigError, Envoy, EnvoyConfig, EnvoyFailed, EnvoySettings, SetupError, StopOptions,
};
