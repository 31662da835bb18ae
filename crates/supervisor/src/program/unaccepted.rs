//! Tells of clients that nobody accepts.
//!
//! A program that does not take the sockets it is passed looks like one that serves: it runs, and the kernel completes
//! the connections. They wait in the queue of the socket. Most often a script has started the program without `exec`, so
//! that `LISTEN_PID` names the script.

use std::convert::Infallible;
use std::time::Duration;

use handover_core::Epoch;

use super::sockets::Sockets;

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// How often an epoch is looked at after it is live. Nothing wakes this process for it after that.
const LOOKS: u32 = 10;

/// In so many looks in a row, as many connections as before or more must wait. A server that is slow for a moment accepts
/// one in between.
const IN_A_ROW: u32 = 5;

/// The connections that wait at each socket.
#[derive(Debug, Default)]
struct Unaccepted(Vec<Queue>);

#[derive(Clone, Debug, Default)]
struct Queue {
    waiting: u32,
    /// In how many looks in a row it has not become shorter.
    looks: u32,
}

impl Unaccepted {
    /// Takes in how many wait at each socket, where that is known. Returns the sockets that must be told of now.
    fn handle_look(&mut self, waiting: &[Option<u32>]) -> Vec<usize> {
        self.0.resize(waiting.len(), Queue::default());
        let mut told = Vec::new();
        for (index, (queue, waiting)) in self.0.iter_mut().zip(waiting).enumerate() {
            let waiting = waiting.unwrap_or_default();
            queue.looks = match waiting {
                0 => 0,
                waiting if waiting < queue.waiting => 1,
                _ => queue.looks.saturating_add(1),
            };
            queue.waiting = waiting;
            if queue.looks == IN_A_ROW {
                told.push(index);
            }
        }
        told
    }
}

/// Looks at the queues of an epoch that has just become live, and logs of each once if nobody accepts. It never returns.
pub(super) async fn tell(sockets: &Sockets, epoch: Epoch) -> Infallible {
    let mut unaccepted = Unaccepted::default();
    for _ in 0..LOOKS {
        tokio::time::sleep(PAUSE).await;
        let waiting = sockets.all().iter().map(|(_, socket)| socket.waiting());
        let waiting: Vec<_> = waiting.collect();
        for index in unaccepted.handle_look(&waiting) {
            if let Some((name, socket)) = sockets.all().get(index) {
                let waiting = waiting.get(index).copied().flatten().unwrap_or_default();
                tracing::warn!(
                    epoch = epoch.number(),
                    name,
                    "epoch {epoch} is live, but {waiting} connections wait at {}, and they do not get fewer: it accepts \
                     too slowly, or does not take the sockets that it is passed; a script must start the program by \
                     `exec`, as LISTEN_PID is the process that they are for",
                    socket.address()
                );
            }
        }
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns at which looks each of the sockets is told of.
    fn told<const N: usize>(looks: &[[Option<u32>; N]]) -> Vec<(usize, Vec<usize>)> {
        let mut unaccepted = Unaccepted::default();
        let told = looks.iter().enumerate();
        let told = told.map(|(look, waiting)| (look + 1, unaccepted.handle_look(waiting)));
        told.filter(|(_, sockets)| !sockets.is_empty()).collect()
    }

    #[test]
    fn a_queue_that_never_becomes_shorter_is_told_of_once() {
        let looks = [0, 1, 1, 2, 7, 7, 7, 7, 7, 7].map(|waiting| [Some(waiting)]);
        assert_eq!(told(&looks), [(6, vec![0])]);
    }

    #[test]
    fn one_that_is_taken_from_is_not() {
        let looks = [3, 3, 3, 3, 2, 2, 2, 2, 0, 5, 5, 5, 5, 4].map(|waiting| [Some(waiting)]);
        assert_eq!(told(&looks), []);
    }

    #[test]
    fn each_socket_counts_by_itself_and_an_unknown_queue_is_none() {
        let look = [Some(0), Some(1), None, Some(2)];
        assert_eq!(told(&[look; 7]), [(5, vec![1, 3])]);
        let unknown = [
            [Some(1)],
            [Some(1)],
            [None],
            [Some(1)],
            [Some(1)],
            [Some(1)],
        ];
        assert_eq!(told(&unknown), []);
    }
}
