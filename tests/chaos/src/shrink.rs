//! Makes a list of steps that fails shorter: delta debugging (Zeller and Hildebrandt, 2002).

/// Returns a part of `items`, in their order, for which `fails` is still true.
///
/// First it looks for the shortest tail, by doubling, because a run mostly fails by what was done last.
/// Then it leaves out smaller and smaller pieces, until no single item can go. `fails` is asked for parts
/// only, never for all of `items`, which are known to fail. Once `is_over` is true, the shortest part that
/// was found so far is returned.
pub fn shrink<T: Clone>(
    items: &[T],
    mut fails: impl FnMut(&[T]) -> bool,
    mut is_over: impl FnMut() -> bool,
) -> Vec<T> {
    let mut shortest = tail(items, &mut fails, &mut is_over);
    let mut pieces = 2;
    while shortest.len() > 1 && !is_over() {
        let size = shortest.len().div_ceil(pieces);
        match without_a_piece(&shortest, size, &mut fails, &mut is_over) {
            Some(shorter) => {
                shortest = shorter;
                pieces = pieces.saturating_sub(1).max(2);
            }
            None if size == 1 => break,
            None => pieces = (pieces * 2).min(shortest.len()),
        }
    }
    shortest
}

fn tail<T: Clone>(
    items: &[T],
    fails: &mut impl FnMut(&[T]) -> bool,
    is_over: &mut impl FnMut() -> bool,
) -> Vec<T> {
    let mut length = 1;
    while length < items.len() && !is_over() {
        let part = items.get(items.len() - length..).unwrap_or(items);
        if fails(part) {
            return part.to_vec();
        }
        length *= 2;
    }
    items.to_vec()
}

/// Leaves out the first piece that is not needed, the last pieces first.
fn without_a_piece<T: Clone>(
    items: &[T],
    size: usize,
    fails: &mut impl FnMut(&[T]) -> bool,
    is_over: &mut impl FnMut() -> bool,
) -> Option<Vec<T>> {
    let starts: Vec<_> = (0..items.len()).step_by(size.max(1)).collect();
    for start in starts.into_iter().rev() {
        if is_over() {
            return None;
        }
        let end = (start + size).min(items.len());
        let (before, after) = (items.get(..start)?, items.get(end..)?);
        let rest = [before, after].concat();
        if !rest.is_empty() && fails(&rest) {
            return Some(rest);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shortens the numbers below `count` with a test that fails if all of `needed` are there, and returns
    /// what is left with the number of tries.
    fn shortened(count: u32, needed: &[u32], tries: usize) -> (Vec<u32>, usize) {
        let items: Vec<_> = (0..count).collect();
        let tried = std::cell::Cell::new(0);
        let fails = |part: &[u32]| {
            tried.set(tried.get() + 1);
            assert!(part.is_sorted() && part.len() < items.len());
            needed.iter().all(|item| part.contains(item))
        };
        let left = shrink(&items, fails, || tried.get() >= tries);
        (left, tried.get())
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
            let (left, tried) = shortened(100, needed, usize::MAX);
            assert_eq!(left, needed);
            assert!(tried < 150, "{tried} tries for {needed:?}");
        }
    }

    #[test]
    fn a_failure_of_the_last_items_takes_few_tries() {
        let (left, tried) = shortened(10_000, &[9_998, 9_999], usize::MAX);
        assert_eq!(left, [9_998, 9_999]);
        assert!(tried < 10, "{tried}");
    }

    #[test]
    fn when_the_time_is_over_the_shortest_list_so_far_is_returned() {
        let (left, _) = shortened(100, &[3, 97], 12);
        assert!(
            left.len() < 100 && left.contains(&3) && left.contains(&97),
            "{left:?}"
        );
        assert_eq!(shortened(100, &[3, 97], 0).0.len(), 100);
    }

    #[test]
    fn what_never_fails_again_stays_whole() {
        let items = [1, 2, 3];
        assert_eq!(shrink(&items, |_| false, || false), items);
        assert_eq!(shrink(&[1], |_| true, || false), [1]);
    }
}
