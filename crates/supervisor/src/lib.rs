//! The decisions of a supervisor that are the same for every supervised server.
//!
//! **What it is.** Two things:
//!
//! - An [`Operator`](operator::Operator) decides what follows from signals, from clients of a control
//!   socket and from changed files. It decides what is read, what the agent is asked for, and when
//!   everything ends. It also decides the answers to clients and the reports to a service manager. It is
//!   pure, and stands beside the state machine of `handover-core`, which decides which epoch runs.
//! - A [`Supervisor`] carries out what both machines decide. It is given a proxy and a [`Source`] of
//!   configurations. It answers signals and the clients of a [control socket](control), and follows the
//!   watched [`Files`].
//!
//! A proxy of your own needs [`Operate`] beside `handover_tokio::Proxy`; all its methods have defaults. For
//! a server that takes listening sockets there is [`Program`](program::Program).
//!
//! **What it does not do.** It parses no flags, reads no environment and installs no logger, and it looks
//! into no configuration. It logs with `tracing`.
//!
//! **Who calls it.** Programs that keep a server running on Unix. The `handover` command is one.
//!
//! **Which types first.** [`Supervisor`], [`Source`], [`Operate`]. For the pure machine alone:
//! [`Operator`](operator::Operator), [`Input`](operator::Input), [`Output`](operator::Output).

#![forbid(unsafe_code)]

extern crate alloc;

mod awaited;
mod change_loop;
pub mod control;
mod driver;
mod due_look;
pub mod events;
mod files;
mod history;
mod hook;
mod job;
pub mod metrics;
mod operate;
pub mod operator;
pub mod program;
pub mod recorder;
mod service_manager;
mod signals;
mod source;
mod statistics;
pub mod status_server;
mod supervisor;
pub mod sysexits;
#[cfg(any(test, doctest))]
mod told;
mod verify;
mod who;

// What the signatures of this crate name.
pub use handover_netutil as netutil;
pub use handover_process as process;
pub use handover_tokio as agent;
pub use handover_watch as watch;

pub use awaited::AwaitedFiles;
pub use files::Files;
pub use hook::Hooks;
pub use job::{Job, JobError};
pub use operate::{
    EpochFacts, EpochListeners, Examination, Facts, Listener, Operate, Purpose, Totals,
};
pub use service_manager::ServiceManager;
pub use signals::Signals;
pub use source::{BoxError, Keeping, Read, Source};
pub use statistics::{EpochStatistics, NotScraped, StatisticsText};
pub use supervisor::{BuildError, Builder, Ended, Supervisor};
pub use verify::Verify;

/// The example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadMe;
