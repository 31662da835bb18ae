//! What an epoch is asked from its spawn until it is live, and why it is not live yet.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use handover_tokio::error_chain;

use crate::admin::{AdminAddress, NotLive, ServerState};
use crate::listening::{AddressView, ListeningSockets};

/// How often an epoch that initialises is asked for whom it waits.
const ASK: Duration = Duration::from_secs(1);

/// How many of those it waits for are named.
const NAMED: usize = 5;

/// An epoch that is not live yet, as it was seen so far.
#[derive(Debug, Default)]
pub(in crate::adapter) struct Start {
    /// Why it was not live when it was asked last.
    obstacle: Option<Arc<NotLive>>,
    /// For whom it waits.
    targets: Vec<String>,
    /// Why it may not take over, if that is what it waits for.
    held_by: Vec<String>,
    /// When it was first seen to initialise, or was last asked for whom it waits.
    asked: Option<Instant>,
    /// Whether its admin endpoint was seen among its own sockets after the last obstacle.
    has_the_endpoint: bool,
    /// Its sockets at the end, and whether its admin address means the same to it as to us.
    sockets: Option<(ListeningSockets, AddressView)>,
    /// It is about to be ended. What it answers from then on says nothing of its start.
    is_ending: bool,
}

/// What must be found out after an obstacle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::adapter) enum Question {
    /// For whom the epoch waits. The answer goes to [`Start::handle_targets`].
    Targets,
    /// Whether the admin endpoint is one of its sockets. The answer goes to
    /// [`Start::handle_endpoint`].
    Endpoint,
}

impl Start {
    /// Keeps why the epoch is not live, and returns what must be found out about it.
    pub(in crate::adapter) fn handle_obstacle(
        &mut self,
        obstacle: Arc<NotLive>,
        now: Instant,
    ) -> Option<Question> {
        if self.is_ending {
            return None;
        }
        let question = match &*obstacle {
            NotLive::State { .. } => self.targets_are_due(now).then_some(Question::Targets),
            NotLive::Unreachable { source, .. } if source.is_refusal() => Some(Question::Endpoint),
            NotLive::Unreachable { .. } | NotLive::OtherEpoch { .. } | NotLive::NoAnswer { .. } => {
                None
            }
        };
        // Whoever has given another answer in between may be somebody else.
        self.has_the_endpoint &= question == Some(Question::Endpoint);
        self.obstacle = Some(obstacle);
        question
    }

    /// Keeps for whom the epoch waits.
    pub(in crate::adapter) fn handle_targets(&mut self, targets: Vec<String>) {
        self.targets = targets;
    }

    /// Keeps why the epoch may not take over.
    pub(in crate::adapter) fn handle_held(&mut self, held_by: Vec<String>) {
        self.held_by = held_by;
    }

    /// Takes in whether the epoch has the admin endpoint that has refused the question. Returns why
    /// it will never be seen live, if that is so.
    ///
    /// A refusal may come from somebody else: an older epoch that still has the endpoint, or a
    /// program that listens at the same address in our network namespace and not in that of the
    /// epoch. So it counts only when the epoch had the endpoint before it was asked, and has it
    /// afterwards.
    pub(in crate::adapter) fn handle_endpoint(&mut self, has_it: bool) -> Option<String> {
        let had_it = std::mem::replace(&mut self.has_the_endpoint, has_it);
        match self.obstacle.as_deref() {
            Some(NotLive::Unreachable { source, .. }) if had_it && has_it => {
                Some(error_chain(source))
            }
            _ => None,
        }
    }

    /// Keeps what the process listens on, which is about to be ended, or `None` if that cannot be
    /// seen.
    pub(in crate::adapter) fn handle_sockets(
        &mut self,
        sockets: Option<(ListeningSockets, AddressView)>,
    ) {
        self.sockets = sockets;
        self.is_ending = true;
    }

    /// As a rule an epoch is live in the moment after it was seen to initialise. Only one that is
    /// slow is asked for whom it waits.
    fn targets_are_due(&mut self, now: Instant) -> bool {
        let Some(asked) = self.asked else {
            self.asked = Some(now);
            return false;
        };
        let are_due = now.saturating_duration_since(asked) >= ASK;
        if are_due {
            self.asked = Some(now);
        }
        are_due
    }

    /// Returns why the epoch is not live, for a person.
    pub(in crate::adapter) fn why(&self, admin: &AdminAddress) -> String {
        let mut why = match self.obstacle.as_deref() {
            None => format!("its admin endpoint {admin} was not asked"),
            Some(NotLive::State { state, .. }) if !self.held_by.is_empty() => format!(
                "it is {state} and would take over without what the epoch before has: {}; mend the \
                 control plane, or start without it by --wait-for-resources no",
                self.held_by.join("; ")
            ),
            Some(NotLive::State { state, .. }) => waits_for(state, &self.targets),
            Some(NotLive::OtherEpoch { answering, .. }) => {
                format!("epoch {answering} answers at its admin endpoint {admin}")
            }
            Some(NotLive::Unreachable { source, .. }) => error_chain(source),
            Some(obstacle @ NotLive::NoAnswer { .. }) => obstacle.to_string(),
        };
        // One that has said that it initialises needs no further proof of what it is.
        if matches!(self.obstacle.as_deref(), Some(NotLive::State { .. })) {
            return why;
        }
        if let Some((sockets, view)) = &self.sockets {
            // Writing to a string cannot fail.
            let _ = write!(why, "; the process runs, and clients reach it at {sockets}");
            if let Some(hint) = view.hint(admin) {
                let _ = write!(why, "; {hint}");
            } else if sockets.hides_some() {
                why.push_str(
                    "; it has sockets in a place that handover cannot see, as with \
                     network_namespace_filepath: admin.address must be without it",
                );
            }
        }
        why
    }
}

/// `it is INITIALIZING and waits for its listeners (LDS)`.
fn waits_for(state: &ServerState, targets: &[String]) -> String {
    let named = targets.iter().take(NAMED).map(String::as_str);
    let mut whom = named.collect::<Vec<_>>().join(", ");
    let more = targets.len().saturating_sub(NAMED);
    if more > 0 {
        // Writing to a string cannot fail.
        let _ = write!(whom, " and {more} more");
    }
    if whom.is_empty() {
        // These are not among the targets that Envoy names.
        whom.push_str(match state {
            ServerState::PreInitializing => {
                "its clusters (by CDS), their endpoints (by EDS) or their first health checks"
            }
            ServerState::Initializing => "its listeners (by LDS)",
            ServerState::Live | ServerState::Draining | ServerState::Other(_) => {
                return format!("its state is {state}");
            }
        });
    }
    format!("it is {state} and waits for {whom}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::AdminError;

    fn initializing(targets: &[&str]) -> String {
        let targets: Vec<_> = targets.iter().map(ToString::to_string).collect();
        waits_for(&ServerState::Initializing, &targets)
    }

    #[test]
    fn those_who_are_waited_for_are_named() {
        assert_eq!(
            initializing(&["shared target SdsApi cert"]),
            "it is INITIALIZING and waits for shared target SdsApi cert"
        );
        assert_eq!(
            initializing(&["1", "2", "3", "4", "5", "6", "7"]),
            "it is INITIALIZING and waits for 1, 2, 3, 4, 5 and 2 more"
        );
        assert_eq!(
            initializing(&[]),
            "it is INITIALIZING and waits for its listeners (by LDS)"
        );
        let state = ServerState::Other("DREAMING".to_owned());
        assert_eq!(waits_for(&state, &[]), "its state is DREAMING");
    }

    fn admin() -> AdminAddress {
        "127.0.0.1:9901".parse().unwrap()
    }

    fn unreachable(source: AdminError) -> Arc<NotLive> {
        Arc::new(NotLive::Unreachable { epoch: 1, source })
    }

    fn refused() -> Arc<NotLive> {
        unreachable(AdminError::Status {
            address: admin(),
            path: "/server_info",
            status: 403,
            body: String::new(),
        })
    }

    fn nobody() -> Arc<NotLive> {
        unreachable(AdminError::Connect {
            address: admin(),
            source: std::io::ErrorKind::ConnectionRefused.into(),
        })
    }

    fn older_answers() -> Arc<NotLive> {
        Arc::new(NotLive::OtherEpoch {
            epoch: 1,
            answering: 0,
        })
    }

    fn initialises() -> Arc<NotLive> {
        Arc::new(NotLive::State {
            epoch: 1,
            state: ServerState::Initializing,
        })
    }

    #[test]
    fn only_a_slow_epoch_is_asked_for_whom_it_waits_and_only_now_and_then() {
        let begun = Instant::now();
        let mut start = Start::default();
        let mut asked = |after: u64| {
            let now = begun + Duration::from_millis(after);
            start.handle_obstacle(initialises(), now)
        };
        for (after, question) in [
            (0, None),
            (999, None),
            (1_000, Some(Question::Targets)),
            (1_020, None),
            (1_999, None),
            (2_000, Some(Question::Targets)),
            (9_000, Some(Question::Targets)),
            (9_999, None),
        ] {
            assert_eq!(asked(after), question, "after {after} ms");
        }
        start.handle_targets(vec!["LDS".to_owned()]);
        let why = "it is INITIALIZING and waits for LDS";
        assert_eq!(start.why(&admin()), why);
    }

    #[test]
    fn what_holds_it_back_is_told_with_the_remedy() {
        let mut start = Start::default();
        start.handle_obstacle(initialises(), Instant::now());
        start.handle_held(vec!["listener web".to_owned(), "cluster a".to_owned()]);
        assert_eq!(
            start.why(&admin()),
            "it is INITIALIZING and would take over without what the epoch before has: listener web; \
             cluster a; mend the control plane, or start without it by --wait-for-resources no"
        );
        start.handle_held(Vec::new());
        let waits = "it is INITIALIZING and waits for its listeners (by LDS)";
        assert_eq!(start.why(&admin()), waits);
    }

    #[test]
    fn what_an_epoch_answers_while_it_is_ended_does_not_explain_its_start() {
        let now = Instant::now();
        let mut start = Start::default();
        start.handle_obstacle(initialises(), now);
        start.handle_sockets(None);
        let later = now + Duration::from_secs(5);
        assert_eq!(start.handle_obstacle(nobody(), later), None);
        let waits = "it is INITIALIZING and waits for its listeners (by LDS)";
        assert_eq!(start.why(&admin()), waits);
    }

    #[test]
    fn a_refusal_counts_when_it_is_repeated_by_the_process_itself() {
        let now = Instant::now();
        let mut start = Start::default();
        let endpoint = Some(Question::Endpoint);
        // Each obstacle, and what is seen of the endpoint afterwards, if that is looked at.
        for (obstacle, has_it, is_final) in [
            (refused(), Some(true), false),
            (older_answers(), None, false),
            (refused(), Some(true), false),
            (initialises(), None, false),
            (refused(), Some(true), false),
            (nobody(), None, false),
            (refused(), Some(false), false),
            (refused(), Some(true), false),
            (refused(), Some(false), false),
            (refused(), Some(false), false),
            (refused(), Some(true), false),
            (refused(), Some(true), true),
        ] {
            let question = start.handle_obstacle(obstacle, now);
            assert_eq!(question, has_it.and(endpoint));
            let why = has_it.and_then(|has_it| start.handle_endpoint(has_it));
            assert_eq!(why.is_some(), is_final, "{why:?}");
            assert!(why.is_none_or(|why| why.contains("/server_info with 403")));
        }
    }

    #[test]
    fn the_last_obstacle_is_told() {
        let now = Instant::now();
        let mut start = Start::default();
        let asked = start.why(&admin());
        assert_eq!(asked, "its admin endpoint 127.0.0.1:9901 was not asked");
        start.handle_obstacle(nobody(), now);
        let why = start.why(&admin());
        assert!(why.starts_with("cannot connect to the admin endpoint 127.0.0.1:9901: "));
        start.handle_obstacle(older_answers(), now);
        let older = "epoch 0 answers at its admin endpoint 127.0.0.1:9901";
        assert_eq!(start.why(&admin()), older);
        start.handle_sockets(Some((
            ListeningSockets::default(),
            AddressView::OtherNetwork,
        )));
        let why = start.why(&admin());
        let seen =
            "; the process runs, and clients reach it at no socket; it is in another network";
        assert!(why.starts_with(older) && why.contains(seen), "{why}");
        // What it says of itself says more than its sockets.
        let mut start = Start::default();
        start.handle_obstacle(initialises(), now);
        start.handle_sockets(Some((
            ListeningSockets::default(),
            AddressView::OtherNetwork,
        )));
        let waits = "it is INITIALIZING and waits for its listeners (by LDS)";
        assert_eq!(start.why(&admin()), waits);
    }
}
