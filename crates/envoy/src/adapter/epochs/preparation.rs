//! What comes before the start of an epoch: which text it runs, and what Envoy must find valid first.
//!
//! ```text
//!   alone: Write(Original) ─────────────────────────────────────────────────────> Done
//!
//!   beside an older one: ──────────────> Write(Original) ──> Validate ──valid───> Done
//!                                           ^   ^               └─known already─> Done
//!   beside one that serves: ──> Rewrite ────┘   │
//!                                  │   no text  │ rejected
//!                                  │   waits    │
//!                                  └─> Write(Waiting) ──> Validate ──valid──────> Done
//!                                                            └─known already─────> Done
//! ```
//!
//! An epoch beside an older one must not spoil what runs, so its text is validated. Beside one that
//! serves, a new epoch waits for its first resources as long as its start deadline allows. Otherwise
//! Envoy goes live without what it did not get in time, and takes the listeners over. If it asks a
//! control plane, it gets a [gate](super::gate) as well. What Envoy refuses with the gate is validated without.

use std::path::Path;
use std::sync::Arc;

use super::super::{EnvoyConfig, EnvoyFailed};
use crate::gate::NAME;
use crate::text::is_about_reading;
use crate::validate::Verdict;

/// What an epoch is started from. `B` identifies the binary.
#[derive(Clone, Debug)]
pub(in crate::adapter) struct Origin<B> {
    /// The reading of the configuration that asks for the epoch.
    pub(in crate::adapter) asked: Arc<EnvoyConfig>,
    /// What the epoch runs: the same, unless a template makes another text for each epoch.
    pub(in crate::adapter) config: Arc<EnvoyConfig>,
    pub(in crate::adapter) binary: B,
}

/// A text that an epoch can run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::adapter) enum Text {
    /// The content of the configuration, as it is.
    Original,
    /// The text with which Envoy waits for its first resources without a time-out.
    Waiting(Vec<u8>),
}

/// What must be done next for an epoch that is about to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::adapter) enum Step {
    /// Make the text that waits. The result goes to [`Preparation::handle_rewritten`].
    Rewrite,
    /// Write this text to the file of the epoch, then call [`Preparation::handle_written`].
    Write(Text),
    /// Let Envoy validate what was written. The verdict goes to [`Preparation::handle_verdict`].
    Validate,
    /// Nothing: what was written can be started.
    Done {
        /// Why the epoch does not wait for its first resources, where it should.
        not_waiting: Option<String>,
    },
}

/// The text that was found valid last, so that a crash is not answered by a validation.
#[derive(Debug)]
pub(in crate::adapter) struct LastValid<B>(Option<Valid<B>>);

#[derive(Debug)]
struct Valid<B> {
    origin: Origin<B>,
    /// Whether it was the text that waits. If so, the original, which says less, is valid too.
    waits: bool,
    /// Whether it was validated with a gate. If so, it is valid without one too.
    is_gated: bool,
}

/// An epoch that is about to be started.
#[derive(Debug)]
pub(in crate::adapter) struct Preparation<B> {
    origin: Origin<B>,
    is_alone: bool,
    /// Whether the text that was written last is the one that waits.
    waits: bool,
    /// Whether the epoch gets a gate.
    is_gated: bool,
    not_waiting: Option<String>,
}

impl<B: Clone + PartialEq> Preparation<B> {
    /// Begins with an epoch beside which nothing runs.
    pub(in crate::adapter) fn alone(origin: Origin<B>) -> (Self, Step) {
        (Self::new(origin, true, false), Step::Write(Text::Original))
    }

    /// Begins with an epoch beside an older one. `waits` tells whether the older one serves and may have
    /// to serve until the new one has its resources, and `is_gated` whether there is a gate for it.
    pub(in crate::adapter) fn beside(
        origin: Origin<B>,
        waits: bool,
        is_gated: bool,
    ) -> (Self, Step) {
        let step = match waits {
            true => Step::Rewrite,
            false => Step::Write(Text::Original),
        };
        (Self::new(origin, false, is_gated), step)
    }

    fn new(origin: Origin<B>, is_alone: bool, is_gated: bool) -> Self {
        Self {
            origin,
            is_alone,
            waits: false,
            is_gated,
            not_waiting: None,
        }
    }

    /// Returns whether what was written last is validated and started with a gate.
    pub(in crate::adapter) fn is_gated(&self) -> bool {
        self.is_gated
    }

    /// Takes in the text that waits: `None` if the original fetches nothing, or else why there is no
    /// such text.
    pub(in crate::adapter) fn handle_rewritten(
        &mut self,
        rewritten: Result<Option<Vec<u8>>, String>,
    ) -> Step {
        match rewritten {
            Ok(Some(text)) => {
                self.waits = true;
                Step::Write(Text::Waiting(text))
            }
            Ok(None) => Step::Write(Text::Original),
            Err(why) => self.fall_back(format!("initial_fetch_timeout cannot be set: {why}")),
        }
    }

    /// Takes in that the text was written. `is_live` tells whether an epoch with the same reading of
    /// the configuration is live.
    pub(in crate::adapter) fn handle_written(
        &mut self,
        last: &LastValid<B>,
        is_live: bool,
    ) -> Step {
        if self.is_alone || last.covers(&self.tried(), is_live) {
            return self.done();
        }
        Step::Validate
    }

    /// Takes in what Envoy says of the text in this file. What is refused with a gate is tried without it.
    /// What is wrong with the text that waits may be wrong with the original as well, which decides.
    ///
    /// # Errors
    ///
    /// Why the epoch cannot be started.
    pub(in crate::adapter) fn handle_verdict(
        &mut self,
        verdict: Verdict,
        file: &Path,
        last: &mut LastValid<B>,
    ) -> Result<Step, EnvoyFailed> {
        let config = || self.origin.config.source().to_owned();
        match verdict {
            Verdict::Valid => {
                last.0 = Some(self.tried());
                Ok(self.done())
            }
            Verdict::Rejected { message } if is_about_reading(&message, file) => {
                Err(EnvoyFailed::Unreadable {
                    config: config(),
                    file: file.to_owned(),
                })
            }
            Verdict::Rejected { message } if self.is_gated => {
                self.is_gated = false;
                self.not_waiting = Some(format!(
                    "Envoy refuses it with the listener and the cluster {NAME} that hold an epoch \
                     back, so none of yours may have that name: {message}"
                ));
                Ok(Step::Validate)
            }
            Verdict::Rejected { message } if self.waits => {
                let why = format!("Envoy refuses it with what lets it wait: {message}");
                Ok(self.fall_back(why))
            }
            Verdict::Rejected { message } => Err(EnvoyFailed::Rejected {
                config: config(),
                message,
            }),
            Verdict::CouldNotRun(source) => Err(EnvoyFailed::NotValidated {
                config: config(),
                source,
            }),
        }
    }

    fn fall_back(&mut self, why: String) -> Step {
        self.waits = false;
        self.not_waiting = Some(why);
        Step::Write(Text::Original)
    }

    fn tried(&self) -> Valid<B> {
        Valid {
            origin: self.origin.clone(),
            waits: self.waits,
            is_gated: self.is_gated,
        }
    }

    fn done(&mut self) -> Step {
        Step::Done {
            not_waiting: self.not_waiting.take(),
        }
    }
}

impl<B: PartialEq> LastValid<B> {
    /// Returns whether a text of this origin needs no validation, because the same one was found valid
    /// and its start is tried again.
    ///
    /// What is read again may come with other certificates, even where it is equal. So may what is
    /// live already: then this start is a renewal, and no further attempt.
    fn covers(&self, tried: &Valid<B>, is_live: bool) -> bool {
        let origin = &tried.origin;
        self.0.as_ref().is_some_and(|valid| {
            Arc::ptr_eq(&valid.origin.asked, &origin.asked)
                && valid.origin.config == origin.config
                && valid.origin.binary == origin.binary
                && valid.waits >= tried.waits
                && valid.is_gated >= tried.is_gated
                && !is_live
        })
    }
}

impl<B> Default for LastValid<B> {
    fn default() -> Self {
        Self(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::ValidateError;

    const FILE: &str = "/run/handover/epoch-1.yaml";
    const IS_LIVE: bool = true;

    /// Reads a configuration; each reading is another one.
    fn read(text: &str) -> Arc<EnvoyConfig> {
        let text = format!("admin: {{address: {{pipe: {{path: /a}}}}}}\n{text}");
        let config = EnvoyConfig::parse(Path::new("/etc/envoy.yaml"), text.into_bytes());
        Arc::new(config.unwrap())
    }

    fn origin(config: &Arc<EnvoyConfig>, binary: u32) -> Origin<u32> {
        Origin {
            asked: Arc::clone(config),
            config: Arc::clone(config),
            binary,
        }
    }

    fn waiting() -> Text {
        Text::Waiting(b"waits".to_vec())
    }

    fn rewritten() -> Result<Option<Vec<u8>>, String> {
        Ok(Some(b"waits".to_vec()))
    }

    fn done(not_waiting: Option<&str>) -> Step {
        Step::Done {
            not_waiting: not_waiting.map(str::to_owned),
        }
    }

    fn rejected(message: &str) -> Verdict {
        Verdict::Rejected {
            message: message.to_owned(),
        }
    }

    /// Goes on with a preparation from its first step, where Envoy finds everything valid. Returns
    /// whether it was asked.
    fn is_validated(
        (mut preparation, mut step): (Preparation<u32>, Step),
        last: &mut LastValid<u32>,
        is_live: bool,
    ) -> bool {
        let mut asked = false;
        loop {
            step = match step {
                Step::Rewrite => preparation.handle_rewritten(rewritten()),
                Step::Write(_) => preparation.handle_written(last, is_live),
                Step::Validate => {
                    asked = true;
                    let verdict = preparation.handle_verdict(Verdict::Valid, FILE.as_ref(), last);
                    verdict.unwrap()
                }
                Step::Done { .. } => return asked,
            };
        }
    }

    #[test]
    fn alone_the_original_is_started_without_being_validated() {
        let (mut preparation, step) = Preparation::alone(origin(&read(""), 1));
        assert_eq!(step, Step::Write(Text::Original));
        let step = preparation.handle_written(&LastValid::default(), false);
        assert_eq!(step, done(None));
    }

    #[test]
    fn beside_one_that_does_not_serve_the_original_is_validated() {
        let (mut preparation, step) = Preparation::beside(origin(&read(""), 1), false, false);
        assert_eq!(step, Step::Write(Text::Original));
        let last = &mut LastValid::default();
        assert_eq!(preparation.handle_written(last, false), Step::Validate);
        let step = preparation.handle_verdict(Verdict::Valid, FILE.as_ref(), last);
        assert_eq!(step.unwrap(), done(None));
    }

    #[test]
    fn beside_one_that_serves_the_text_that_waits_is_validated_and_started() {
        let (mut preparation, step) = Preparation::beside(origin(&read(""), 1), true, false);
        assert_eq!(step, Step::Rewrite);
        let step = preparation.handle_rewritten(rewritten());
        assert_eq!(step, Step::Write(waiting()));
        let last = &mut LastValid::default();
        assert_eq!(preparation.handle_written(last, false), Step::Validate);
        let step = preparation.handle_verdict(Verdict::Valid, FILE.as_ref(), last);
        assert_eq!(step.unwrap(), done(None));
    }

    #[test]
    fn what_fetches_nothing_has_nothing_to_wait_for() {
        let (mut preparation, _) = Preparation::beside(origin(&read(""), 1), true, false);
        let step = preparation.handle_rewritten(Ok(None));
        assert_eq!(step, Step::Write(Text::Original));
        let last = &mut LastValid::default();
        assert_eq!(preparation.handle_written(last, false), Step::Validate);
        let step = preparation.handle_verdict(Verdict::Valid, FILE.as_ref(), last);
        assert_eq!(step.unwrap(), done(None));
    }

    #[test]
    fn without_a_text_that_waits_the_original_is_validated_and_the_reason_is_told() {
        let (mut preparation, _) = Preparation::beside(origin(&read(""), 1), true, false);
        let step = preparation.handle_rewritten(Err("too deep".to_owned()));
        assert_eq!(step, Step::Write(Text::Original));
        let last = &mut LastValid::default();
        assert_eq!(preparation.handle_written(last, false), Step::Validate);
        let step = preparation.handle_verdict(Verdict::Valid, FILE.as_ref(), last);
        assert_eq!(
            step.unwrap(),
            done(Some("initial_fetch_timeout cannot be set: too deep"))
        );
    }

    #[test]
    fn when_the_text_that_waits_is_rejected_the_original_decides() {
        for original in [Verdict::Valid, rejected("no such field")] {
            let (mut preparation, _) = Preparation::beside(origin(&read(""), 1), true, false);
            let last = &mut LastValid::default();
            preparation.handle_rewritten(rewritten());
            preparation.handle_written(last, false);
            let step = preparation.handle_verdict(rejected("bad duration"), FILE.as_ref(), last);
            assert_eq!(step.unwrap(), Step::Write(Text::Original));
            assert_eq!(preparation.handle_written(last, false), Step::Validate);
            let is_valid = matches!(original, Verdict::Valid);
            let step = preparation.handle_verdict(original, FILE.as_ref(), last);
            match step {
                Ok(step) => assert!(
                    is_valid
                        && step
                            == done(Some(
                                "Envoy refuses it with what lets it wait: bad duration"
                            ))
                ),
                Err(EnvoyFailed::Rejected { message, .. }) => {
                    assert!(!is_valid && message == "no such field");
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn when_the_gate_is_refused_the_text_decides_without_it() {
        let gated = || Preparation::beside(origin(&read(""), 1), true, true);
        for fetches in [false, true] {
            let (mut preparation, _) = gated();
            preparation.handle_rewritten(match fetches {
                true => rewritten(),
                false => Ok(None),
            });
            let last = &mut LastValid::default();
            preparation.handle_written(last, false);
            assert!(preparation.is_gated());
            let step = preparation.handle_verdict(rejected("no routes"), FILE.as_ref(), last);
            // The same text, which waits if it fetches anything.
            assert_eq!(step.unwrap(), Step::Validate);
            assert!(!preparation.is_gated());
            let step = preparation.handle_verdict(Verdict::Valid, FILE.as_ref(), last);
            let Step::Done { not_waiting } = step.unwrap() else {
                panic!("it is valid");
            };
            let why = not_waiting.unwrap();
            assert!(
                why.contains("handover_gate") && why.contains("no routes"),
                "{why}"
            );
        }
        // The text itself is wrong: then the original decides, as without a gate.
        let (mut preparation, _) = gated();
        let last = &mut LastValid::default();
        preparation.handle_rewritten(rewritten());
        preparation.handle_written(last, false);
        for (verdict, next) in [
            (rejected("no field"), Step::Validate),
            (rejected("no field"), Step::Write(Text::Original)),
        ] {
            let step = preparation.handle_verdict(verdict, FILE.as_ref(), last);
            assert_eq!(step.unwrap(), next);
        }
        let (mut preparation, _) = gated();
        preparation.handle_rewritten(Err("too deep".to_owned()));
        assert!(preparation.is_gated());
    }

    #[test]
    fn what_was_valid_with_a_gate_is_valid_without_one_and_not_the_reverse() {
        let config = read("");
        let last = &mut LastValid::default();
        let beside = |is_gated| Preparation::beside(origin(&config, 1), true, is_gated);
        assert!(is_validated(beside(false), last, false));
        assert!(is_validated(beside(true), last, false));
        assert!(!is_validated(beside(false), last, false));
        assert!(!is_validated(beside(true), last, false));
    }

    #[test]
    fn the_same_reading_is_validated_once_however_often_its_start_is_tried() {
        let config = read("");
        let last = &mut LastValid::default();
        for any_serves in [false, true] {
            let again = || Preparation::beside(origin(&config, 1), any_serves, false);
            assert!(is_validated(again(), last, false));
            assert!(!is_validated(again(), last, false));
            assert!(!is_validated(again(), last, false));
        }
    }

    #[test]
    fn an_original_is_known_once_its_text_that_waits_is_and_not_the_reverse() {
        let config = read("");
        let last = &mut LastValid::default();
        let beside = |any_serves| Preparation::beside(origin(&config, 1), any_serves, false);
        assert!(is_validated(beside(false), last, false));
        assert!(is_validated(beside(true), last, false));
        assert!(!is_validated(beside(false), last, false));
        assert!(!is_validated(beside(true), last, false));
    }

    #[test]
    fn an_equal_configuration_that_was_read_again_is_validated_again() {
        let last = &mut LastValid::default();
        let (first, second) = (read(""), read(""));
        assert_eq!(first, second);
        for config in [&first, &second, &first] {
            let beside = Preparation::beside(origin(config, 1), false, false);
            assert!(is_validated(beside, last, false));
        }
    }

    #[test]
    fn a_renewal_of_what_is_live_is_validated_again() {
        let config = read("");
        let last = &mut LastValid::default();
        let beside = || Preparation::beside(origin(&config, 1), true, false);
        assert!(is_validated(beside(), last, false));
        assert!(is_validated(beside(), last, IS_LIVE));
        assert!(!is_validated(beside(), last, false));
    }

    #[test]
    fn another_text_for_this_epoch_is_validated() {
        let asked = read("a: 0");
        let last = &mut LastValid::default();
        let of_epoch = |config: &Arc<EnvoyConfig>| Origin {
            config: Arc::clone(config),
            ..origin(&asked, 1)
        };
        let (first, second) = (read("a: 1"), read("a: 2"));
        assert!(is_validated(
            Preparation::beside(of_epoch(&first), false, false),
            last,
            false
        ));
        assert!(is_validated(
            Preparation::beside(of_epoch(&second), false, false),
            last,
            false
        ));
        // Rendered once more, it is the same.
        let second = read("a: 2");
        assert!(!is_validated(
            Preparation::beside(of_epoch(&second), false, false),
            last,
            false
        ));
    }

    #[test]
    fn another_binary_validates_again() {
        let config = read("");
        let last = &mut LastValid::default();
        for (binary, validated) in [(1, true), (1, false), (2, true), (2, false), (1, true)] {
            let beside = Preparation::beside(origin(&config, binary), false, false);
            assert_eq!(is_validated(beside, last, false), validated, "{binary}");
        }
    }

    #[test]
    fn only_what_was_found_valid_is_known() {
        let config = read("");
        let last = &mut LastValid::default();
        let (mut preparation, _) = Preparation::beside(origin(&config, 1), false, false);
        preparation.handle_written(last, false);
        let failed = preparation.handle_verdict(rejected("no"), FILE.as_ref(), last);
        assert!(failed.is_err());
        assert!(is_validated(
            Preparation::beside(origin(&config, 1), false, false),
            last,
            false
        ));
    }

    #[test]
    fn a_file_that_envoy_cannot_read_says_nothing_of_the_configuration() {
        let unreadable = format!("unable to read file: {FILE}");
        for any_serves in [false, true] {
            let (mut preparation, _) = Preparation::beside(origin(&read(""), 1), any_serves, false);
            let last = &mut LastValid::default();
            if any_serves {
                preparation.handle_rewritten(rewritten());
            }
            let failed = preparation.handle_verdict(rejected(&unreadable), FILE.as_ref(), last);
            assert!(matches!(
                failed,
                Err(EnvoyFailed::Unreadable { file, .. }) if file == Path::new(FILE)
            ));
        }
    }

    #[test]
    fn without_a_verdict_nothing_is_started() {
        for any_serves in [false, true] {
            let (mut preparation, _) = Preparation::beside(origin(&read(""), 1), any_serves, false);
            if any_serves {
                preparation.handle_rewritten(rewritten());
            }
            let verdict = Verdict::CouldNotRun(ValidateError::TimedOut);
            let last = &mut LastValid::default();
            let failed = preparation.handle_verdict(verdict, FILE.as_ref(), last);
            assert!(matches!(failed, Err(EnvoyFailed::NotValidated { .. })));
        }
    }
}
