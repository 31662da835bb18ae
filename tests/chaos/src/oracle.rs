//! The oracle: which requests may be lost, from what is known of the processes and nothing else.
//!
//! The rules are those of the tables of `docs/resilience.md`:
//!
//! | what happens | may cost |
//! | --- | --- |
//! | a hand-over, a bad configuration, a signal without a meaning, a stopped supervisor, a request | nothing |
//! | a process ends before it has the listeners | nothing |
//! | a process ends while it begins to serve, and its parent serves as well | its own requests |
//! | a process ends once a newer one serves in its place | its own requests |
//! | a process ends that serves alone | those of the outage |
//! | an old process hangs, and the newer one ends: it is ended as well | those of the outage |
//! | a process takes over and cannot be used, or cannot be seen to serve | those of the outage |
//! | `reload --cold` | those of the outage |
//! | `reload --now` | the requests of the oldest process |
//! | too little memory | those of the outage, because the kernel ends a process |

use std::fmt;
use std::time::Duration;

use handover_fake_envoy::Step;

use crate::life::{Harm, Life};

/// How many requests a process can have under way: one for each client of the load.
pub const CLIENTS: u64 = 5;

/// Something that was done to all processes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// `reload --cold`.
    Cold,
    /// `reload --now`.
    Now,
    /// A shortage of memory.
    Memory,
}

/// What may be lost, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// How many requests of processes that ended.
    pub own: u64,
    /// Whether there may have been an outage, in which any number is lost.
    pub outage: bool,
    /// The reasons, one sentence each.
    pub reasons: Vec<String>,
}

impl Allowance {
    /// Returns whether so many lost requests are too many.
    #[must_use]
    pub const fn is_exceeded_by(&self, lost: u64) -> bool {
        !self.outage && lost > self.own
    }

    fn add(&mut self, cost: Cost, reason: String) {
        match cost {
            Cost::Nothing => return,
            Cost::Own => self.own += CLIENTS,
            Cost::Outage => self.outage = true,
        }
        self.reasons.push(reason);
    }
}

impl fmt::Display for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.outage, self.own) {
            (true, _) => f.write_str("any number")?,
            (false, own) => write!(f, "{own}")?,
        }
        if self.reasons.is_empty() {
            return f.write_str(", because nothing happened that costs a request");
        }
        write!(f, ", because {}", self.reasons.join(", and "))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cost {
    Nothing,
    Own,
    Outage,
}

/// Returns what may be lost from a moment on.
#[must_use]
pub fn allowance(lives: &[Life], since: Duration, cuts: &[Cut]) -> Allowance {
    let mut allowance = Allowance::default();
    for life in lives {
        let epoch = life.epoch;
        if life.harms().any(|harm| harm == Harm::Blind) && life.ended.is_none_or(|at| at >= since) {
            let cost = match life.reached(Step::Admin) {
                None => Cost::Nothing,
                Some(_) => Cost::Outage,
            };
            allowance.add(
                cost,
                format!("epoch {epoch} took over and could not be used"),
            );
        }
        if let Some(ended) = life.ended.filter(|ended| *ended >= since) {
            let cost = of_end(life, ended, lives);
            let reached = life
                .steps
                .last()
                .map_or("nothing".to_owned(), |(_, step)| step.to_string());
            allowance.add(
                cost,
                format!("epoch {epoch} was made to end and had reached {reached}"),
            );
        }
    }
    for cut in cuts {
        match cut {
            Cut::Cold => allowance.add(Cost::Outage, "a cold restart was asked for".to_owned()),
            Cut::Now => allowance.add(Cost::Own, "a reload did not wait for old epochs".to_owned()),
            Cut::Memory => allowance.add(Cost::Outage, "memory was short".to_owned()),
        }
    }
    allowance
}

/// Returns what the end of a process costs.
fn of_end(life: &Life, ended: Duration, lives: &[Life]) -> Cost {
    let by_fault = life.ended_by_fault();
    // What ends as it should costs nothing.
    if !life.is_harmed() {
        return Cost::Nothing;
    }
    let is_replaced = |newer: &Life| {
        let serves = newer.reached(Step::HandOver);
        newer.begun > life.begun && serves.is_some_and(|at| at < life.killed.unwrap_or(ended))
    };
    let serves = |newer: &Life| {
        let taken_over = newer.reached(Step::HandOver);
        let has_taken_over = newer.begun > life.begun && taken_over.is_some_and(|at| at < ended);
        has_taken_over && newer.ended.is_none_or(|at| at > ended)
    };
    if life.is_deaf() && !lives.iter().any(serves) {
        return Cost::Outage;
    }
    let has_left = matches!(by_fault, Some(Step::Drain | Step::End));
    if has_left || lives.iter().any(is_replaced) {
        return Cost::Own;
    }
    match life.steps.last().map(|(_, step)| *step) {
        None => Cost::Nothing,
        Some(step) if step < Step::Listeners => Cost::Nothing,
        // Its workers begin between this step and the next one.
        Some(Step::Listeners) if by_fault == Some(Step::Listeners) => Cost::Nothing,
        Some(Step::Listeners) => Cost::Own,
        // Its parent serves until it is told to drain, which happens between this step and the next one.
        Some(Step::Live) if by_fault == Some(Step::Live) => Cost::Own,
        Some(_) => Cost::Outage,
    }
}

/// Returns whether something happened since a moment by which a good configuration may be given up.
#[must_use]
pub fn may_be_refused(lives: &[Life], since: Duration, cuts: &[Cut]) -> bool {
    let lasts = |life: &&Life| life.ended.is_none_or(|at| at >= since);
    !cuts.is_empty() || lives.iter().filter(lasts).any(Life::is_harmed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: [Step; 9] = [
        Step::Start,
        Step::Bound,
        Step::FlagSet,
        Step::Config,
        Step::Admin,
        Step::Listeners,
        Step::Live,
        Step::HandOver,
        Step::Drain,
    ];

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A process that begins at a time and reaches a step every millisecond, up to the last one.
    fn life(epoch: u32, begun: u64, last: Step, faults: &str) -> Life {
        let steps = STEPS.into_iter().filter(|step| *step <= last).zip(begun..);
        Life {
            epoch,
            begun: ms(begun),
            faults: faults
                .split_whitespace()
                .map(|fault| fault.parse().unwrap())
                .collect(),
            steps: steps.map(|(step, at)| (ms(at), step)).collect(),
            ..Life::default()
        }
    }

    fn ends(mut life: Life, at: u64) -> Life {
        life.ended = Some(ms(at));
        life
    }

    fn killed(mut life: Life, at: u64) -> Life {
        life.killed = Some(ms(at));
        ends(life, at + 1)
    }

    fn costs(lives: &[Life]) -> String {
        allowance(lives, ms(100), &[]).to_string()
    }

    #[test]
    fn the_tables_of_losses() {
        let served = |faults| life(0, 0, Step::HandOver, faults);
        let rows = [
            (
                "a hand-over",
                vec![ends(served(""), 300), life(1, 110, Step::HandOver, "")],
            ),
            (
                "a crash before the admin endpoint",
                vec![
                    served(""),
                    ends(life(1, 110, Step::Config, "crash@config"), 120),
                ],
            ),
            (
                "a crash with the listeners taken",
                vec![
                    served(""),
                    ends(life(1, 110, Step::Listeners, "crash@listeners"), 120),
                ],
            ),
            (
                "a crash while both serve",
                vec![
                    served(""),
                    ends(life(1, 110, Step::Live, "crash@live"), 120),
                ],
            ),
            (
                "a crash once the parent drains",
                vec![
                    served(""),
                    ends(life(1, 110, Step::HandOver, "crash@hand_over"), 120),
                ],
            ),
            (
                "the new one killed while it reads",
                vec![served(""), killed(life(1, 110, Step::Config, ""), 120)],
            ),
            (
                "the new one killed while its workers begin",
                vec![served(""), killed(life(1, 110, Step::Listeners, ""), 120)],
            ),
            (
                "the new one killed between live and hand-over",
                vec![served(""), killed(life(1, 110, Step::Live, ""), 120)],
            ),
            ("the only one killed", vec![killed(served(""), 120)]),
            (
                "the old one killed before the new one serves",
                vec![killed(served(""), 113), life(1, 110, Step::HandOver, "")],
            ),
            (
                "the old one killed after that",
                vec![killed(served(""), 130), life(1, 110, Step::HandOver, "")],
            ),
            (
                "the old one crashes as it is told to drain",
                vec![
                    ends(life(0, 0, Step::Drain, "crash@drain"), 116),
                    life(1, 110, Step::HandOver, ""),
                ],
            ),
            (
                "one that hangs before it serves",
                vec![
                    served(""),
                    ends(life(1, 110, Step::Admin, "stuck@admin"), 3_000),
                ],
            ),
            (
                "one that is late",
                vec![
                    ends(served("slow=250ms@live"), 300),
                    life(1, 110, Step::HandOver, ""),
                ],
            ),
            (
                "one without listeners",
                vec![served(""), life(1, 110, Step::HandOver, "no-listeners")],
            ),
            (
                "one without listeners that crashes before",
                vec![
                    served(""),
                    ends(life(1, 110, Step::Start, "no-listeners crash@start"), 111),
                ],
            ),
            (
                "an old one that stays",
                vec![
                    ends(served("ignore-terminate"), 9_000),
                    life(1, 110, Step::HandOver, ""),
                ],
            ),
            (
                "an old one that hangs, beside a new one",
                vec![
                    ends(life(0, 0, Step::Drain, "stuck@drain"), 9_000),
                    life(1, 110, Step::HandOver, ""),
                ],
            ),
            (
                "an old one that hangs, before the next one",
                vec![
                    killed(life(0, 0, Step::Drain, "stuck@drain"), 9_000),
                    life(1, 8_995, Step::HandOver, ""),
                ],
            ),
            (
                "an old one that hangs, after the new one",
                vec![
                    ends(life(0, 0, Step::Drain, "stuck@drain"), 9_000),
                    killed(life(1, 50, Step::HandOver, ""), 90),
                ],
            ),
            ("one that ended before", vec![killed(served(""), 50)]),
        ];
        let told: Vec<_> = rows
            .iter()
            .map(|(what, lives)| format!("{what}: {}", costs(lives)))
            .collect();
        insta::assert_snapshot!(told.join("\n"));
    }

    #[test]
    fn requests_and_shortages_cost_what_the_table_says() {
        let of = |cut| allowance(&[], ms(0), &[cut]);
        assert!(of(Cut::Cold).outage && of(Cut::Memory).outage);
        assert_eq!(of(Cut::Now).own, CLIENTS);
        assert!(of(Cut::Now).is_exceeded_by(CLIENTS + 1) && !of(Cut::Now).is_exceeded_by(CLIENTS));
        assert!(Allowance::default().is_exceeded_by(1) && !Allowance::default().is_exceeded_by(0));
    }

    #[test]
    fn only_harm_excuses_that_a_good_configuration_is_refused() {
        let refused = |life: Life| may_be_refused(&[life], ms(100), &[]);
        assert!(!refused(life(
            1,
            110,
            Step::HandOver,
            "keep-flag slow=30ms@live"
        )));
        assert!(refused(life(1, 110, Step::HandOver, "no-listeners")));
        assert!(refused(killed(life(1, 110, Step::HandOver, ""), 120)));
        assert!(!refused(killed(life(1, 10, Step::HandOver, ""), 20)));
        assert!(may_be_refused(&[], ms(0), &[Cut::Cold]));
    }
}
