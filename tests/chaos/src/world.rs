//! A supervised fake under load: its places, and the steps that are done to it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use handover_test_support::backend::Backend;
use handover_test_support::http;
use handover_test_support::leftovers::Leftovers;
use handover_test_support::load::{Load, Mix};
use handover_test_support::ports::{BaseId, Port};
use handover_test_support::supervisor::{Launch, Signal, Supervisor};
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};
use serde_json::Value;
use tempfile::TempDir;

use crate::config::{Places, replace};
use crate::control;
use crate::loop_watch::LoopWatch;
use crate::oracle::Cut;
use crate::script::Script;
use crate::setup::Setup;
use crate::shortage::{Cell, Hold};
use crate::standstill::{MachineClock, Span};
use crate::step::{Ask, Change, Hint, Resource, Step};

/// The factor of all times of the fake: a start takes 10 ms, and an old epoch ends after a second. That second
/// is far more than a request takes, so that a busy machine cuts none.
const SCALE: &str = "0.2";

/// How long a request of the load may take. Far above what a busy machine needs.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);

/// How long a slow request takes: long enough to be under way in most hand-overs, and a fraction of the
/// time after which a parent is ended.
const SLOW: Duration = Duration::from_millis(30);

/// How long a probe may take.
const PROBE_LIMIT: Duration = Duration::from_secs(2);

/// What the configuration file asks for.
#[derive(Clone, Debug)]
pub(crate) struct Desired {
    pub(crate) marker: String,
    pub(crate) change: Change,
    pub(crate) since: Duration,
}

impl Desired {
    pub(crate) const fn is_good(&self) -> bool {
        matches!(self.change, Change::Good | Change::Same)
    }
}

pub(crate) struct World {
    pub(crate) script: Script,
    pub(crate) supervisor: Supervisor,
    pub(crate) desired: Desired,
    pub(crate) load: Load,
    /// What the machine did meanwhile.
    pub(crate) clock: MachineClock,
    /// What the thread of the supervisor's loop did.
    pub(crate) loop_watch: LoopWatch,
    /// When the clock of the log began.
    pub(crate) log_begins: Duration,
    /// When the supervisor was stopped, or its memory taken.
    made: Arc<Mutex<Vec<Span>>>,
    /// What was done to all processes since the last settling.
    pub(crate) cuts: Vec<Cut>,
    /// Whether a start must follow from what was done since then.
    pub(crate) expects_start: bool,
    /// What goes on beside the steps. Each returns what is wrong.
    pending: Vec<JoinHandle<Option<String>>>,
    handle: Arc<OwnedFd>,
    hold: Hold,
    places: Places,
    text: String,
    changes: u64,
    leftovers: Leftovers,
    listener: Port,
    _admin: Port,
    base_id: BaseId,
    base_ids: BTreeSet<u32>,
    _taken: TcpListener,
    _backend: Backend,
    dir: TempDir,
}

impl World {
    /// Starts the supervisor. Nothing serves yet.
    pub(crate) fn start(setup: &Setup) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("handover-chaos-")
            .tempdir()?;
        let (listener, admin, base_id) = (Port::free(), Port::free(), BaseId::free());
        let taken = TcpListener::bind("127.0.0.1:0")?;
        let backend = Backend::start();
        let places = Places {
            admin: admin.number(),
            listener: listener.number(),
            backend: backend.addr(),
            taken: taken.local_addr()?.port(),
        };
        let leftovers = Leftovers::watch()
            .base_id(base_id.number())
            .listener(listener.addr());
        let script_path = dir.path().join("script");
        let script = Script::listen(&script_path)?;
        let desired = Desired {
            marker: "c0".to_owned(),
            change: Change::Good,
            since: Duration::ZERO,
        };
        let text = places.config(&desired.marker, desired.change);
        replace(&dir.path().join("envoy.yaml"), &text)?;
        let cell = Cell::new(dir.path())?;
        // The program is found by the launch, so it is named there.
        let launch = Launch::program(&setup.handover)
            .tag(leftovers.tag())
            .arg("run");
        let launch = launch.arg("--envoy-path").arg(&setup.fake);
        let launch = launch
            .arg("--config-path")
            .arg(dir.path().join("envoy.yaml"));
        let launch = launch.args([
            "--base-id",
            &base_id.number().to_string(),
            "--concurrency",
            "2",
        ]);
        let launch = launch.args(["--drain-time", "1s", "--parent-shutdown-time", "5s"]);
        let launch = launch.args([
            "--start-deadline",
            "2s",
            "--give-way-after",
            "1s",
            "--probation",
            "3s",
        ]);
        let launch = launch.args(["--retry-interval", "20ms", "--retry-max-interval", "1s"]);
        // All retries together outlast an old epoch that does not end, because its place is needed again.
        let launch = launch.args([
            "--max-retries",
            "20",
            "--reset-after",
            "1s",
            "--verify-failures",
            "2",
        ]);
        let launch = launch.arg("--run-dir").arg(cell.disk().join("run"));
        let launch = launch.arg("--state-dir").arg(cell.disk().join("state"));
        let launch = launch.arg("--lock-dir").arg(dir.path().join("locks"));
        let launch = launch.arg("--socket").arg(dir.path().join("socket"));
        let launch = launch.args(["--", "--drain-strategy", "immediate"]);
        let launch = launch.args(["--fake-time-scale", SCALE, "--fake-script-socket"]);
        let launch = launch.arg(&script_path);
        let clock = MachineClock::start(script.begin())?;
        let log_begins = script.now();
        let supervisor = cell.enter(launch).start();
        let load = Self::load(&listener);
        // The socket is there once the shell has become the supervisor, with the disk in place.
        let socket = dir.path().join("socket");
        handover_test_support::limit::poll(Duration::from_secs(20), || {
            socket.exists().then_some(())
        })
        .with_context(|| format!("the supervisor has no control socket: {}", supervisor.log()))?;
        let number = i32::try_from(supervisor.pid()).ok().and_then(Pid::from_raw);
        let number = number.context("the supervisor has a process id")?;
        let loop_watch = LoopWatch::start(supervisor.pid(), script.begin())?;
        let hold =
            Hold::take(cell, supervisor.pid()).context("looking at the disk of the supervisor")?;
        Ok(Self {
            handle: Arc::new(pidfd_open(number, PidfdFlags::empty())?),
            script,
            supervisor,
            desired,
            load,
            clock,
            loop_watch,
            log_begins,
            made: Arc::default(),
            cuts: Vec::new(),
            expects_start: false,
            pending: Vec::new(),
            hold,
            places,
            text,
            changes: 0,
            leftovers,
            listener,
            _admin: admin,
            base_id,
            base_ids: BTreeSet::new(),
            _taken: taken,
            _backend: backend,
            dir,
        })
    }

    fn load(listener: &Port) -> Load {
        let mix = Mix {
            slow: Some((1, SLOW)),
            pause: Some(Duration::from_millis(6)),
            request_limit: REQUEST_LIMIT,
            ..Mix::default()
        };
        Load::start(listener.addr(), mix)
    }

    /// Ends the load and begins a new one, so that the next losses are told in full too.
    pub(crate) fn renew_load(&mut self) -> handover_test_support::report::Report {
        std::mem::replace(&mut self.load, Self::load(&self.listener)).stop_blocking()
    }

    /// Does one step. [`Step::Settle`] is for the caller.
    pub(crate) fn perform(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Change(change) => self.change(*change)?,
            Step::Fault(fault) => self.script.arm(fault.clone()),
            Step::Signal(hint) => {
                self.expects_start |= *hint == Hint::Hup;
                pidfd_send_signal(
                    &self.handle,
                    match hint {
                        Hint::Hup => Signal::HUP,
                        Hint::Usr1 => Signal::USR1,
                        Hint::Alrm => Signal::ALARM,
                    },
                )
                .context("the supervisor has ended")?;
            }
            Step::StopSupervisor(time) => {
                let (handle, time) = (Arc::clone(&self.handle), *time);
                let note = self.notes();
                self.beside(move || {
                    let sent = pidfd_send_signal(&*handle, Signal::STOP);
                    thread::sleep(time);
                    let sent = sent.and_then(|()| pidfd_send_signal(&*handle, Signal::CONT));
                    note();
                    sent.err()
                        .map(|error| format!("the supervisor cannot be stopped: {error}"))
                });
            }
            Step::StopEpoch(which, time) => {
                self.script.signal(*which, Signal::STOP);
                thread::sleep(*time);
                self.script.continue_all();
            }
            Step::Kill(which) => self.script.signal(*which, Signal::KILL),
            Step::Ask(ask) => self.ask(*ask),
            Step::Shortage(resource, time) => {
                if *resource == Resource::Memory {
                    self.cuts.push(Cut::Memory);
                }
                let (hold, resource, time) = (self.hold.clone(), *resource, *time);
                let note = self.notes();
                self.beside(move || {
                    // One that is not possible here was named by the cell.
                    let short = hold.run_short(resource, time);
                    if resource == Resource::Memory {
                        note();
                    }
                    let error = short.err()?;
                    Some(format!(
                        "a shortage of {resource:?} cannot be made: {error}"
                    ))
                });
            }
            Step::Pause(time) => thread::sleep(*time),
            Step::Settle => {}
        }
        Ok(())
    }

    /// Returns what writes down, once it is called, that the supervisor was kept from running since now.
    fn notes(&self) -> impl FnOnce() + Send + 'static {
        let (made, begin) = (Arc::clone(&self.made), self.script.begin());
        let from = begin.elapsed();
        move || {
            let to = begin.elapsed();
            made.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(Span { from, to });
        }
    }

    /// Returns when the chaos has kept the supervisor from running.
    pub(crate) fn made(&self) -> Vec<Span> {
        self.made
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn change(&mut self, change: Change) -> io::Result<()> {
        if change != Change::Same {
            self.changes += 1;
            self.expects_start = change == Change::Good;
            self.desired = Desired {
                marker: format!("c{}", self.changes),
                change,
                since: self.script.now(),
            };
            self.text = self.places.config(&self.desired.marker, change);
        }
        replace(&self.dir.path().join("envoy.yaml"), &self.text)
    }

    fn ask(&mut self, ask: Ask) {
        match ask {
            Ask::ReloadCold => self.cuts.push(Cut::Cold),
            Ask::ReloadNow => self.cuts.push(Cut::Now),
            Ask::Status | Ask::Who | Ask::Reload | Ask::ReloadWait | Ask::Drain | Ask::Undrain => {}
        }
        self.expects_start |= matches!(ask, Ask::Reload | Ask::ReloadWait | Ask::ReloadNow);
        let socket = self.socket();
        self.beside(move || control::ask(&socket, ask));
    }

    fn beside(&mut self, work: impl FnOnce() -> Option<String> + Send + 'static) {
        self.pending.push(thread::spawn(work));
    }

    /// Waits for what goes on beside the steps, and returns what is wrong with it.
    pub(crate) fn join(&mut self) -> Vec<String> {
        let ended = self.pending.drain(..).map(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Some("a thread of the chaos has panicked".to_owned()))
        });
        ended.flatten().collect()
    }

    /// Returns whether everything beside the steps has ended.
    pub(crate) fn has_joined(&self) -> bool {
        self.pending.iter().all(JoinHandle::is_finished)
    }

    /// Asks the supervisor for its status.
    pub(crate) fn status(&self) -> io::Result<Value> {
        control::call(&self.socket(), "GET", "/v1/status", "")
    }

    /// Sends a request as a new client, and returns the marker of the configuration that answers.
    pub(crate) fn probe(&self) -> io::Result<String> {
        let answer = http::get(self.listener.addr(), "/", PROBE_LIMIT)?;
        if answer.status != 200 {
            return Err(io::Error::other(format!("status {}", answer.status)));
        }
        Ok(answer.header("x-config").unwrap_or_default().to_owned())
    }

    /// Returns what descriptors the supervisor has open: the fewest of some looks, because each request opens
    /// one for a moment.
    pub(crate) fn idle_descriptors(&self) -> io::Result<Vec<String>> {
        let mut fewest = self.descriptors()?;
        for _ in 0..10 {
            thread::sleep(Duration::from_millis(20));
            let now = self.descriptors()?;
            if now.len() < fewest.len() {
                fewest = now;
            }
        }
        Ok(fewest)
    }

    /// Returns what descriptors the supervisor has open, sockets with their addresses.
    pub(crate) fn descriptors(&self) -> io::Result<Vec<String>> {
        let process = PathBuf::from(format!("/proc/{}", self.supervisor.pid()));
        let open = fs::read_dir(process.join("fd"))?;
        let table =
            |name: &str| fs::read_to_string(process.join("net").join(name)).unwrap_or_default();
        let (unix, tcp) = (table("unix"), table("tcp"));
        let address = |inode: &str| {
            let with = |table: &str, column| {
                let is_meant = |line: &&str| line.split_whitespace().nth(column) == Some(inode);
                table.lines().find(is_meant).map(str::to_owned)
            };
            // The last columns of a Unix socket are its inode and its name; a TCP socket has its ends first.
            let named =
                with(&unix, 6).and_then(|line| Some(line.split_whitespace().nth(7)?.to_owned()));
            let ends = || {
                Some(
                    with(&tcp, 9)?
                        .split_whitespace()
                        .skip(1)
                        .take(2)
                        .collect::<Vec<_>>()
                        .join("-"),
                )
            };
            named.or_else(ends).unwrap_or_default()
        };
        let shown = |link: PathBuf| {
            let link = link.display().to_string();
            let inode = link
                .strip_prefix("socket:[")
                .and_then(|rest| rest.strip_suffix(']'));
            let address = inode.map(address).unwrap_or_default();
            format!("{link}{address}")
        };
        let links = open
            .flatten()
            .map(|entry| fs::read_link(entry.path()).unwrap_or_default());
        let mut links: Vec<_> = links.map(shown).collect();
        links.sort();
        Ok(links)
    }

    /// Returns how much memory the supervisor takes, in bytes.
    pub(crate) fn resident(&self) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.supervisor.pid()))?;
        let mut lines = status.lines();
        let kib = lines.find_map(|line| {
            line.strip_prefix("VmRSS:")?
                .trim()
                .strip_suffix(" kB")?
                .trim()
                .parse::<u64>()
                .ok()
        });
        kib.map(|kib| kib * 1024)
            .ok_or_else(|| io::Error::other("the kernel tells no VmRSS"))
    }

    /// Remembers a base id, of which nothing must be left in the end.
    pub(crate) fn saw_base_id(&mut self, base_id: u64) {
        if let Ok(base_id) = u32::try_from(base_id) {
            self.base_ids.insert(base_id);
        }
    }

    /// Returns what is left when the supervisor has ended.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let mut left = self.leftovers.list();
        let others = self
            .base_ids
            .iter()
            .filter(|id| **id != self.base_id.number());
        left.extend(others.flat_map(|id| Leftovers::watch().base_id(*id).list()));
        let run = self.hold.files("run").into_iter();
        left.extend(run.map(|name| format!("{name} in the run directory")));
        if self.socket().exists() {
            left.push("the control socket".to_owned());
        }
        left
    }

    fn socket(&self) -> PathBuf {
        self.path().join("socket")
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }
}
