//! The supervisors that are measured, all with the same child.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use crate::clock;
use crate::place::{Change, Layout, Place, Stamp};
use crate::started::{Grandchild, Started};

/// How long a measure waits for a child: many times what the slowest supervisor needs on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// How long a child must have run before it is replaced or killed: runit and s6 start at most one a second.
pub(crate) const SETTLED: Duration = Duration::from_millis(1_200);

/// A program that keeps a child running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    Handover,
    /// The same command of the binary that has nothing for Envoy in it.
    HandoverExec,
    Bare,
    Runit,
    S6,
    Supervisord,
    Restarter,
}

impl Subject {
    /// Those whose times are measured.
    pub(crate) const ALL: [Self; 6] = [
        Self::Handover,
        Self::Bare,
        Self::Runit,
        Self::S6,
        Self::Supervisord,
        Self::Restarter,
    ];

    /// Those whose memory is measured.
    pub(crate) const IN_MEMORY: [Self; 7] = [
        Self::Handover,
        Self::HandoverExec,
        Self::Bare,
        Self::Runit,
        Self::S6,
        Self::Supervisord,
        Self::Restarter,
    ];

    /// Its name in figures.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Handover => "handover exec",
            Self::HandoverExec => "handover-exec",
            Self::Bare => "bare loop",
            Self::Runit => "runit",
            Self::S6 => "s6",
            Self::Supervisord => "supervisord",
            Self::Restarter => "hot-restarter.py",
        }
    }

    /// Whether it starts a child when a file changes.
    pub(crate) const fn watches(self) -> bool {
        matches!(self, Self::Handover | Self::HandoverExec | Self::Bare)
    }

    /// Why it starts no child after the death of one, if it does not.
    pub(crate) const fn never_restarts(self) -> Option<&'static str> {
        match self {
            Self::Restarter => Some("it ends all children and itself when a child is killed"),
            Self::Handover
            | Self::HandoverExec
            | Self::Bare
            | Self::Runit
            | Self::S6
            | Self::Supervisord => None,
        }
    }

    /// Why it cannot replace children one after the other without a pause, if it cannot.
    pub(crate) const fn must_pause(self) -> Option<&'static str> {
        match self {
            Self::Runit | Self::S6 => Some("it starts at most one child a second"),
            Self::Supervisord => Some("it restarts everything on HUP, which takes a second"),
            Self::Restarter => Some("it ends no child, which it leaves to Envoy"),
            Self::Handover | Self::HandoverExec | Self::Bare => None,
        }
    }

    /// The program, or why it cannot be measured.
    ///
    /// # Errors
    ///
    /// When it is not installed.
    pub(crate) fn program(self, tools: &Tools) -> Result<PathBuf> {
        match self {
            Self::Handover => Ok(tools.handover.clone()),
            Self::HandoverExec => Ok(tools.handover_exec.clone()),
            Self::Bare => Ok(tools.bare.clone()),
            Self::Runit => installed("runsv", "Debian's package `runit`"),
            Self::S6 => installed("s6-supervise", "Debian's package `s6`"),
            Self::Supervisord => installed("supervisord", "Debian's package `supervisor`"),
            Self::Restarter => match std::env::var_os(RESTARTER_VARIABLE) {
                Some(path) => Ok(path.into()),
                None => installed("hot-restarter.py", "the variable BENCH_HOT_RESTARTER"),
            },
        }
    }

    fn command(self, program: &Path, place: &Place) -> Result<Command> {
        let directory = place.directory();
        let child = directory.join("run");
        let mut command = Command::new(program);
        command.current_dir(directory);
        match self {
            Self::Handover | Self::HandoverExec => {
                command.args(["exec", "--live-after", "1ms", "--reset-after", "50ms"]);
                command.arg("--watch").arg(place.config());
                command.arg("--socket").arg(directory.join("handover.sock"));
                command.arg("--").arg(child);
            }
            Self::Bare => {
                command.arg(child).arg(place.conf());
            }
            Self::Runit | Self::S6 => {
                command.arg(directory);
            }
            Self::Supervisord => {
                let file = directory.join("supervisord.conf");
                fs_err::write(&file, supervisord(directory))?;
                command.arg("--nodaemon").arg("--configuration").arg(file);
            }
            Self::Restarter => {
                command.arg(child);
            }
        }
        Ok(command)
    }
}

/// Names the file of Envoy's own restarter script, if it is not on the search path.
pub(crate) const RESTARTER_VARIABLE: &str = "BENCH_HOT_RESTARTER";

fn supervisord(directory: &Path) -> String {
    let directory = directory.display();
    format!(
        "[supervisord]\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile={directory}/pid\n\
         [program:child]\ncommand={directory}/run\ndirectory={directory}\nautorestart=true\nstartsecs=0\n\
         stdout_logfile=NONE\nstderr_logfile=NONE\n"
    )
}

/// Where the programs are.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    pub(crate) handover: PathBuf,
    pub(crate) handover_exec: PathBuf,
    pub(crate) bare: PathBuf,
    pub(crate) child: PathBuf,
    pub(crate) envoy: Option<PathBuf>,
}

/// A program of the search path.
///
/// # Errors
///
/// When it is not there; the message names what brings it.
pub(crate) fn installed(name: &str, by: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
        .with_context(|| format!("`{name}` is not installed: it comes by {by}"))
}

/// A supervisor that runs, with its newest child.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) subject: Subject,
    pub(crate) place: Place,
    pub(crate) process: Started,
    child: PathBuf,
    newest: Stamp,
    /// Every child that it has started, except those that are known to have ended.
    children: Vec<u32>,
}

impl Running {
    /// Starts a supervisor and waits for its child.
    ///
    /// # Errors
    ///
    /// When it is not installed, or starts no child within the [limit](LIMIT).
    pub(crate) fn start(
        subject: Subject,
        tools: &Tools,
        directory: PathBuf,
        layout: Layout,
    ) -> Result<Self> {
        let program = subject.program(tools)?;
        let mut place = Place::make(directory, &tools.child, layout)?;
        let command = subject.command(&program, &place)?;
        let log = place.directory().join("log");
        let process = Started::start(command, log)?;
        let newest = place
            .stamp(LIMIT)
            .with_context(|| format!("{}{}", subject.name(), process.last_words()))?;
        Ok(Self {
            subject,
            place,
            process,
            child: tools.child.clone(),
            children: vec![newest.pid],
            newest,
        })
    }

    /// From the start of the supervisor to the child's first instruction, in milliseconds.
    pub(crate) fn start_time(&self) -> f64 {
        clock::milliseconds(self.process.at, self.newest.at)
    }

    /// Asks for another child, by HUP where that is the way, and returns the time until the child's first
    /// instruction, in milliseconds.
    ///
    /// # Errors
    ///
    /// When no child comes.
    pub(crate) fn replace(&mut self) -> Result<f64> {
        let begun = clock::now();
        match self.subject {
            Subject::Handover
            | Subject::HandoverExec
            | Subject::Bare
            | Subject::Supervisord
            | Subject::Restarter => {
                self.process.signal(Signal::HUP)?;
            }
            // Both read commands from a pipe; this one is SIGTERM for the child, which is then started again.
            Subject::Runit | Subject::S6 => {
                let pipe = self.place.directory().join("supervise/control");
                let mut pipe = std::fs::OpenOptions::new()
                    .write(true)
                    .custom_flags(libc::O_NONBLOCK)
                    .open(pipe)
                    .context("opening the pipe for commands")?;
                pipe.write_all(b"t").context("writing a command")?;
            }
        }
        self.child_after(begun)
    }

    /// Kills the newest child, and returns the time until the first instruction of the one that follows.
    ///
    /// # Errors
    ///
    /// When no child comes.
    pub(crate) fn kill_child(&mut self) -> Result<f64> {
        let begun = Grandchild::find(self.newest.pid, &self.child)?.kill()?;
        self.child_after(begun)
    }

    /// Changes the file, and returns the time until the first instruction of a child that has read the change.
    ///
    /// # Errors
    ///
    /// When no child comes.
    pub(crate) fn change(&mut self, change: Change) -> Result<f64> {
        let begun = self.place.change(change)?;
        let wanted = self.place.version();
        loop {
            let took = self.child_after(begun)?;
            if self.newest.config == wanted {
                return Ok(took);
            }
        }
    }

    /// Waits for the next child.
    fn child_after(&mut self, begun: u64) -> Result<f64> {
        let stamp = self.place.stamp(LIMIT);
        let stamp = stamp
            .with_context(|| format!("{}{}", self.subject.name(), self.process.last_words()))?;
        self.note(stamp);
        Ok(clock::milliseconds(begun, self.newest.at))
    }

    /// Takes a child for the newest one.
    pub(crate) fn note(&mut self, stamp: Stamp) {
        self.children.push(stamp.pid);
        self.newest = stamp;
    }

    pub(crate) fn newest(&self) -> &Stamp {
        &self.newest
    }

    /// Waits until only the newest child runs. The restarter script leaves its children to Envoy, so they run on.
    ///
    /// # Errors
    ///
    /// When another one does not end.
    pub(crate) fn settle(&mut self) -> Result<()> {
        if self.subject == Subject::Restarter {
            return Ok(());
        }
        let newest = self.newest.pid;
        for pid in self.children.drain(..).filter(|pid| *pid != newest) {
            // One that cannot be found has ended.
            if let Ok(child) = Grandchild::find(pid, &self.child) {
                anyhow::ensure!(
                    child.ends_within(LIMIT),
                    "{}: the child {pid} was replaced and did not end in {LIMIT:?}",
                    self.subject.name()
                );
            }
        }
        self.children.push(newest);
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.subject == Subject::Restarter {
            // On TERM it waits for a second after its children have ended, and the others do all of it at once.
            let _ended = self.process.signal(Signal::KILL);
        }
        self.process.stop();
        for pid in self.children.drain(..) {
            if let Ok(child) = Grandchild::find(pid, &self.child) {
                let _ended = child.kill();
            }
        }
    }
}
