//! Whether an epoch whose start is withdrawn may be dropped, from what was seen of it.
//!
//! Envoy starts to accept connections, then tells its parent to stop listening, and then says LIVE,
//! all within a millisecond. An epoch that has taken something over must go live and be drained. What
//! cannot be seen is not taken for nothing.

use crate::admin::{ServerInfo, ServerState};

/// What an epoch has taken over from its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::adapter) enum Taken {
    /// The parent was seen to listen, and the epoch to have no client.
    Nothing,
    /// The parent was seen not to listen, or the epoch to have a client.
    Something,
    /// That could not be seen. An Envoy that is just being loaded, for example, has no sockets yet.
    Unknown,
}

/// Returns what an epoch with a parent has taken over.
pub(in crate::adapter) fn taken(
    parent_has_closed: Option<bool>,
    has_clients: Option<bool>,
) -> Taken {
    match (parent_has_closed, has_clients) {
        (Some(false), Some(false)) => Taken::Nothing,
        (Some(true), _) | (_, Some(true)) => Taken::Something,
        (None, _) | (_, None) => Taken::Unknown,
    }
}

/// What an epoch without a parent answers at its admin endpoint.
#[derive(Clone, Debug)]
pub(in crate::adapter) enum Answer {
    /// This.
    Info(Box<ServerInfo>),
    /// Nobody listens there: an Envoy without an endpoint has not come so far as to serve.
    NobodyThere,
    /// Nothing that can be used.
    Silence,
}

/// Returns whether an epoch without a parent says that it serves, although that was not noticed yet.
pub(in crate::adapter) fn says_live(answer: &Answer, restart_epoch: u32) -> bool {
    match answer {
        Answer::Info(info) => {
            info.restart_epoch == restart_epoch && info.state == ServerState::Live
        }
        Answer::NobodyThere | Answer::Silence => false,
    }
}

/// Returns whether an epoch without a parent must be taken as serving, from its clients where they can
/// be seen. Otherwise an endpoint that exists and says nothing may belong to an Envoy that serves.
pub(in crate::adapter) fn may_serve(answer: &Answer, has_clients: Option<bool>) -> bool {
    has_clients.unwrap_or(matches!(answer, Answer::Silence))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn info(restart_epoch: u32, state: ServerState) -> Answer {
        Answer::Info(Box::new(ServerInfo {
            state,
            restart_epoch,
            concurrency: None,
            version: "1.40.0".to_owned(),
            hot_restart_version: "11.104".to_owned(),
            uptime: Duration::ZERO,
            uptime_all_epochs: Duration::ZERO,
        }))
    }

    #[test]
    fn only_what_is_seen_to_have_taken_nothing_is_dropped() {
        let seen = [None, Some(false), Some(true)];
        for parent_has_closed in seen {
            for has_clients in seen {
                let both = (parent_has_closed, has_clients);
                let is_nothing = taken(parent_has_closed, has_clients) == Taken::Nothing;
                assert_eq!(is_nothing, both == (Some(false), Some(false)), "{both:?}");
            }
        }
    }

    #[test]
    fn one_that_was_seen_to_have_taken_something_is_not_looked_at_again() {
        for seen in [None, Some(false), Some(true)] {
            assert_eq!(taken(Some(true), seen), Taken::Something);
            assert_eq!(taken(seen, Some(true)), Taken::Something);
        }
        for seen in [None, Some(false)] {
            assert_eq!(taken(None, seen), Taken::Unknown);
            assert_eq!(taken(seen, None), Taken::Unknown);
        }
    }

    #[test]
    fn an_epoch_says_live_for_itself_alone() {
        assert!(says_live(&info(1, ServerState::Live), 1));
        assert!(!says_live(&info(0, ServerState::Live), 1));
        assert!(!says_live(&info(1, ServerState::Initializing), 1));
        assert!(!says_live(&Answer::NobodyThere, 1));
        assert!(!says_live(&Answer::Silence, 1));
    }

    #[test]
    fn clients_decide_and_silence_counts_where_they_cannot_be_seen() {
        let initializing = info(0, ServerState::Initializing);
        for answer in [&initializing, &Answer::NobodyThere, &Answer::Silence] {
            assert!(may_serve(answer, Some(true)));
            assert!(!may_serve(answer, Some(false)));
        }
        assert!(may_serve(&Answer::Silence, None));
        assert!(!may_serve(&Answer::NobodyThere, None));
        assert!(!may_serve(&initializing, None));
    }
}
