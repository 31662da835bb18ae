//! The line by which Envoy says that it does not accept its configuration.
//!
//! In many cases Envoy repeats the whole configuration behind the reason, twice. The end of what it
//! wrote is then nothing but configuration, and the reason is far above it. So the reason is listened
//! for while it is written.

use std::sync::{Arc, Mutex, PoisonError};

use handover_process::{Line, OutputSink, Stream};

/// How the reason of a validation begins.
const VALIDATION: &str = "error initializing configuration '";

/// How the line with the reason of a start begins, and what follows in it.
const START: [&str; 2] = ["[critical][main] ", " error `"];

/// Where the reason of a start ends.
const END: &str = "` initializing config '";

/// Reasons behind which the configuration follows.
const QUOTING: [&str; 2] = [
    "Unable to parse JSON as proto",
    "Unable to convert YAML as JSON",
];

/// What Envoy says in place of a reason, which then follows behind the configuration.
const DUMP: &str = "goo.gle/debug";
const BEHIND_THE_DUMP: &str = "Proto constraint validation failed (";

/// How much of a reason is kept. Those without the configuration are a few hundred bytes long.
const LONGEST: usize = 32 << 10;

/// The reason, once it was heard. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct RejectionReason(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    text: String,
    is_whole: bool,
}

impl RejectionReason {
    /// Looks at a line.
    pub(crate) fn take(&self, line: &Line<'_>) {
        if line.stream != Stream::Stderr {
            return;
        }
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.is_whole {
            state.take(&String::from_utf8_lossy(line.bytes));
        }
    }

    /// The reason as Envoy frames it, with the beginning of the configuration at most.
    pub(crate) fn reason(&self) -> Option<String> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.text.is_empty() {
            return None;
        }
        let mut reason = state.text.clone();
        if !reason.contains(VALIDATION) && !reason.contains(END) {
            reason.push_str(END);
        }
        Some(reason)
    }
}

impl State {
    fn take(&mut self, line: &str) {
        if self.text.is_empty() {
            let [start, error] = START;
            let is_start = line.contains(start) && line.contains(error);
            if line.contains(VALIDATION) || is_start {
                self.text = line.to_owned();
                self.is_whole =
                    line.contains(END) || QUOTING.iter().any(|reason| line.contains(reason));
            }
            return;
        }
        if self.text.contains(DUMP) {
            if line.contains(BEHIND_THE_DUMP) {
                self.push(line);
                self.is_whole = true;
            }
            return;
        }
        // What follows is another line of the log.
        self.is_whole = line.starts_with('[');
        if !self.is_whole {
            self.push(line);
            self.is_whole = line.contains(END) || self.text.len() > LONGEST;
        }
    }

    fn push(&mut self, line: &str) {
        self.text.push('\n');
        self.text.push_str(line);
    }
}

/// A sink that listens on the way.
pub(crate) struct Listening {
    pub(crate) heard: RejectionReason,
    pub(crate) sink: Arc<dyn OutputSink>,
}

impl OutputSink for Listening {
    fn line(&self, line: &Line<'_>) {
        self.heard.take(line);
        self.sink.line(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::configuration_error;
    use handover_process::Source;

    fn heard(lines: &[&str]) -> Option<String> {
        let heard = RejectionReason::default();
        let source = Source {
            pid: 1,
            epoch: Some(0),
            label: "envoy".into(),
        };
        for bytes in lines {
            heard.take(&Line {
                source: &source,
                stream: Stream::Stderr,
                bytes: bytes.as_bytes(),
                continues: false,
            });
        }
        heard.reason()
    }

    #[test]
    fn the_reason_is_known_however_much_configuration_follows() {
        let reason = "Unable to parse JSON as proto (INVALID_ARGUMENT: invalid JSON)";
        let start =
            format!("[x][critical][main] [source/server/server.cc:449] error `{reason}: {{");
        let validation = format!(
            "[critical][main] [x.cc:76] error initializing configuration 'a.json': {reason}: {{"
        );
        for first in [start, validation] {
            let heard = heard(&["[info] x", &first, "\"key\": \"hunter2\"", "}"]).unwrap();
            assert_eq!(configuration_error(&heard).as_deref(), Some(reason));
        }
        assert_eq!(heard(&["[critical][main] x", "error `y"]), None);
    }

    #[test]
    fn what_goes_on_without_end_is_kept_up_to_a_limit() {
        let first = "[critical][main] [x.cc:449] error `no such field";
        let line = "x".repeat(99);
        let mut lines = vec![first];
        lines.resize(1_000, &line);
        let length = heard(&lines).unwrap().len();
        assert!((LONGEST + 1..LONGEST + 200).contains(&length), "{length}");
        // A line that fills it to the byte does not end it.
        let rest = "x".repeat(LONGEST - first.len() - 1);
        let heard = heard(&[first, &rest, "the last", "hunter2"]).unwrap();
        assert!(heard.contains("the last") && !heard.contains("hunter2"));
    }

    #[tokio::test]
    async fn the_sink_gets_each_line_that_is_listened_to() {
        let (sink, mut lines) = handover_process::queue(1);
        let heard = RejectionReason::default();
        let listening = Listening {
            heard: heard.clone(),
            sink: Arc::new(sink),
        };
        let source = Source {
            pid: 1,
            epoch: Some(0),
            label: "envoy".into(),
        };
        let text = "[critical][main] [x.cc:449] error `no such field` initializing config 'a'";
        listening.line(&Line {
            source: &source,
            stream: Stream::Stderr,
            bytes: text.as_bytes(),
            continues: false,
        });
        assert_eq!(heard.reason().as_deref(), Some(text));
        drop(listening);
        assert_eq!(lines.recv().await.unwrap().bytes, text.as_bytes());
    }

    #[test]
    fn a_reason_of_several_lines_is_whole_and_one_behind_the_configuration_is_found() {
        let validation = "[critical][main] [x.cc:76] error initializing configuration 'a': ";
        let start = "[critical][main] [x.cc:449] error `";
        let told = |lines: &[&str]| configuration_error(&heard(lines).unwrap()).unwrap();
        for first in [validation, start] {
            let lines = [&*format!("{first}no  such"), " field", "[info] hunter2"];
            assert_eq!(told(&lines), "no such field");
            let dump = format!("{first}goo.gle/debugonly  ");
            let lines = [
                &*dump,
                "node { id: \"hunter2\" }",
                ": Proto constraint validation failed (X: failed | caused by Y.Z: value is too long)",
                "hunter2",
            ];
            assert_eq!(
                told(&lines),
                "field constraint violated: Y.Z: value is too long"
            );
        }
    }
}
