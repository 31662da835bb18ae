//! Flags that say how failures are met: the policy of the state machine.

use std::time::Duration;

use clap::{Args, ValueEnum};
use handover_core::retry::Retry;
use handover_core::{OnCleanExit, OnExhausted, Policy};

use super::duration::{self, Limit};

/// What `run` and `exec` have in common. The defaults are those of `Policy::resilient`.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Failures")]
pub(crate) struct PolicyArgs {
    /// How long an epoch may take to go live before it is ended and counts as failed; `none` is as
    /// long as it takes.
    #[arg(
        long,
        value_name = "TIME",
        env = "HANDOVER_START_DEADLINE",
        default_value = "60s"
    )]
    start_deadline: Limit,

    /// How often a failed configuration is tried again before it is given up.
    #[arg(
        long,
        value_name = "N",
        env = "HANDOVER_MAX_RETRIES",
        default_value_t = 10
    )]
    max_retries: u32,

    /// The pause before the first retry; each further one is twice as long.
    #[arg(
        long,
        value_name = "TIME",
        env = "HANDOVER_RETRY_INTERVAL",
        default_value = "200ms"
    )]
    #[arg(value_parser = duration::parse)]
    retry_interval: Duration,

    /// The longest pause between two retries; `none` doubles without end.
    #[arg(
        long,
        value_name = "TIME",
        env = "HANDOVER_RETRY_MAX_INTERVAL",
        default_value = "30s"
    )]
    retry_max_interval: Limit,

    /// An epoch that stayed live this long gives back all retries, and is restarted at once if it
    /// dies later; `none` never does.
    #[arg(
        long,
        value_name = "TIME",
        env = "HANDOVER_RESET_AFTER",
        default_value = "10s"
    )]
    reset_after: Limit,

    /// What it means when the newest epoch ends although nobody asked for it.
    #[arg(long, value_enum, value_name = "WHAT", env = "HANDOVER_ON_EXIT")]
    #[arg(default_value = "restart")]
    pub(crate) on_exit: OnExit,

    /// What happens when a configuration is given up while an older epoch still serves. With
    /// nothing left to serve, handover ends in either case.
    #[arg(long, value_enum, value_name = "WHAT", env = "HANDOVER_ON_EXHAUSTED")]
    #[arg(default_value = "hold")]
    on_exhausted: WhenExhausted,

    /// How many epochs may run at once; a further change waits until one has ended. An Envoy ends its
    /// oldest epoch when a third one starts, so with `run` a higher number cuts connections.
    #[arg(
        long,
        value_name = "N",
        env = "HANDOVER_MAX_EPOCHS",
        default_value_t = 2
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(2..))]
    pub(crate) max_epochs: u32,

    /// How long an epoch that is told to stop now may take before it is killed.
    #[arg(
        long,
        value_name = "TIME",
        env = "HANDOVER_ABORT_GRACE",
        default_value = "5s"
    )]
    #[arg(value_parser = duration::parse)]
    abort_grace: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnExit {
    /// It is started again; a clean end counts as a failure too.
    Restart,
    /// It is not started again. Once nothing serves, handover ends with its exit code.
    Stop,
    /// After a clean end handover waits for the next change; a failure is tried again.
    Stay,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum WhenExhausted {
    /// The older epoch goes on serving; the next change is awaited.
    Hold,
    /// Everything is stopped, and handover ends.
    Stop,
}

impl PolicyArgs {
    /// The policy, with this longest drain after a signal to end.
    pub(crate) fn policy(&self, drain_deadline: Option<Duration>) -> Policy {
        let resilient = Policy::resilient();
        Policy {
            retry: Retry {
                max_retries: self.max_retries,
                initial_interval: self.retry_interval,
                max_interval: self.retry_max_interval.0,
                reset_after: self.reset_after.0,
                ..resilient.retry
            },
            start_deadline: self.start_deadline.0,
            max_epochs: Some(self.max_epochs),
            on_exhausted: match self.on_exhausted {
                WhenExhausted::Hold => OnExhausted::HoldLastGood,
                WhenExhausted::Stop => OnExhausted::Stop,
            },
            on_clean_exit: match self.on_exit {
                OnExit::Restart => OnCleanExit::Restart,
                OnExit::Stop => OnCleanExit::Stop,
                OnExit::Stay => OnCleanExit::Stay,
            },
            abort_grace: self.abort_grace,
            drain_deadline,
            ..resilient
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{FromArgMatches, Parser as _};

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
        let flags = "x --start-deadline none --max-retries 3 --retry-interval 1s \
            --retry-max-interval none --reset-after 1m --on-exit stop --on-exhausted stop \
            --max-epochs 3 --abort-grace 2s";
        let only = Only::try_parse_from(flags.split_whitespace()).unwrap();
        let expected = Policy {
            retry: Retry::new(3, Duration::from_secs(1)).with_reset_after(Duration::from_secs(60)),
            start_deadline: None,
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
