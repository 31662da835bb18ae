//! What clients give: what may be read and kept of it.

use std::collections::BTreeSet;

use handover_core::Standing;
use handover_supervisor::operator::{AgentView, Applies, AskId, Input, Request, Settlement};

/// What is known of the configurations of clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Applied {
    /// Whether any is taken.
    pub(crate) are_taken: bool,
    /// Whether there is one to read that no ask of this operator has given.
    kept_before: bool,
    /// Every one that was given.
    given: BTreeSet<AskId>,
    /// The one that is read at present, or was asked for last.
    newest: Option<AskId>,
    desired: Option<AskId>,
    live: BTreeSet<AskId>,
    kept: BTreeSet<AskId>,
    pub(crate) keeping: Option<AskId>,
}

impl Applied {
    pub(super) fn new(applies: Applies) -> Self {
        let (are_taken, kept_before) = match applies {
            Applies::Never => (false, true),
            Applies::FromClients { kept } => (true, kept),
        };
        Self {
            are_taken,
            kept_before,
            ..Self::default()
        }
    }

    pub(super) fn asked(&mut self, ask: AskId, request: Request, accepted: bool, ending: bool) {
        if matches!(request, Request::Apply { .. }) && accepted && self.are_taken && !ending {
            self.given.insert(ask);
        }
    }

    /// Whether the client of this ask has given a configuration that was taken.
    pub(super) fn gave(&self, ask: AskId) -> bool {
        self.given.contains(&ask)
    }

    pub(super) fn was_live(&self, ask: AskId) -> bool {
        self.live.contains(&ask)
    }

    pub(super) fn is_kept(&self, ask: AskId) -> bool {
        self.kept.contains(&ask)
    }

    /// Notes that the changes that these asks follow are live.
    pub(super) fn went_live(&mut self, asks: impl Iterator<Item = AskId>) {
        self.live
            .extend(asks.filter(|ask| self.given.contains(ask)));
    }

    /// Notes what the input tells of the newest read or change.
    pub(super) fn take<C>(&mut self, input: &Input<C>, is_newest: bool) {
        match input {
            Input::ReadDone { result: Ok(_), .. } if is_newest => self.desired = self.newest,
            Input::Settled {
                result: Settlement::Live(_),
                ..
            } if is_newest => self.live.extend(self.desired),
            Input::Kept { text, result } if self.keeping == Some(*text) => {
                self.keeping = None;
                if result.is_ok() {
                    self.kept.insert(*text);
                }
            }
            Input::Signal(_)
            | Input::Asked { .. }
            | Input::AskGone(_)
            | Input::FilesChanged
            | Input::ReadDone { .. }
            | Input::TakenIn { .. }
            | Input::Settled { .. }
            | Input::AgentChanged(_)
            | Input::AgentEnded(_)
            | Input::Released { .. }
            | Input::CallDone { .. }
            | Input::ClientsWatched { .. }
            | Input::Looked { .. }
            | Input::Examined { .. }
            | Input::FilesFound(_)
            | Input::JobDone(_)
            | Input::Kept { .. }
            | Input::HookDone { .. }
            | Input::Broken(_) => {}
        }
    }

    /// Notes what is read, and returns whether there is such a thing.
    pub(super) fn may_read(&mut self, text: Option<AskId>) -> bool {
        self.newest = text;
        match text {
            Some(text) => self.given.contains(&text) && !self.kept.contains(&text),
            None => self.kept_before || !self.kept.is_empty(),
        }
    }

    /// Notes what is kept, and returns whether it may be.
    pub(super) fn keep(&mut self, text: AskId, view: &AgentView) -> bool {
        let is_one = self.keeping.replace(text).is_none();
        let is_tried = match view.standing {
            Standing::Live(epoch) => {
                let mut views = view.epochs.iter();
                views.any(|view| view.epoch == epoch && (view.on_probation || view.unfit))
            }
            Standing::Nothing
            | Standing::Pending(_)
            | Standing::GivenUp(_)
            | Standing::NotRestarted
            | Standing::Ending => true,
        };
        let is_first = !self.kept_before && self.kept.is_empty();
        is_one && (is_first || !is_tried) && self.live.contains(&text) && !self.kept.contains(&text)
    }
}
