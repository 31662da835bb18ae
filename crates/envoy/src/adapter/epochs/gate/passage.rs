//! How long a gate stays closed, from look to look, and what is told of it.
//!
//! | a look shows | the gate |
//! | --- | --- |
//! | nothing, or not the epoch | stays closed |
//! | that it waits for something else, by Envoy's own words | stays closed |
//! | that it lacks something | stays closed |
//! | that it lacks nothing, by a whole answer | opens |
//! | that it lacks nothing, by a part of the answer, the rest of which has not come for 10 s | opens |
//!
//! An epoch whose endpoint says nothing at all stays closed: it cannot be seen live either, so its start
//! deadline ends it. One that answers all but the statistics can be seen live. It must not be kept for ever by
//! an answer that never comes in time, as that of a huge configuration on a busy machine.

use std::time::{Duration, Instant};

/// How long an epoch may lack something before that is told. What it lacks in the first moments is on its
/// way as a rule.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// How long a part of the answer may fail to come before the rest decides.
const UNANSWERED: Duration = Duration::from_secs(10);

/// How long one reason stands before another one is told, so that two that alternate do not fill the log.
const BETWEEN: Duration = Duration::from_secs(10);

/// A gate that is closed.
#[derive(Debug)]
pub(in crate::adapter) struct Passage {
    closed: Instant,
    /// Since when no look was answered as a whole.
    unanswered: Option<Instant>,
    /// What was told last, and when.
    told: Option<(Vec<String>, Instant)>,
}

/// What a look at the epoch has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::adapter) enum Look {
    /// Nothing, or an older epoch that still has the endpoint.
    Nothing,
    /// It waits for something that Envoy names.
    Waits,
    /// What it lacks, in words.
    Lacks {
        held_by: Vec<String>,
        /// The first question that had no answer, with the reason.
        unanswered: Option<String>,
    },
}

/// What follows from a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::adapter) enum Verdict {
    /// It stays closed.
    Closed {
        /// What keeps it closed from now on; as before without it.
        held_by: Option<Vec<String>>,
        /// Whether that is to be told.
        is_news: bool,
    },
    /// It opens.
    Open(Opening),
}

/// Why a gate opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::adapter) enum Opening {
    /// The epoch has what the older one had.
    HasAll {
        /// Whether it was told that it lacks something.
        was_told: bool,
    },
    /// It lacks nothing that could be seen, and the rest could not be seen, for this reason.
    Unanswered(String),
}

impl Passage {
    /// Closes a gate.
    pub(in crate::adapter) fn new(closed: Instant) -> Self {
        Self {
            closed,
            unanswered: None,
            told: None,
        }
    }

    /// Takes in what a look has shown.
    pub(in crate::adapter) fn handle_look(&mut self, look: Look, now: Instant) -> Verdict {
        let closed = |held_by| Verdict::Closed {
            held_by,
            is_news: false,
        };
        let (held_by, unanswered) = match look {
            Look::Nothing => return closed(None),
            Look::Waits => {
                self.unanswered = None;
                return closed(Some(Vec::new()));
            }
            Look::Lacks {
                held_by,
                unanswered,
            } => (held_by, unanswered),
        };
        if unanswered.is_none() {
            self.unanswered = None;
        }
        if !held_by.is_empty() {
            let is_news = self.is_news(&held_by, now);
            return Verdict::Closed {
                held_by: Some(held_by),
                is_news,
            };
        }
        let Some(unanswered) = unanswered else {
            return Verdict::Open(Opening::HasAll {
                was_told: self.told.is_some(),
            });
        };
        let since = *self.unanswered.get_or_insert(now);
        if now.saturating_duration_since(since) >= UNANSWERED {
            return Verdict::Open(Opening::Unanswered(unanswered));
        }
        closed(None)
    }

    fn is_news(&mut self, held_by: &[String], now: Instant) -> bool {
        let is_news = match &self.told {
            None => now.saturating_duration_since(self.closed) >= ON_ITS_WAY,
            Some((told, at)) => told != held_by && now.saturating_duration_since(*at) >= BETWEEN,
        };
        if is_news {
            self.told = Some((held_by.to_vec(), now));
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lacks(what: &str, is_whole: bool) -> Look {
        let held_by = what.split(',').filter(|name| !name.is_empty());
        Look::Lacks {
            held_by: held_by.map(str::to_owned).collect(),
            unanswered: (!is_whole).then(|| "late".to_owned()),
        }
    }

    /// The looks with their seconds, and what follows from each.
    fn transcript(looks: &[(f32, Look)]) -> String {
        let start = Instant::now();
        let mut passage = Passage::new(start);
        let mut lines = Vec::new();
        for (at, look) in looks {
            let at = start + Duration::from_secs_f32(*at);
            lines.push(match passage.handle_look(look.clone(), at) {
                Verdict::Closed { held_by, is_news } => {
                    let held_by = held_by.map_or_else(|| "as before".to_owned(), |it| it.join("+"));
                    format!("closed ({held_by}){}", if is_news { ", told" } else { "" })
                }
                Verdict::Open(why) => format!("{why:?}"),
            });
        }
        lines.join("; ")
    }

    #[test]
    fn a_gate_opens_when_nothing_is_lacking() {
        insta::assert_snapshot!(
            transcript(&[(0.0, Look::Nothing), (0.1, Look::Waits), (0.2, lacks("", true))]),
            @"closed (as before); closed (); HasAll { was_told: false }"
        );
        insta::assert_snapshot!(
            transcript(&[(0.0, lacks("a", true)), (1.0, lacks("a", true)), (9.0, lacks("", true))]),
            @"closed (a); closed (a), told; HasAll { was_told: true }"
        );
    }

    #[test]
    fn what_is_lacking_is_told_once_and_not_in_turns() {
        insta::assert_snapshot!(
            transcript(&[
                (1.0, lacks("a", true)),
                (1.1, lacks("b", true)),
                (1.2, lacks("a", true)),
                (11.0, lacks("a", true)),
                (11.1, lacks("a,b", true)),
                (11.2, lacks("a", true)),
            ]),
            @"closed (a), told; closed (b); closed (a); closed (a); closed (a+b), told; closed (a)"
        );
    }

    #[test]
    fn an_answer_that_never_comes_keeps_an_epoch_that_answers_otherwise_for_ten_seconds() {
        insta::assert_snapshot!(
            transcript(&[
                (3.0, lacks("", false)),
                (12.9, lacks("", false)),
                (13.0, lacks("", false)),
            ]),
            @r#"closed (as before); closed (as before); Unanswered("late")"#
        );
        // A whole answer in between, and one that names something.
        insta::assert_snapshot!(
            transcript(&[
                (3.0, lacks("", false)),
                (5.0, lacks("a", true)),
                (13.0, lacks("", false)),
                (22.0, lacks("a", false)),
                (23.0, lacks("", false)),
            ]),
            @r#"closed (as before); closed (a), told; closed (as before); closed (a); Unanswered("late")"#
        );
        // It waits for something else in between.
        insta::assert_snapshot!(
            transcript(&[(3.0, lacks("", false)), (5.0, Look::Waits), (60.0, lacks("", false))]),
            @"closed (as before); closed (); closed (as before)"
        );
        // An endpoint that says nothing at all.
        insta::assert_snapshot!(
            transcript(&[(1.0, Look::Nothing), (1000.0, Look::Nothing)]),
            @"closed (as before); closed (as before)"
        );
    }
}
