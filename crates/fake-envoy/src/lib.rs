//! A fake Envoy for tests of agents that start, replace and end Envoy.
//!
//! The fake takes the arguments of Envoy, and hot restarts as the real one was measured to do: shared
//! memory with its flag, domain sockets, listening sockets passed on, drain and terminate. It serves an
//! admin endpoint, and HTTP/1.1 on its listeners, so that a test can count lost requests. A real Envoy
//! can take over from a fake one, and a fake one from a real one.
//!
//! A start takes 50 ms, as that of the real one, or less by `--fake-time-scale`. Faults come on demand,
//! at the moments at which a real Envoy rarely fails: see [`Fault`].
//!
//! # Test your own agent
//!
//! The program `handover-fake-envoy` is the Envoy. A test that should not depend on an installed program
//! can be the Envoy itself, because [`run`] is the whole of it:
//!
//! ```standalone_crate
//! use std::process::{Command, ExitCode};
//!
//! fn main() -> ExitCode {
//!     // Started with arguments, this program is the Envoy.
//!     if std::env::args().len() > 1 {
//!         return handover_fake_envoy::run(std::env::args_os());
//!     }
//!     let envoy = std::env::current_exe().expect("the path of this program");
//!     // Here your agent would start it. It ends with 3 once its configuration is read.
//!     let status = Command::new(envoy)
//!         .args(["--config-yaml", "{}", "--disable-hot-restart"])
//!         .env(handover_fake_envoy::VARIABLE, "--fake-fault exit=3@config")
//!         .status();
//!     match status {
//!         Ok(status) if status.code() == Some(3) => ExitCode::SUCCESS,
//!         Ok(_) | Err(_) => ExitCode::FAILURE,
//!     }
//! }
//! ```
//!
//! The example `test_your_agent` starts two epochs and lets the second one fail.
//!
//! # What is fake
//!
//! Flags that begin with `--fake-` set what Envoy does not have. They can come in the environment
//! variable [`VARIABLE`] too, because an agent may not let foreign flags through.
//!
//! | flag | meaning |
//! | --- | --- |
//! | `--fake-time-scale F` | the factor of all measured times, of the drain time and of the parent-shutdown time; default 1 |
//! | `--fake-flag-time-scale F` | the factor of the drain time and the parent-shutdown time alone; 1 for an agent that keeps these times itself |
//! | `--fake-fault TEXT` | a [`Fault`]; may come several times |
//! | `--fake-state DIR` | where starts are counted, for faults with `once` or `start=N` |
//! | `--fake-script-socket PATH` | the Unix socket of a driver that decides on faults; see below |
//! | `--fake-version X.Y.Z` | the version that it gives, and whose fields it knows: `admin.allow_paths` came with 1.37; default 1.40.0 |
//! | `--fake-hot-restart-version N.SIZE` | version and size of the shared memory; default 11.104 |
//!
//! # Faults
//!
#![doc = include_str!("faults.md")]
//!
//! # A driver that decides on faults
//!
#![doc = include_str!("script.md")]
//!
//! # What it does not do
//!
//! A part of the configuration that it does not serve is refused, with the name of the part: TLS, HTTP
//! filters other than `router` and `fault`, clusters and endpoints that are fetched, sources other than
//! REST. Listeners and routes that are fetched over REST are fetched once. What it cannot make of them it rejects,
//! and goes on. A child accepts once its parent has been told to drain, and a real one begins a moment before. Requests
//! are HTTP/1.1. A UDP
//! listener is bound and passed on, and nothing answers on it. It runs on Linux.

mod admin;
mod arguments;
mod child;
mod config;
mod context;
mod date;
mod faults;
mod http;
mod life;
mod log;
mod parent;
mod program;

mod script;
mod serve;
mod settings;
mod shared_memory;
mod sockets;
mod sources;
mod statistics;
mod wire;

pub use arguments::{Arguments, ArgumentsError, DrainStrategy, Mode, Request};
pub use faults::{Action, Fault, FaultError, Habit, Kind, Step};
pub use program::run;
pub use settings::{HotRestartVersion, Settings, SettingsError, VARIABLE};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadMe;
