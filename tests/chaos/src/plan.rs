//! Plans: from a seed to steps, without end.

use std::time::Duration;

use handover_fake_envoy::Fault;

use crate::random::Random;
use crate::step::{Ask, Change, Hint, Resource, Step, Which};

/// The steps of a seed, one burst after the other. A burst ends with [`Step::Settle`].
///
/// ```
/// use handover_chaos::{Plan, step};
///
/// let first: Vec<_> = Plan::new(7).take(3).collect();
/// assert_eq!(first, Plan::new(7).take(3).collect::<Vec<_>>());
/// assert!(first.iter().all(|burst| step::write(burst).ends_with("settle")));
/// ```
#[derive(Clone, Debug)]
pub struct Plan {
    random: Random,
    is_drained: bool,
}

/// How often each kind of trigger begins a burst.
const TRIGGERS: [(u64, Trigger); 8] = [
    (44, Trigger::Good),
    (14, Trigger::Hup),
    (12, Trigger::Reload),
    (6, Trigger::Several),
    (10, Trigger::Bad),
    (4, Trigger::Same),
    (2, Trigger::Cold),
    (8, Trigger::Nothing),
];

/// What begins a burst.
#[derive(Clone, Copy, Debug)]
enum Trigger {
    Good,
    Hup,
    Reload,
    /// Several changes in a row.
    Several,
    Bad,
    Same,
    Cold,
    Nothing,
}

/// Faults of the next process, by how often they are drawn. Those that only a deadline ends are rare,
/// because each of them costs that time.
const FAULTS: [(u64, Fatal); 6] = [
    (36, Fatal::Dies),
    (26, Fatal::Late),
    (20, Fatal::Harmless),
    (3, Fatal::Hangs),
    (1, Fatal::Blind),
    (2, Fatal::Stays),
];

#[derive(Clone, Copy, Debug)]
enum Fatal {
    /// Ends at a step.
    Dies,
    /// Takes longer at a step.
    Late,
    /// Is told wrong, or is slow, which must cost nothing.
    Harmless,
    /// Never goes on.
    Hangs,
    /// Cannot be seen to serve.
    Blind,
    /// Does not end when it should.
    Stays,
}

const DIES: [&str; 5] = ["crash", "segv", "kill", "exit=0", "exit=3"];
const LATE: [&str; 4] = ["slow=30ms", "slow=250ms", "freeze=40ms", "flood=256K"];
const STEPS: [&str; 9] = [
    "start",
    "bound",
    "flag_set",
    "config",
    "admin",
    "listeners",
    "live",
    "hand_over",
    "drain",
];
const HANGS: [&str; 6] = ["start", "bound", "flag_set", "config", "admin", "listeners"];
const HARMLESS: [&str; 9] = [
    "keep-flag",
    "admin-slow=30ms",
    "gauges-missing",
    "gauges-foreign",
    "gauges-stuck=2",
    "leak=1M",
    "slow-answers=5ms",
    "ignore-term",
    "outlive-supervisor",
];
const BLIND: [&str; 6] = [
    "no-listeners",
    "admin-closed",
    "admin-silent",
    "admin-garbage",
    "admin-forbidden",
    "lie-epoch=999999",
];
const STAYS: [&str; 3] = ["ignore-terminate", "stuck@end", "stuck@drain"];

const BAD: [Change; 5] = [
    Change::BadYaml,
    Change::UnknownField,
    Change::MissingCertificate,
    Change::PortTaken,
    Change::AdminPortTaken,
];

impl Plan {
    /// Begins the plan of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            is_drained: false,
        }
    }

    fn one<'a, T>(&mut self, values: &'a [T], default: &'a T) -> &'a T {
        let count = u64::try_from(values.len()).unwrap_or(0);
        let index = usize::try_from(self.random.below(count)).unwrap_or(0);
        values.get(index).unwrap_or(default)
    }

    fn millis(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.random.below(most) + 1)
    }

    fn fault(&mut self) -> Option<Step> {
        let kind = *self.random.weighted(&FAULTS)?;
        let text = match kind {
            Fatal::Dies => {
                let (action, step) = (*self.one(&DIES, &"crash"), *self.one(&STEPS, &"live"));
                format!("{action}@{step}")
            }
            Fatal::Late => {
                let (action, step) = (*self.one(&LATE, &"slow=30ms"), *self.one(&STEPS, &"live"));
                format!("{action}@{step}")
            }
            Fatal::Hangs => format!("stuck@{}", self.one(&HANGS, &"config")),
            Fatal::Harmless => (*self.one(&HARMLESS, &"keep-flag")).to_owned(),
            Fatal::Blind => (*self.one(&BLIND, &"admin-silent")).to_owned(),
            Fatal::Stays => (*self.one(&STAYS, &"ignore-terminate")).to_owned(),
        };
        text.parse::<Fault>().ok().map(Step::Fault)
    }

    fn trigger(&mut self, burst: &mut Vec<Step>) {
        let trigger = self.random.weighted(&TRIGGERS);
        match trigger.copied().unwrap_or(Trigger::Good) {
            Trigger::Good => burst.push(Step::Change(Change::Good)),
            Trigger::Hup => burst.push(Step::Signal(Hint::Hup)),
            Trigger::Reload => {
                let asks = [
                    Ask::ReloadWait,
                    Ask::ReloadWait,
                    Ask::Reload,
                    Ask::ReloadNow,
                ];
                let ask = *self.one(&asks, &Ask::Reload);
                burst.push(Step::Ask(ask));
            }
            Trigger::Several => {
                for _ in 0..2 + self.random.below(3) {
                    burst.push(Step::Change(Change::Good));
                    burst.push(Step::Pause(self.millis(60)));
                }
            }
            Trigger::Bad => {
                let bad = *self.one(&BAD, &Change::BadYaml);
                burst.push(Step::Change(bad));
                // What no validation finds is given up after all retries, which takes long.
                let is_slow = matches!(bad, Change::PortTaken | Change::AdminPortTaken);
                if is_slow || self.random.percent(50) {
                    burst.push(Step::Pause(self.millis(120)));
                    burst.push(Step::Change(Change::Good));
                }
            }
            Trigger::Same => burst.push(Step::Change(Change::Same)),
            Trigger::Cold => burst.push(Step::Ask(Ask::ReloadCold)),
            Trigger::Nothing => {}
        }
    }

    fn disturbance(&mut self) -> Step {
        let resource = [
            Resource::Descriptors,
            Resource::Processes,
            Resource::Memory,
            Resource::Disk,
        ];
        match self.random.below(100) {
            0..14 => Step::Kill(Which::Newest),
            14..28 => Step::Kill(Which::Oldest),
            28..38 => Step::StopSupervisor(self.millis(400)),
            38..44 => Step::StopEpoch(Which::Oldest, self.millis(200)),
            44..47 => Step::StopEpoch(Which::Newest, self.millis(200)),
            47..55 => Step::Shortage(*self.one(&resource, &Resource::Disk), self.millis(300)),
            55..65 => Step::Signal(*self.one(&[Hint::Hup, Hint::Usr1, Hint::Alrm], &Hint::Usr1)),
            65..75 => Step::Ask(*self.one(&[Ask::Status, Ask::Who], &Ask::Status)),
            75..85 => {
                self.is_drained = !self.is_drained;
                Step::Ask(if self.is_drained {
                    Ask::Drain
                } else {
                    Ask::Undrain
                })
            }
            85.. => Step::Change(Change::Good),
        }
    }
}

impl Iterator for Plan {
    type Item = Vec<Step>;

    fn next(&mut self) -> Option<Vec<Step>> {
        let mut burst = Vec::new();
        while burst.len() < 3 && self.random.percent(30) {
            burst.extend(self.fault());
        }
        self.trigger(&mut burst);
        for _ in 0..2 {
            if self.random.percent(25) {
                // Most of what can go wrong goes wrong within the time of a start.
                burst.push(Step::Pause(self.millis(60)));
                let disturbance = self.disturbance();
                burst.push(disturbance);
            }
        }
        burst.push(Step::Settle);
        Some(burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step;

    #[test]
    fn a_seed_leads_to_the_same_steps_for_ever() {
        let lines: Vec<_> = Plan::new(1)
            .take(24)
            .map(|burst| step::write(&burst))
            .collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn every_fault_of_the_lists_is_one() {
        let at = |actions: &[&str], steps: &[&str]| -> Vec<String> {
            let each = actions
                .iter()
                .flat_map(|action| steps.iter().map(move |step| (action, step)));
            each.map(|(action, step)| format!("{action}@{step}"))
                .collect()
        };
        let always = [HARMLESS.as_slice(), &BLIND, &STAYS].concat();
        let all = [at(&DIES, &STEPS), at(&LATE, &STEPS), at(&["stuck"], &HANGS)].concat();
        for text in all.into_iter().chain(always.into_iter().map(str::to_owned)) {
            assert!(text.parse::<Fault>().is_ok(), "{text}");
        }
    }

    #[test]
    fn a_long_plan_has_every_kind_of_step_and_reads_back() {
        let bursts: Vec<_> = Plan::new(3).take(5_000).collect();
        let text = bursts
            .iter()
            .map(|burst| step::write(burst))
            .collect::<Vec<_>>()
            .join("\n");
        assert_eq!(step::read(&text).unwrap(), bursts.concat());
        for words in [
            "change good",
            "change same",
            "change bad-yaml",
            "change unknown-field",
            "change port-taken",
            "change missing-certificate",
            "change admin-port-taken",
            "signal hup",
            "signal usr1",
            "signal alrm",
            "kill newest",
            "kill oldest",
            "stop-supervisor",
            "stop-newest",
            "stop-oldest",
            "shortage descriptors",
            "shortage processes",
            "shortage memory",
            "shortage disk",
            "status",
            "who",
            "reload --wait",
            "reload --now",
            "reload --cold",
            "reload;",
            "drain",
            "undrain",
            "fault stuck@",
            "fault stuck@drain",
            "fault admin-silent",
            "fault ignore-terminate",
            "fault keep-flag",
            "fault crash@live",
        ] {
            assert!(text.contains(words), "{words}");
        }
    }
}
