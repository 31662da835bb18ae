//! A proxy without a process, on tokio's paused clock.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use handover_core::{Abort, Epoch, Policy, Target, Urgency};
use handover_tokio::{Agent, Handle, Proxy, RunControl, RunError};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// What a configuration makes the fake proxy do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Config {
    /// Live after 50 ms, then it serves until it is aborted. The name tells two of them apart.
    Good(&'static str),
    /// Fails after 20 ms.
    Bad,
    /// Fails after 20 ms, and says that a retry cannot help.
    Rejected,
    /// Panics after 20 ms.
    Panics,
    /// Good, but it takes no notice of a graceful abort.
    Stubborn,
    /// Never goes live. It ends when its start is withdrawn.
    NeverLive,
    /// Never goes live. When its start is withdrawn it says so, and ends two seconds later.
    NeverLiveAndSlow,
    /// Says that it is live and ends in the same moment.
    Flash,
    /// Its cleanup panics, and so does its panic.
    Clumsy,
    /// Never live; when it is told to stop because of that, it returns the reason.
    Waits,
}

/// Every call that the agent made, with its time.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<String>>);

impl Log {
    pub(crate) fn text(&self) -> String {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn add(&self, started: Instant, line: std::fmt::Arguments<'_>) {
        let mut text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(text, "{:>6} ms  {line}", started.elapsed().as_millis()).expect("a string grows");
    }
}

pub(crate) struct Fake {
    started: Instant,
    log: Log,
}

/// Notes that the run of an epoch was dropped before it was over.
struct Unfinished<'a>(&'a Fake, Epoch);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.0.note(format_args!("epoch {} dropped", self.1));
    }
}

impl Fake {
    pub(crate) fn new(log: Log) -> Self {
        Self {
            started: Instant::now(),
            log,
        }
    }

    fn note(&self, line: std::fmt::Arguments<'_>) {
        self.log.add(self.started, line);
    }

    async fn serve(&self, config: Config, control: &RunControl) -> Result<(), RunError> {
        match config {
            Config::Bad => {
                sleep(Duration::from_millis(20)).await;
                return Err(RunError::transient("the port is taken"));
            }
            Config::Rejected => {
                sleep(Duration::from_millis(20)).await;
                return Err(RunError::permanent("an unknown field"));
            }
            Config::Panics => {
                sleep(Duration::from_millis(20)).await;
                panic!("out of cheese");
            }
            Config::Flash => {
                control.live();
                return Ok(());
            }
            Config::NeverLive | Config::NeverLiveAndSlow => {
                tokio::select! {
                    () = control.withdrawn() => {}
                    _ = control.abort() => return Err(RunError::Aborted),
                }
                self.note(format_args!(
                    "a start is withdrawn: {}",
                    control.is_withdrawn()
                ));
                let gave_way = control.gives_way();
                if gave_way {
                    self.note(format_args!("it gives way"));
                }
                if config == Config::NeverLiveAndSlow {
                    control.will_not_go_live_because("it has not answered");
                    sleep(Duration::from_secs(2)).await;
                    if gave_way && !control.gives_way() {
                        self.note(format_args!("it gives way no more"));
                    }
                    return Ok(());
                }
                return Err(RunError::Aborted);
            }
            Config::Waits => {
                let how = control.abort().await;
                return Err(match control.is_late() {
                    true => RunError::transient("it waited for a certificate"),
                    false => {
                        assert_eq!(how, Abort::Immediate);
                        RunError::Aborted
                    }
                });
            }
            Config::Good(_) | Config::Stubborn | Config::Clumsy => {}
        }
        tokio::select! {
            () = sleep(Duration::from_millis(50)) => control.live(),
            _ = control.abort() => return Err(RunError::Aborted),
        }
        if config == Config::Stubborn {
            control.abort_immediately().await;
        } else {
            control.abort().await;
        }
        Err(RunError::Aborted)
    }
}

#[async_trait]
impl Proxy for Fake {
    type Config = Config;

    async fn run(
        &self,
        target: Target<Config>,
        epoch: Epoch,
        control: RunControl,
    ) -> Result<(), RunError> {
        self.note(format_args!("epoch {epoch} runs, {target:?}"));
        let unfinished = Unfinished(self, epoch);
        let result = match target {
            Target::Serve(config) => self.serve(config, &control).await,
            // Connections take a second to end.
            Target::Drain => tokio::select! {
                () = sleep(Duration::from_secs(1)) => Ok(()),
                _ = control.abort() => Err(RunError::Aborted),
            },
        };
        std::mem::forget(unfinished);
        let how = match control.aborted() {
            Some(Abort::Graceful) => " after a graceful abort",
            Some(Abort::Immediate) => " after an immediate abort",
            None => "",
        };
        self.note(format_args!("epoch {epoch} ends{how}, {result:?}"));
        result
    }

    fn cleanup(&self, epoch: Epoch) {
        self.note(format_args!("cleanup {epoch}"));
        assert!(!self.log.text().contains("Clumsy"), "a broom fell over");
    }

    fn panic(&self, config: &Config) {
        self.note(format_args!("panic {config:?}"));
        assert!(*config != Config::Clumsy, "a shelf fell over");
    }
}

/// An agent in a task of its own.
pub(crate) struct World {
    pub(crate) handle: Handle<Config>,
    pub(crate) log: Log,
    pub(crate) running: JoinHandle<handover_core::Outcome>,
}

pub(crate) fn start(policy: Policy) -> World {
    let log = Log::default();
    let proxy = Fake::new(log.clone());
    let agent = Agent::new(Arc::new(proxy), policy).expect("the policy can be honoured");
    let handle = agent.handle();
    let running = tokio::spawn(agent.run(std::future::pending()));
    World {
        handle,
        log,
        running,
    }
}

impl World {
    /// Lets the agent drain and end, and returns all that happened.
    pub(crate) async fn finish(self) -> String {
        self.handle.terminate(Urgency::Drain);
        self.outcome().await
    }

    /// Waits for the end, and returns all that happened.
    pub(crate) async fn outcome(self) -> String {
        let outcome = self.running.await.expect("the agent does not panic");
        format!("{}{outcome}\n", self.log.text())
    }
}
