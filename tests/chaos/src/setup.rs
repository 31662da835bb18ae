//! What a run is made with, and when it is broken off.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::plant::Plant;

/// What a run needs.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The `handover` binary.
    pub handover: PathBuf,
    /// The fake Envoy.
    pub fake: PathBuf,
    /// How long everything may take to be as it must be, after each burst.
    pub patience: Duration,
    /// Whether the end is checked too, once all steps are done.
    pub checks_end: bool,
    /// When the run is broken off, if ever.
    pub end: Option<Instant>,
    /// Breaks the run off once it is true.
    pub is_over: Arc<AtomicBool>,
    /// A violation that is planted, if one is.
    pub plant: Option<Plant>,
}

impl Setup {
    /// A whole run of these programs.
    #[must_use]
    pub fn new(handover: PathBuf, fake: PathBuf) -> Self {
        Self {
            handover,
            fake,
            patience: Self::PATIENCE,
            checks_end: true,
            end: None,
            is_over: Arc::default(),
            plant: None,
        }
    }

    /// Returns whether the run is to be broken off.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed) || self.end.is_some_and(|end| Instant::now() >= end)
    }

    /// The patience of a run: several times what the slowest repair takes, which is the end of an old epoch
    /// that does not end by itself.
    pub const PATIENCE: Duration = Duration::from_secs(45);

    /// The patience while a failure is made shorter: enough for that repair on a quiet machine.
    pub const LESS_PATIENCE: Duration = Duration::from_secs(18);
}
