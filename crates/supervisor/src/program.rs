//! Any server as a proxy: one process per epoch, on listening sockets that outlive them all.
//!
//! ```text
//!   spawned ── ready ──> live ── superseded ──> told to finish ── drain time over ──> killed
//!      │                  │                          │
//!      └── ends: failed   └── ends: failed, or       └── ends: as expected
//!                             clean with code 0
//! ```
//!
//! The machine knows which epoch is superseded, and retires it.

mod drain_command;
mod error;
mod finish;
mod operate;
mod overtime;
mod placeholders;
mod process;
mod readiness;
mod running;
mod socket_files;
mod sockets;
mod stop_steps;
mod strays;
mod unaccepted;
mod watched;

use std::convert::Infallible;
use std::ffi::OsString;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use handover_core::{Epoch, OnExit, Target};
use handover_files::Digest;
use handover_process::memory::Guard as MemoryGuard;
use handover_process::{
    Child, Command, ExitCause, Line, OutputSink, RunAs, Signal, SpawnError, WaitError,
};
use handover_tokio::{Proxy, RunControl, RunError};
use tokio::sync::oneshot;

use crate::metrics::{Observe, Observed};
use error::end_cause;
use operate::LastEnded;
use process::Process;
use readiness::{Announcement, Ready, Seen};
use running::{Finish, Registration, Running};
use socket_files::SocketFiles;
use strays::Strays;

pub use error::{AddressHolder, ProgramError};
pub use placeholders::{Template, TemplateError};
pub use readiness::{Readiness, ReadinessError, first_after};
pub use sockets::Sockets;
pub use stop_steps::{StopSteps, StopStepsError};
pub use watched::WatchedFiles;

/// What is started for each epoch, and how it ends.
struct Settings {
    command: OsString,
    arguments: Vec<OsString>,
    /// What follows the arguments, and differs from epoch to epoch.
    epoch_arguments: Vec<Template>,
    variables: Vec<(OsString, Template)>,
    working_directory: Option<PathBuf>,
    sockets: Arc<Sockets>,
    readiness: Readiness,
    /// What asks an epoch to finish and to end.
    stop: StopSteps,
    /// What is run before that.
    drain_command: Option<OsString>,
    /// How long a superseded epoch may take for that.
    drain_time: Duration,
    /// How long it may take while it has connections, where that is longer.
    drain_while_connected: Option<Duration>,
    run_as: RunAs,
    /// The soft limit of open files.
    open_files: Option<u64>,
    memory_guard: MemoryGuard,
    /// Which ends of a process are final.
    on_exit: OnExit,
    output: Arc<dyn OutputSink>,
}

/// What an epoch is started for. The program reads its files itself, so this only says whether they
/// are others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revision {
    /// The contents of the watched files, if any are watched.
    pub files: Option<Digest>,
}

/// Any server that takes listening sockets: one process per epoch. The sockets outlive all epochs, so no
/// connection is refused while one replaces another.
///
/// [`Program::builder`] makes one, and [`WatchedFiles`] is the source that goes with it.
pub struct Program {
    settings: Settings,
    running: Running,
    socket_files: SocketFiles,
    last_ended: LastEnded,
    observe: OnceLock<Observe>,
}

impl Drop for Program {
    fn drop(&mut self) {
        self.socket_files.remove(&self.settings.sockets);
    }
}

/// Makes a [`Program`]. Every setting but the command has a default.
#[must_use = "it does nothing until `build` is called"]
pub struct Builder(Settings);

impl Builder {
    /// Adds arguments of the command.
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        let arguments = arguments.into_iter().map(Into::into);
        self.0.arguments.extend(arguments);
        self
    }

    /// Passes these sockets on, as `sd_listen_fds(3)` describes. The default is none.
    pub fn sockets(mut self, sockets: Sockets) -> Self {
        self.0.sockets = Arc::new(sockets);
        self
    }

    /// Takes an epoch for live by this. The default is that it has run for half a second.
    pub fn readiness(mut self, readiness: Readiness) -> Self {
        self.0.readiness = readiness;
        self
    }

    /// Adds arguments that may differ from epoch to epoch. They follow all others.
    pub fn epoch_args(mut self, arguments: impl IntoIterator<Item = Template>) -> Self {
        self.0.epoch_arguments.extend(arguments);
        self
    }

    /// Sets a variable of the program, in place of any of that name that this process has.
    pub fn env(mut self, name: impl Into<OsString>, value: Template) -> Self {
        self.0.variables.push((name.into(), value));
        self
    }

    /// Runs the program in this directory. The default is that of this process. A relative path of the
    /// command counts from that of this process all the same.
    pub fn working_directory(mut self, directory: impl Into<Option<PathBuf>>) -> Self {
        self.0.working_directory = directory.into();
        self
    }

    /// Asks an epoch by this signal, or these, to finish what it has begun, and to end. The default is
    /// SIGTERM.
    pub fn stop(mut self, steps: impl Into<StopSteps>) -> Self {
        self.0.stop = steps.into();
        self
    }

    /// Runs this command by `/bin/sh -c` before an epoch is asked to finish, as the user of this process. It
    /// finds the process id in `MAINPID`. The signals follow once it has ended, and its time is part of the
    /// [`drain_time`](Self::drain_time). The default is none.
    pub fn drain_command(mut self, command: impl Into<Option<OsString>>) -> Self {
        self.0.drain_command = command.into();
        self
    }

    /// Kills an epoch that was replaced and has not ended after this time. The default is ten seconds.
    pub fn drain_time(mut self, time: Duration) -> Self {
        self.0.drain_time = time;
        self
    }

    /// Lets an epoch that was replaced go on after its [`drain_time`](Self::drain_time) as long as it has
    /// connections of clients, for this time at most. The time begins with that of the drain.
    ///
    /// The connections at the passed sockets count, also those of its workers. While they cannot be counted,
    /// the epoch goes on: other sockets than TCP and Unix stream sockets are never looked at. The default is
    /// that every epoch is killed after the drain time.
    pub fn drain_while_connected(mut self, longest: impl Into<Option<Duration>>) -> Self {
        self.0.drain_while_connected = longest.into();
        self
    }

    /// Runs the program as this user, with these groups and capabilities. The default is that of this
    /// process.
    pub fn run_as(mut self, run_as: RunAs) -> Self {
        self.0.run_as = run_as;
        self
    }

    /// Sets the soft limit of open files of the program. The default is that of this process.
    pub fn open_files(mut self, soft_limit: impl Into<Option<u64>>) -> Self {
        self.0.open_files = soft_limit.into();
        self
    }

    /// Does this where there is no room in memory for the next process beside the one that serves. The
    /// default is that the start fails, and the one that serves goes on.
    pub fn memory_guard(mut self, guard: MemoryGuard) -> Self {
        self.0.memory_guard = guard;
        self
    }

    /// Takes the end of a process for final if this says so of its cause. The default is to start another one.
    ///
    /// What follows from a clean end of a live epoch is part of the machine's policy; see
    /// [`OnExit::on_clean_exit`].
    pub fn on_exit(mut self, on_exit: OnExit) -> Self {
        self.0.on_exit = on_exit;
        self
    }

    /// Gives the lines that the program writes to this. The default is to drop them; the last ones are
    /// part of the error when an epoch fails.
    pub fn output(mut self, output: Arc<dyn OutputSink>) -> Self {
        self.0.output = output;
        self
    }

    /// Returns the program. Nothing is started yet.
    #[must_use]
    pub fn build(self) -> Program {
        Program {
            settings: self.0,
            running: Running::default(),
            socket_files: SocketFiles::default(),
            last_ended: LastEnded::default(),
            observe: OnceLock::new(),
        }
    }
}

impl Program {
    /// Returns a builder of the program that this command starts. A command without a slash is looked for
    /// in `PATH`.
    pub fn builder(command: impl Into<OsString>) -> Builder {
        Builder(Settings {
            command: command.into(),
            arguments: Vec::new(),
            sockets: Arc::new(Sockets::new(false)),
            readiness: Readiness::After(Duration::from_millis(500)),
            epoch_arguments: Vec::new(),
            variables: Vec::new(),
            working_directory: None,
            stop: Signal::TERM.into(),
            drain_command: None,
            drain_time: Duration::from_secs(10),
            drain_while_connected: None,
            run_as: RunAs::new(),
            open_files: None,
            memory_guard: MemoryGuard::Hold,
            on_exit: OnExit::RESTART,
            output: Arc::new(|_: &Line<'_>| {}),
        })
    }

    /// One process from its start to its end.
    async fn serve(
        &self,
        revision: Revision,
        epoch: Epoch,
        control: &RunControl,
    ) -> Result<(), RunError> {
        let (mut announcement, child) = tokio::select! {
            biased;
            // A process that is just being made is killed with the future.
            _ = control.abort() => return Err(RunError::Aborted),
            () = control.withdrawn() => return Err(RunError::Aborted),
            started = self.start(epoch) => started?,
        };
        let child = Arc::new(child);
        let started = Instant::now();
        let seen = Seen::nothing(&self.settings.readiness);
        let strays = Strays::of(&child, &self.settings.sockets);
        let process = Process {
            epoch,
            child: &child,
            strays: &strays,
        };
        let registration = self.running.enter(epoch, &child, revision);
        let (ready, is_ready) = oneshot::channel();
        let result = tokio::select! {
            biased;
            result = self.follow_process(process, (is_ready, &seen), &registration, control) => result,
            // The first reason to finish counts: an epoch that was retired keeps its time when
            // everything ends.
            never = self.finish_when_retired(epoch, control) => match never {},
            never = self.socket_files.keep(&self.settings.sockets) => match never {},
            // To the end, in whatever way that comes: the program goes on talking.
            never = announcement.listen(&child, &seen, ready) => match never {},
        };
        strays.end(epoch).await;
        // What it has removed in its last moment.
        self.socket_files
            .look_once_more(&self.settings.sockets)
            .await;
        let aborted = control.aborted().is_some();
        let (ran, told) = (started.elapsed(), registration.told());
        let ended = self.last_ended.note(epoch, &child, ran, told, aborted);
        if let (Some(observe), Some((cause, exit))) = (self.observe.get(), ended) {
            observe.tell(Observed::Ended {
                epoch,
                cause,
                exit: Some(exit),
                // Who is connected to a passed socket is known to the program alone.
                connections: None,
            });
        }
        result
    }

    /// A process that was started, until its end.
    async fn follow_process(
        &self,
        process: Process<'_>,
        (mut ready, seen): (oneshot::Receiver<Result<(), ReadinessError>>, &Seen),
        registration: &Registration<'_>,
        control: &RunControl,
    ) -> Result<(), RunError> {
        let Process { epoch, child, .. } = process;
        let mut live = false;
        let mut withdrawn = false;
        let mut once_live = pin!(async {
            tokio::select! {
                never = unaccepted::tell(&self.settings.sockets, epoch) => never,
                never = process.strays.look_while_young(child) => never,
            }
        });
        loop {
            tokio::select! {
                biased;
                how = control.abort() => {
                    self.abort(process, how, control).await?;
                    return Err(RunError::Aborted);
                }
                finish = registration.told_to_finish() => {
                    return self.finish(process, finish, control).await;
                }
                cause = child.wait() => return self.ended(child, cause, live),
                // It shares the sockets with the others, so it may have accepted connections. It
                // finishes them, and is told to together with the others; or now, where they serve on.
                () = control.withdrawn(), if !live && !withdrawn => {
                    withdrawn = true;
                    tell_why(epoch, seen, control);
                    if control.gives_way() {
                        self.running.finish(epoch, Finish::Superseded);
                    }
                }
                // The sender is kept until it has sent.
                Ok(outcome) = &mut ready, if !live && !withdrawn => match outcome {
                    Ok(()) => {
                        live = true;
                        control.live();
                    }
                    Err(error) => return self.never_ready(process, error, control).await,
                },
                never = &mut once_live, if live => match never {},
            }
        }
    }

    /// Tells the epoch to finish once a newer one serves in its place.
    async fn finish_when_retired(&self, epoch: Epoch, control: &RunControl) -> Infallible {
        control.retired().await;
        self.running.finish(epoch, Finish::Superseded);
        std::future::pending().await
    }

    async fn start(&self, epoch: Epoch) -> Result<(Announcement, Child), RunError> {
        let settings = &self.settings;
        let older = self.running.newest();
        if older.is_none() {
            settings.sockets.restore().map_err(ProgramError::Prepare)?;
        }
        let mut command = Command::new(&settings.command)
            .args(settings.arguments.iter().cloned())
            .args(self.epoch_arguments(epoch))
            .kill_group_at_end(true)
            .run_as(settings.run_as.clone())
            .open_files(settings.open_files)
            .shared_output(Arc::clone(&settings.output));
        for (name, value) in &settings.variables {
            command = command.env(name, settings.sockets.render(value, epoch));
        }
        if let Some(directory) = &settings.working_directory {
            command = command.current_dir(directory);
        }
        if let Some(older) = older {
            command = command.beside(older.pid(), settings.memory_guard);
        }
        // After the variables, which do not change what the program is told about itself.
        let command = command.epoch(epoch.number());
        let command = settings
            .sockets
            .pass_to(command)
            .map_err(ProgramError::Prepare)?;
        let Ready {
            command,
            announcement,
        } = settings
            .readiness
            .ask(command)
            .map_err(ProgramError::Prepare)?;
        let child = command.spawn().await.map_err(not_started)?;
        Ok((announcement, child))
    }

    /// A process has ended and nobody had asked for it.
    fn ended(
        &self,
        child: &Child,
        cause: Result<ExitCause, WaitError>,
        live: bool,
    ) -> Result<(), RunError> {
        let cause = cause.map_err(ProgramError::Lost)?;
        // Beside an older epoch, a new one that ends before it serves has failed, whatever its
        // code: a clean end could otherwise stop the agent, and take the older one along.
        let end_cause = end_cause(cause);
        let is_final = self.settings.on_exit.is_final(end_cause);
        let is_all_there_is = is_final && self.running.count() == 1;
        if cause.success() && (live || is_all_there_is) {
            return Ok(());
        }
        let final_cause = is_final.then_some(end_cause);
        let written = [child.stderr_tail(), child.stdout_tail()];
        let holder = match self.settings.sockets.is_empty() {
            false => Some(AddressHolder::Supervisor),
            true => (self.running.count() > 1).then_some(AddressHolder::OlderEpoch),
        };
        Err(ProgramError::ended(cause, live, &written, final_cause, holder).into())
    }

    /// The process will not tell that it is ready. Most often that is because it has just ended.
    async fn never_ready(
        &self,
        process: Process<'_>,
        error: ReadinessError,
        control: &RunControl,
    ) -> Result<(), RunError> {
        /// An end that is on its way arrives well within this time.
        const END: Duration = Duration::from_secs(1);
        let child = process.child;
        let end = async {
            match handover_runtime::time_limit::timeout(END, child.wait()).await {
                Ok(cause) => self.ended(child, cause, false),
                Err(_) => {
                    let limit = self.settings.drain_time;
                    let stopped = self.stop(process, limit, limit).await;
                    stopped.map_err(ProgramError::Lost)?;
                    Err(ProgramError::Readiness(error).into())
                }
            }
        };
        tokio::select! {
            biased;
            how = control.abort() => {
                self.abort(process, how, control).await?;
                Err(RunError::Aborted)
            }
            ended = end => ended,
            () = told_not_to_start(control) => Ok(()),
        }
    }

    fn epoch_arguments(&self, epoch: Epoch) -> impl Iterator<Item = String> {
        let sockets = &self.settings.sockets;
        let arguments = self.settings.epoch_arguments.iter();
        arguments.map(move |argument| sockets.render(argument, epoch))
    }
}

fn not_started(error: SpawnError) -> ProgramError {
    if let SpawnError::NoMemory(short) = error {
        ProgramError::NoMemory(short)
    } else {
        ProgramError::Spawn(error)
    }
}

/// Says that an epoch whose start is withdrawn will not go live, and what was seen of one that is late.
fn tell_why(epoch: Epoch, seen: &Seen, control: &RunControl) {
    if !control.is_late() {
        return control.will_not_go_live();
    }
    let why = seen.in_words();
    tracing::warn!(
        epoch = epoch.number(),
        "epoch {epoch} was not seen ready: {why}"
    );
    control.will_not_go_live_because(why);
}

/// Says once that an epoch whose start is withdrawn will not go live. It never returns.
async fn told_not_to_start(control: &RunControl) {
    control.withdrawn().await;
    control.will_not_go_live();
    std::future::pending::<()>().await;
}

#[async_trait]
impl Proxy for Program {
    type Config = Revision;

    async fn run(
        &self,
        target: Target<Revision>,
        epoch: Epoch,
        control: RunControl,
    ) -> Result<(), RunError> {
        match target {
            Target::Serve(revision) => self.serve(revision, epoch, &control).await,
            Target::Drain => self.drain(&control).await,
        }
    }

    /// Nothing is left: the process group was killed with the end of its process.
    fn cleanup(&self, _epoch: Epoch) {}

    /// The end of the agent is told by its supervisor.
    fn panic(&self, _config: &Revision) {}
}

impl From<ProgramError> for RunError {
    fn from(error: ProgramError) -> Self {
        match &error {
            ProgramError::Spawn(spawn) if SpawnError::is_permanent(spawn) => Self::permanent(error),
            ProgramError::Ended {
                final_cause: Some(_),
                ..
            } => Self::permanent(error),
            ProgramError::Spawn(_)
            | ProgramError::NoMemory(_)
            | ProgramError::Prepare(_)
            | ProgramError::Ended { .. }
            | ProgramError::Readiness(_)
            | ProgramError::Lost(_) => Self::transient(error),
        }
    }
}
