//! What every part of the main thread shares.

use std::cell::RefCell;
use std::io::Write as _;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::arguments::Arguments;
use crate::child::{self, Child, ParentLost};
use crate::faults::{Action, Faults, Habits, Step};
use crate::log::{Level, Log};
use crate::script::Script;

/// How the process ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) code: u8,
    /// What goes to standard error behind the log.
    pub(crate) last_words: String,
}

impl Ending {
    pub(crate) fn clean() -> Self {
        Self {
            code: 0,
            last_words: String::new(),
        }
    }

    pub(crate) fn failed(last_words: impl Into<String>) -> Self {
        Self {
            code: 1,
            last_words: last_words.into(),
        }
    }
}

/// What every part of the main thread shares.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) arguments: Arguments,
    pub(crate) log: Log,
    pub(crate) faults: RefCell<Faults>,
    /// The end of the conversation with the parent. Taken while somebody uses it.
    pub(crate) child: RefCell<Option<Child>>,
    pub(crate) script: Option<Script>,
    end: mpsc::UnboundedSender<Ending>,
}

impl Context {
    pub(crate) fn new(
        arguments: Arguments,
        log: Log,
        faults: Faults,
        script: Option<Script>,
        end: mpsc::UnboundedSender<Ending>,
    ) -> Self {
        Self {
            arguments,
            log,
            faults: RefCell::new(faults),
            child: RefCell::new(None),
            script,
            end,
        }
    }

    /// Scales a time of the real Envoy.
    pub(crate) fn scaled(&self, time: Duration) -> Duration {
        self.arguments.settings.scaled(time)
    }

    /// Scales the drain time or the parent-shutdown time.
    pub(crate) fn scaled_flag(&self, time: Duration) -> Duration {
        self.arguments.settings.scaled_flag(time)
    }

    /// Logs a line of the logger `main`.
    pub(crate) fn info(&self, source: &str, text: &str) {
        self.log.line(Level::Info, "main", source, text);
    }

    /// Logs a warning of the logger `main`.
    pub(crate) fn warn(&self, source: &str, text: &str) {
        self.log.line(Level::Warning, "main", source, text);
    }

    /// Returns what goes wrong all the time.
    pub(crate) fn habits(&self) -> Habits {
        self.faults.borrow().habits()
    }

    /// Lets happen what is to go wrong at a step, and tells the script of it.
    pub(crate) async fn step(&self, step: Step) {
        if let Some(script) = &self.script {
            script.reached(step).await;
        }
        let actions = self.faults.borrow().at(step);
        for action in actions {
            self.perform(step, action).await;
        }
    }

    /// Returns whether something is to go wrong at a step, or the driver holds the process there.
    pub(crate) fn is_held_at(&self, step: Step) -> bool {
        let is_held = self
            .script
            .as_ref()
            .is_some_and(|script| script.holds(step));
        is_held || self.faults.borrow().is_armed(step)
    }

    async fn perform(&self, step: Step, action: Action) {
        match action {
            Action::Crash => {
                let assertion = format!("false. Details: a crash at {step} was asked for");
                child::abort(&self.log, "fake.cc:1", &assertion)
            }
            Action::Segv => raise(rustix::process::Signal::SEGV),
            Action::Kill => raise(rustix::process::Signal::KILL),
            Action::Exit(code) => {
                let last_words = format!("an exit at {step} was asked for\n");
                self.finish(Ending { code, last_words });
                std::future::pending::<()>().await;
            }
            Action::Slow(time) => tokio::time::sleep(time).await,
            Action::Stuck => std::future::pending().await,
            Action::Freeze(time) => std::thread::sleep(time),
            Action::Flood(bytes) => flood(bytes),
        }
    }

    /// Ends as on SIGTERM: tells the parent to end, and exits 0.
    pub(crate) async fn terminate(&self) {
        self.step(Step::End).await;
        self.info("server.cc:1167", "shutting down server instance");
        self.info("server.cc:1107", "main dispatch loop exited");
        self.with_child(Child::terminate);
        self.finish(Ending::clean());
    }

    /// Ends without a word to anybody.
    pub(crate) fn finish(&self, ending: Ending) {
        self.info("server.cc:1159", "exiting");
        // The receiver lives until the first ending has come.
        let _an_ending_came_before = self.end.send(ending);
    }

    /// Asks the parent something. A parent that is lost ends the process by SIGABRT.
    pub(crate) fn with_child<T: Default>(
        &self,
        ask: impl FnOnce(&mut Child, &Log) -> Result<T, ParentLost>,
    ) -> T {
        let mut child = self.child.borrow_mut();
        let Some(child) = child.as_mut() else {
            return T::default();
        };
        match ask(child, &self.log) {
            Ok(answer) => answer,
            Err(ParentLost(assertion)) => {
                child::abort(&self.log, "hot_restarting_base.cc:147", &assertion)
            }
        }
    }
}

/// Ends the process by a signal.
fn raise(signal: rustix::process::Signal) -> ! {
    child::leave_no_core();
    let _the_next_line_ends_it = rustix::process::kill_process(rustix::process::getpid(), signal);
    std::process::abort()
}

/// Writes lines to standard error.
fn flood(bytes: u64) {
    const LINE: &[u8] =
        b"[fake][info][main] flooding the output of the process with lines like this one\n";
    let mut left = bytes;
    let mut out = std::io::stderr().lock();
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(LINE.len());
        let part = LINE.get(LINE.len() - length..).unwrap_or(LINE);
        if out.write_all(part).is_err() {
            return;
        }
        left -= u64::try_from(length).unwrap_or(left);
    }
}
