//! Retry policy as plain data and a pure, bounded sequence of delays.
//!
//! [`Retry`] sets the number of retries and their delays. Two types use it:
//!
//! - [`Budget`], for a caller that already keeps state: a few bytes with the number of retries
//!   left. The state machine of `handover-core` holds one.
//! - [`Delays`], for every other caller: policy, budget and jitter in one owned iterator.
//!
//! The crate does not sleep, read a clock, draw a random number from the system or allocate. The
//! caller sleeps, and passes in the numbers for the jitter. The crate is `no_std`, and has no
//! dependency unless a feature adds one.
//!
//! The default is that of the agent that Handover re-implements: ten retries, the first after 200
//! ms. Each delay is twice the one before. So the last one is 102.4 s, and the budget is spent
//! after 204.6 s of sleep.
//!
//! # A loop of your own
//!
//! Retrying needs no other crate. This is the whole loop, here with threads. In an async function
//! the line that sleeps is `tokio::time::sleep(delay).await`.
//!
//! ```
//! use handover_retry::{Jitter, Retry};
//! use std::time::Duration;
//!
//! /// Calls `operation` until it succeeds or the budget is spent; then returns its last error.
//! fn with_retries<T, E>(
//!     policy: Retry,
//!     seed: u64,
//!     mut operation: impl FnMut() -> Result<T, E>,
//! ) -> Result<T, E> {
//!     let mut delays = policy.delays(seed);
//!     loop {
//!         let error = match operation() {
//!             Ok(value) => return Ok(value),
//!             Err(error) => error,
//!         };
//!         match delays.next() {
//!             Some(delay) => std::thread::sleep(delay),
//!             None => return Err(error),
//!         }
//!     }
//! }
//!
//! let policy = Retry::new(3, Duration::from_millis(1)).with_jitter(Jitter::percent(20));
//! let mut calls = 0;
//! let result = with_retries(policy, 42, || {
//!     calls += 1;
//!     if calls < 3 { Err("not yet") } else { Ok(calls) }
//! });
//! assert_eq!(result, Ok(3));
//!
//! let result: Result<(), _> = with_retries(policy, 42, || Err("never"));
//! assert_eq!(result, Err("never"));
//! ```
//!
//! # With the `backoff` crate
//!
//! The feature `backoff` implements `backoff::backoff::Backoff` for [`Delays`]. So a policy of
//! Handover can also drive code that uses that crate. The crate is unmaintained
//! ([RUSTSEC-2025-0012](https://rustsec.org/advisories/RUSTSEC-2025-0012)). The feature is off by
//! default, and the loop above replaces it.
#![cfg_attr(
    feature = "backoff",
    doc = r##"
```
use handover_retry::Retry;
use std::time::Duration;

# #[tokio::main(flavor = "current_thread", start_paused = true)]
# async fn main() {
let started = tokio::time::Instant::now();
let mut calls = 0;
let result: Result<(), &str> = backoff::future::retry(Retry::default().delays(42), || {
    calls += 1;
    async { Err(backoff::Error::transient("refused")) }
})
.await;

// The first call and ten retries, 200 ms + 400 ms + ... + 102.4 s apart.
assert_eq!(result, Err("refused"));
assert_eq!(calls, 11);
assert_eq!(started.elapsed(), Duration::from_millis(204_600));
# }
```
"##
)]
#![no_std]
#![forbid(unsafe_code)]
#![warn(clippy::arithmetic_side_effects)]

#[cfg(test)]
extern crate std;

mod budget;
mod delays;
mod jitter;
mod mixer;
mod policy;
mod span;

/// The crate whose trait [`Delays`] implements, in the version that fits.
#[cfg(feature = "backoff")]
pub use backoff;

pub use budget::Budget;
pub use delays::Delays;
pub use jitter::Jitter;
pub use mixer::SplitMix64;
pub use policy::Retry;

/// The example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadMe;
