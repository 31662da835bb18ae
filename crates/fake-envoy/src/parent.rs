//! What a process does about a message of its child.

use crate::faults::{Habit, Habits};
use crate::wire::{HotRestartMessage, RequestKind};

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Duty {
    /// Nothing.
    Nothing,
    /// Answer that the message was not understood.
    NotRecognized,
    /// Pass a listening socket on.
    PassSocket { address: String, worker: u32 },
    /// Answer that there is no listening socket.
    PassNoSocket,
    /// Close the admin endpoint, end the own parent, and answer.
    ShutDownAdmin,
    /// Answer with the statistics.
    TellStatistics,
    /// Close the listeners and drain.
    Drain,
    /// End.
    End,
}

/// Decides.
pub(crate) fn duty(message: &HotRestartMessage, habits: &Habits) -> Duty {
    let Some(request) = &message.request else {
        return Duty::Nothing;
    };
    let is_deaf = habits.has(&Habit::DeafParent);
    match &request.kind {
        Some(RequestKind::Terminate(_)) if habits.has(&Habit::IgnoreTerminate) => Duty::Nothing,
        Some(RequestKind::Terminate(_)) => Duty::End,
        _ if is_deaf => Duty::Nothing,
        None => Duty::NotRecognized,
        Some(RequestKind::PassListenSocket(_)) if habits.has(&Habit::RefuseSockets) => {
            Duty::PassNoSocket
        }
        Some(RequestKind::PassListenSocket(asked)) => Duty::PassSocket {
            address: asked.address.clone(),
            worker: asked.worker_index,
        },
        Some(RequestKind::ShutdownAdmin(_)) => Duty::ShutDownAdmin,
        Some(RequestKind::Stats(_)) => Duty::TellStatistics,
        Some(RequestKind::DrainListeners(_)) => Duty::Drain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::Faults;
    use crate::wire::{Nothing, PassListenSocket, Request, request};

    fn habits(texts: &str) -> Habits {
        let faults = texts.split_whitespace().map(|text| text.parse().unwrap());
        Faults::new(faults.collect(), 0, None).habits()
    }

    #[test]
    fn each_message_has_its_duty_and_faults_change_it() {
        let socket = || {
            RequestKind::PassListenSocket(PassListenSocket {
                address: "tcp://a".to_owned(),
                worker_index: 1,
            })
        };
        let pass = Duty::PassSocket {
            address: "tcp://a".to_owned(),
            worker: 1,
        };
        for (faults, kind, expected) in [
            ("", socket(), pass),
            ("refuse-sockets", socket(), Duty::PassNoSocket),
            ("deaf-parent", socket(), Duty::Nothing),
            (
                "",
                RequestKind::ShutdownAdmin(Nothing {}),
                Duty::ShutDownAdmin,
            ),
            ("", RequestKind::Stats(Nothing {}), Duty::TellStatistics),
            ("deaf-parent", RequestKind::Stats(Nothing {}), Duty::Nothing),
            ("", RequestKind::DrainListeners(Nothing {}), Duty::Drain),
            ("deaf-parent", RequestKind::Terminate(Nothing {}), Duty::End),
            (
                "ignore-terminate",
                RequestKind::Terminate(Nothing {}),
                Duty::Nothing,
            ),
        ] {
            assert_eq!(duty(&request(kind), &habits(faults)), expected, "{faults}");
        }
        let unknown = HotRestartMessage {
            request: Some(Request { kind: None }),
            ..HotRestartMessage::default()
        };
        assert_eq!(duty(&unknown, &habits("")), Duty::NotRecognized);
        assert_eq!(
            duty(&HotRestartMessage::default(), &habits("")),
            Duty::Nothing
        );
    }
}
