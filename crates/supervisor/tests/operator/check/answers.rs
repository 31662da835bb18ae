//! Whether an answer tells what has happened.

use handover_core::Standing;
use handover_supervisor::operator::{
    AskId, Clients, Input, Progress, Refusal, Reply, Request, Settlement,
};

use super::{Checker, newest};

impl<C: Clone + Eq + std::fmt::Debug> Checker<C> {
    /// Whether the answer to an ask that waits through the probation tells how the probation has ended.
    pub(super) fn is_over(&self, answer: &Result<Reply<C>, Refusal>) -> bool {
        let standing = self.view.standing;
        match answer {
            Ok(Reply::Reloaded {
                progress: Progress::Live(epoch),
                ..
            }) => {
                let mut epochs = self.view.epochs.iter();
                let is_tried =
                    epochs.any(|view| view.epoch == *epoch && (view.on_probation || view.unfit));
                standing == Standing::Live(*epoch) && !is_tried
            }
            Err(Refusal::GivenUp { epoch, .. }) => {
                let mut epochs = self.view.epochs.iter();
                standing == Standing::GivenUp(*epoch)
                    || epochs.any(|view| view.epoch == *epoch && view.unfit)
            }
            Err(Refusal::NotRestarted) => standing == Standing::NotRestarted,
            Err(Refusal::Ending) => self.is_ending() || standing == Standing::Ending,
            Err(Refusal::Replaced) => true,
            Ok(_) | Err(_) => false,
        }
    }

    /// Whether what is answered has just been told to the operator.
    pub(super) fn is_backed(
        &self,
        ask: AskId,
        answer: &Result<Reply<C>, Refusal>,
        input: Option<&Input<C>>,
    ) -> bool {
        match (answer, input) {
            (
                Ok(Reply::Reloaded {
                    progress: Progress::Live(epoch),
                    ..
                }),
                input,
            ) => matches!(
                input, Some(Input::Settled { result: Settlement::Live(live), .. }) if live == epoch
            ),
            // An epoch that is live, whose configuration was seen to be kept if that is said.
            (Ok(Reply::Applied { kept, .. }), _) => {
                self.applied.was_live(ask) && *kept == self.applied.is_kept(ask)
            }
            (Err(Refusal::NotKept(_)), input) => {
                matches!(input, Some(Input::Kept { text, result: Err(_) }) if *text == ask)
            }
            (Ok(Reply::Drained(_)), input) => matches!(
                input,
                Some(Input::ClientsWatched {
                    result: Clients::Gone,
                    ..
                })
            ),
            (Ok(Reply::Draining(_) | Reply::Undrained(_)), input) => {
                matches!(input, Some(Input::CallDone { result: Ok(_), .. }))
            }
            (Ok(Reply::Ended(_)), _) => self.ended,
            // What it needs is told by `a_wait_ends_once_it_is_so`.
            (Ok(Reply::Reached(epoch)), _) => {
                !self.is_ending() && newest(&self.view) == Some(*epoch)
            }
            (Ok(Reply::Ending(urgency)), _) => self.urgency == Some(*urgency),
            (Ok(Reply::Who), input) => matches!(
                input,
                Some(Input::Asked {
                    request: Request::Who,
                    ..
                })
            ),
            (Ok(Reply::Status(overview)), _) => {
                overview.ready == (!self.is_ending() && self.serves())
                    && overview.listening == self.seen.flatten()
            }
            (
                Err(Refusal::Ending),
                Some(Input::TakenIn { .. } | Input::Settled { .. } | Input::CallDone { .. }),
            ) => true,
            (Err(Refusal::Ending), _) => self.is_ending(),
            (Err(Refusal::TimedOut { .. }), input) => input.is_none(),
            (
                Ok(Reply::Reloaded { .. })
                | Err(
                    Refusal::NotSupported(_)
                    | Refusal::NotRead(_)
                    | Refusal::GivenUp { .. }
                    | Refusal::Replaced
                    | Refusal::NotRestarted
                    | Refusal::NotTaken
                    | Refusal::Failed(_)
                    | Refusal::ClientsUnknown(_),
                ),
                input,
            ) => input.is_some(),
        }
    }
}
