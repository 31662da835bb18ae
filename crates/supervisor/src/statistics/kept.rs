//! What is kept of epochs that cannot be asked any more. It is pure, and bounded.
//!
//! Of each running epoch there is its last look. When its process ends, the look joins the ended ones. The last
//! ended epochs are kept one by one, so that each of their series stays as it was and `rate()` sees nothing. Older
//! ones are folded into one text, of which only the sum is shown: a series that took in an epoch at a later
//! moment would look like a burst of requests.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use handover_core::Epoch;
use tokio::time::Instant;

use super::merge::folded;

/// How many ended epochs are kept one by one.
pub(super) const MOST_ENDED: usize = 8;
/// How large their texts may be together.
const MOST_BYTES: usize = 32 << 20;
/// How large a look may be, and the fold.
pub(super) const LARGEST: usize = 16 << 20;

/// The last looks.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Of running epochs, each with the moment of the look.
    looks: BTreeMap<Epoch, (Instant, Bytes)>,
    /// Oldest first.
    ended: VecDeque<(Epoch, Bytes)>,
    /// What the oldest ones have counted together.
    fold: Option<Bytes>,
    /// Whether somebody works on it.
    folding: bool,
}

/// What there is to show.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// The running epochs of which there is a look.
    pub(super) running: BTreeSet<Epoch>,
    /// Their looks, without those of the epochs that were asked, and the ended ones, newest first.
    pub(super) texts: Vec<(Epoch, Bytes)>,
    /// What those before them have counted together.
    pub(super) fold: Option<Bytes>,
}

/// What must be folded.
#[derive(Debug)]
pub(super) struct Work {
    fold: Bytes,
    oldest: Bytes,
}

impl Work {
    /// Adds them up, which takes some milliseconds for each megabyte.
    pub(super) fn fold(&self) -> Bytes {
        self.fold_within(LARGEST)
    }

    fn fold_within(&self, most: usize) -> Bytes {
        let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
        let (older, newer) = (text(&self.fold), text(&self.oldest));
        let all = folded(older, newer, false);
        // Names may come and go for years. Then those go that the newer epoch does not have any more.
        match all.len() <= most {
            true => all.into(),
            false => folded(older, newer, true).into(),
        }
    }
}

impl Kept {
    /// Keeps a look that was asked for at this moment, unless a later one is there or it is too large.
    pub(super) fn look(&mut self, epoch: Epoch, asked: Instant, text: Bytes) {
        let known = self.looks.get(&epoch);
        let is_later = known.is_none_or(|(known, _)| *known <= asked);
        if is_later && text.len() <= LARGEST {
            self.looks.insert(epoch, (asked, text));
        }
    }

    /// Takes in that the process of the epoch has ended.
    pub(super) fn ended(&mut self, epoch: Epoch) {
        if let Some((_, text)) = self.looks.remove(&epoch) {
            self.ended.push_back((epoch, text));
        }
    }

    /// Returns what must be folded next, if there is too much and nobody works on it. The result goes to
    /// [`folded`](Self::folded).
    pub(super) fn work(&mut self) -> Option<Work> {
        let bytes: usize = self.ended.iter().map(|(_, text)| text.len()).sum();
        let is_too_much = self.ended.len() > MOST_ENDED || bytes > MOST_BYTES;
        if self.folding || !is_too_much {
            return None;
        }
        let (_, oldest) = self.ended.front()?;
        self.folding = true;
        Some(Work {
            fold: self.fold.clone().unwrap_or_default(),
            oldest: oldest.clone(),
        })
    }

    /// Takes in what the work has made, or that it could not be done.
    pub(super) fn folded(&mut self, fold: Option<Bytes>) {
        self.folding = false;
        if fold.is_some() {
            self.ended.pop_front();
            self.fold = fold;
        }
    }

    /// Returns what there is to show beside the epochs that have answered.
    pub(super) fn shown(&self, fresh: &BTreeSet<Epoch>) -> Shown {
        let looks = self.looks.iter().rev();
        let looks = looks.filter(|(epoch, _)| !fresh.contains(epoch));
        let looks = looks.map(|(epoch, (_, text))| (*epoch, text.clone()));
        Shown {
            running: self.looks.keys().copied().collect(),
            texts: looks.chain(self.ended.iter().rev().cloned()).collect(),
            fold: self.fold.clone(),
        }
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
        kept.ended(epoch(0));
        kept.ended(epoch(7));
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
            kept.ended(epoch(number));
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
        let fold = kept.shown(&BTreeSet::new()).fold.unwrap();
        assert_eq!(fold, "# TYPE rq counter\nrq 2\n");
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
        let work = Work {
            fold: many("x"),
            oldest: many("y"),
        };
        let all = work.fold_within(LARGEST);
        let most = all.len() - 1;
        let fold = work.fold_within(most);
        assert!(fold.len() <= most);
        let fold = std::str::from_utf8(&fold).unwrap();
        assert!(fold.contains("rq{a=\"same\"} 2\n"));
        assert!(!fold.contains("a=\"x"));
    }
}
