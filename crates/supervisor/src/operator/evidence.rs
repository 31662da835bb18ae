//! The judge of an epoch on probation: what was seen goes in, and evidence comes out, if there is any.
//!
//! What cannot be seen proves nothing, and neither does anything that was seen once:
//!
//! | seen | evidence |
//! | --- | --- |
//! | the proxy does not answer | in so many looks in a row |
//! | a probe of the user fails | in so many looks in a row |
//! | clients cannot reach what they could reach before | in looks in a row that began a second apart |
//! | the same, and something is still waited for | in every look of the whole probation |
//! | a larger share of the requests fails than before | in two looks in a row, with enough requests |
//!
//! A look that could not see one of them interrupts its row.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use handover_core::Timestamp;

use super::requests::{Requests, Sample};

/// The least time between the begins of two looks.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);
/// A look that begins later than this before the end of a probation is its last one.
const SPARE: Duration = Duration::from_millis(500);
/// So many names are spelled out in a sentence.
const NAMES: usize = 3;

/// What was seen of an epoch while it is on probation. What cannot be seen is `None`, and proves nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Examination {
    /// Why the proxy does not answer to its supervisor (its admin endpoint is silent), if it does not.
    pub silent: Option<String>,
    /// What clients could reach before, by name, and cannot with this epoch, although its configuration does not take it away.
    pub missing: Option<Vec<String>>,
    /// What is still waited for (warming), by name.
    pub warming: Option<Vec<String>>,
    /// Requests so far, merged over all epochs.
    pub requests: Option<Totals>,
}

/// Requests since the first epoch. Both counts only ever grow.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Totals {
    /// All requests that were answered or given up.
    pub all: u64,
    /// Those of them that failed (5xx), or found no upstream connection.
    pub failed: u64,
}

/// What counts as evidence against an epoch on probation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct EvidenceRules {
    /// In so many looks in a row a probe must fail, or the proxy be silent. Zero counts as one.
    pub failures: u32,
    /// How long a look may take. The proxy and each probe fail if they take longer.
    pub time_limit: Duration,
    /// By how much the share of failed requests may rise. Without it, requests are not counted.
    pub max_error_rise: Option<ErrorRise>,
}

impl Default for EvidenceRules {
    /// Returns rules with three failures in a row and a limit of two seconds, which count no requests.
    fn default() -> Self {
        Self {
            failures: 3,
            time_limit: Duration::from_secs(2),
            max_error_rise: None,
        }
    }
}

/// A difference between two shares of failed requests. It is shown in percent.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct ErrorRise(u16);

impl ErrorRise {
    /// Returns a rise of so many hundredths of a percent, or `None` for more than 100 %.
    #[must_use]
    pub const fn from_hundredths(hundredths: u16) -> Option<Self> {
        match hundredths {
            0..=10_000 => Some(Self(hundredths)),
            10_001.. => None,
        }
    }

    /// Returns the rise in hundredths of a percent.
    #[must_use]
    pub const fn hundredths(self) -> u16 {
        self.0
    }
}

impl fmt::Display for ErrorRise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        percent(u64::from(self.0)).fmt(f)
    }
}

/// What one look has shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Seen {
    /// What the proxy has shown of the epoch; `None` if it did not answer in time.
    pub proxy: Option<Examination>,
    /// The results of the user's probes. They have the same order in each look.
    pub probes: Vec<Probed>,
}

/// The result of one probe.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Probed {
    /// The probe, as the user knows it.
    pub name: String,
    /// What became of it.
    pub result: ProbeResult,
}

/// What became of a probe.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum ProbeResult {
    /// What was asked for was there.
    Passed,
    /// What was asked for was not there; what was seen in its place.
    Failed(String),
    /// The probe itself could not be made, for this reason.
    Unknown(String),
}

/// What the looks at one epoch have shown so far.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(super) struct Judge {
    rules: EvidenceRules,
    /// The end of the probation.
    until: Timestamp,
    probation: Duration,
    has_looked: bool,
    silent: u32,
    /// How often in a row each probe has failed.
    failing: Vec<u32>,
    /// The probes that could not be made, which was said.
    unknown: BTreeSet<String>,
    /// What is missing, each since the begin of the first look in a row that has shown it.
    missing: BTreeMap<String, Timestamp>,
    /// What was missing in every look, while something was waited for.
    unfinished: Option<BTreeSet<String>>,
    /// The requests at the moment when the epoch went live.
    before: Option<Sample>,
    /// Whether the last look has shown that too many requests fail.
    has_risen: bool,
}

/// What a look has led to.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Verdict {
    /// Why the epoch is unfit, in a sentence, if it is.
    pub(super) evidence: Option<String>,
    /// Probes that could not be made, with the reason. Each is told once.
    pub(super) unknown: Vec<(String, String)>,
}

impl Judge {
    /// Returns a judge for an epoch that is on probation from this moment on.
    pub(super) fn new(
        rules: EvidenceRules,
        since: Timestamp,
        probation: Duration,
        requests: &Requests,
    ) -> Self {
        Self {
            rules,
            until: since.after(probation),
            probation,
            has_looked: false,
            silent: 0,
            failing: Vec::new(),
            unknown: BTreeSet::new(),
            missing: BTreeMap::new(),
            unfinished: None,
            before: requests.last(),
            has_risen: false,
        }
    }

    /// Returns when the probation ends.
    pub(super) fn until(&self) -> Timestamp {
        self.until
    }

    /// Weighs a look that began at this moment. Its requests are among `requests` already.
    pub(super) fn weigh(
        &mut self,
        seen: &Seen,
        begun: Timestamp,
        now: Timestamp,
        requests: &Requests,
    ) -> Verdict {
        let nothing = Examination::default();
        let proxy = seen.proxy.as_ref().unwrap_or(&nothing);
        let sample = proxy.requests.map(|totals| Sample { at: now, totals });
        if !self.has_looked {
            self.before = sample.or(self.before);
        }
        // Each of them has to see every look, so that its row is interrupted.
        let findings = [
            self.silence(seen),
            self.failure(&seen.probes),
            self.loss(proxy, begun),
            self.unfinished_start(proxy, begun.after(INTERVAL).max(now)),
            self.rise(sample, requests),
        ];
        self.has_looked = true;
        Verdict {
            evidence: findings.into_iter().flatten().next(),
            unknown: self.newly_unknown(&seen.probes),
        }
    }

    fn silence(&mut self, seen: &Seen) -> Option<String> {
        let limit = self.rules.time_limit;
        let why = match &seen.proxy {
            None => Some(format!("no answer within {limit:?}")),
            Some(proxy) => proxy.silent.clone(),
        };
        self.silent = match why {
            Some(_) => self.silent.saturating_add(1),
            None => 0,
        };
        let why = why.filter(|_| self.silent >= self.rules.failures)?;
        let looks = match self.silent {
            1 => "the last look".into(),
            more => format!("{more} looks in a row"),
        };
        Some(format!("the proxy has not answered in {looks}: {why}"))
    }

    fn failure(&mut self, probes: &[Probed]) -> Option<String> {
        self.failing.resize(probes.len(), 0);
        let mut evidence = None;
        for (probe, failing) in probes.iter().zip(&mut self.failing) {
            let ProbeResult::Failed(what) = &probe.result else {
                *failing = 0;
                continue;
            };
            *failing = failing.saturating_add(1);
            if *failing >= self.rules.failures && evidence.is_none() {
                let name = &probe.name;
                let times = match *failing {
                    1 => String::new(),
                    more => format!(" {more} times in a row"),
                };
                evidence = Some(format!("{name} has failed{times}: {what}"));
            }
        }
        evidence
    }

    fn newly_unknown(&mut self, probes: &[Probed]) -> Vec<(String, String)> {
        let mut told = Vec::new();
        for probe in probes {
            if let ProbeResult::Unknown(why) = &probe.result
                && self.unknown.insert(probe.name.clone())
            {
                told.push((probe.name.clone(), why.clone()));
            }
        }
        told
    }

    fn loss(&mut self, proxy: &Examination, begun: Timestamp) -> Option<String> {
        let missing = proxy.missing.as_deref().unwrap_or_default();
        if missing.is_empty() || is_warming(proxy) {
            self.missing.clear();
            return None;
        }
        self.missing.retain(|name, _| missing.contains(name));
        for name in missing {
            self.missing.entry(name.clone()).or_insert(begun);
        }
        let lost = self.missing.iter();
        let lost = lost.filter(|(_, since)| since.after(INTERVAL) <= begun);
        let lost: Vec<&String> = lost.map(|(name, _)| name).collect();
        if lost.is_empty() {
            return None;
        }
        Some(format!(
            "clients could reach {} before and cannot any more, although the configuration has \
             not removed it",
            names(&lost)
        ))
    }

    /// `next` is when the next look would begin.
    fn unfinished_start(&mut self, proxy: &Examination, next: Timestamp) -> Option<String> {
        let missing = proxy.missing.as_deref().unwrap_or_default();
        let missing: BTreeSet<String> = match is_warming(proxy) {
            true => missing.iter().cloned().collect(),
            false => BTreeSet::new(),
        };
        let always = match self.unfinished.take() {
            Some(before) => before.intersection(&missing).cloned().collect(),
            None if self.has_looked => BTreeSet::new(),
            None => missing,
        };
        let is_last = next.after(SPARE) >= self.until;
        let lost: Vec<&String> = always.iter().collect();
        let evidence = (is_last && !lost.is_empty()).then(|| {
            let warming: Vec<&String> = proxy.warming.iter().flatten().collect();
            format!(
                "clients cannot reach {}, which they could reach before: the proxy has waited for {} \
                 for the whole probation of {:?}",
                names(&lost),
                names(&warming),
                self.probation
            )
        });
        self.unfinished = Some(always);
        evidence
    }

    fn rise(&mut self, sample: Option<Sample>, requests: &Requests) -> Option<String> {
        let had_risen = core::mem::take(&mut self.has_risen);
        let allowed = self.rules.max_error_rise?;
        let compared = requests.compare(self.before?, sample?)?;
        self.has_risen = compared.has_risen_by_more_than(allowed);
        (had_risen && self.has_risen)
            .then(|| format!("{compared}; the share may rise by at most {allowed}"))
    }
}

fn is_warming(proxy: &Examination) -> bool {
    proxy
        .warming
        .as_ref()
        .is_some_and(|names| !names.is_empty())
}

/// The first names, and how many there are beside them.
fn names(all: &[&String]) -> String {
    let mut text = String::new();
    for (index, name) in all.iter().take(NAMES).enumerate() {
        let comma = if index > 0 { ", " } else { "" };
        text.push_str(&format!("{comma}`{name}`"));
    }
    match all.len().saturating_sub(NAMES) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

/// Hundredths of a percent, in percent.
pub(super) fn percent(hundredths: u64) -> String {
    let (whole, rest) = (hundredths / 100, hundredths % 100);
    match (rest / 10, rest % 10) {
        (0, 0) => format!("{whole}%"),
        (tenths, 0) => format!("{whole}.{tenths}%"),
        (tenths, hundredths) => format!("{whole}.{tenths}{hundredths}%"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_names_are_spelled_out() {
        let all: Vec<String> = ["a", "b", "c", "d", "e"].map(String::from).into();
        let told = |count: usize| names(&all.iter().take(count).collect::<Vec<_>>());
        assert_eq!(told(1), "`a`");
        assert_eq!(told(3), "`a`, `b`, `c`");
        assert_eq!(told(5), "`a`, `b`, `c` and 2 more");
    }

    #[test]
    fn a_rise_of_more_than_everything_is_none() {
        assert_eq!(ErrorRise::from_hundredths(10_001), None);
        let told = |hundredths| ErrorRise::from_hundredths(hundredths).unwrap().to_string();
        assert_eq!(told(10_000), "100%");
        assert_eq!(told(50), "0.5%");
    }

    fn weighed(failures: u32, looks: &[Seen]) -> Vec<Option<String>> {
        let rules = EvidenceRules {
            failures,
            ..EvidenceRules::default()
        };
        let requests = Requests::default();
        let long = Duration::from_secs(3600);
        let mut judge = Judge::new(rules, Timestamp::ZERO, long, &requests);
        let mut at = Timestamp::ZERO;
        let verdicts = looks.iter().map(|seen| {
            at = at.after(INTERVAL);
            judge.weigh(seen, at, at, &requests).evidence
        });
        verdicts.collect()
    }

    fn failing() -> Seen {
        Seen {
            proxy: Some(Examination::default()),
            probes: vec![Probed {
                name: "--verify-tcp a:1".into(),
                result: ProbeResult::Failed("refused".into()),
            }],
        }
    }

    #[test]
    fn no_row_is_as_short_as_one() {
        for failures in [0, 1] {
            let expected = "--verify-tcp a:1 has failed: refused".to_owned();
            assert_eq!(weighed(failures, &[failing()]), [Some(expected)]);
            let expected = "the proxy has not answered in the last look: no answer within 2s";
            let hung = weighed(failures, &[Seen::default()]);
            assert_eq!(hung, [Some(expected.to_owned())]);
            assert_eq!(
                weighed(
                    failures,
                    &[Seen {
                        proxy: Some(Examination::default()),
                        probes: vec![]
                    }]
                ),
                [None]
            );
        }
    }

    #[test]
    fn a_look_that_is_given_up_interrupts_the_row_of_the_probes() {
        let looks = [failing(), failing(), Seen::default(), failing(), failing()];
        assert_eq!(weighed(3, &looks), [None, None, None, None, None]);
    }

    #[test]
    fn a_probation_ends_after_its_length() {
        let since = Timestamp::ZERO.after(Duration::from_secs(3));
        let length = Duration::from_secs(10);
        let judge = Judge::new(
            EvidenceRules::default(),
            since,
            length,
            &Requests::default(),
        );
        assert_eq!(judge.until(), since.after(length));
    }
}
