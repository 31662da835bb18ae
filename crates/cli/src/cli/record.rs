//! The flag by which `run` and `exec` record.

use std::path::Path;

use clap::{Args, ValueEnum};
use handover_supervisor::recorder::Recorder;

use super::arguments;

/// Whether there is a flight recorder.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct RecordArgs {
    /// Record the last 10,000 inputs and outputs of handover's decisions in --state-dir.
    ///
    /// `handover simulate DIR` replays the recording, and `handover report` packs it. It holds no
    /// configuration and no text, and takes at most 3 MB. The last lines of each process are kept beside
    /// it. Without --state-dir nothing is recorded.
    #[arg(long, value_enum, value_name = "WHETHER")]
    #[arg(env = "HANDOVER_RECORD", default_value = "yes")]
    pub(crate) record: Record,
}

/// Whether what is decided is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Record {
    /// Record, if there is a state directory.
    Yes,
    /// Record nothing, and keep no last lines.
    No,
}

impl RecordArgs {
    /// Begins the recording. That there is none is no reason not to serve.
    pub(crate) fn recorder(self, state_dir: Option<&Path>) -> Option<Recorder> {
        let dir = state_dir.filter(|_| self.record == Record::Yes)?;
        let about = serde_json::json!({
            "handover": env!("CARGO_PKG_VERSION"),
            "arguments": arguments::own(),
        });
        match Recorder::open(dir, about) {
            Ok(recorder) => Some(recorder),
            Err(error) => {
                let error = anyhow::Error::new(error);
                tracing::warn!("nothing is recorded (--record no switches it off): {error:#}");
                None
            }
        }
    }
}
