//! Chaos: the shipped `handover` over the fake Envoy, with what comes at the wrong moment.
//!
//! A [`Plan`] leads from a seed to steps: changes, faults, signals, stops, kills, requests and shortages.
//! [`run()`] does them under load, and after each burst waits until everything is as it must be. Then it checks
//! each invariant: nothing lost that need not be lost, as the [`oracle`] judges; ready only if something
//! serves; the desired configuration serves or its refusal is told; every request answered; nothing left
//! behind; memory and descriptors flat.
//!
//! A run that fails is told on a page by [`Outcome::story`], and is repeated by its seed or by its list of steps, which
//! [`shorten()`] makes shorter. `docs/checks.md` shows the command.
//!
//! The pure parts are [`random`], [`plan`](Plan), [`step`], [`oracle`], [`standstill`], [`loop_watch`], [`excuses`] and [`shrink`]. What they
//! decide is tested without a process.

mod config;
mod control;
pub mod excuses;
mod finish;
mod life;
pub mod loop_watch;
pub mod oracle;
mod plan;
mod plant;
pub mod random;
mod run;
mod script;
mod settle;
mod setup;
mod shortage;
mod shorten;
pub mod shrink;
pub mod standstill;
pub mod step;
mod story;
mod summary;
mod violation;
mod world;

pub use life::{Harm, Life, harm};
pub use plan::Plan;
pub use plant::{Plant, PlantError};
pub use run::run;
pub use setup::Setup;
pub use shorten::{Shortened, shorten, with_an_end};
pub use step::Step;
pub use summary::{Done, Failure, Outcome, Summary};
pub use violation::{Kind, Violation};
