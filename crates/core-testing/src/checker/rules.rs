//! The meaning of a policy, written down from its fields. Nothing here calls into the machine, which
//! has its own words for the same rules.

use core::time::Duration;

use handover_core::retry::Retry;
use handover_core::{Abort, Advance, Exit, OnCleanExit, OnExhausted, OnFailure, Policy, Severity};

/// What an epoch was at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The newest, with the desired configuration.
    Desired,
    /// What served in place of the desired configuration.
    LastGood,
    /// Neither.
    Other,
}

/// What an end leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cost {
    /// Nothing is owed for it.
    Nothing,
    /// The configuration is left alone.
    Stays,
    /// A retry of the desired configuration.
    Retry,
    /// A retry of the fallback.
    FallbackRetry,
    /// The desired configuration is given up.
    GivenUp,
    /// The agent's work is done.
    AgentEnds,
}

pub(super) fn cost(policy: &Policy, part: Part, exit: Exit) -> Cost {
    let severity = match exit {
        Exit::Failed(severity) => severity,
        // Nobody of ours has aborted it.
        Exit::Aborted => Severity::Transient,
        Exit::Clean if part == Part::Other => return Cost::Nothing,
        Exit::Clean => match policy.on_clean_exit {
            OnCleanExit::Restart => Severity::Transient,
            OnCleanExit::Stop if part == Part::Desired => return Cost::AgentEnds,
            OnCleanExit::Stay | OnCleanExit::Stop => return Cost::Stays,
        },
    };
    if part == Part::Desired && severity == Severity::Permanent {
        return Cost::GivenUp;
    }
    let is_charged = part == Part::Desired || aborts_all(policy);
    if is_charged {
        Cost::Retry
    } else if part == Part::LastGood && holds(policy) {
        Cost::FallbackRetry
    } else {
        Cost::Nothing
    }
}

/// Whether the failure of one epoch ends all.
pub(super) fn aborts_all(policy: &Policy) -> bool {
    policy.on_failure == OnFailure::AbortAll
}

/// Whether there is a last good configuration to come back to. There is none where each failure ends
/// all that serves.
pub(super) fn holds(policy: &Policy) -> bool {
    policy.on_exhausted == OnExhausted::HoldLastGood && !aborts_all(policy)
}

/// Whether the next start waits until the newest epoch is live. Otherwise a start is taken for serving.
pub(super) fn waits(policy: &Policy) -> bool {
    policy.advance == Advance::WhenLive
}

/// Whether what is asked to end has time to do so by itself.
pub(super) fn has_grace(policy: &Policy) -> bool {
    policy.abort_grace > Duration::ZERO
}

/// How an epoch is told to stop that had not been told before.
pub(super) fn first_abort(policy: &Policy, at_once: bool) -> Abort {
    if at_once || !has_grace(policy) {
        Abort::Immediate
    } else {
        Abort::Graceful
    }
}

/// How long a start is let be that a newer desire waits for, after `gave_way` starts in a row that
/// were not. Each was let be twice as long as the one before. Nothing is for ever.
pub(super) fn let_be(policy: &Policy, gave_way: u32) -> Option<Duration> {
    let first = policy.give_way_after.filter(|_| waits(policy))?;
    let span = (0..gave_way).fold(first, |span, _| span.saturating_add(span));
    let ends_before = policy.start_deadline.is_some_and(|end| end <= span);
    (!ends_before).then_some(span)
}

/// So many in a row, after one more. From the sixth on none is let be longer than the one before.
pub(super) fn one_more(gave_way: u32) -> u32 {
    gave_way.saturating_add(1).min(5)
}

/// Whether this is the delay of the next retry, after `used` ones. After health the first one is at
/// once, and the doubling begins behind it. Jitter may only shorten.
pub(super) fn is_delay(retry: &Retry, used: u32, at_once: bool, delay: Duration) -> bool {
    let longest = longest_delay(retry, used, at_once);
    let percent = u128::from(retry.jitter.as_percent());
    let share = longest.saturating_mul(percent).div_ceil(100);
    let delay = delay.as_nanos();
    delay <= longest && delay >= longest.saturating_sub(share)
}

fn longest_delay(retry: &Retry, used: u32, at_once: bool) -> u128 {
    let doublings = if !at_once {
        used
    } else if used == 0 {
        return 0;
    } else {
        used.saturating_sub(1)
    };
    let cap = retry.max_interval.unwrap_or(Duration::MAX).as_nanos();
    let mut delay = retry.initial_interval.as_nanos();
    for _ in 0..doublings {
        if delay == 0 || delay >= cap {
            break;
        }
        delay = delay.saturating_mul(2);
    }
    delay.min(cap)
}

#[cfg(test)]
mod tests {
    use super::*;
    use handover_core::retry::Jitter;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_delay_is_twice_the_one_before_up_to_the_longest() {
        let retry = Retry::new(9, SECOND).with_max_interval(5 * SECOND);
        for (used, seconds) in [(0, 1), (1, 2), (2, 4), (3, 5), (4, 5), (u32::MAX, 5)] {
            assert!(is_delay(&retry, used, false, seconds * SECOND), "{used}");
            assert!(!is_delay(&retry, used, false, (seconds + 1) * SECOND));
            assert!(!is_delay(&retry, used, false, (seconds - 1) * SECOND));
        }
    }

    #[test]
    fn after_health_the_doubling_begins_behind_a_retry_at_once() {
        let retry = Retry::new(9, SECOND);
        for (used, seconds) in [(0, 0), (1, 1), (2, 2), (3, 4)] {
            assert!(is_delay(&retry, used, true, seconds * SECOND), "{used}");
            assert!(!is_delay(&retry, used, true, (seconds + 1) * SECOND));
        }
    }

    #[test]
    fn a_delay_is_bounded_by_what_a_duration_can_be() {
        let retry = Retry::new(9, SECOND);
        assert!(is_delay(&retry, 200, false, Duration::MAX));
        assert!(is_delay(&retry, u32::MAX, false, Duration::MAX));
        let none = Retry::new(9, Duration::ZERO);
        assert!(is_delay(&none, u32::MAX, false, Duration::ZERO));
    }

    #[test]
    fn jitter_shortens_by_its_share_and_no_more() {
        let retry = Retry::new(9, SECOND).with_jitter(Jitter::percent(20));
        for (millis, fits) in [(1_001, false), (1_000, true), (800, true), (799, false)] {
            let delay = Duration::from_millis(millis);
            assert_eq!(is_delay(&retry, 0, false, delay), fits, "{millis}");
        }
    }

    #[test]
    fn a_start_is_let_be_twice_as_long_as_the_one_before_up_to_its_deadline() {
        let policy = Policy {
            start_deadline: Some(60 * SECOND),
            give_way_after: Some(2 * SECOND),
            ..Policy::default()
        };
        for (gave_way, seconds) in [(0, 2), (1, 4), (2, 8), (3, 16), (4, 32)] {
            assert_eq!(let_be(&policy, gave_way), Some(seconds * SECOND));
        }
        assert_eq!(let_be(&policy, 5), None);
        let without = Policy {
            start_deadline: None,
            ..policy
        };
        assert_eq!(let_be(&without, one_more(5)), Some(64 * SECOND));
        assert_eq!(let_be(&Policy::default(), 0), None);
        let at_once = Policy {
            advance: Advance::AtOnce,
            ..policy
        };
        assert_eq!(let_be(&at_once, 0), None);
    }

    #[test]
    fn a_clean_end_costs_what_the_policy_says() {
        let cost = |part, on_clean_exit| {
            let policy = Policy {
                on_clean_exit,
                ..Policy::resilient()
            };
            cost(&policy, part, Exit::Clean)
        };
        use OnCleanExit::{Restart, Stay, Stop};
        for (part, stay, restart, stop) in [
            (Part::Desired, Cost::Stays, Cost::Retry, Cost::AgentEnds),
            (
                Part::LastGood,
                Cost::Stays,
                Cost::FallbackRetry,
                Cost::Stays,
            ),
            (Part::Other, Cost::Nothing, Cost::Nothing, Cost::Nothing),
        ] {
            let costs = [Stay, Restart, Stop].map(|on_clean_exit| cost(part, on_clean_exit));
            assert_eq!(costs, [stay, restart, stop], "{part:?}");
        }
        let aborts_all = Policy {
            on_failure: OnFailure::AbortAll,
            ..Policy::resilient()
        };
        assert_eq!(
            super::cost(&aborts_all, Part::Other, Exit::Clean),
            Cost::Nothing
        );
    }

    #[test]
    fn a_failure_costs_what_the_policy_says() {
        let permanent = Exit::Failed(Severity::Permanent);
        let transient = Exit::Failed(Severity::Transient);
        for (policy, desired, last_good, other) in [
            (Policy::default(), Cost::Retry, Cost::Nothing, Cost::Nothing),
            (
                Policy::resilient(),
                Cost::Retry,
                Cost::FallbackRetry,
                Cost::Nothing,
            ),
            (Policy::istio_1_2(), Cost::Retry, Cost::Retry, Cost::Retry),
        ] {
            for exit in [transient, Exit::Aborted] {
                assert_eq!(cost(&policy, Part::Desired, exit), desired);
                assert_eq!(cost(&policy, Part::LastGood, exit), last_good);
                assert_eq!(cost(&policy, Part::Other, exit), other);
            }
            assert_eq!(cost(&policy, Part::Desired, permanent), Cost::GivenUp);
            assert_eq!(cost(&policy, Part::LastGood, permanent), last_good);
            assert_eq!(cost(&policy, Part::Other, permanent), other);
        }
    }

    #[test]
    fn where_a_failure_ends_all_there_is_nothing_to_hold() {
        let policy = |on_exhausted, on_failure| Policy {
            on_exhausted,
            on_failure,
            ..Policy::default()
        };
        use OnExhausted::{HoldLastGood, Stop};
        use OnFailure::{AbortAll, KeepServing};
        assert!(holds(&policy(HoldLastGood, KeepServing)));
        assert!(!holds(&policy(HoldLastGood, AbortAll)));
        assert!(!holds(&policy(Stop, KeepServing)));
    }
}
