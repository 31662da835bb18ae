//! The control plane fails while a change or a renewal hands over.
//!
//! Every case has an Envoy under load of its own, and the cases of a test run beside each other. What each
//! step has cost is printed as a row of the tables in `docs/resilience.md`.

#![expect(
    clippy::print_stdout,
    reason = "the figures of a run are what the tables are written from"
)]

mod certificates;
mod clusters;
mod failures;
mod held;
mod inside;
mod mistakes;
mod probation;
mod reports;

use std::path::Path;
use std::thread;
use std::time::Duration;

use handover_test_support::control_plane::fetching::{Addresses, Clusters, Fetching, Mistake};
use handover_test_support::control_plane::{ControlPlane, Kind, Manner, Seen, Transport};
use handover_test_support::envoy_config::replace_file;
use handover_test_support::limit::eventually;
use handover_test_support::load::{Load, Mix};
use handover_test_support::ports::Port;
use handover_test_support::supervisor::{Signal, Supervisor};

use crate::world::{LIMIT, Site};

/// How long a slow source takes.
const SLOW: Duration = Duration::from_secs(2);

/// When Envoy by itself would go on without a source.
const GIVEN_UP: Duration = Duration::from_secs(1);

/// Well beyond that.
const BEYOND: Duration = Duration::from_secs(2);

/// What the configuration of a case fetches, and how.
#[derive(Clone)]
struct Setup {
    transport: Transport,
    /// The last of them fails.
    fetched: Vec<Kind>,
    /// When Envoy by itself gives a source up.
    given_up: Duration,
    /// Whether the configuration itself names the last kind as well.
    in_place: bool,
    /// What is wrong with it, although Envoy takes it.
    mistake: Option<Mistake>,
    /// Whether what is live is on probation, and must be served to the load's clients.
    probation: Probation,
    /// What the control plane has of the clusters.
    clusters: Clusters,
    /// How long an older epoch stays.
    parent_shutdown: &'static str,
}

/// What an epoch is judged by once it is live.
#[derive(Clone, Copy)]
enum Probation {
    /// It is believed.
    None,
    /// What it can do without being asked.
    Seen,
    /// A request to `web`.
    Asked,
    /// The share of failed requests.
    Counted,
}

impl Probation {
    fn flags(self, site: &Site) -> Vec<String> {
        let more = match self {
            Self::None => return vec!["--probation=0".to_owned()],
            // Otherwise it would not come so far.
            Self::Seen => vec!["--wait-for-resources=no".to_owned()],
            Self::Asked => vec![format!("--verify-http=http://{}/", site.listener.addr())],
            Self::Counted => vec!["--max-error-rise=5%".to_owned()],
        };
        let time = format!("--probation={}s", PROBATION.as_secs());
        [vec![time], more].concat()
    }
}

impl Setup {
    fn new(transport: Transport, fetched: &[Kind]) -> Self {
        Self {
            transport,
            fetched: fetched.to_vec(),
            given_up: GIVEN_UP,
            in_place: false,
            mistake: None,
            probation: Probation::None,
            clusters: Clusters::default(),
            parent_shutdown: "2s",
        }
    }

    /// The same with something that is wrong.
    fn with(&self, mistake: Mistake) -> Self {
        Self {
            mistake: Some(mistake),
            ..self.clone()
        }
    }

    /// Whether Envoy asks for what fails by its name.
    fn asks_by_name(&self) -> bool {
        let all = [Kind::Listener, Kind::Cluster];
        self.fetched.last().is_some_and(|kind| !all.contains(kind))
    }

    /// Gives the control plane what the configuration with this name fetches, and writes its file.
    fn write(&self, site: &Site, secured: &Port, plane: &ControlPlane, name: &str) {
        let text = self.publish(site, secured, plane, name);
        replace_file(&site.file(), text.as_bytes());
    }

    /// Gives the control plane what the configuration with this name fetches, and returns its text.
    fn publish(&self, site: &Site, secured: &Port, plane: &ControlPlane, name: &str) -> String {
        let addresses = Addresses {
            web: site.listener.addr(),
            admin: site.admin.addr(),
            backend: site.backend.addr(),
            secured: secured.addr(),
        };
        let mut config = Fetching::new(plane, self.transport, &self.fetched, addresses)
            .given_up(self.given_up)
            .clusters(self.clusters);
        if self.in_place {
            config = config.also_in_place(site.dir.path().join("in-place.sock"));
        }
        if let Some(mistake) = self.mistake {
            config = config.mistake(mistake);
        }
        config.publish(name)
    }
}

/// How long an epoch is on probation.
const PROBATION: Duration = Duration::from_secs(10);

/// A supervised Envoy under load whose configuration fetches something.
struct Case {
    title: String,
    setup: Setup,
    site: Site,
    secured: Port,
    plane: ControlPlane,
    supervisor: Supervisor,
    load: Load,
}

/// What the load has counted so far.
#[derive(Clone, Copy)]
struct Counted {
    requests: u64,
    lost: u64,
}

impl Case {
    /// Starts with `v0`, while the control plane answers.
    fn start(envoy: &Path, setup: Setup) -> Self {
        let (site, secured, plane) = (Site::new(), Port::free(), ControlPlane::start());
        setup.write(&site, &secured, &plane, "v0");
        let supervisor = site
            .launch_with_times(envoy, "1s", setup.parent_shutdown)
            .args(["--start-deadline", "15s"])
            .args(setup.probation.flags(&site))
            .start();
        supervisor.wait_for_line("epoch 0 is live", LIMIT);
        let pause = Some(Duration::from_millis(20));
        let load = Load::start(
            site.listener.addr(),
            Mix {
                pause,
                ..Mix::default()
            },
        );
        let kinds: Vec<String> = setup.fetched.iter().map(Kind::to_string).collect();
        let case = Self {
            title: format!("{} over {}", kinds.join(" with "), setup.transport),
            setup,
            site,
            secured,
            plane,
            supervisor,
            load,
        };
        case.served_by("v0");
        case
    }

    fn change(&self, name: &str) {
        self.change_to(name, &self.setup);
    }

    fn change_to(&self, name: &str, setup: &Setup) {
        setup.write(&self.site, &self.secured, &self.plane, name);
    }

    /// Changes to a configuration for which the control plane has these clusters.
    fn change_with(&self, name: &str, clusters: Clusters) {
        let setup = Setup {
            clusters,
            ..self.setup.clone()
        };
        self.change_to(name, &setup);
    }

    /// Gives the control plane these clusters for the configuration with this name. No file changes.
    fn publish(&self, name: &str, clusters: Clusters) {
        let setup = Setup {
            clusters,
            ..self.setup.clone()
        };
        let _same = setup.publish(&self.site, &self.secured, &self.plane, name);
    }

    /// Changes to a configuration with which something is wrong.
    fn change_wrongly(&self, name: &str, mistake: Mistake) {
        let setup = self.setup.with(mistake);
        setup.write(&self.site, &self.secured, &self.plane, name);
    }

    /// Gives the control plane what is wrong for the configuration with this name. No file changes.
    fn publish_wrongly(&self, name: &str, mistake: Mistake) {
        let setup = self.setup.with(mistake);
        let _same = setup.publish(&self.site, &self.secured, &self.plane, name);
    }

    fn behave(&self, manner: Manner) {
        let kind = self.setup.fetched.last().expect("something is fetched");
        self.plane.behave(*kind, manner);
    }

    /// What has happened to the requests for the kind that fails.
    fn seen(&self) -> Seen {
        let kind = self.setup.fetched.last().expect("something is fetched");
        self.plane.seen(*kind)
    }

    fn counted(&self) -> Counted {
        let progress = self.load.progress();
        Counted {
            requests: progress.ok + progress.failed,
            lost: progress.failed,
        }
    }

    fn served_by(&self, name: &str) {
        self.load.mark(name);
        let before = self.load.progress().ok_from(name);
        let what = format!("{}: 50 responses of {name}", self.title);
        eventually(LIMIT, &what, || {
            (self.load.progress().ok_from(name) >= before + 50).then_some(())
        });
    }

    fn wait_live(&self, epoch: u32) {
        let line = format!("epoch {epoch} is live");
        self.supervisor.wait_for_line(&line, LIMIT);
    }

    fn is_live(&self, epoch: u32) -> bool {
        self.supervisor
            .count_lines(&format!("epoch {epoch} is live"))
            > 0
    }

    /// Prints what has happened since `before`, and returns how many requests were lost.
    fn row(&self, before: Counted, what: &str, happened: &str) -> u64 {
        let now = self.counted();
        let (requests, lost) = (now.requests - before.requests, now.lost - before.lost);
        println!(
            "=== | {} | {what} | {requests} | {lost} | {happened} |",
            self.title
        );
        if lost > 0 {
            for line in self.supervisor.log().lines() {
                println!("{}: {}", self.title, line.text);
            }
        }
        lost
    }

    fn end(mut self) {
        let report = self.load.stop_blocking();
        println!("=== {}: {report}", self.title);
        self.supervisor.signal(Signal::TERM);
        assert_eq!(self.supervisor.wait_exit(LIMIT).code(), Some(0));
        self.site.assert_nothing_left();
    }
}

/// Runs the cases beside each other; a panic of one is a panic of the test.
fn side_by_side<T: Send>(cases: impl IntoIterator<Item = T>, run: impl Fn(T) + Sync) {
    thread::scope(|scope| {
        for case in cases {
            let run = &run;
            scope.spawn(move || run(case));
        }
    });
}
