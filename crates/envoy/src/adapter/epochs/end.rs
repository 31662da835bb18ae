//! What the end of an epoch's process means.

use std::fmt;
use std::time::Duration;

use handover_core::Epoch;

use crate::failure::Failure;

/// Why an epoch was killed although the agent did not ask for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::adapter) enum KillReason {
    /// It did not answer at its admin endpoint.
    Hung {
        /// For how long.
        silent_for: Duration,
    },
    /// Its admin endpoint refuses the question whether it is live.
    Refuses {
        /// With what answer.
        why: String,
    },
    /// It is an old epoch that left its next child without an answer.
    Deaf,
    /// It is an old epoch that did not end at its parent-shutdown time.
    Overstayed,
    /// It is an old epoch that did not close its listeners for one of another lineage.
    KeptListening,
}

impl fmt::Display for KillReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hung { silent_for } => {
                write!(f, "it was killed: it did not answer for {silent_for:?}")
            }
            Self::Refuses { why } => {
                write!(f, "it was killed: it cannot be seen live, because {why}")
            }
            Self::Deaf => {
                f.write_str("it was killed: it did not answer the epoch that was to take over")
            }
            Self::Overstayed => {
                f.write_str("it was killed: it did not end at its parent-shutdown time")
            }
            Self::KeptListening => f.write_str("it was killed: it did not close its listeners"),
        }
    }
}

/// All that is known when the process of an epoch has ended.
#[derive(Clone, Debug)]
pub(in crate::adapter) struct End {
    /// What its exit and its last words say.
    pub(in crate::adapter) failure: Failure,
    /// Why this adapter killed it, if it did.
    pub(in crate::adapter) killed: Option<KillReason>,
    /// Whether it was dropped, because its start was withdrawn and it had taken nothing over.
    pub(in crate::adapter) dropped: bool,
    /// Whether the agent has aborted it.
    pub(in crate::adapter) aborted: bool,
    /// Whether its start deadline has passed.
    pub(in crate::adapter) is_late: bool,
    /// Whether it was seen live.
    pub(in crate::adapter) was_live: bool,
    /// Whether a stop drains the clients.
    pub(in crate::adapter) stop_drains: bool,
    /// Whether its end cuts clients that a stop would drain.
    pub(in crate::adapter) is_undrained: bool,
    /// Whether another base id may be chosen for it.
    pub(in crate::adapter) may_choose_base_id: bool,
    /// Whether it could not read the copy of its configuration.
    pub(in crate::adapter) cannot_read_file: bool,
    /// Whether other epochs of its lineage run.
    pub(in crate::adapter) others_run: bool,
    /// Whether such an end is final by the settings, if nobody has asked for it.
    pub(in crate::adapter) end_is_final: bool,
    /// Whether the flag in shared memory could not be cleared.
    pub(in crate::adapter) repair_failed: bool,
    /// The newest live epoch that is left, which serves on.
    pub(in crate::adapter) newest_live: Option<Epoch>,
}

/// What an end means for the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::adapter) enum Meaning {
    /// The epoch has ended as it should.
    AsItShould,
    /// It has ended as it was told to.
    Aborted,
    /// Another Envoy has the base id that was chosen for it. That is no failure: it is started again
    /// with another one.
    BaseIdInUse,
    /// It was not live by its start deadline.
    NotLive,
    /// It has ended under clients that a stop was draining.
    NotDrained,
    /// It could not read the copy of its configuration.
    Unreadable,
    /// It was killed.
    Killed(KillReason),
    /// It found the flag of a dead epoch, which cannot be cleared, and this one is held.
    Stuck {
        /// The epoch that serves on.
        holding: Epoch,
    },
    /// It has failed.
    Failed {
        /// Whether that is final.
        is_final: bool,
        /// Whether its last words explain the failure. What follows a reason about the configuration
        /// is the configuration itself.
        with_last_words: bool,
    },
}

/// Returns whether an end cuts clients and was wanted by nobody here: it may have been told to end from outside, together
/// with this process.
pub(in crate::adapter) fn cuts_clients(
    is_undrained: bool,
    was_asked: bool,
    killed: Option<&KillReason>,
) -> bool {
    is_undrained && !was_asked && killed.is_none()
}

impl End {
    /// Returns whether the epoch ended because the agent wanted it to.
    pub(in crate::adapter) fn was_asked(&self) -> bool {
        self.dropped || self.aborted
    }

    /// Returns what the end means. The first that applies counts: an order that was given explains
    /// more than the exit that follows it.
    pub(in crate::adapter) fn meaning(&self) -> Meaning {
        let asked = self.was_asked();
        let is_conflict = matches!(self.failure, Failure::BaseIdConflict { .. });
        if is_conflict && self.may_choose_base_id && !asked {
            return Meaning::BaseIdInUse;
        }
        if self.is_late && !self.was_live {
            return Meaning::NotLive;
        }
        if asked {
            return Meaning::Aborted;
        }
        if self.stop_drains && cuts_clients(self.is_undrained, asked, self.killed.as_ref()) {
            return Meaning::NotDrained;
        }
        let is_rejection = matches!(self.failure, Failure::ConfigurationRejected { .. });
        if is_rejection && self.cannot_read_file {
            return Meaning::Unreadable;
        }
        if let Some(reason) = self.killed.clone() {
            return Meaning::Killed(reason);
        }
        // Where an end is final, a clean one of an epoch that has never served would end the one that
        // serves as well.
        let would_end_others = self.end_is_final && !self.was_live && self.others_run;
        let is_clean = matches!(self.failure, Failure::Clean | Failure::HandedOver);
        if is_clean && !would_end_others {
            return Meaning::AsItShould;
        }
        // An epoch that found the flag of an earlier one set was not let in.
        let is_kept_out = self.failure == Failure::StillInitializing;
        if let Some(holding) = self.newest_live
            && is_kept_out
            && self.repair_failed
        {
            return Meaning::Stuck { holding };
        }
        Meaning::Failed {
            is_final: self.end_is_final && !is_kept_out,
            with_last_words: !is_rejection,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The end of an epoch that serves, alone, and crashes.
    fn crash() -> End {
        End {
            failure: Failure::Killed { signal: 11 },
            killed: None,
            dropped: false,
            aborted: false,
            is_late: false,
            was_live: true,
            stop_drains: false,
            is_undrained: false,
            may_choose_base_id: false,
            cannot_read_file: false,
            others_run: false,
            end_is_final: false,
            repair_failed: false,
            newest_live: None,
        }
    }

    fn exit(failure: Failure) -> End {
        End { failure, ..crash() }
    }

    fn rejected() -> Failure {
        Failure::ConfigurationRejected {
            message: "no such field".to_owned(),
        }
    }

    fn conflict() -> Failure {
        Failure::BaseIdConflict {
            base_id: Some(7),
            slot: Some(0),
        }
    }

    const FAILED: Meaning = Meaning::Failed {
        is_final: false,
        with_last_words: true,
    };

    const FINAL: Meaning = Meaning::Failed {
        is_final: true,
        with_last_words: true,
    };

    #[track_caller]
    fn means(end: &End, meaning: &Meaning) {
        assert_eq!(end.meaning(), *meaning, "{end:?}");
    }

    #[test]
    fn an_exit_that_nobody_asked_for_is_a_failure_unless_it_is_clean() {
        means(&crash(), &FAILED);
        means(&exit(Failure::OutOfMemory), &FAILED);
        means(&exit(Failure::Clean), &Meaning::AsItShould);
        means(&exit(Failure::HandedOver), &Meaning::AsItShould);
        let quoted = Meaning::Failed {
            is_final: false,
            with_last_words: false,
        };
        means(&exit(rejected()), &quoted);
    }

    #[test]
    fn clients_are_cut_by_an_end_under_them_that_nobody_here_wanted() {
        let deaf = KillReason::Deaf;
        for (is_undrained, was_asked, killed, cuts) in [
            (true, false, None, true),
            (false, false, None, false),
            (true, true, None, false),
            (true, false, Some(&deaf), false),
        ] {
            assert_eq!(cuts_clients(is_undrained, was_asked, killed), cuts);
        }
    }

    #[test]
    fn an_end_that_was_asked_for_is_an_abort_whatever_the_exit_says() {
        for failure in [Failure::Clean, Failure::OutOfMemory, conflict()] {
            let asked = [
                End {
                    aborted: true,
                    ..exit(failure.clone())
                },
                End {
                    dropped: true,
                    ..exit(failure.clone())
                },
            ];
            for end in asked {
                let end = End {
                    may_choose_base_id: true,
                    stop_drains: true,
                    is_undrained: true,
                    ..end
                };
                assert!(end.was_asked());
                means(&end, &Meaning::Aborted);
            }
            assert!(!exit(failure).was_asked());
        }
    }

    #[test]
    fn one_that_is_aborted_at_its_start_deadline_was_not_live() {
        let late = End {
            is_late: true,
            aborted: true,
            was_live: false,
            ..crash()
        };
        means(&late, &Meaning::NotLive);
        let live = End {
            was_live: true,
            ..late
        };
        means(&live, &Meaning::Aborted);
    }

    #[test]
    fn a_base_id_in_use_is_chosen_again_where_it_was_chosen() {
        let chosen = End {
            may_choose_base_id: true,
            was_live: false,
            ..exit(conflict())
        };
        means(&chosen, &Meaning::BaseIdInUse);
        let given = End {
            may_choose_base_id: false,
            ..chosen.clone()
        };
        means(&given, &FAILED);
        let other = End {
            failure: Failure::OutOfMemory,
            ..chosen
        };
        means(&other, &FAILED);
    }

    #[test]
    fn an_end_under_clients_of_a_drain_is_told_unless_we_killed_it() {
        let cut = End {
            stop_drains: true,
            is_undrained: true,
            ..exit(Failure::Clean)
        };
        means(&cut, &Meaning::NotDrained);
        let serving = End {
            stop_drains: false,
            ..cut.clone()
        };
        means(&serving, &Meaning::AsItShould);
        let drained = End {
            is_undrained: false,
            ..cut.clone()
        };
        means(&drained, &Meaning::AsItShould);
        let killed = End {
            killed: Some(KillReason::Overstayed),
            ..cut
        };
        means(&killed, &Meaning::Killed(KillReason::Overstayed));
    }

    #[test]
    fn a_configuration_that_cannot_be_read_is_not_a_rejected_one() {
        let unreadable = End {
            cannot_read_file: true,
            ..exit(rejected())
        };
        means(&unreadable, &Meaning::Unreadable);
        let other = End {
            failure: Failure::OutOfMemory,
            ..unreadable
        };
        means(&other, &FAILED);
    }

    #[test]
    fn one_that_we_killed_is_told_with_our_reason() {
        for reason in [
            KillReason::Hung {
                silent_for: Duration::from_secs(2),
            },
            KillReason::Refuses {
                why: "403".to_owned(),
            },
            KillReason::Overstayed,
            KillReason::KeptListening,
        ] {
            let end = End {
                killed: Some(reason.clone()),
                ..exit(Failure::Killed { signal: 9 })
            };
            means(&end, &Meaning::Killed(reason));
        }
    }

    #[test]
    fn where_an_end_is_final_a_clean_one_must_not_end_those_that_serve() {
        let end = End {
            end_is_final: true,
            ..exit(Failure::Clean)
        };
        means(&end, &Meaning::AsItShould);
        let alone = End {
            was_live: false,
            ..end.clone()
        };
        means(&alone, &Meaning::AsItShould);
        let beside = End {
            others_run: true,
            ..alone
        };
        means(&beside, &FINAL);
        let old = End {
            others_run: true,
            ..end
        };
        means(&old, &Meaning::AsItShould);
        let crash = End {
            end_is_final: true,
            ..crash()
        };
        means(&crash, &FINAL);
    }

    #[test]
    fn one_that_a_dead_epoch_keeps_out_holds_the_live_one_if_the_flag_stays() {
        let kept_out = End {
            was_live: false,
            repair_failed: true,
            newest_live: Some(Epoch::ZERO),
            end_is_final: true,
            others_run: true,
            ..exit(Failure::StillInitializing)
        };
        let holding = Epoch::ZERO;
        means(&kept_out, &Meaning::Stuck { holding });
        let repaired = End {
            repair_failed: false,
            ..kept_out.clone()
        };
        means(&repaired, &FAILED);
        let alone = End {
            newest_live: None,
            ..kept_out.clone()
        };
        means(&alone, &FAILED);
        let other = End {
            failure: Failure::OutOfMemory,
            ..kept_out
        };
        means(&other, &FINAL);
    }

    #[test]
    fn why_it_was_killed_is_told_in_words() {
        let why = [
            KillReason::Hung {
                silent_for: Duration::from_secs(30),
            },
            KillReason::Refuses {
                why: "403".to_owned(),
            },
            KillReason::Overstayed,
            KillReason::KeptListening,
        ]
        .map(|reason| reason.to_string())
        .join("\n");
        insta::assert_snapshot!(why, @r"
        it was killed: it did not answer for 30s
        it was killed: it cannot be seen live, because 403
        it was killed: it did not end at its parent-shutdown time
        it was killed: it did not close its listeners
        ");
    }
}
