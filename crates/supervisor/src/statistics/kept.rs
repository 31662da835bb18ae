//! What is kept of epochs that cannot be asked any more. It is pure, and bounded.
//!
//! Of each running epoch there is its last look, and what earlier looks have told of names that are gone since:
//! Envoy drops the counters of a listener or a cluster that is removed. When its process ends, both join the ended
//! ones. The last ended epochs are kept one by one, so that each of their series stays as it was and `rate()` sees
//! nothing. Numbers begin anew once nothing runs, and those that have the same one share their series. Then the older
//! one is folded into the newer one, so that the series stays as it is. Otherwise the oldest ones are folded into
//! one text, of which only the sum is shown: a series that took in an epoch at a later moment would look like a burst
//! of requests.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use handover_core::Epoch;
use tokio::time::Instant;

use super::merge::{folded, gone};

/// How many ended epochs are kept one by one.
pub(super) const MOST_ENDED: usize = 8;
/// How large their texts may be together.
const MOST_BYTES: usize = 32 << 20;
/// How many ends are remembered of epochs that nobody had looked at. A look takes seconds at most, in which
/// no more epochs end.
const MOST_UNSEEN: usize = 16;
/// How large a look may be, and the fold.
pub(super) const LARGEST: usize = 16 << 20;

/// The last looks.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Of running epochs.
    looks: BTreeMap<Epoch, Look>,
    /// Oldest first.
    ended: VecDeque<Ended>,
    /// When those ended that nobody had looked at. A look may be on its way. Oldest first.
    unseen: VecDeque<(Epoch, Instant)>,
    /// What the oldest ones have counted together.
    fold: Option<Bytes>,
    /// Whether somebody works on it.
    folding: bool,
}

#[derive(Debug)]
struct Look {
    asked: Instant,
    text: Bytes,
    /// What earlier looks have told of names that this one does not have.
    gone: Option<Bytes>,
}

#[derive(Debug)]
struct Ended {
    epoch: Epoch,
    text: Bytes,
    /// When its process had ended.
    at: Instant,
}

/// What there is to show.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// The running epochs of which there is a look.
    pub(super) running: BTreeSet<Epoch>,
    /// Their looks, without those of the epochs that were asked, and the ended ones, newest first.
    pub(super) texts: Vec<(Epoch, Bytes)>,
    /// What those before them have counted together, and running ones under names that are gone. It belongs to the
    /// sum alone.
    pub(super) folds: Vec<Bytes>,
}

/// What must be folded.
#[derive(Debug)]
pub(super) struct Work {
    older: Bytes,
    newer: Bytes,
    /// Which of the ended ones goes.
    from: usize,
    /// Which of the ended ones takes it in; none for the fold.
    into: Option<usize>,
}

/// What the work has made.
#[derive(Debug)]
pub(super) struct Folded {
    text: Bytes,
    from: usize,
    into: Option<usize>,
}

impl Work {
    /// Adds them up, which takes some milliseconds for each megabyte.
    pub(super) fn fold(&self) -> Folded {
        Folded {
            text: add_within(&self.older, &self.newer, LARGEST),
            from: self.from,
            into: self.into,
        }
    }
}

fn add_within(older: &Bytes, newer: &Bytes, most: usize) -> Bytes {
    fn text(bytes: &Bytes) -> &str {
        std::str::from_utf8(bytes).unwrap_or_default()
    }
    let (older, newer) = (text(older), text(newer));
    let all = folded(older, newer, false);
    // Names may come and go for years. Then those go that the newer epoch does not have any more.
    match all.len() <= most {
        true => all.into(),
        false => folded(older, newer, true).into(),
    }
}

/// What the text before had of names that the text after it does not have, beside what was gone before.
fn gone_with(before: &Look, after: &Bytes) -> Option<Bytes> {
    let (Ok(earlier), Ok(later)) = (
        std::str::from_utf8(&before.text),
        std::str::from_utf8(after),
    ) else {
        return before.gone.clone();
    };
    let gone = gone(earlier, later);
    if gone.is_empty() {
        return before.gone.clone();
    }
    let gone = Bytes::from(gone);
    let all = match &before.gone {
        Some(earlier) => add_within(earlier, &gone, LARGEST),
        None => gone,
    };
    Some(all)
}

impl Kept {
    /// Keeps a look that was asked for at this moment, unless a later one is there or it is too large. It takes
    /// some milliseconds for each megabyte.
    pub(super) fn look(&mut self, epoch: Epoch, asked: Instant, text: Bytes) {
        if text.len() > LARGEST {
            return;
        }
        // The process that was asked may have ended meanwhile.
        let mut ended = self.ended.iter_mut().rev();
        if let Some(ended) = ended.find(|ended| ended.epoch == epoch && asked <= ended.at) {
            // It is the later one of two looks at the same process, if that process had one before.
            ended.text = add_missing(&ended.text, text);
            return;
        }
        let mut unseen = self.unseen.iter();
        if let Some(index) = unseen.position(|(it, at)| *it == epoch && asked <= *at)
            && let Some((epoch, at)) = self.unseen.remove(index)
        {
            // At the end, because somebody may work on one of them by its place.
            self.ended.push_back(Ended { epoch, text, at });
            return;
        }
        let known = self.looks.get(&epoch);
        if known.is_some_and(|known| known.asked > asked) {
            return;
        }
        let gone = known.and_then(|known| gone_with(known, &text));
        self.looks.insert(epoch, Look { asked, text, gone });
    }

    /// Takes in that the process of the epoch has ended by this moment.
    pub(super) fn ended(&mut self, epoch: Epoch, at: Instant) {
        if let Some(Look { text, gone, .. }) = self.looks.remove(&epoch) {
            let text = match gone {
                Some(gone) => add_within(&gone, &text, LARGEST),
                None => text,
            };
            self.ended.push_back(Ended { epoch, text, at });
            return;
        }
        self.unseen.push_back((epoch, at));
        if self.unseen.len() > MOST_UNSEEN {
            self.unseen.pop_front();
        }
    }

    /// Returns what must be folded next, if there is too much and nobody works on it. The result goes to
    /// [`folded`](Self::folded).
    pub(super) fn work(&mut self) -> Option<Work> {
        let bytes: usize = self.ended.iter().map(|ended| ended.text.len()).sum();
        let is_too_much = self.ended.len() > MOST_ENDED || bytes > MOST_BYTES;
        if self.folding || !is_too_much {
            return None;
        }
        let each = || self.ended.iter().enumerate();
        // Of the same number, the newer one takes the older one in.
        let same = each().find_map(|(from, older)| {
            let mut newer = each().skip(from.saturating_add(1));
            let (into, newer) = newer.find(|(_, newer)| newer.epoch == older.epoch)?;
            Some((from, Some(into), older, newer.text.clone()))
        });
        // A number that runs has its series still.
        let other = || {
            let is_free = |ended: &Ended| !self.looks.contains_key(&ended.epoch);
            let (from, oldest) = each().find(|(_, ended)| is_free(ended)).or(each().next())?;
            Some((from, None, oldest, oldest.text.clone()))
        };
        let (from, into, older, newer) = same.or_else(other)?;
        let (older, newer) = match into {
            Some(_) => (older.text.clone(), newer),
            None => (self.fold.clone().unwrap_or_default(), newer),
        };
        self.folding = true;
        Some(Work {
            older,
            newer,
            from,
            into,
        })
    }

    /// Takes in what the work has made, or that it could not be done. Meanwhile epochs may have ended, and joined
    /// at the end.
    pub(super) fn folded(&mut self, folded: Option<Folded>) {
        self.folding = false;
        let Some(Folded { text, from, into }) = folded else {
            return;
        };
        match into.map(|into| self.ended.get_mut(into)) {
            Some(Some(ended)) => ended.text = text,
            Some(None) => return,
            None => self.fold = Some(text),
        }
        self.ended.remove(from);
    }

    /// Returns what there is to show beside the epochs that have answered.
    pub(super) fn shown(&self, fresh: &BTreeSet<Epoch>) -> Shown {
        let looks = self.looks.iter().rev();
        let looks = looks.filter(|(epoch, _)| !fresh.contains(epoch));
        let looks = looks.map(|(epoch, look)| (*epoch, look.text.clone()));
        let ended = self.ended.iter().rev();
        let ended = ended.map(|ended| (ended.epoch, ended.text.clone()));
        let gone = self.looks.values().filter_map(|look| look.gone.clone());
        Shown {
            running: self.looks.keys().copied().collect(),
            texts: looks.chain(ended).collect(),
            folds: gone.chain(self.fold.clone()).collect(),
        }
    }
}

/// A later text, with what only the earlier one has.
fn add_missing(earlier: &Bytes, later: Bytes) -> Bytes {
    let (Ok(before), Ok(after)) = (std::str::from_utf8(earlier), std::str::from_utf8(&later))
    else {
        return later;
    };
    let gone = gone(before, after);
    match gone.is_empty() {
        true => later,
        false => add_within(&gone.into(), &later, LARGEST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rq(count: u32) -> Bytes {
        format!("# TYPE rq counter\nrq {count}\n# TYPE g gauge\ng 1\n").into()
    }

    fn epoch(number: u32) -> Epoch {
        Epoch::new(number)
    }

    fn shown(kept: &Kept, fresh: &[u32]) -> Vec<u32> {
        let fresh = fresh.iter().copied().map(Epoch::new).collect();
        let texts = kept.shown(&fresh).texts;
        texts.iter().map(|(epoch, _)| epoch.number()).collect()
    }

    #[test]
    fn the_later_look_counts_whichever_comes_first() {
        let mut kept = Kept::default();
        let early = Instant::now();
        let late = early + std::time::Duration::from_millis(1);
        kept.look(epoch(0), late, rq(2));
        kept.look(epoch(0), early, rq(1));
        assert_eq!(kept.shown(&BTreeSet::new()).texts, [(epoch(0), rq(2))]);
        kept.look(epoch(0), late, Bytes::from(vec![b'\n'; LARGEST + 1]));
        assert_eq!(kept.shown(&BTreeSet::new()).texts, [(epoch(0), rq(2))]);
    }

    #[test]
    fn an_epoch_that_answers_is_not_shown_as_it_was_and_an_ended_one_stays() {
        let mut kept = Kept::default();
        for number in 0..3 {
            kept.look(epoch(number), Instant::now(), rq(number));
        }
        kept.ended(epoch(0), Instant::now());
        kept.ended(epoch(7), Instant::now());
        assert_eq!(shown(&kept, &[2]), [1, 0]);
        assert_eq!(shown(&kept, &[0, 1]), [2, 0], "its number runs once more");
        let running: Vec<_> = kept.shown(&BTreeSet::new()).running.into_iter().collect();
        assert_eq!(running, [epoch(1), epoch(2)]);
    }

    #[test]
    fn the_oldest_are_folded_one_by_one_and_nothing_is_lost() {
        let mut kept = Kept::default();
        let most = u32::try_from(MOST_ENDED).unwrap();
        for number in 0..most + 2 {
            kept.look(epoch(number), Instant::now(), rq(1));
            kept.ended(epoch(number), Instant::now());
        }
        let work = kept.work().unwrap();
        assert!(kept.work().is_none(), "one at a time");
        kept.folded(None);
        assert!(kept.work().is_some(), "it is tried again");
        kept.folded(Some(work.fold()));
        let work = kept.work().unwrap();
        kept.folded(Some(work.fold()));
        assert!(kept.work().is_none());
        assert_eq!(shown(&kept, &[]).len(), MOST_ENDED);
        let folds = kept.shown(&BTreeSet::new()).folds;
        assert_eq!(folds, ["# TYPE rq counter\nrq 2\n"]);
    }

    #[test]
    fn names_that_come_and_go_do_not_grow_without_bound() {
        let many = |prefix: &str| {
            let mut text = "# TYPE rq counter\nrq{a=\"same\"} 1\n".to_owned();
            for number in 0..50 {
                text.push_str(&format!("rq{{a=\"{prefix}{number}\"}} 1\n"));
            }
            Bytes::from(text)
        };
        let (older, newer) = (many("x"), many("y"));
        let all = add_within(&older, &newer, LARGEST);
        let most = all.len() - 1;
        let fold = add_within(&older, &newer, most);
        assert!(fold.len() <= most);
        let fold = std::str::from_utf8(&fold).unwrap();
        assert!(fold.contains("rq{a=\"same\"} 2\n"));
        assert!(!fold.contains("a=\"x"));
    }

    /// All that is shown of one number, and of all.
    fn counted(kept: &Kept, number: u32) -> (u64, u64) {
        let count = |text: &Bytes| -> u64 {
            let text = std::str::from_utf8(text).unwrap();
            let lines = text.lines().filter_map(|line| line.strip_prefix("rq "));
            lines.map(|count| count.parse::<u64>().unwrap()).sum()
        };
        let shown = kept.shown(&BTreeSet::new());
        let of_one = shown.texts.iter().filter(|(it, _)| *it == epoch(number));
        let of_one = of_one.map(|(_, text)| count(text)).sum();
        let texts = shown.texts.iter().map(|(_, text)| count(text)).sum::<u64>();
        (of_one, texts + shown.folds.iter().map(count).sum::<u64>())
    }

    #[test]
    fn a_number_that_runs_again_and_again_keeps_its_count() {
        let mut kept = Kept::default();
        let mut before = 0;
        for run in 1..=30 {
            kept.look(epoch(0), Instant::now(), rq(run));
            // Another one, now and then.
            if run % 5 == 0 {
                kept.look(epoch(1), Instant::now(), rq(1));
                kept.ended(epoch(1), Instant::now());
            }
            kept.ended(epoch(0), Instant::now());
            while let Some(work) = kept.work() {
                kept.folded(Some(work.fold()));
            }
            let (of_one, of_all) = counted(&kept, 0);
            assert_eq!(of_one, u64::from(run * (run + 1) / 2));
            assert_eq!(of_all, of_one + u64::from(run / 5));
            assert!(of_one > before && kept.ended.len() <= MOST_ENDED);
            before = of_one;
        }
    }

    #[test]
    fn what_a_name_has_counted_stays_in_the_sum_when_the_name_goes() {
        let mut kept = Kept::default();
        let text = |names: &[(&str, u32)]| {
            let lines = names.iter();
            let lines = lines.map(|(name, count)| format!("rq{{c=\"{name}\"}} {count}\n"));
            Bytes::from(format!("# TYPE rq counter\n{}", lines.collect::<String>()))
        };
        kept.look(epoch(0), Instant::now(), text(&[("x", 5), ("y", 1)]));
        kept.look(epoch(0), Instant::now(), text(&[("y", 2)]));
        kept.look(epoch(0), Instant::now(), text(&[("y", 3), ("z", 1)]));
        assert_eq!(kept.shown(&BTreeSet::new()).folds, [text(&[("x", 5)])]);
        // It comes once more, from zero, and goes again.
        kept.look(
            epoch(0),
            Instant::now(),
            text(&[("x", 1), ("y", 3), ("z", 1)]),
        );
        kept.look(epoch(0), Instant::now(), text(&[("y", 3), ("z", 1)]));
        assert_eq!(kept.shown(&BTreeSet::new()).folds, [text(&[("x", 6)])]);
        kept.ended(epoch(0), Instant::now());
        let shown = kept.shown(&BTreeSet::new());
        assert!(shown.folds.is_empty());
        let [(_, ended)] = shown.texts.as_slice() else {
            panic!("{shown:?}");
        };
        let ended = std::str::from_utf8(ended).unwrap();
        for line in ["rq{c=\"x\"} 6", "rq{c=\"y\"} 3", "rq{c=\"z\"} 1"] {
            assert!(ended.contains(line), "{ended}");
        }
    }

    #[test]
    fn the_only_look_may_come_after_the_end() {
        let mut kept = Kept::default();
        let (asked, end) = (Instant::now(), Instant::now());
        kept.ended(epoch(0), end);
        assert_eq!(counted(&kept, 0), (0, 0));
        kept.look(epoch(0), asked, rq(3));
        let shown = kept.shown(&BTreeSet::new());
        assert!(shown.running.is_empty(), "{shown:?}");
        assert_eq!(counted(&kept, 0), (3, 3));
        // The next run of that number is another one, which may be asked as often as one likes.
        let next = end + std::time::Duration::from_millis(1);
        kept.look(epoch(0), next, rq(7));
        assert_eq!(counted(&kept, 0), (10, 10));
        assert!(kept.shown(&BTreeSet::new()).running.contains(&epoch(0)));
    }

    #[test]
    fn ends_that_nobody_asks_about_are_forgotten() {
        let mut kept = Kept::default();
        let asked = Instant::now();
        for number in 0..100 {
            kept.ended(epoch(number), Instant::now());
        }
        assert_eq!(kept.unseen.len(), MOST_UNSEEN);
        kept.look(epoch(99), asked, rq(1));
        assert_eq!(kept.unseen.len(), MOST_UNSEEN - 1);
    }

    #[test]
    fn a_look_that_comes_after_the_end_replaces_the_last_one() {
        let mut kept = Kept::default();
        let (first, second) = (Instant::now(), Instant::now());
        kept.look(epoch(0), first, rq(1));
        let end = Instant::now();
        kept.ended(epoch(0), end);
        kept.look(epoch(0), second.min(end), rq(2));
        assert_eq!(counted(&kept, 0), (2, 2));
        // The next run of that number is another one.
        let next = end + std::time::Duration::from_millis(1);
        kept.look(epoch(0), next, rq(7));
        assert_eq!(counted(&kept, 0), (9, 9));
    }
}
