//! Makes a list of steps that fails shorter: first by its tails, then by delta debugging (Zeller and Hildebrandt, 2002).

use std::time::Duration;

/// What can be tried of a list that has failed.
///
/// A try costs time, and one that passes proves little: what fails by chance has to be tried several times.
pub trait Tries<T> {
    /// Tries a part, and returns whether it fails as the whole list did.
    fn fails(&mut self, part: &[T]) -> bool;

    /// Returns what a try of this part is expected to take.
    fn cost(&self, part: &[T]) -> Duration;

    /// Returns how much time is left. It must come to nothing by trying.
    fn left(&self) -> Duration;
}

/// While tails are looked for, one that takes more than this part of the rest of the time is not tried: if it fails,
/// nothing is left for making it shorter.
const SHARE: u32 = 4;

/// Returns a part of `items`, in their order, that was seen to fail; `None` if none was.
///
/// First it looks for a tail that fails, because a run mostly fails by what was done last. Then it leaves out smaller
/// and smaller pieces, until no single item can go. Once there is no time left, the shortest part that was found so far
/// is returned.
pub fn shrink<T: Clone>(items: &[T], tries: &mut impl Tries<T>) -> Option<Vec<T>> {
    let mut shortest = tail(items, tries)?.to_vec();
    let mut size = shortest.len().div_ceil(2);
    while shortest.len() > 1 {
        let before = shortest.len();
        leave_out(&mut shortest, size, tries);
        if size == 1 && shortest.len() == before {
            break;
        }
        size = size.div_ceil(2).min(shortest.len().div_ceil(2));
    }
    Some(shortest)
}

/// Looks for a tail that fails: of one item, of two, of four, and so on. Each length is tried again and again, so that
/// all of them get the same time. So a failure by chance is found as well as one that has a long history.
fn tail<'a, T>(items: &'a [T], tries: &mut impl Tries<T>) -> Option<&'a [T]> {
    let doubled = std::iter::successors(Some(1_usize), |length| length.checked_mul(2));
    let lengths = doubled.take_while(|length| *length < items.len());
    let mut tails: Vec<_> = lengths
        .chain([items.len()])
        .map(|length| {
            (
                Duration::ZERO,
                items.get(items.len() - length..).unwrap_or(items),
            )
        })
        .collect();
    loop {
        let left = tries.left();
        let affordable = |share: u32| {
            let fits = |(_, tail): &(Duration, &[T])| tries.cost(tail) * share <= left;
            let indexes = (0..tails.len()).filter(|index| tails.get(*index).is_some_and(fits));
            indexes.min_by_key(|index| tails.get(*index).map(|(spent, _)| *spent))
        };
        let index = affordable(SHARE).or_else(|| affordable(1))?;
        let (spent, tail) = tails.get_mut(index)?;
        *spent += tries.cost(tail);
        if tries.fails(tail) {
            return Some(tail);
        }
    }
}

/// Leaves out each piece of this size that is not needed, from the first one on: what was done last is needed most often.
fn leave_out<T: Clone>(items: &mut Vec<T>, size: usize, tries: &mut impl Tries<T>) {
    let mut start = 0;
    while start < items.len() {
        let end = (start + size).min(items.len());
        let kept = items.iter().take(start).chain(items.iter().skip(end));
        let rest: Vec<_> = kept.cloned().collect();
        if !rest.is_empty() && tries.cost(&rest) <= tries.left() && tries.fails(&rest) {
            *items = rest;
        } else {
            start = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// A world in which a part fails if all that is needed is in it, in so many of a hundred tries. A try takes a
    /// second, and a third of one for each item.
    struct Simulated {
        needed: Vec<u32>,
        percent: u64,
        random: Random,
        left_ms: u64,
        tried: usize,
    }

    fn cost_ms(part: &[u32]) -> u64 {
        1_000 + 333 * u64::try_from(part.len()).unwrap()
    }

    impl Tries<u32> for Simulated {
        fn fails(&mut self, part: &[u32]) -> bool {
            self.left_ms -= cost_ms(part);
            self.tried += 1;
            assert!(part.is_sorted(), "the order is kept");
            self.needed.iter().all(|item| part.contains(item)) && self.random.percent(self.percent)
        }

        fn cost(&self, part: &[u32]) -> Duration {
            Duration::from_millis(cost_ms(part))
        }

        fn left(&self) -> Duration {
            Duration::from_millis(self.left_ms)
        }
    }

    /// Shortens the numbers below `count`. Returns what is left with the number of tries and the rest of the time in
    /// seconds.
    fn shortened(
        count: u32,
        needed: &[u32],
        percent: u64,
        seconds: u64,
    ) -> (Option<Vec<u32>>, usize, u64) {
        let items: Vec<_> = (0..count).collect();
        let mut tries = Simulated {
            needed: needed.to_vec(),
            percent,
            random: Random::new(1),
            left_ms: seconds * 1_000,
            tried: 0,
        };
        let left = shrink(&items, &mut tries);
        (left, tries.tried, tries.left_ms / 1_000)
    }

    #[test]
    fn what_is_needed_is_left_and_nothing_else() {
        for needed in [
            &[99][..],
            &[0],
            &[3, 97],
            &[10, 11, 50],
            &[0, 99],
            &[1, 20, 40, 60, 80],
        ] {
            let (left, tried, _) = shortened(100, needed, 100, 10_000);
            assert_eq!(left.as_deref(), Some(needed));
            assert!(tried < 150, "{tried} tries for {needed:?}");
        }
    }

    #[test]
    fn a_failure_of_the_last_items_takes_few_tries() {
        let (left, tried, _) = shortened(10_000, &[9_998, 9_999], 100, 100);
        assert_eq!(left.unwrap(), [9_998, 9_999]);
        assert!(tried < 10, "{tried}");
    }

    /// The budget is that of the program. The whole list takes longer than that, once.
    #[test]
    fn of_two_thousand_steps_few_are_left_within_the_time() {
        for needed in [&[1_999][..], &[1_995, 1_999], &[1_960, 1_971, 1_999]] {
            for percent in [100, 90, 75] {
                let (left, tried, rest) = shortened(2_000, needed, percent, 300);
                let left = left.unwrap();
                assert!(
                    left.len() <= 10 && needed.iter().all(|item| left.contains(item)),
                    "{percent} %: {left:?} after {tried} tries, {rest} s left"
                );
            }
        }
    }

    #[test]
    fn a_rare_failure_of_the_last_item_is_found_by_trying_short_tails_again() {
        let (left, tried, _) = shortened(2_000, &[1_999], 5, 300);
        assert_eq!(left.unwrap().last(), Some(&1_999));
        assert!(tried > 10, "not every length was tried only once: {tried}");
    }

    #[test]
    fn when_the_time_is_over_the_shortest_list_so_far_is_returned() {
        let (left, ..) = shortened(100, &[3, 97], 100, 250);
        let left = left.unwrap();
        assert!(
            left.len() < 100 && left.contains(&3) && left.contains(&97),
            "{left:?}"
        );
    }

    #[test]
    fn what_never_fails_again_is_not_called_shorter() {
        assert_eq!(shortened(3, &[7], 100, 60).0, None);
        assert_eq!(shortened(2_000, &[3, 97], 100, 60).0, None);
        assert_eq!(shortened(1, &[0], 100, 0).0, None);
        assert_eq!(shortened(1, &[0], 100, 60).0, Some(vec![0]));
    }
}
