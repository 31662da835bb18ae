//! Flags for failures and retries: the policy of the state machine.

use std::time::Duration;

use clap::{Args, ValueEnum};
use handover_core::retry::{Jitter, Retry};
use handover_core::{OnExhausted, OnExit, Policy};
use handover_process::memory::Guard;

use super::duration::{self, Limit};
use super::on_exit;
use super::probation::ProbationArgs;

/// The policy flags of `run` and `exec`. The defaults are those of `Policy::resilient`.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Failures")]
pub(crate) struct PolicyArgs {
    /// The longest time that an epoch may take to go live. Then it counts as failed.
    ///
    /// Handover ends such an epoch. With `none` there is no limit.
    #[arg(
        long,
        value_name = "TIME",
        env = "HANDOVER_START_DEADLINE",
        default_value = "60s"
    )]
    start_deadline: Limit,

    /// The age at which a starting epoch gives way to a newer configuration.
    ///
    /// Then the start is given up, unless the epoch has taken over already. That costs no retry. An
    /// epoch that waits for a control plane would otherwise hold a corrected configuration back until
    /// its start deadline. The time doubles with each start in a row that was given up, so that
    /// frequent changes do not end every start. With `none`, every start comes to its own end.
    #[arg(
        long,
        value_name = "TIME",
        env = "HANDOVER_GIVE_WAY_AFTER",
        default_value = "2s"
    )]
    give_way_after: Limit,

    /// The shortest time between two starts that changes lead to. A change that comes sooner waits.
    ///
    /// The first change of a burst is started at once, and the newest one when the time is over. A wait of
    /// `handover reload` goes on until then, and `handover status` shows when that is. A restart after a
    /// failure, a return to the last good configuration and a stop do not wait. Neither does a change while
    /// nothing serves, or while what serves is unfit. With `none`, every change is started at once.
    #[arg(
        long,
        value_name = "TIME",
        env = "HANDOVER_MIN_INTERVAL",
        default_value = "none"
    )]
    min_interval: Limit,

    /// The number of retries of a failed configuration before it is given up.
    #[arg(
        long,
        value_name = "N",
        env = "HANDOVER_MAX_RETRIES",
        default_value_t = 10
    )]
    max_retries: u32,

    /// The pause before the first retry. Each further pause is twice as long.
    #[arg(
        long,
        value_name = "TIME",
        env = "HANDOVER_RETRY_INTERVAL",
        default_value = "200ms"
    )]
    #[arg(value_parser = duration::parse)]
    retry_interval: Duration,

    /// The longest pause between two retries. With `none` the pauses grow without limit.
    #[arg(
        long,
        value_name = "TIME",
        env = "HANDOVER_RETRY_MAX_INTERVAL",
        default_value = "30s"
    )]
    retry_max_interval: Limit,

    /// The largest share of each pause that is left out at random, such as 50%, so that hosts spread.
    ///
    /// Many hosts that got the same bad configuration, or lost the same server, would otherwise try again
    /// in the same moments. No pause gets longer than without the flag. With 100%, a pause may have any
    /// length up to the full one.
    #[arg(
        long,
        value_name = "PERCENT",
        env = "HANDOVER_RETRY_JITTER",
        default_value = "0%"
    )]
    #[arg(value_parser = parse_jitter)]
    retry_jitter: Jitter,

    /// The time that an epoch must stay live to restore all retries.
    ///
    /// If it dies later, it is restarted at once. With `none` retries are never restored.
    #[arg(
        long,
        value_name = "TIME",
        env = "HANDOVER_RESET_AFTER",
        default_value = "10s"
    )]
    reset_after: Limit,

    /// What to do when the newest epoch ends by itself: restart, stop or stay, or CAUSE=ACTION,...
    ///
    /// `restart` starts it again. A failure costs a retry, and a clean end counts as a failure too. `stop`
    /// does not start it again. Once no epoch serves, handover ends with its exit code. `stay` waits for the
    /// next change after a clean end, and retries a failure. An action can depend on the cause, such as
    /// `crash=restart,oom=stop`, or `stop,crash=restart`. The causes are `clean` (code 0), `exit` (another
    /// code), `crash` (a signal), `oom` (out of memory) and `hung` (see --hung-after of run). An action
    /// for all causes comes first; without one, a cause that is not named is restarted. A start that fails
    /// counts as well.
    #[arg(long, value_name = "WHAT", env = "HANDOVER_ON_EXIT")]
    #[arg(default_value = "restart", value_parser = on_exit::parse)]
    pub(crate) on_exit: OnExit,

    /// What to do when a configuration is given up while an older epoch still serves.
    ///
    /// If no epoch serves, handover ends in either case.
    #[arg(long, value_enum, value_name = "WHAT", env = "HANDOVER_ON_EXHAUSTED")]
    #[arg(default_value = "hold")]
    on_exhausted: WhenExhausted,

    /// The number of epochs that may run at once, 2 or more. A further change waits.
    ///
    /// It waits until the oldest epoch has ended. Envoy ends its oldest epoch when a third one starts.
    /// So more than 2 cuts connections with `run`.
    #[arg(
        long,
        value_name = "N",
        env = "HANDOVER_MAX_EPOCHS",
        default_value_t = 2
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(2..))]
    pub(crate) max_epochs: u32,

    /// The time that an epoch has to end after it was told to stop at once. Then it is killed.
    #[arg(
        long,
        value_name = "TIME",
        env = "HANDOVER_ABORT_GRACE",
        default_value = "5s"
    )]
    #[arg(value_parser = duration::parse)]
    abort_grace: Duration,

    /// What to do if the next epoch would not fit into memory beside the one that serves.
    ///
    /// It is thought to need as much as the one that serves. What is left is that of the control groups
    /// and of the host. With `hold`, the change waits and is tried again by itself.
    #[arg(long, value_enum, value_name = "WHAT", env = "HANDOVER_MEMORY_GUARD")]
    #[arg(default_value = "hold")]
    pub(crate) memory_guard: MemoryGuard,

    #[command(flatten)]
    pub(crate) probation: ProbationArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum MemoryGuard {
    /// Let the epoch that serves go on, and start no other one until there is room.
    Hold,
    /// Log a warning, and start it.
    Warn,
    /// Do not look.
    Off,
}

impl From<MemoryGuard> for Guard {
    fn from(guard: MemoryGuard) -> Self {
        match guard {
            MemoryGuard::Hold => Self::Hold,
            MemoryGuard::Warn => Self::Warn,
            MemoryGuard::Off => Self::Off,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum WhenExhausted {
    /// Let the older epoch serve, and wait for the next change.
    Hold,
    /// Stop every epoch, and end.
    Stop,
}

impl PolicyArgs {
    /// Returns the policy. `drain_deadline` limits the drain after a signal to end.
    pub(crate) fn policy(&self, drain_deadline: Option<Duration>) -> Policy {
        let resilient = Policy::resilient();
        Policy {
            retry: Retry {
                max_retries: self.max_retries,
                initial_interval: self.retry_interval,
                max_interval: self.retry_max_interval.0,
                jitter: self.retry_jitter,
                reset_after: self.reset_after.0,
            },
            start_deadline: self.start_deadline.0,
            give_way_after: self.give_way_after.0,
            min_interval: self.min_interval.0.filter(|time| !time.is_zero()),
            probation: self.probation.probation.0,
            max_epochs: Some(self.max_epochs),
            on_exhausted: match self.on_exhausted {
                WhenExhausted::Hold => OnExhausted::HoldLastGood,
                WhenExhausted::Stop => OnExhausted::Stop,
            },
            on_clean_exit: self.on_exit.on_clean_exit(),
            abort_grace: self.abort_grace,
            drain_deadline,
            ..resilient
        }
    }
}

/// Reads a share such as `50%`.
fn parse_jitter(text: &str) -> Result<Jitter, String> {
    let number = text.trim().strip_suffix('%').map(str::trim_end);
    let digits = number.filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
    let share = digits.and_then(|number| number.parse().ok());
    share
        .filter(|share| *share <= 100)
        .map(Jitter::percent)
        .ok_or_else(|| "write a whole number up to 100 with a percent sign, such as 50%".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::{FromArgMatches, Parser as _};
    use handover_core::OnCleanExit;

    use super::*;

    #[derive(clap::Parser)]
    struct Only {
        #[command(flatten)]
        policy: PolicyArgs,
    }

    #[test]
    fn without_a_flag_the_policy_is_the_resilient_one() {
        let only = Only::try_parse_from(["x"]).unwrap();
        let expected = Policy::resilient();
        assert_eq!(only.policy.policy(expected.drain_deadline), expected);
    }

    #[test]
    fn each_flag_changes_its_part() {
        let flags = "x --start-deadline none --give-way-after 5s --max-retries 3 --retry-interval 1s \
            --retry-max-interval none --retry-jitter 50% --reset-after 1m --on-exit stop --on-exhausted stop \
            --max-epochs 3 --abort-grace 2s --probation 30s --min-interval 10s";
        let only = Only::try_parse_from(flags.split_whitespace()).unwrap();
        let expected = Policy {
            retry: Retry::new(3, Duration::from_secs(1))
                .with_jitter(Jitter::percent(50))
                .with_reset_after(Duration::from_secs(60)),
            start_deadline: None,
            give_way_after: Some(Duration::from_secs(5)),
            min_interval: Some(Duration::from_secs(10)),
            probation: Some(Duration::from_secs(30)),
            max_epochs: Some(3),
            on_exhausted: OnExhausted::Stop,
            on_clean_exit: OnCleanExit::Stop,
            abort_grace: Duration::from_secs(2),
            drain_deadline: None,
            ..Policy::resilient()
        };
        assert_eq!(only.policy.policy(None), expected);
    }

    #[test]
    fn a_jitter_is_a_share_of_the_pause() {
        assert_eq!(parse_jitter("0%"), Ok(Jitter::NONE));
        assert_eq!(parse_jitter(" 100 % "), Ok(Jitter::percent(100)));
        for bad in ["50", "", "%", "-1%", "+5%", "101%", "300%", "0.5%", "full"] {
            assert!(parse_jitter(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn one_epoch_is_too_few() {
        let matches = <Only as clap::CommandFactory>::command().try_get_matches_from([
            "x",
            "--max-epochs",
            "1",
        ]);
        assert!(
            matches
                .and_then(|matches| Only::from_arg_matches(&matches))
                .is_err()
        );
    }
}
