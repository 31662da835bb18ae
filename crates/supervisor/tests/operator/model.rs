//! Every order of events, exhaustively, for small alphabets: clients that ask and go, signals, changed
//! files, reads, changes and calls that end in any way or not at all, and any state of the agent.
//!
//! The model drives the operator that is shipped. A run is bounded by how often each deed can be done;
//! answers that the world owes come in any order, or never. With `HANDOVER_MODEL=large` the alphabets
//! are larger.

use std::time::Duration;

use handover_core::Epoch;
use handover_supervisor::operator::{
    Applies, Condition, ErrorRise, EvidenceRules, FileWait, Next, OnTerminate, Request, Settings,
    Settlement, Signal, TakenIn, Wait, WaitedFor,
};
use stateright::{Checker as _, Model, Property};

use crate::check::INVARIANTS;
use crate::world::{Deed, Sight, World, view};

/// What can happen, and how often each deed at most.
#[derive(Clone, Debug)]
struct Set {
    name: &'static str,
    settings: Settings,
    /// Whether a look is a deed.
    looks: bool,
    deeds: Vec<(Deed, u8)>,
    sights: Vec<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    world: World,
    left: Vec<u8>,
}

impl Model for Set {
    type State = State;
    type Action = usize;

    fn init_states(&self) -> Vec<State> {
        let left = self.deeds.iter().map(|(_, often)| *often).collect();
        vec![State {
            world: match self.looks {
                true => World::with_looks(self.settings),
                false => World::new(self.settings),
            },
            left,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<usize>) {
        if state.world.broken().is_none() {
            let left = state.left.iter().enumerate();
            actions.extend(left.filter(|(_, left)| **left > 0).map(|(index, _)| index));
        }
    }

    fn next_state(&self, state: &State, action: usize) -> Option<State> {
        let mut next = state.clone();
        let (deed, _) = self.deeds.get(action)?;
        *next.left.get_mut(action)? -= 1;
        next.world.play(deed).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = invariants();
        properties.push(Property::always(
            "everything_ends_well",
            |_, state: &State| state.world.broken().is_some() || state.world.ends_well(),
        ));
        properties.push(Property::always(
            "needless_timeouts_do_nothing",
            |_, state: &State| state.world.bears_needless_timeouts(),
        ));
        properties.push(Property::always(
            "what_is_over_is_ignored",
            |_, state: &State| state.world.ignores_what_is_over(),
        ));
        properties.extend(
            sights()
                .into_iter()
                .filter(|sight| self.sights.contains(&sight.name)),
        );
        properties
    }
}

/// One property for each promise. A property is a plain function, so each is written out.
fn invariants() -> Vec<Property<Set>> {
    macro_rules! kept {
        ($($index:literal)*) => {
            vec![$(Property::always(INVARIANTS[$index], |_, state: &State| {
                state.world.broken().is_none_or(|(broken, _)| broken != INVARIANTS[$index])
            })),*]
        };
    }
    kept!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25)
}

/// What must be seen, so that a model cannot be true by being empty.
fn sights() -> Vec<Property<Set>> {
    vec![
        Property::sometimes("finished", |_, state: &State| state.world.is_over()),
        Property::sometimes("ready", |_, state: &State| state.world.operator.is_ready()),
        Property::sometimes("reads_beside_a_change", |_, state: &State| {
            let operator = &state.world.operator;
            operator.reading().is_some() && operator.changing().is_some()
        }),
        Property::sometimes("two_calls", |_, state: &State| {
            state.world.operator.calls().count() == 2
        }),
        Property::sometimes("watches_clients", |_, state: &State| {
            state.world.operator.watched().next().is_some()
        }),
        Property::sometimes("releases", |_, state: &State| {
            state.world.checker.releasing.is_some()
        }),
        Property::sometimes("nothing_listens", |_, state: &State| {
            matches!(state.world.operator.overview().listening, Some(false))
        }),
        Property::sometimes("a_status_waits_for_the_next_look", |_, state: &State| {
            state.world.operator.looking().is_some() && state.world.operator.asks().count() == 2
        }),
        Property::sometimes("found_unfit", |_, state: &State| {
            state.world.operator.overview().unfit.is_some()
        }),
        Property::sometimes("waits_through_a_probation", |_, state: &State| {
            let mut asks = state.world.operator.asks();
            asks.any(|(_, what)| what == WaitedFor::Probation)
        }),
        Property::sometimes("awaits_files", |_, state: &State| {
            state.world.operator.overview().awaited.is_some()
        }),
        Property::sometimes("awaits_files_again", |_, state: &State| {
            let operator = &state.world.operator;
            operator.overview().awaited.is_some() && state.world.checker.reads() > 0
        }),
        Property::sometimes("awaits_a_configuration", |_, state: &State| {
            state.world.operator.overview().awaits_configuration
        }),
        Property::sometimes("keeps", |_, state: &State| {
            state.world.checker.applied.keeping.is_some()
        }),
        Property::sometimes("keeps_one_after_another", |_, state: &State| {
            state.world.operator.applied().count() == 2
                && state.world.checker.applied.keeping.is_some()
        }),
        Property::sometimes("waits_until_current_while_ready", |_, state: &State| {
            let operator = &state.world.operator;
            let current = WaitedFor::Condition(Condition::Current);
            operator.is_ready() && operator.asks().any(|(_, what)| what == current)
        }),
        Property::sometimes("counts_requests", |_, state: &State| {
            let operator = &state.world.operator;
            operator.examining().is_some() && operator.overview().probation.is_none()
        }),
        Property::sometimes("tries_again", |_, state: &State| {
            let operator = &state.world.operator;
            operator.asks().next().is_none() && operator.poll_timeout().is_some()
        }),
    ]
}

fn reload(next: Next, hurry: bool, wait: Wait) -> Deed {
    Deed::Ask(Request::Reload {
        next,
        hurry,
        wait,
        through_probation: false,
    })
}

fn read(config: u8, inputs: u8) -> Deed {
    Deed::Read {
        config,
        inputs,
        stale: false,
    }
}

fn apply(wait: Wait) -> Deed {
    Deed::Ask(Request::Apply {
        wait,
        through_probation: false,
    })
}

fn wait_until(condition: Condition) -> Deed {
    let wait = LIMITED;
    Deed::Ask(Request::Await { condition, wait })
}

fn given_up() -> Deed {
    Deed::Settle(Settlement::GivenUp {
        epoch: Epoch::ZERO,
        report: None,
    })
}

const LIMITED: Wait = Wait::AtMost(Duration::from_secs(5));

fn sets(large: bool) -> Vec<Set> {
    let more = u8::from(large);
    let live = || Deed::Settle(Settlement::Live(Epoch::ZERO));
    vec![
        Set {
            name: "reloads",
            settings: Settings::default(),
            looks: false,
            deeds: vec![
                (reload(Next::Renew, false, LIMITED), 1),
                (reload(Next::IfDifferent, false, Wait::No), 1),
                (Deed::Go { oldest: true }, more),
                (Deed::Signal(Signal::HangUp), more),
                (Deed::FilesChanged, 1),
                (read(0, 0), 1 + more),
                (read(1, 0), 1),
                (Deed::ReadFails { shortage: false }, 1),
                (Deed::Take(TakenIn::Changed), 2),
                (Deed::Take(TakenIn::Denied), more),
                (live(), 1 + more),
                (Deed::Settle(Settlement::Replaced), more),
                (Deed::See(view("live")), 1),
                (Deed::Timeout, 1),
            ],
            sights: vec!["ready", "reads_beside_a_change"],
        },
        Set {
            name: "inputs and cold restarts",
            settings: Settings::default(),
            looks: false,
            deeds: vec![
                (reload(Next::Cold, false, Wait::Unlimited), 1),
                (Deed::Signal(Signal::HangUp), 1),
                (Deed::FilesChanged, 1 + more),
                (read(0, 0), 2),
                (read(0, 1), 1),
                (read(1, 1), more),
                (Deed::ReadFails { shortage: false }, more),
                (Deed::Take(TakenIn::Changed), 2),
                (live(), 1),
                (given_up(), 1),
            ],
            sights: vec!["reads_beside_a_change"],
        },
        Set {
            name: "the end",
            settings: Settings::default(),
            looks: false,
            deeds: vec![
                (
                    Deed::Ask(Request::Stop {
                        now: false,
                        wait: LIMITED,
                    }),
                    1,
                ),
                (
                    Deed::Ask(Request::Stop {
                        now: true,
                        wait: Wait::No,
                    }),
                    1,
                ),
                (reload(Next::Renew, false, Wait::No), 1),
                (Deed::Signal(Signal::Terminate), 2 + more),
                (read(0, 0), 1),
                (Deed::Take(TakenIn::Changed), 1),
                (Deed::Take(TakenIn::Denied), 1),
                (Deed::See(view("live")), 1),
                (Deed::See(view("ending")), 1),
                (Deed::End(true), 1),
                (Deed::End(false), more),
                (Deed::Break, 1),
                (Deed::Timeout, more),
            ],
            sights: vec!["finished", "ready"],
        },
        Set {
            name: "an end that stops at once",
            settings: Settings {
                on_terminate: OnTerminate::Stop,
                no_cold_restart: Some("not for this proxy"),
                ..Settings::default()
            },
            looks: false,
            deeds: vec![
                (Deed::Signal(Signal::Terminate), 2 + more),
                (
                    Deed::Ask(Request::Stop {
                        now: false,
                        wait: Wait::Unlimited,
                    }),
                    2,
                ),
                (reload(Next::Cold, false, Wait::No), 1),
                (Deed::ReadFails { shortage: true }, 1),
                (read(0, 0), 1),
                (Deed::Take(TakenIn::Changed), 1),
                (Deed::Go { oldest: true }, 1),
                (Deed::End(true), 1),
            ],
            sights: vec!["finished"],
        },
        Set {
            name: "drains",
            settings: Settings::default(),
            looks: false,
            deeds: vec![
                (Deed::Ask(Request::Drain { wait: LIMITED }), 1),
                (
                    Deed::Ask(Request::Drain {
                        wait: Wait::Unlimited,
                    }),
                    1,
                ),
                (Deed::Ask(Request::Undrain), 1),
                (Deed::Signal(Signal::User2), 1),
                (Deed::Call { done: true }, 3),
                (Deed::Call { done: false }, 1),
                (Deed::Clients { gone: true }, 1),
                (Deed::Clients { gone: false }, more),
                (Deed::Go { oldest: false }, 1),
                (Deed::Signal(Signal::Terminate), 1),
                (Deed::Timeout, 1),
                (Deed::End(true), 1),
            ],
            sights: vec!["finished", "two_calls", "watches_clients"],
        },
        Set {
            name: "hurried reloads",
            settings: Settings::default(),
            looks: false,
            deeds: vec![
                (reload(Next::Renew, true, Wait::No), 1),
                (reload(Next::IfDifferent, true, LIMITED), 1),
                (read(0, 0), 2),
                (Deed::Take(TakenIn::Changed), 2),
                (live(), 1),
                (Deed::See(view("cap")), 1 + more),
                (Deed::See(view("released")), 1),
                (Deed::See(view("starting")), 1),
                (Deed::Release, 1 + more),
                (Deed::FilesChanged, more),
                (Deed::Timeout, more),
                (Deed::End(true), more),
            ],
            sights: vec!["releases", "ready"],
        },
        Set {
            name: "shortages",
            settings: Settings::default(),
            looks: false,
            deeds: vec![
                (Deed::FilesChanged, 1 + more),
                (read(0, 0), 3),
                (Deed::ReadFails { shortage: true }, 2),
                (Deed::Take(TakenIn::Changed), 2),
                (live(), 1),
                (given_up(), 1),
                (Deed::See(view("short")), 1 + more),
                (Deed::See(view("live")), 1),
                (Deed::Timeout, 2 + more),
                (Deed::Signal(Signal::Terminate), more),
                (Deed::End(true), more),
            ],
            sights: vec!["tries_again", "ready"],
        },
        Set {
            name: "probations",
            settings: Settings {
                probation: Some(Duration::from_secs(3)),
                evidence: EvidenceRules {
                    failures: 2,
                    ..EvidenceRules::default()
                },
                ..Settings::default()
            },
            looks: false,
            deeds: vec![
                (Deed::See(view("tried first")), more),
                (Deed::See(view("tried")), 2),
                (Deed::See(view("next")), 1),
                (Deed::See(view("unfit")), 1),
                (Deed::Examine(Sight::Silent), 2),
                (Deed::Examine(Sight::Hung), more),
                (Deed::Examine(Sight::Missing), 1 + more),
                (Deed::Examine(Sight::Warming), 1 + more),
                (Deed::Examine(Sight::Unknown), 1),
                (Deed::Timeout, 4),
                (Deed::Signal(Signal::Terminate), 1),
                (Deed::Break, more),
            ],
            sights: vec!["ready", "found_unfit"],
        },
        Set {
            name: "reloads through a probation",
            settings: Settings {
                probation: Some(Duration::from_secs(3)),
                evidence: EvidenceRules {
                    failures: 1,
                    max_error_rise: ErrorRise::from_hundredths(500),
                    ..EvidenceRules::default()
                },
                ..Settings::default()
            },
            looks: false,
            deeds: vec![
                (
                    Deed::Ask(Request::Reload {
                        next: Next::Renew,
                        hurry: false,
                        wait: LIMITED,
                        through_probation: true,
                    }),
                    1,
                ),
                (Deed::FilesChanged, more),
                (read(0, 0), 2),
                (Deed::Take(TakenIn::Changed), 2),
                (live(), 1),
                (Deed::See(view("live")), 1),
                (Deed::See(view("tried")), 1),
                (Deed::See(view("next")), more),
                (Deed::See(view("unfit")), 1),
                (Deed::Examine(Sight::Probe { made: true }), 1),
                (Deed::Examine(Sight::Probe { made: false }), more),
                (Deed::Timeout, 2 + more),
                (Deed::See(view("ending")), 1),
            ],
            sights: vec![
                "ready",
                "found_unfit",
                "waits_through_a_probation",
                "counts_requests",
            ],
        },
        Set {
            name: "waits",
            settings: Settings::default(),
            looks: true,
            deeds: vec![
                (wait_until(Condition::Ready), 1),
                (wait_until(Condition::Current), 1),
                (wait_until(Condition::Live), more),
                (Deed::Go { oldest: true }, more),
                (read(0, 0), 1),
                (Deed::ReadFails { shortage: false }, more),
                (Deed::FilesChanged, more),
                (Deed::Take(TakenIn::Changed), 1),
                (live(), 1),
                (Deed::See(view("live")), 1),
                (Deed::See(view("next")), 1),
                (Deed::See(view("ending")), 1),
                (Deed::Look(Some(true)), 2),
                (Deed::Look(Some(false)), more),
                (Deed::Timeout, 1),
                (Deed::Signal(Signal::Terminate), 1),
                (Deed::End(true), 1),
            ],
            sights: vec!["finished", "ready", "waits_until_current_while_ready"],
        },
        Set {
            name: "awaited files",
            settings: Settings {
                files: Some(FileWait {
                    limit: Some(Duration::from_secs(15)),
                }),
                ..Settings::default()
            },
            looks: false,
            deeds: vec![
                (Deed::Files { there: true }, 2),
                (Deed::Files { there: false }, 2),
                (read(0, 0), 1),
                (Deed::ReadFails { shortage: false }, 1),
                (reload(Next::Renew, false, Wait::No), more),
                (reload(Next::IfDifferent, false, LIMITED), 1),
                (Deed::FilesChanged, more),
                (Deed::Signal(Signal::HangUp), 1),
                (Deed::Take(TakenIn::Changed), 1),
                (Deed::See(view("live")), 1),
                (Deed::JobDone, 1),
                (Deed::Signal(Signal::Terminate), 1),
                (Deed::Timeout, 2),
                (Deed::End(true), 1),
            ],
            sights: vec!["finished", "awaits_files", "awaits_files_again"],
        },
        Set {
            name: "configurations of clients",
            settings: Settings {
                applies: Applies::FromClients { kept: false },
                ..Settings::default()
            },
            looks: false,
            deeds: vec![
                (apply(LIMITED), 1),
                (apply(Wait::No), 1),
                (reload(Next::Renew, false, Wait::Unlimited), more),
                (Deed::FilesChanged, 1),
                (read(0, 0), 2),
                (read(1, 0), 1),
                (Deed::ReadFails { shortage: false }, 1),
                (Deed::Take(TakenIn::Changed), 2),
                (live(), 2),
                (given_up(), 1),
                (Deed::See(view("live")), 1),
                (Deed::See(view("tried")), more),
                (Deed::Keep { done: true }, 1 + more),
                (Deed::Keep { done: false }, 1),
                (Deed::Signal(Signal::Terminate), more),
                (Deed::Timeout, more),
            ],
            sights: vec![
                "ready",
                "awaits_a_configuration",
                "keeps",
                "keeps_one_after_another",
            ],
        },
        Set {
            name: "looks",
            settings: Settings::default(),
            looks: true,
            deeds: vec![
                (Deed::See(view("live")), 2),
                (Deed::See(view("none")), 1),
                (Deed::See(view("next")), 1),
                (Deed::See(view("starting")), more),
                (Deed::Ask(Request::Status), 2),
                (Deed::Go { oldest: true }, more),
                (Deed::Look(Some(true)), 1),
                (Deed::Look(Some(false)), 1),
                (Deed::Look(None), 1),
                (Deed::Timeout, 1),
                (Deed::Break, 1),
                (Deed::End(true), 1),
            ],
            sights: vec![
                "finished",
                "ready",
                "nothing_listens",
                "a_status_waits_for_the_next_look",
            ],
        },
    ]
}

#[test]
fn every_order_of_events_keeps_every_promise() {
    let large = std::env::var("HANDOVER_MODEL").is_ok_and(|set| set == "large");
    for set in sets(large) {
        let name = set.name;
        let checker = set.checker().threads(2).spawn_bfs().join();
        println!("{:>9} states: {name}", checker.unique_state_count());
        for (property, way) in checker.discoveries() {
            let last = way
                .last_state()
                .world
                .broken()
                .map(|(_, what)| what.to_owned());
            let Some(what) = last else { continue };
            println!("{property} does not hold: {what}");
            for (state, action) in way.into_vec() {
                let deed = action.and_then(|action| Some(&checker.model().deeds.get(action)?.0));
                println!("    {deed:?} after {:?}", state.world.operator);
            }
        }
        checker.assert_properties();
    }
}
