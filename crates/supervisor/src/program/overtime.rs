//! How long a replaced process may go on once its time to finish is over: as long as it has connections of
//! clients.
//!
//! The program tells nothing about its connections. But the tables of the host show which ones the process and
//! its workers have taken at the sockets that were passed to them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use handover_core::Epoch;
use handover_netutil::connections::{LocalAddress, Looked, accepted_at, look};
use handover_process::{Child, family};
use handover_runtime::offload::offload;
use handover_tokio::error_chain;
use tokio::time::sleep;

use super::Sockets;

/// The pause between two looks. A look takes some hundred milliseconds on a host with a hundred thousand
/// connections.
const PAUSE: Duration = Duration::from_secs(1);

/// How many looks in a row must show no connection. A worker that was just started may be missing in one.
const LOOKS: u32 = 2;

/// What one look at the connections of a process has shown: how many there are, or why that is unknown.
type Count = Result<u64, String>;

/// What looks have shown so far.
#[derive(Debug, Default)]
struct Overtime {
    /// How many of the last looks have shown no connection.
    without: u32,
    /// What was said last of what holds the process.
    said: Option<&'static str>,
}

/// What follows from a look.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// The process goes on. The text is for the log, where there is something new.
    GoesOn(Option<String>),
    /// It has nothing left to finish.
    Over,
}

impl Overtime {
    fn handle_look(&mut self, count: Count) -> Step {
        let (kind, text) = match count {
            Ok(0) => {
                self.without = self.without.saturating_add(1);
                return match self.without >= LOOKS {
                    true => Step::Over,
                    false => Step::GoesOn(None),
                };
            }
            Ok(1) => ("connected", "it still has 1 connection".to_owned()),
            Ok(count) => ("connected", format!("it still has {count} connections")),
            Err(why) => (
                "unknown",
                format!("whether it still has connections is unknown: {why}"),
            ),
        };
        self.without = 0;
        let is_new = self.said.replace(kind) != Some(kind);
        Step::GoesOn(is_new.then_some(text))
    }
}

/// Waits until a process has no connection of a client any more.
pub(super) async fn over(epoch: Epoch, child: &Child, sockets: &Sockets) {
    let mut overtime = Overtime::default();
    loop {
        let count = count(child.pid(), sockets).await;
        match overtime.handle_look(count) {
            Step::Over => return,
            Step::GoesOn(Some(why)) => {
                tracing::info!(epoch = epoch.number(), "epoch {epoch} goes on: {why}");
            }
            Step::GoesOn(None) => {}
        }
        sleep(PAUSE).await;
    }
}

/// Counts the connections of a process and its workers at the passed sockets.
async fn count(pid: u32, sockets: &Sockets) -> Count {
    if let Some(name) = sockets.uncountable().next() {
        return Err(format!(
            "the socket {name} is of a kind that is not looked at"
        ));
    }
    let mut places = BTreeSet::new();
    places.extend(sockets.listeners().map(|(at, _)| at));
    let looked = offload(move || {
        let family = family(pid)?;
        let looked = look(std::slice::from_ref(&family)).pop();
        Ok::<_, std::io::Error>(looked.unwrap_or_default())
    });
    match looked.await {
        Ok(Ok(looked)) => counted(&looked, &places),
        Ok(Err(error)) => Err(error_chain(&error)),
        Err(error) => Err(error_chain(&error)),
    }
}

/// How many of the connections were taken at these places.
fn counted(looked: &Looked, places: &BTreeSet<LocalAddress>) -> Count {
    let tcp: BTreeSet<SocketAddr> = places
        .iter()
        .filter_map(|place| match place {
            LocalAddress::Tcp(address) => Some(*address),
            LocalAddress::Unix(_) => None,
        })
        .collect();
    let is_of_a_client = |local: &LocalAddress| match local {
        LocalAddress::Tcp(local) => accepted_at(*local, &tcp).is_some(),
        name @ LocalAddress::Unix(_) => places.contains(name),
    };
    let connections = looked.connections.iter();
    let clients = connections.filter(|connection| is_of_a_client(&connection.local));
    let count = clients.fold(0_u64, |count, _| count.saturating_add(1));
    match looked.unread.first() {
        Some(error) if count == 0 => Err(error_chain(error)),
        _ => Ok(count),
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use handover_netutil::connections::{Connection, ConnectionsError};

    use super::*;

    fn tcp(address: &str) -> LocalAddress {
        LocalAddress::Tcp(address.parse().unwrap())
    }

    fn said(text: &str) -> Step {
        Step::GoesOn(Some(text.to_owned()))
    }

    #[test]
    fn it_is_over_after_two_looks_in_a_row_without_a_connection() {
        let mut overtime = Overtime::default();
        assert_eq!(
            overtime.handle_look(Ok(2)),
            said("it still has 2 connections")
        );
        assert_eq!(overtime.handle_look(Ok(1)), Step::GoesOn(None));
        assert_eq!(overtime.handle_look(Ok(0)), Step::GoesOn(None));
        assert_eq!(overtime.handle_look(Ok(1)), Step::GoesOn(None));
        assert_eq!(overtime.handle_look(Ok(0)), Step::GoesOn(None));
        assert_eq!(overtime.handle_look(Ok(0)), Step::Over);
    }

    #[test]
    fn what_cannot_be_counted_is_no_zero() {
        let mut overtime = Overtime::default();
        let unknown = || Err("no entry".to_owned());
        assert_eq!(overtime.handle_look(Ok(0)), Step::GoesOn(None));
        assert_eq!(
            overtime.handle_look(unknown()),
            said("whether it still has connections is unknown: no entry")
        );
        assert_eq!(overtime.handle_look(unknown()), Step::GoesOn(None));
        assert_eq!(overtime.handle_look(Ok(0)), Step::GoesOn(None));
        assert_eq!(
            overtime.handle_look(Ok(1)),
            said("it still has 1 connection")
        );
    }

    #[test]
    fn only_what_was_taken_at_the_passed_sockets_counts() {
        let places = BTreeSet::from([tcp("0.0.0.0:80"), LocalAddress::Unix("/run/web".to_owned())]);
        let of = |local| Connection::new(1, 7, 3, local);
        let mut looked = Looked {
            connections: vec![
                of(tcp("10.0.0.1:80")),
                // Its own, to a database.
                of(tcp("10.0.0.1:40000")),
                of(LocalAddress::Unix("/run/web".to_owned())),
                of(LocalAddress::Unix("/run/other".to_owned())),
            ],
            ..Looked::default()
        };
        assert_eq!(counted(&looked, &places), Ok(2));

        looked.connections.clear();
        // A worker that has ended has no connection; one that runs may, also where `/proc` hides it.
        looked.ended = [8].into();
        assert_eq!(counted(&looked, &places), Ok(0));
        let hidden = ConnectionsError::new(7, "/proc/7".into(), ErrorKind::NotFound.into());
        looked.unread.push(hidden);
        assert!(counted(&looked, &places).is_err());
    }
}
