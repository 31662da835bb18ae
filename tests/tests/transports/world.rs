//! One Envoy under `handover run`, with clients of several transports: a hand-over, then a stop.

use std::borrow::Borrow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use handover_test_support::envoy_admin::EnvoyAdmin;
use handover_test_support::envoy_bin::envoys;
use handover_test_support::envoy_config::replace_file;
use handover_test_support::leftovers::Leftovers;
use handover_test_support::limit::poll;
use handover_test_support::ports::{BaseId, Port};
use handover_test_support::supervisor::{Launch, Signal, Supervisor};
use tempfile::TempDir;

use crate::clients::{Clients, End, Habit, Noted, Open};
use crate::config::Bootstrap;

/// Longer than anything here takes on a busy machine; a wait that is over is over at once.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Envoy's drain time.
pub(crate) const DRAIN: Duration = Duration::from_secs(1);
/// The parent-shutdown time.
pub(crate) const SHUTDOWN: Duration = Duration::from_secs(3);
/// The longest time of a stop.
pub(crate) const STOP: Duration = Duration::from_secs(2);

/// What [`Noted::lost`] calls a connection that was refused.
const REFUSED: &str = "not opened: ConnectionRefused";

/// How much later than on an idle machine something may be seen.
const SLACK: Duration = Duration::from_secs(8);

/// The versions of Envoy to measure: the given one, or with `HANDOVER_ENVOYS` all of those.
pub(crate) fn versions(envoy: PathBuf) -> Vec<PathBuf> {
    let all = envoys();
    if all.is_empty() { vec![envoy] } else { all }
}

/// The number of a version, to be compared.
pub(crate) type Version = (u32, u32, u32);

/// The version of the Envoy that answers there.
pub(crate) fn version(admin: EnvoyAdmin) -> Version {
    let text = admin.version().expect("Envoy tells its version");
    let mut numbers = text
        .split('.')
        .map(|number| number.parse().expect("it is a number"));
    let mut next = || numbers.next().expect("a version has three numbers");
    (next(), next(), next())
}

/// The places and ports of one test.
pub(crate) struct Site {
    pub(crate) dir: TempDir,
    pub(crate) admin: Port,
    base_id: BaseId,
    leftovers: Leftovers,
}

impl Site {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("handover-")
            .tempdir()
            .expect("a directory");
        let (admin, base_id) = (Port::free(), BaseId::free());
        let leftovers = Leftovers::watch()
            .base_id(base_id.number())
            .directory(dir.path().join("run"));
        Self {
            dir,
            admin,
            base_id,
            leftovers,
        }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.dir.path().join("envoy.yaml")
    }

    pub(crate) fn bootstrap(&self) -> Bootstrap {
        Bootstrap::new(self.admin.number())
    }

    pub(crate) fn write(&self, bootstrap: &Bootstrap) {
        replace_file(&self.file(), bootstrap.render().as_bytes());
    }

    pub(crate) fn admin(&self) -> EnvoyAdmin {
        EnvoyAdmin::on(self.admin.number())
    }

    pub(crate) fn base_id(&self) -> u32 {
        self.base_id.number()
    }

    /// `handover run`, live as epoch 0.
    pub(crate) fn start(&self, envoy: &Path) -> Supervisor {
        let supervisor = Launch::handover()
            .tag(self.leftovers.tag())
            .arg("run")
            .arg("--config-path")
            .arg(self.file())
            .arg("--envoy-path")
            .arg(envoy)
            .args([
                "--concurrency",
                "2",
                "--base-id",
                &self.base_id().to_string(),
            ])
            .args(["--drain-time", &text(DRAIN)])
            .args(["--parent-shutdown-time", &text(SHUTDOWN)])
            .args(["--termination-drain", &text(STOP)])
            .arg("--run-dir")
            .arg(self.dir.path().join("run"))
            .arg("--lock-dir")
            .arg(self.dir.path().join("locks"))
            .start();
        supervisor.wait_for_line("epoch 0 is live", LIMIT);
        supervisor
    }

    pub(crate) fn assert_nothing_left(&self) {
        self.leftovers.assert_nothing_left(Duration::from_secs(10));
    }
}

fn text(time: Duration) -> String {
    format!("{}s", time.as_secs())
}

/// Clients of one transport, not started yet.
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    pub(crate) habit: Habit,
    pub(crate) open: Open,
}

impl Plan {
    pub(crate) fn new(name: &'static str, habit: Habit, open: Open) -> Self {
        Self { name, habit, open }
    }
}

/// What was seen in a hand-over and in a stop.
pub(crate) struct Seen {
    pub(crate) version: Version,
    /// When each client had had answers.
    pub(crate) began: Instant,
    /// When the change was asked for.
    pub(crate) asked: Instant,
    /// When the new epoch was seen live.
    pub(crate) live: Instant,
    /// When the old epoch was seen to have ended.
    pub(crate) gone: Instant,
    /// When the stop was asked for.
    pub(crate) stop: Instant,
    /// When Handover had ended.
    pub(crate) stopped: Instant,
    /// The exit code of the stop.
    pub(crate) code: Option<i32>,
    /// What the log says was cut by the stop, one entry for each listener.
    pub(crate) cut: Vec<String>,
    pub(crate) noted: Vec<Noted>,
}

/// Starts an Envoy and clients, makes a hand-over, waits for the end of the old epoch, and stops.
/// Clients that keep their wires are started again before the stop.
pub(crate) fn measure(site: &Site, envoy: &Path, plans: &[Plan]) -> Seen {
    let mut supervisor = site.start(envoy);
    let version = version(site.admin());
    let mut clients = start(plans.iter());

    let began = Instant::now();
    // The rate before the hand-over is seen as well.
    std::thread::sleep(Duration::from_millis(200));
    let asked = Instant::now();
    supervisor.signal(Signal::HUP);
    let line = supervisor.wait_for_line("epoch 1 is live", LIMIT);
    let live = Instant::now();
    supervisor.wait_for_line_after(&line, "epoch 0 ended", LIMIT);
    let gone = Instant::now();
    wait_for_ends(&clients);

    let keeps = plans
        .iter()
        .filter(|plan| matches!(plan.habit, Habit::Keep(_)));
    clients.extend(start(keeps));
    let stop = Instant::now();
    supervisor.signal(Signal::TERM);
    let code = supervisor.wait_exit(LIMIT).code();
    let stopped = Instant::now();
    let lines = supervisor.log().lines().into_iter();
    let cut = lines
        .filter_map(|line| Some(line.text.split_once("cutting ")?.1.to_owned()))
        .collect();
    wait_for_ends(&clients);
    let noted = clients.into_iter().map(Clients::stop).collect();
    site.assert_nothing_left();
    Seen {
        version,
        began,
        asked,
        live,
        gone,
        stop,
        stopped,
        code,
        cut,
        noted,
    }
}

/// Starts clients, and waits until each has had answers.
pub(crate) fn start(plans: impl Iterator<Item = impl Borrow<Plan>>) -> Vec<Clients> {
    let started: Vec<_> = plans
        .map(|plan| {
            let Plan { name, habit, open } = plan.borrow();
            Clients::start(name, *habit, open)
        })
        .collect();
    for clients in &started {
        let enough = || (clients.exchanged() >= 3 * clients.count()).then_some(());
        let began = poll(LIMIT, enough).is_some();
        assert!(began, "{} noted {:?}", clients.name, clients.last());
    }
    started
}

/// Waits until the clients that keep their wires have noticed the end of these. Not each has one.
pub(crate) fn wait_for_ends(clients: &[Clients]) {
    let kept = clients.iter().filter(|clients| clients.keeps());
    let _noticed = poll(Duration::from_secs(3), || {
        let mut open = kept
            .clone()
            .filter(|clients| clients.ended() < clients.count());
        open.next().is_none().then_some(())
    });
    // Clients that begin again go on against what is left.
    std::thread::sleep(Duration::from_millis(300));
}

impl Seen {
    /// What the clients of this name noted, the first ones and those of the stop.
    pub(crate) fn of(&self, name: &str) -> Vec<&Noted> {
        let found: Vec<_> = self
            .noted
            .iter()
            .filter(|noted| noted.name == name)
            .collect();
        assert!(!found.is_empty(), "no client is called {name}");
        found
    }

    /// Nothing was lost from the start to the stop, and there were exchanges before and after the
    /// hand-over.
    #[track_caller]
    pub(crate) fn assert_hand_over_loses_nothing(&self, name: &str) {
        let noted = self.of(name).remove(0);
        let begin = self.began;
        let lost = noted.lost(begin, self.stop);
        assert!(lost.is_empty(), "{name} in {:?}: {lost:?}", self.version);
        assert!(noted.exchanged(begin, self.asked) > 0, "{name}");
        assert!(noted.exchanged(self.live, self.stop) > 0, "{name}");
    }

    /// Each kept wire of the start lived until the parent-shutdown time, and no longer.
    #[track_caller]
    pub(crate) fn assert_kept_until_parent_shutdown(&self, name: &str) {
        let noted = self.of(name).remove(0);
        let ends = noted.ends(self.began, self.stop);
        assert!(!ends.is_empty(), "{name}: nothing was cut");
        for (at, end) in ends {
            // The time begins after the new epoch was asked for, and before it was seen live.
            assert!(
                at >= self.asked + SHUTDOWN && at <= self.live + SHUTDOWN + SLACK,
                "{name} in {:?}: {end} {:?} after the change was asked for",
                self.version,
                at - self.asked
            );
        }
        let after = noted.exchanged(self.live, self.gone);
        assert!(after > 0, "{name}: silent after the hand-over");
    }

    /// In the stop, new connections are served or refused, and none is accepted and then lost.
    #[track_caller]
    pub(crate) fn assert_stop_only_refuses(&self, name: &str) {
        for noted in self.of(name) {
            let mut lost = noted.lost(self.stop, self.stopped + LIMIT);
            lost.remove(REFUSED);
            assert!(lost.is_empty(), "{name} in {:?}: {lost:?}", self.version);
        }
    }

    /// The stop was cut at its limit, and the log names this listener as one that held it.
    #[track_caller]
    pub(crate) fn assert_stop_was_held_by(&self, listener: &str) {
        assert_eq!(self.code, Some(75), "{:?}", self.version);
        let named = self.cut.iter().any(|cut| cut.contains(listener));
        assert!(named, "{listener} is not in {:?}", self.cut);
        assert!(self.stopped >= self.stop + STOP);
    }

    /// Prints the figures of each client.
    pub(crate) fn print(&self) {
        let (major, minor, patch) = self.version;
        for noted in &self.noted {
            let begin = self.began;
            let is_first = noted
                .events
                .first()
                .is_some_and(|event| event.at < self.asked);
            if is_first {
                self.print_phase(noted, "hand-over", begin, self.stop, self.live);
            }
            self.print_phase(noted, "stop", self.stop, self.stopped + LIMIT, self.stop);
        }
        println!(
            "=== {major}.{minor}.{patch} stop: code {:?} after {:.1} s{}",
            self.code,
            (self.stopped - self.stop).as_secs_f64(),
            self.cut
                .iter()
                .map(|cut| format!(", cutting {cut}"))
                .collect::<String>(),
        );
    }

    fn print_phase(&self, noted: &Noted, phase: &str, from: Instant, to: Instant, zero: Instant) {
        let (major, minor, patch) = self.version;
        let mut ends: Vec<(End, f64)> = noted
            .ends(from, to)
            .into_iter()
            .map(|(at, end)| {
                let after = match at.checked_duration_since(zero) {
                    Some(after) => after.as_secs_f64(),
                    None => -(zero - at).as_secs_f64(),
                };
                (end, after)
            })
            .collect();
        ends.sort_by(|one, other| one.0.cmp(&other.0).then(one.1.total_cmp(&other.1)));
        let mut said: Vec<String> = Vec::new();
        for group in ends.chunk_by(|one, other| one.0 == other.0) {
            let Some((end, _)) = group.first() else {
                continue;
            };
            let times: Vec<String> = group
                .iter()
                .take(10)
                .map(|(_, at)| format!("{at:.2}"))
                .collect();
            said.push(format!("{} x {end} (s: {})", group.len(), times.join(" ")));
        }
        println!(
            "=== {major}.{minor}.{patch} {} {phase}: {} exchanged, longest gap {:.2} s; lost {:?}; ends {}",
            noted.name,
            noted.exchanged(from, to),
            noted.longest_gap(from, to).as_secs_f64(),
            noted.lost(from, to),
            if said.is_empty() {
                "none".to_owned()
            } else {
                said.join(", ")
            },
        );
    }
}
