//! Envoy's admin endpoint: where it is, what it is asked, and how it is waited for.

mod address;
mod certificates;
mod client;
mod clusters;
mod evidence;
mod exchange;
mod exclude;
mod init_dump;
mod listeners;
mod live;
mod paths;
mod retry;
mod server_info;
mod stats;

#[cfg(test)]
pub(crate) mod fake_peer;
#[cfg(any(test, feature = "__fuzzing"))]
pub(crate) mod fuzzing;

pub use address::{AdminAddress, AdminAddressError};
pub(crate) use certificates::Certificates;
pub use client::{AdminClient, AdminError, DrainCall, HttpError, Ready};
pub(crate) use clusters::ClusterStates;
pub(crate) use evidence::{CLUSTERS, Fetched, Kept, LISTENERS, RequestCounter};
pub use exclude::{BadNamePattern, Exclude, NamePattern};
pub(crate) use init_dump::Targets;
pub use listeners::ActiveListener;
pub(crate) use listeners::{Place, is_same_place};
pub use live::{LivePoll, NotLive};
pub(crate) use paths::Refused;
pub use server_info::{ServerInfo, ServerState};
pub use stats::ListenerConnections;
