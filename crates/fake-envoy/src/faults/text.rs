//! Faults as text.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{Action, Fault, Habit, Kind, Step};

/// All steps, for reading their names.
const STEPS: [Step; 11] = [
    Step::Start,
    Step::Validate,
    Step::Bound,
    Step::FlagSet,
    Step::Config,
    Step::Admin,
    Step::Listeners,
    Step::Live,
    Step::HandOver,
    Step::Drain,
    Step::End,
];

/// Why the text of a fault is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FaultError {
    /// There is no such fault.
    #[error("{0:?} is no fault: see the list on the crate page of handover-fake-envoy")]
    Unknown(String),
    /// A fault at a step names none, or one that does not exist.
    #[error(
        "the fault {0:?} needs a step after @: start, validate, bound, flag_set, config, admin, listeners, \
         live, hand_over, drain or end"
    )]
    NoStep(String),
    /// The value of a fault or of a condition is missing or makes no sense.
    #[error("the fault {fault:?} does not take the value {value:?}: use {expected}")]
    BadValue {
        /// The fault.
        fault: String,
        /// The value.
        value: String,
        /// What it takes.
        expected: &'static str,
    },
    /// The condition is unknown.
    #[error("{0:?} is no condition of a fault: use epoch=N, start=N or once")]
    Condition(String),
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let (what, conditions) = text.split_once(':').unwrap_or((text, ""));
        let mut fault = Self::new(kind(what)?);
        for condition in conditions.split(',').filter(|it| !it.is_empty()) {
            let (name, value) = condition.split_once('=').unwrap_or((condition, ""));
            let bad = || bad_value(text, value, "a number");
            match name {
                "epoch" => fault.epoch = Some(value.parse().map_err(|_| bad())?),
                "start" => fault.start = Some(value.parse().map_err(|_| bad())?),
                "once" => fault.once = true,
                other => return Err(FaultError::Condition(other.to_owned())),
            }
        }
        Ok(fault)
    }
}

fn kind(text: &str) -> Result<Kind, FaultError> {
    let (what, step) = match text.split_once('@') {
        Some((what, step)) => (what, Some(step)),
        None => (text, None),
    };
    let (name, value) = what.split_once('=').unwrap_or((what, ""));
    let action = match name {
        "crash" => Action::Crash,
        "segv" => Action::Segv,
        "kill" => Action::Kill,
        "stuck" => Action::Stuck,
        "exit" => {
            let code = value.parse();
            Action::Exit(code.map_err(|_| bad_value(text, value, "an exit code from 0 to 255"))?)
        }
        "slow" => Action::Slow(time(text, value)?),
        "freeze" => Action::Freeze(time(text, value)?),
        "flood" => Action::Flood(bytes(text, value)?),
        _ => return habit(text, name, value).map(Kind::Always),
    };
    let step = STEPS
        .into_iter()
        .find(|known| Some(&*known.to_string()) == step)
        .ok_or_else(|| FaultError::NoStep(text.to_owned()))?;
    Ok(Kind::At(step, action))
}

fn habit(text: &str, name: &str, value: &str) -> Result<Habit, FaultError> {
    let number = || {
        let number = value.parse();
        number.map_err(|_| bad_value(text, value, "a number"))
    };
    Ok(match name {
        "keep-flag" => Habit::KeepFlag,
        "no-listeners" => Habit::NoListeners,
        "refuse-sockets" => Habit::RefuseSockets,
        "deaf-parent" => Habit::DeafParent,
        "admin-closed" => Habit::AdminClosed,
        "admin-silent" => Habit::AdminSilent,
        "admin-slow" => Habit::AdminSlow(time(text, value)?),
        "admin-garbage" => Habit::AdminGarbage,
        "admin-forbidden" => Habit::AdminForbidden,
        "lie-live" => Habit::LieLive,
        "lie-epoch" => {
            let epoch = value.parse();
            Habit::LieEpoch(epoch.map_err(|_| bad_value(text, value, "a restart epoch"))?)
        }
        "gauges-missing" => Habit::GaugesMissing,
        "gauges-foreign" => Habit::GaugesForeign,
        "gauges-stuck" => Habit::GaugesStuck(number()?),
        "leak" => Habit::Leak(bytes(text, value)?),
        "slow-answers" => Habit::SlowAnswers(time(text, value)?),
        "ignore-term" => Habit::IgnoreTerm,
        "ignore-terminate" => Habit::IgnoreTerminate,
        "outlive-supervisor" => Habit::OutliveSupervisor,
        _ => return Err(FaultError::Unknown(text.to_owned())),
    })
}

fn bad_value(fault: &str, value: &str, expected: &'static str) -> FaultError {
    FaultError::BadValue {
        fault: fault.to_owned(),
        value: value.to_owned(),
        expected,
    }
}

fn time(fault: &str, value: &str) -> Result<Duration, FaultError> {
    let read = || match value.strip_suffix("ms") {
        Some(number) => Some(Duration::from_millis(number.parse().ok()?)),
        None => Some(Duration::from_secs(value.strip_suffix('s')?.parse().ok()?)),
    };
    read().ok_or_else(|| bad_value(fault, value, "a time such as 500ms or 2s"))
}

fn bytes(fault: &str, value: &str) -> Result<u64, FaultError> {
    let read = || {
        let (number, unit) = match value.strip_suffix(['K', 'M']) {
            Some(number) if value.ends_with('K') => (number, 1 << 10),
            Some(number) => (number, 1 << 20),
            None => (value, 1),
        };
        number.parse::<u64>().ok()?.checked_mul(unit)
    };
    read().ok_or_else(|| bad_value(fault, value, "a number of bytes such as 4096, 64K or 1M"))
}

/// A time as it is read.
struct Time(Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            0 => f.write_str("0s"),
            millis if millis % 1000 == 0 => write!(f, "{}s", millis / 1000),
            millis => write!(f, "{millis}ms"),
        }
    }
}

/// Bytes as they are read.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes > 0 && bytes % (1 << 20) == 0 => write!(f, "{}M", bytes >> 20),
            bytes if bytes > 0 && bytes % (1 << 10) == 0 => write!(f, "{}K", bytes >> 10),
            bytes => write!(f, "{bytes}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::At(step, action) => write!(f, "{action}@{step}")?,
            Kind::Always(habit) => write!(f, "{habit}")?,
        }
        let mut separator = ':';
        let mut condition = |f: &mut fmt::Formatter<'_>, text: String| {
            let written = write!(f, "{separator}{text}");
            separator = ',';
            written
        };
        if let Some(epoch) = self.epoch {
            condition(f, format!("epoch={epoch}"))?;
        }
        if let Some(start) = self.start {
            condition(f, format!("start={start}"))?;
        }
        if self.once {
            condition(f, "once".to_owned())?;
        }
        Ok(())
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crash => f.write_str("crash"),
            Self::Segv => f.write_str("segv"),
            Self::Kill => f.write_str("kill"),
            Self::Stuck => f.write_str("stuck"),
            Self::Exit(code) => write!(f, "exit={code}"),
            Self::Slow(time) => write!(f, "slow={}", Time(*time)),
            Self::Freeze(time) => write!(f, "freeze={}", Time(*time)),
            Self::Flood(bytes) => write!(f, "flood={}", Bytes(*bytes)),
        }
    }
}

impl fmt::Display for Habit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeepFlag => f.write_str("keep-flag"),
            Self::NoListeners => f.write_str("no-listeners"),
            Self::RefuseSockets => f.write_str("refuse-sockets"),
            Self::DeafParent => f.write_str("deaf-parent"),
            Self::AdminClosed => f.write_str("admin-closed"),
            Self::AdminSilent => f.write_str("admin-silent"),
            Self::AdminSlow(time) => write!(f, "admin-slow={}", Time(*time)),
            Self::AdminGarbage => f.write_str("admin-garbage"),
            Self::AdminForbidden => f.write_str("admin-forbidden"),
            Self::LieLive => f.write_str("lie-live"),
            Self::LieEpoch(epoch) => write!(f, "lie-epoch={epoch}"),
            Self::GaugesMissing => f.write_str("gauges-missing"),
            Self::GaugesForeign => f.write_str("gauges-foreign"),
            Self::GaugesStuck(value) => write!(f, "gauges-stuck={value}"),
            Self::Leak(bytes) => write!(f, "leak={}", Bytes(*bytes)),
            Self::SlowAnswers(time) => write!(f, "slow-answers={}", Time(*time)),
            Self::IgnoreTerm => f.write_str("ignore-term"),
            Self::IgnoreTerminate => f.write_str("ignore-terminate"),
            Self::OutliveSupervisor => f.write_str("outlive-supervisor"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_reads_back_as_it_is_written() {
        let at = "crash segv kill stuck exit=3 slow=1500ms freeze=2s flood=64K";
        let at = at.split_whitespace();
        let at = at.flat_map(|action| STEPS.map(|step| format!("{action}@{step}")));
        let always = "keep-flag no-listeners refuse-sockets deaf-parent admin-closed admin-silent \
                      admin-slow=3s admin-garbage admin-forbidden lie-live lie-epoch=4 gauges-missing \
                      gauges-foreign gauges-stuck=2 leak=1M slow-answers=0s ignore-term ignore-terminate \
                      outlive-supervisor";
        for text in at.chain(always.split_whitespace().map(str::to_owned)) {
            for conditions in ["", ":epoch=2", ":once", ":epoch=2,start=3,once"] {
                let text = format!("{text}{conditions}");
                let fault: Fault = text.parse().unwrap();
                assert_eq!(fault.to_string(), text);
            }
        }
    }

    #[test]
    fn what_is_no_fault_is_refused_with_a_remedy() {
        for (text, words) in [
            (
                "nonsense",
                "\"nonsense\" is no fault: see the list on the crate page of handover-fake-envoy",
            ),
            (
                "crash",
                "the fault \"crash\" needs a step after @: start, validate, bound, flag_set, config, admin, \
                 listeners, live, hand_over, drain or end",
            ),
            (
                "slow=5@live",
                "the fault \"slow=5@live\" does not take the value \"5\": use a time such as 500ms or 2s",
            ),
            (
                "crash@live:twice",
                "\"twice\" is no condition of a fault: use epoch=N, start=N or once",
            ),
        ] {
            assert_eq!(text.parse::<Fault>().unwrap_err().to_string(), words);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-z=@:,0-9KM_-]{0,30}") {
            let _read = text.parse::<Fault>().is_ok();
        }
    }
}
