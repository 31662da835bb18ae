//! What this program supervises: an Envoy, or any program.
//!
//! They are one type, so the operator, its driver and the agent are in the binary once. With a type for each they
//! would be there twice. A build without Envoy has the program alone.

#[cfg(feature = "envoy")]
mod either;

#[cfg(feature = "envoy")]
pub(crate) use either::{Supervised, SupervisedSource};

/// What is supervised.
#[cfg(not(feature = "envoy"))]
pub(crate) type Supervised = handover_supervisor::program::Program;

/// Where its configuration comes from.
#[cfg(not(feature = "envoy"))]
pub(crate) type SupervisedSource = handover_supervisor::program::WatchedFiles;

/// Keeps it running.
pub(crate) type Supervisor = handover_supervisor::Supervisor<Supervised, SupervisedSource>;

/// Makes its supervisor.
pub(crate) type Builder = handover_supervisor::Builder<Supervised, SupervisedSource>;

/// Speaks to its agent.
#[cfg(all(feature = "envoy", feature = "tools"))]
pub(crate) type Handle = handover_tokio::Handle<<Supervised as handover_tokio::Proxy>::Config>;
