//! What holds for every policy, every budget and every random number.

use handover_retry::{Budget, Jitter, Retry, SplitMix64};
use proptest::{option, prelude::*};
use std::time::Duration;

proptest! {
    #[test]
    fn an_interval_of_any_policy_and_attempt_is_within_its_cap(
        retry in retry(any::<u32>()), attempt in edgy_u32(),
    ) {
        let interval = retry.interval(attempt);
        prop_assert!(interval <= retry.max_interval.unwrap_or(Duration::MAX));
    }

    #[test]
    fn intervals_never_shrink(
        retry in retry(any::<u32>()), one in edgy_u32(), other in edgy_u32(),
    ) {
        let (earlier, later) = (one.min(other), one.max(other));
        prop_assert!(retry.interval(earlier) <= retry.interval(later));
    }

    #[test]
    fn an_interval_is_twice_the_one_before_until_it_saturates(
        retry in retry(any::<u32>()), attempt in 0..u32::MAX,
    ) {
        let longest = retry.max_interval.unwrap_or(Duration::MAX);
        let doubled = retry.interval(attempt).saturating_mul(2).min(longest);
        prop_assert_eq!(retry.interval(attempt + 1), doubled);
    }

    #[test]
    fn jitter_takes_at_most_its_share_and_adds_nothing(
        percent in any::<u8>(), delay in duration(), random in any::<u64>(),
    ) {
        let jitter = Jitter::percent(percent);
        let shortened = jitter.apply(delay, random);
        let kept = 100 - u128::from(jitter.as_percent());
        prop_assert!(shortened <= delay);
        prop_assert!(shortened.as_nanos() * 100 >= delay.as_nanos() * kept);
    }

    #[test]
    fn jitter_reaches_both_ends_of_its_share(percent in 0_u8..=100, delay in duration()) {
        let jitter = Jitter::percent(percent);
        let cut = delay.as_nanos() * u128::from(percent) / 100;
        prop_assert_eq!(jitter.apply(delay, 0), delay);
        prop_assert_eq!(jitter.apply(delay, u64::MAX).as_nanos(), delay.as_nanos() - cut);
    }

    #[test]
    fn no_jitter_is_the_identity(delay in duration(), random in any::<u64>()) {
        prop_assert_eq!(Jitter::NONE.apply(delay, random), delay);
    }

    #[test]
    fn a_budget_gives_exactly_its_retries_and_then_none_for_ever(
        retry in retry(0_u32..200), seed in any::<u64>(),
    ) {
        let mut mixer = SplitMix64::new(seed);
        let mut budget = Budget::full(&retry);
        for used in 0..retry.max_retries {
            prop_assert_eq!((budget.used(), budget.left()), (used, retry.max_retries - used));
            let delay = budget.take(&retry, mixer.next_u64());
            prop_assert!(delay.is_some_and(|delay| delay <= retry.interval(used)));
        }
        for _ in 0..10 {
            prop_assert_eq!(budget.take(&retry, mixer.next_u64()), None);
            prop_assert_eq!((budget.used(), budget.left()), (retry.max_retries, 0));
        }
    }

    #[test]
    fn a_budget_of_any_size_counts_exactly(
        retry in retry(edgy_u32()), taken in 0_u32..100, healthy in any::<bool>(),
    ) {
        let mut budget = Budget::full(&retry);
        if healthy {
            budget.refill_after_health(&retry);
        }
        let given = (0..taken).filter_map(|_| budget.take(&retry, u64::MAX)).count();
        let expected = taken.min(retry.max_retries);
        prop_assert_eq!(u32::try_from(given), Ok(expected));
        prop_assert_eq!(budget.used(), expected);
        prop_assert_eq!(budget.left(), retry.max_retries - expected);
    }

    #[test]
    fn a_refill_is_a_full_budget_whatever_was_before(
        retry in retry(0_u32..50), taken in 0_usize..60, healthy in any::<bool>(),
    ) {
        let mut budget = Budget::full(&retry);
        if healthy {
            budget.refill_after_health(&retry);
        }
        for _ in 0..taken {
            let _delay = budget.take(&retry, 0);
        }
        budget.refill(&retry);
        prop_assert_eq!(budget, Budget::full(&retry));
    }

    #[test]
    fn after_health_the_series_is_zero_and_then_the_usual_one(
        retry in retry(1_u32..50), taken in 0_usize..60,
    ) {
        let steady = retry.with_jitter(Jitter::NONE);
        let mut budget = Budget::full(&steady);
        for _ in 0..taken {
            let _delay = budget.take(&steady, 0);
        }
        budget.refill_after_health(&steady);
        let series: Vec<_> = std::iter::from_fn(|| budget.take(&steady, 0)).collect();
        let usual = (0..steady.max_retries - 1).map(|attempt| steady.interval(attempt));
        let expected: Vec<_> = std::iter::once(Duration::ZERO).chain(usual).collect();
        prop_assert_eq!(series, expected);
    }

    #[test]
    fn a_sequence_is_as_long_as_it_says_at_every_place(
        retry in retry(0_u32..200), seed in any::<u64>(), taken in 0_usize..210,
    ) {
        let mut delays = retry.delays(seed);
        for _ in 0..taken {
            let _delay = delays.next();
        }
        let (least, most) = delays.size_hint();
        prop_assert_eq!(Some(least), most);
        prop_assert_eq!(delays.count(), least);
    }
}

/// Any policy, with a budget from `max_retries`.
fn retry(max_retries: impl Strategy<Value = u32>) -> impl Strategy<Value = Retry> {
    let jitter = any::<u8>().prop_map(Jitter::percent);
    (
        max_retries,
        duration(),
        option::of(duration()),
        option::of(duration()),
        jitter,
    )
        .prop_map(
            |(max_retries, initial_interval, max_interval, reset_after, jitter)| Retry {
                max_retries,
                initial_interval,
                max_interval,
                reset_after,
                jitter,
            },
        )
}

/// Any duration; the shortest and the longest come often, and so do the everyday ones.
fn duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(Duration::ZERO),
        Just(Duration::from_nanos(1)),
        Just(Duration::MAX),
        any::<u32>().prop_map(|micros| Duration::from_micros(micros.into())),
        (any::<u64>(), 0_u32..1_000_000_000).prop_map(|(secs, nanos)| Duration::new(secs, nanos)),
    ]
}

/// Any number; the ends, and the places where a shift by it changes its meaning, come often.
fn edgy_u32() -> impl Strategy<Value = u32> {
    prop_oneof![0_u32..140, Just(u32::MAX - 1), Just(u32::MAX), any::<u32>()]
}
