//! What a tokio program needs that must not die when the operating system is short of something.
//!
//! - [`offload`] runs work that blocks, without tokio's panic where no thread is left;
//! - [`time_limit`] waits, without concluding anything from a time in which the process was stopped;
//! - [`Shortage`] names what the operating system is short of, from an error.

pub mod offload;
mod shortage;
pub mod time_limit;

pub use shortage::{Shortage, StartError};
