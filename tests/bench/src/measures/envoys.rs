//! Real Envoys with an upstream: under Handover, and restarted by hand with the same arguments.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use handover_test_support::backend::Backend;
use handover_test_support::envoy_config::EnvoyConfig;
use handover_test_support::http;
use handover_test_support::ports::Port;
use rustix::process::Signal;

use super::Bench;
use crate::clock;
use crate::started::{Started, time_of};

/// The names in figures.
pub(crate) const HANDOVER: &str = "handover run";
pub(crate) const BARE: &str = "bare hot restart";
pub(crate) const VALIDATED: &str = "validated hot restart";
pub(crate) const ALONE: &str = "no change";

/// How long Handover looks after an epoch more closely, by default.
pub(crate) const PROBATION: Duration = Duration::from_secs(11);

/// How long the old Envoy runs on beside the next one, at most.
pub(crate) const BOTH: Duration = Duration::from_secs(2);

/// For an Envoy to be live, or to end.
const LIMIT: Duration = Duration::from_secs(30);

/// Between two questions to the admin endpoint: the error of a time until live.
const LOOK: Duration = Duration::from_millis(1);

/// Arguments of every Envoy. Handover gives the same ones, with the times that its flags say.
const SAME: [&str; 8] = [
    "--drain-time-s",
    "1",
    "--parent-shutdown-time-s",
    "2",
    "--drain-strategy",
    "gradual",
    "--concurrency",
    "2",
];

/// A configuration, and the ports and the upstream in it.
#[derive(Debug)]
pub(crate) struct Site {
    directory: PathBuf,
    envoy: PathBuf,
    base_id: u32,
    admin: Port,
    listener: Port,
    backend: Backend,
    /// The number of the newest epoch.
    epoch: u32,
    version: u32,
}

impl Site {
    fn new(bench: &Bench, name: &str, base_id: u32) -> Result<Self> {
        let envoy = bench.tools.envoy.clone();
        let envoy = envoy.context("no Envoy was named: `cargo xtask envoy` installs one")?;
        let directory = bench.directory.join(name);
        fs_err::create_dir_all(&directory)?;
        let site = Self {
            directory,
            envoy,
            base_id,
            admin: Port::free(),
            listener: Port::free(),
            backend: Backend::start(),
            epoch: 0,
            version: 0,
        };
        fs_err::write(site.config(), site.text())?;
        Ok(site)
    }

    /// Where clients connect to.
    pub(crate) fn listener(&self) -> SocketAddr {
        self.listener.addr()
    }

    fn config(&self) -> PathBuf {
        self.directory.join("envoy.yaml")
    }

    fn text(&self) -> String {
        let name = format!("v{}", self.version);
        EnvoyConfig::new(&name, self.admin.number(), self.listener.number())
            .backend(self.backend.addr())
            .render()
    }

    /// Replaces the configuration by another one, and returns the time directly before.
    fn change(&mut self) -> Result<u64> {
        self.version += 1;
        let next = self.directory.join("next.yaml");
        fs_err::write(&next, self.text())?;
        let begun = clock::now();
        fs_err::rename(next, self.config())?;
        Ok(begun)
    }

    /// Waits until the newest epoch is live, and returns when that was seen.
    fn wait_live(&self, process: &Started) -> Result<u64> {
        self.wait_live_unless(|| self.runs(process))
    }

    /// The same with a reason to give up, which is asked for after each question.
    fn wait_live_unless(&self, mut runs: impl FnMut() -> Result<()>) -> Result<u64> {
        let end = Instant::now() + LIMIT;
        while Instant::now() < end {
            if self.live_epoch() == Some(self.epoch) {
                return Ok(clock::now());
            }
            runs()?;
            thread::sleep(LOOK);
        }
        bail!("epoch {} was not live in {LIMIT:?}", self.epoch);
    }

    fn runs(&self, process: &Started) -> Result<()> {
        if process.has_ended() {
            let (epoch, words) = (self.epoch, process.last_words());
            bail!("it has ended before epoch {epoch} was live{words}");
        }
        Ok(())
    }

    /// The epoch that answers at the admin endpoint, if it is live.
    fn live_epoch(&self) -> Option<u32> {
        let answer = http::get(self.admin.addr(), "/server_info", Duration::from_secs(1)).ok()?;
        let info: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
        let epoch = info.get("command_line_options")?.get("restart_epoch")?;
        let is_live = info.get("state")?.as_str()? == "LIVE";
        is_live
            .then(|| u32::try_from(epoch.as_u64()?).ok())
            .flatten()
    }

    /// How long Envoy takes to validate the configuration, in milliseconds.
    ///
    /// # Errors
    ///
    /// When it refuses it.
    pub(crate) fn validate(&self) -> Result<f64> {
        let mut command = Command::new(&self.envoy);
        command.args(["--mode", "validate"]).args(SAME);
        command.arg("-c").arg(self.config());
        let log = self.directory.join("validate.log");
        time_of(command, log, LIMIT).context("validating the configuration")
    }
}

/// An Envoy under `handover run`.
#[derive(Debug)]
pub(crate) struct Supervised {
    pub(crate) process: Started,
    pub(crate) site: Site,
}

impl Supervised {
    /// Starts it and waits until its first epoch is live.
    ///
    /// # Errors
    ///
    /// When there is no Envoy, or it does not go live.
    pub(crate) fn start(bench: &Bench, name: &str) -> Result<Self> {
        let [base_id, _] = bench.base_ids;
        let site = Site::new(bench, &format!("{name}-handover"), base_id)?;
        let mut command = Command::new(&bench.tools.handover);
        command.arg("run").arg("--config-path").arg(site.config());
        command.arg("--envoy-path").arg(&site.envoy);
        command.args(["--base-id", &base_id.to_string()]);
        command.args(["--concurrency", "2", "--drain-time", "1s"]);
        command.args(["--parent-shutdown-time", "2s"]);
        command.arg("--run-dir").arg(site.directory.join("run"));
        command.arg("--lock-dir").arg(site.directory.join("locks"));
        command.arg("--socket").arg(site.directory.join("h.sock"));
        let process = Started::start(command, site.directory.join("log"))?;
        site.wait_live(&process)?;
        Ok(Self { process, site })
    }

    /// Changes the configuration, and returns the time until the next epoch was seen live, in milliseconds.
    ///
    /// # Errors
    ///
    /// When it does not go live.
    pub(crate) fn change(&mut self) -> Result<f64> {
        let begun = self.site.change()?;
        self.site.epoch += 1;
        Ok(clock::milliseconds(
            begun,
            self.site.wait_live(&self.process)?,
        ))
    }

    /// The same for a HUP, which changes nothing.
    ///
    /// # Errors
    ///
    /// When the next epoch does not go live.
    pub(crate) fn hang_up(&mut self) -> Result<f64> {
        let begun = clock::now();
        self.process.signal(Signal::HUP)?;
        self.site.epoch += 1;
        Ok(clock::milliseconds(
            begun,
            self.site.wait_live(&self.process)?,
        ))
    }
}

/// An Envoy that is restarted by hand.
#[derive(Debug)]
pub(crate) struct Unsupervised {
    // Before the site, so that it has ended when its ports are given back.
    newest: Started,
    older: Vec<Started>,
    pub(crate) site: Site,
}

impl Unsupervised {
    /// Starts it and waits until it is live.
    ///
    /// # Errors
    ///
    /// When there is no Envoy, or it does not go live.
    pub(crate) fn start(bench: &Bench, name: &str) -> Result<Self> {
        let [_, base_id] = bench.base_ids;
        let site = Site::new(bench, &format!("{name}-bare"), base_id)?;
        let newest = Self::start_epoch(&site)?;
        site.wait_live(&newest)?;
        Ok(Self {
            newest,
            older: Vec::new(),
            site,
        })
    }

    fn start_epoch(site: &Site) -> Result<Started> {
        let mut command = Command::new(&site.envoy);
        command.arg("-c").arg(site.config());
        command.args(["--restart-epoch", &site.epoch.to_string()]);
        command.args(["--base-id", &site.base_id.to_string()]);
        command.args(SAME);
        let log = site.directory.join(format!("epoch-{}.log", site.epoch));
        Started::start(command, log)
    }

    /// Changes the configuration and starts the next epoch at once, and returns the time until it was seen live, in
    /// milliseconds.
    ///
    /// # Errors
    ///
    /// When it does not go live.
    pub(crate) fn change(&mut self) -> Result<f64> {
        let begun = self.site.change()?;
        self.site.epoch += 1;
        let next = Self::start_epoch(&self.site)?;
        self.older.push(std::mem::replace(&mut self.newest, next));
        Ok(clock::milliseconds(
            begun,
            self.site.wait_live(&self.newest)?,
        ))
    }

    /// The same with a validation before the start, as one would do it by hand. The epoch that serves is asked
    /// meanwhile as often as it is where Handover validates, so that this costs both the same.
    ///
    /// # Errors
    ///
    /// When Envoy refuses the configuration, or the next epoch does not go live.
    pub(crate) fn change_validated(&mut self) -> Result<f64> {
        let begun = self.site.change()?;
        self.site.epoch += 1;
        let site = &self.site;
        let (begins, start) = mpsc::channel();
        let (next, live) = thread::scope(|scope| {
            scope.spawn(move || {
                let started = site.validate().and_then(|_| Self::start_epoch(site));
                // The other side has given up.
                let _sent = begins.send(started);
            });
            let mut next = None;
            let live = site.wait_live_unless(|| {
                if let Ok(started) = start.try_recv() {
                    next = Some(started?);
                }
                next.as_ref().map_or(Ok(()), |next| site.runs(next))
            });
            (next, live)
        });
        let live = live?;
        let next = next.context("another process has answered for the next epoch")?;
        self.older.push(std::mem::replace(&mut self.newest, next));
        Ok(clock::milliseconds(begun, live))
    }

    /// Waits until the older epochs have ended.
    ///
    /// # Errors
    ///
    /// When one does not end.
    pub(crate) fn settle(&mut self) -> Result<()> {
        for mut older in self.older.drain(..) {
            older.wait(LIMIT).context("an old epoch")?;
        }
        Ok(())
    }
}

/// Waits until the old epochs of both have ended.
///
/// # Errors
///
/// When one does not end.
pub(crate) fn settle(supervised: &Supervised, unsupervised: &mut Unsupervised) -> Result<()> {
    unsupervised.settle()?;
    let pid = supervised.process.pid();
    let end = Instant::now() + LIMIT;
    while children(pid)?.len() > 1 {
        anyhow::ensure!(
            Instant::now() < end,
            "an old epoch under Handover has not ended"
        );
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The children of a process, ended ones that were not collected included.
fn children(pid: u32) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for thread in fs_err::read_dir(format!("/proc/{pid}/task"))? {
        let list = fs_err::read_to_string(thread?.path().join("children"))?;
        all.extend(list.split_whitespace().map(str::to_owned));
    }
    Ok(all)
}
