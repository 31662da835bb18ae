//! One server under `handover exec` and under load: five hand-overs, a configuration that fails, and a stop.

use std::fs;
use std::time::{Duration, Instant};

use handover_test_support::backend::Backend;
use handover_test_support::envoy_config::replace_file;
use handover_test_support::leftovers::Leftovers;
use handover_test_support::limit::{eventually, poll};
use handover_test_support::load::{ClientKind, FailureKind, Load, Mix, Report};
use handover_test_support::ports::Port;
use handover_test_support::servers::Servers;
use handover_test_support::supervisor::{Signal, Supervisor};

use crate::clients::{Clients, End, Event, Habit, Noted, Open, What};
use crate::http2;
use crate::servers::page::recipe;
use crate::servers::sockets::web_sockets;
use crate::wires::echo_backend;
use crate::world::LIMIT;

/// How many hand-overs each server goes through.
const HAND_OVERS: usize = 5;
/// How long an old epoch may take. The page allows more, and a WebSocket would hold it for all of that.
const DRAIN: &str = "--drain-time 1500ms";
/// How long a long request takes: less than [`DRAIN`], with some room for a busy machine.
const SLOW: Duration = Duration::from_millis(400);
/// Answers to wait for before the next change, so that each hand-over has load before and after it.
const ENOUGH: u64 = 100;

/// The most requests of one kind that can be under way in all hand-overs: each has two clients.
const MOST: u64 = 10;
/// What `h2` says of a request that begins after the last one that a GOAWAY without an error names. The server has
/// not processed it.
const TURNED_AWAY: &str = "connection error received: not a result of an error";

/// What a server is tested with.
pub(crate) struct Server {
    /// The heading of its section.
    pub(crate) heading: &'static str,
    /// The heading of the section with its files.
    pub(crate) files_of: &'static str,
    /// The file that is changed.
    pub(crate) changed: &'static str,
    /// Changes to the files that only a test needs: what stands there, and what stands there instead.
    pub(crate) adapted: &'static [(&'static str, &'static str)],
    /// The socket that speaks HTTP/2, by its port on the page.
    pub(crate) http2: Option<u16>,
    pub(crate) has_web_sockets: bool,
}

/// What was seen of a server.
pub(crate) struct Seen {
    heading: &'static str,
    report: Report,
    http2: Option<Noted>,
    sockets: Option<Noted>,
    began: Instant,
    stop: Instant,
}

/// Puts a server through everything, and returns what was seen up to the stop.
pub(crate) fn measure(servers: &Servers, server: &Server) -> Seen {
    let dir = tempfile::Builder::new().prefix("handover-").tempdir();
    let dir = dir.expect("a directory");
    let (backend, echoes) = (Backend::start(), echo_backend());
    let (web, second) = (Port::free(), Port::free());
    let adapt = |text: &str| {
        let places = [
            (8080, web.addr()),
            (8081, second.addr()),
            (9000, backend.addr()),
            (9001, echoes),
        ];
        let text = places.iter().fold(text.to_owned(), |text, (port, place)| {
            text.replace(&format!("127.0.0.1:{port}"), &place.to_string())
        });
        let text = text.replace("--drain-time 30s", DRAIN);
        let text = text.replace(
            "handover exec ",
            "handover exec --max-retries 1 --retry-interval 50ms ",
        );
        let adapted = server.adapted.iter();
        adapted.fold(text, |text, (there, instead)| text.replace(there, instead))
    };
    let recipe = recipe(server.heading, server.files_of);
    for (name, content) in &recipe.files {
        fs::write(dir.path().join(name), adapt(content)).expect("the directory is ours");
    }
    let changed = dir.path().join(server.changed);
    let first = fs::read_to_string(&changed).expect("the page has the file");
    assert!(first.contains("v1"), "nothing can be changed in {first}");
    let leftovers = Leftovers::watch()
        .listener(web.addr())
        .listener(second.addr());
    let mut supervisor = servers
        .launch(&adapt(&recipe.command))
        .tag(leftovers.tag())
        .current_dir(dir.path())
        // What a server keeps for its user is gone with the directory.
        .env("HOME", dir.path())
        .start();
    supervisor.wait_for_line("epoch 0 is live", LIMIT);

    let began = Instant::now();
    let load = Load::start(web.addr(), mix());
    let http2 = server.http2.map(|port| match port {
        8080 => web.addr(),
        _ => second.addr(),
    });
    let http2 = http2.map(|addr| renewed("HTTP/2", &http2::requests(addr)));
    let sockets = server.has_web_sockets.then(|| web.addr());
    let sockets = sockets.map(|addr| renewed("WebSocket", &web_sockets(addr)));
    for client in http2.iter().chain(&sockets) {
        let enough = || (client.exchanged() > 10).then_some(());
        let began = poll(LIMIT, enough).is_some();
        assert!(began, "{} noted {:?}", client.name, client.last());
    }
    answers(&load, "v1");
    for epoch in 1..=HAND_OVERS {
        let config = format!("v{}", epoch + 1);
        load.mark(&config);
        replace_file(&changed, first.replace("v1", &config).as_bytes());
        let live = format!("epoch {epoch} is live");
        supervisor.wait_for_line(&live, LIMIT);
        answers(&load, &config);
        let ended = format!("epoch {} ended", epoch - 1);
        supervisor.wait_for_line(&ended, LIMIT);
    }
    the_old_epoch_serves_on(&supervisor, &load, || {
        replace_file(
            &changed,
            format!("{first}\n}}}} broken on purpose\n").as_bytes(),
        );
    });
    let stop = Instant::now();
    let report = load.stop_blocking();
    let (http2, sockets) = (http2.map(Clients::stop), sockets.map(Clients::stop));
    supervisor.signal(Signal::TERM);
    let _code = supervisor.wait_exit(LIMIT);
    drop(supervisor);
    leftovers.assert_nothing_left(Duration::from_secs(10));
    let seen = Seen {
        heading: server.heading,
        report,
        http2,
        sockets,
        began,
        stop,
    };
    seen.print();
    seen
}

/// Clients of each kind, few enough for a machine of two cores.
fn mix() -> Mix {
    Mix {
        slow: Some((2, SLOW)),
        ..Mix::default()
    }
}

fn renewed(name: &'static str, open: &Open) -> Clients {
    Clients::start(name, Habit::Renew, open)
}

/// Waits for answers of this configuration.
fn answers(load: &Load, config: &str) {
    eventually(LIMIT, &format!("answers of {config}"), || {
        (load.progress().ok_from(config) >= ENOUGH).then_some(())
    });
}

/// A configuration that fails leaves the epoch alone that serves.
fn the_old_epoch_serves_on(supervisor: &Supervisor, load: &Load, break_it: impl FnOnce()) {
    let config = format!("v{}", HAND_OVERS + 1);
    load.mark("broken");
    break_it();
    let failed = format!("epoch {} failed", HAND_OVERS + 1);
    supervisor.wait_for_line(&failed, LIMIT);
    supervisor.wait_for_line("gave up the configuration", LIMIT);
    let before = load.progress().ok_from(&config);
    eventually(LIMIT, "further answers of the old epoch", || {
        (load.progress().ok_from(&config) >= before + ENOUGH).then_some(())
    });
    let live = format!("epoch {} is live", HAND_OVERS + 1);
    assert_eq!(supervisor.count_lines(&live), 0, "it is broken");
}

impl Seen {
    /// Nothing of these clients was lost, and no kept connection was closed under a request without notice.
    #[track_caller]
    pub(crate) fn assert_nothing_lost(&self) {
        self.assert_only_races();
        let races = self.report.idle_close_races;
        assert_eq!(races, 0, "{}: {}", self.heading, self.report);
    }

    /// Nothing was lost but requests on kept connections that were closed without notice, which a client
    /// repeats: at most those that can have been under way in the hand-overs.
    #[track_caller]
    pub(crate) fn assert_only_races(&self) {
        self.assert_few_races();
        assert_eq!(self.report.failed, 0, "{}: {}", self.heading, self.report);
    }

    /// As [`Self::assert_only_races`], and new connections may have been closed as well before their request was
    /// read. None was refused, no answer was cut, and long requests were finished.
    #[track_caller]
    pub(crate) fn assert_only_closed_before_the_answer(&self) {
        self.assert_few_lost(&[FailureKind::Reset, FailureKind::ClosedBeforeResponse]);
        let slow = self.report.failed_by.iter();
        let slow = slow.filter(|((client, _), _)| *client == ClientKind::Slow);
        let slow: u64 = slow.map(|(_, count)| count).sum();
        // A server that cuts long requests loses two in each hand-over. One of them is rarely so new that it is not
        // read yet.
        assert!(slow <= 2, "{}: {}", self.heading, self.report);
    }

    /// What was lost was lost in one of these ways, and each client has lost at most what it can have had under way
    /// in the hand-overs.
    #[track_caller]
    pub(crate) fn assert_few_lost(&self, kinds: &[FailureKind]) {
        self.assert_few_races();
        for ((client, kind), count) in &self.report.failed_by {
            let good = kinds.contains(kind) && *count <= MOST;
            assert!(good, "{} {client}: {}", self.heading, self.report);
        }
    }

    #[track_caller]
    fn assert_few_races(&self) {
        assert!(self.report.ok() > 0, "no request proves nothing");
        let races = self.report.idle_close_races;
        assert!(races <= MOST, "{}: {}", self.heading, self.report);
    }

    /// Every new HTTP/2 connection could be opened, and worked.
    #[track_caller]
    pub(crate) fn assert_http2_goes_on(&self) {
        let noted = self.http2.as_ref().expect("it was measured");
        let refused = |event: &&Event| matches!(event.what, What::NotOpened(_));
        let refused = noted.between(self.began, self.stop).find(refused);
        assert!(refused.is_none(), "{}: {refused:?}", self.heading);
        let last_begin = self.stop.checked_sub(Duration::from_secs(1));
        let last = noted.exchanged(last_begin.unwrap_or(self.began), self.stop);
        assert!(last > 0, "{}: no exchange at the end", self.heading);
    }

    /// HTTP/2 connections ended by a GOAWAY, and requests that it turned away were not processed.
    #[track_caller]
    pub(crate) fn assert_http2_is_told(&self) {
        let turned_away = End::Other(TURNED_AWAY.to_owned());
        assert_ends(
            self,
            self.http2.as_ref(),
            &[End::Announced("GOAWAY"), turned_away],
        );
    }

    /// `WebSocket`s ended in one of these ways, and each new one could be opened.
    #[track_caller]
    pub(crate) fn assert_sockets_end(&self, ends: &[End]) {
        assert_ends(self, self.sockets.as_ref(), ends);
    }

    /// Prints the figures for the table.
    fn print(&self) {
        println!("=== {}: {}", self.heading, self.report);
        for noted in self.http2.iter().chain(&self.sockets) {
            let mut ends: Vec<String> = noted
                .ends(self.began, self.stop)
                .into_iter()
                .map(|(at, end)| format!("{end} at {:.2} s", (at - self.began).as_secs_f64()))
                .collect();
            ends.truncate(40);
            println!(
                "=== {} {}: {} exchanged, lost {:?}, ends {ends:?}",
                self.heading,
                noted.name,
                noted.exchanged(self.began, self.stop),
                noted.lost(self.began, self.stop),
            );
        }
    }
}

/// Wires ended in one of these ways, at least once in each hand-over, and every new one could be opened.
#[track_caller]
fn assert_ends(seen: &Seen, noted: Option<&Noted>, expected: &[End]) {
    let noted = noted.expect("it was measured");
    let (began, stop) = (seen.began, seen.stop);
    for event in noted.between(began, stop) {
        let good = match &event.what {
            What::Exchanged => true,
            What::NotOpened(_) => false,
            What::Ended(end) => expected.contains(end),
        };
        assert!(good, "{} {}: {:?}", seen.heading, noted.name, event.what);
    }
    let ends = noted.ends(began, stop).len();
    assert!(
        ends >= HAND_OVERS,
        "{} {}: {ends} ends",
        seen.heading,
        noted.name
    );
}
