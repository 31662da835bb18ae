//! What follows from each round of questions at the admin endpoint of the newest epoch: what is
//! reported once it stops answering, and once it answers again.

use crate::adapter::HungAction;

/// The silence of an epoch, as far as it was reported.
#[derive(Debug)]
pub(in crate::adapter) struct Silence {
    action: HungAction,
    /// Whether it was reported that the epoch is silent, and not yet that it answers again.
    is_reported: bool,
}

/// What one round of questions has shown.
#[derive(Clone, Copy, Debug)]
pub(in crate::adapter) struct Look {
    /// Whether the epoch has left every question without an answer.
    pub(in crate::adapter) is_silent: bool,
    /// Whether no newer epoch was started. Otherwise the endpoint changes hands, and neither an
    /// answer nor a silence is certainly that of this epoch.
    pub(in crate::adapter) is_newest: bool,
    /// Whether an older epoch of the same lineage is stopped.
    pub(in crate::adapter) older_is_stopped: bool,
}

/// What must be done after a round of questions, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::adapter) enum Step {
    /// Continue the older epochs that are stopped. A child waits for its parent, so it is not the
    /// child that hangs.
    ContinueOlder,
    /// Report that the epoch hangs.
    ReportHung,
    /// Report that it answers again.
    ReportAnswering,
    /// Kill it.
    Kill,
}

impl Silence {
    /// Begins to watch an epoch that has just answered.
    pub(in crate::adapter) fn new(action: HungAction) -> Self {
        Self {
            action,
            is_reported: false,
        }
    }

    /// Takes in a look, and returns what must be done. Each silence is reported once, and so is its
    /// end.
    pub(in crate::adapter) fn handle_look(&mut self, look: Look) -> Vec<Step> {
        if !look.is_newest {
            return Vec::new();
        }
        match (look.is_silent, self.is_reported) {
            (true, _) if look.older_is_stopped => vec![Step::ContinueOlder],
            (true, false) => {
                self.is_reported = true;
                match self.action {
                    HungAction::Report => vec![Step::ReportHung],
                    HungAction::Restart => vec![Step::ReportHung, Step::Kill],
                }
            }
            (false, true) => {
                self.is_reported = false;
                vec![Step::ReportAnswering]
            }
            (true, true) | (false, false) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWERS: Look = Look {
        is_silent: false,
        is_newest: true,
        older_is_stopped: false,
    };
    const SILENT: Look = Look {
        is_silent: true,
        ..ANSWERS
    };
    const PARENT_STOPPED: Look = Look {
        older_is_stopped: true,
        ..SILENT
    };

    /// What follows from each of these looks.
    fn steps<const N: usize>(action: HungAction, looks: [Look; N]) -> [Vec<Step>; N] {
        let mut silence = Silence::new(action);
        looks.map(|look| silence.handle_look(look))
    }

    #[test]
    fn a_silence_and_its_end_are_reported_once_each_time() {
        let looks = [ANSWERS, SILENT, SILENT, ANSWERS, ANSWERS, SILENT, ANSWERS];
        assert_eq!(
            steps(HungAction::Report, looks),
            [
                vec![],
                vec![Step::ReportHung],
                vec![],
                vec![Step::ReportAnswering],
                vec![],
                vec![Step::ReportHung],
                vec![Step::ReportAnswering],
            ]
        );
    }

    #[test]
    fn one_that_must_be_restarted_is_killed_at_its_first_silence() {
        assert_eq!(
            steps(HungAction::Restart, [ANSWERS, SILENT]),
            [vec![], vec![Step::ReportHung, Step::Kill]]
        );
    }

    #[test]
    fn a_child_whose_parent_is_stopped_does_not_hang() {
        for action in [HungAction::Report, HungAction::Restart] {
            assert_eq!(
                steps(action, [PARENT_STOPPED, PARENT_STOPPED, ANSWERS]),
                [vec![Step::ContinueOlder], vec![Step::ContinueOlder], vec![]]
            );
        }
        // A silence that was reported before is still one.
        assert_eq!(
            steps(HungAction::Report, [SILENT, PARENT_STOPPED, ANSWERS]),
            [
                vec![Step::ReportHung],
                vec![Step::ContinueOlder],
                vec![Step::ReportAnswering],
            ]
        );
        // A stopped parent of a child that answers is the business of the parent's own run.
        let stopped = Look {
            older_is_stopped: true,
            ..ANSWERS
        };
        assert_eq!(steps(HungAction::Report, [stopped]), [vec![]]);
    }

    #[test]
    fn nothing_is_judged_while_the_endpoint_changes_hands() {
        let changes = |look: Look| Look {
            is_newest: false,
            ..look
        };
        for action in [HungAction::Report, HungAction::Restart] {
            let looks = [SILENT, ANSWERS, PARENT_STOPPED].map(changes);
            assert_eq!(steps(action, looks), [vec![], vec![], vec![]]);
        }
        // The end of a silence is still owed afterwards.
        let looks = [SILENT, changes(ANSWERS), ANSWERS];
        assert_eq!(
            steps(HungAction::Report, looks),
            [vec![Step::ReportHung], vec![], vec![Step::ReportAnswering]]
        );
    }
}
