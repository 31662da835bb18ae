//! Who is connected and lets the supervisor wait: for a request, or until the answer is read.
//!
//! A client that does neither holds a place and a descriptor. There are only so many of both, so the
//! one that has waited for longest goes when another one comes: first those that have not asked, then
//! those that have their answer and do not read it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// What a connection still has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owes {
    /// To ask.
    Asking,
    /// To read the answer.
    Reading,
    /// Nothing: the supervisor has to answer.
    Nothing,
}

/// All connections.
#[derive(Debug, Default)]
pub(crate) struct Connections(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    next: u64,
    rows: BTreeMap<u64, Row>,
}

#[derive(Debug)]
struct Row {
    owes: Owes,
    dismiss: Arc<Notify>,
}

/// A connection, in the table for as long as this lives.
#[derive(Debug)]
pub(crate) struct Connection {
    number: u64,
    connections: Arc<Connections>,
}

/// Where a connection hears that it must go.
#[derive(Debug)]
pub(crate) struct Dismissed(Arc<Notify>);

impl Connections {
    /// Returns how many there are.
    pub(crate) fn number(&self) -> usize {
        self.table().rows.len()
    }

    /// Notes a connection, which owes a request.
    pub(crate) fn enter(self: &Arc<Self>) -> (Connection, Dismissed) {
        let dismiss = Arc::new(Notify::new());
        let dismissed = Dismissed(Arc::clone(&dismiss));
        let mut table = self.table();
        let number = table.next;
        table.next += 1;
        let owes = Owes::Asking;
        table.rows.insert(number, Row { owes, dismiss });
        let connections = Arc::clone(self);
        (
            Connection {
                number,
                connections,
            },
            dismissed,
        )
    }

    /// Sends away the oldest connection that has not asked, or else the oldest one that does not read
    /// its answer. False if there is neither.
    pub(crate) fn dismiss(&self) -> bool {
        let mut table = self.table();
        let waiting = table
            .rows
            .iter()
            .filter(|(_, row)| row.owes != Owes::Nothing);
        let oldest = waiting.min_by_key(|(number, row)| (row.owes, **number));
        let Some(number) = oldest.map(|(number, _)| *number) else {
            return false;
        };
        if let Some(row) = table.rows.remove(&number) {
            row.dismiss.notify_one();
        }
        true
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing in here is left half-way by a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Notes what the connection has to do next.
    pub(crate) fn owes(&self, owes: Owes) {
        if let Some(row) = self.connections.table().rows.get_mut(&self.number) {
            row.owes = owes;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.connections.table().rows.remove(&self.number);
    }
}

impl Dismissed {
    /// Waits until the connection must go.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn come(&self) {
        self.0.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn the_oldest_one_that_has_not_asked_goes_first_and_one_that_is_answered_never() {
        let connections = Arc::new(Connections::default());
        let all: Vec<_> = (0..4).map(|_| connections.enter()).collect();
        all[0].0.owes(Owes::Nothing);
        all[1].0.owes(Owes::Reading);
        for expected in [2, 3, 1] {
            assert!(connections.dismiss());
            for (index, (_, dismissed)) in all.iter().enumerate() {
                let told = timeout(Duration::from_millis(1), dismissed.come()).await;
                assert_eq!(told.is_ok(), index == expected, "{index}");
            }
        }
        assert!(!connections.dismiss());
    }

    #[test]
    fn one_that_has_ended_is_forgotten() {
        let connections = Arc::new(Connections::default());
        drop(connections.enter());
        assert!(!connections.dismiss());
        assert!(connections.table().rows.is_empty());
    }
}
