//! The table of running epochs, and every decision that needs to know several of them.
//!
//! The table is pure. It holds no process and no lock, reads no clock and does no I/O: processes are
//! known by their ids, lineages by their numbers, and the time is an argument. `running` keeps it
//! together with the processes; `epoch_run` carries out what it decides.
//!
//! ```text
//!   register ──> initialising ──go_live──> live ──a newer one of its lineage goes live─> replaced
//!                    │                      │                                              ^
//!                    give_up_start          └──its listeners are gone, or it gave way──────┘
//!                    v
//!                given up (never live)            remove: the end of each of them
//! ```
//!
//! Beside that, the agent counts on an epoch until it is dismissed: it is retired, it is told to stop,
//! or it has reported that it has stopped serving. An epoch that was replaced and not dismissed must
//! report that once the newer one has ended.
//!
//! Beside the table there are the decisions about one epoch, in the order of its life: how it follows
//! on the newest one ([`succession`]), which text it runs and whether that must be validated
//! ([`preparation`]), why it is not live yet ([`start`]), whether it may be dropped
//! when its start is withdrawn ([`withdrawal`]), whether it hangs ([`silence`]), what happens to it
//! once a newer one is live ([`old_epoch`]), whether it has finished its work ([`draining`]), and what
//! its end means ([`end`]). What it lacks beside an older one is found by [`evidence`] and [`absence`], and
//! whether it may take over without that by [`gate`].

mod absence;
mod cluster_absence;
pub(super) mod draining;
pub(super) mod end;
pub(super) mod evidence;
pub(super) mod gate;
pub(super) mod old_epoch;
pub(super) mod preparation;
pub(super) mod silence;
pub(super) mod start;
pub(super) mod succession;
pub(super) mod withdrawal;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use handover_core::{Abort, Epoch};

use crate::listening::Serves;

/// Envoy counts its parent-shutdown time from a moment that is not seen.
const PARENT_SHUTDOWN_INACCURACY: Duration = Duration::from_secs(1);

/// The number of a lineage: of the epochs that hand over to each other by hot restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LineageId(pub(super) u64);

/// The running epochs, and what was seen of each.
#[derive(Debug, Default)]
pub(super) struct Epochs {
    running: BTreeMap<Epoch, Running>,
}

/// An epoch that was started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Started {
    pub(super) pid: u32,
    pub(super) lineage: LineageId,
    /// Whether its configuration may have a listener for clients.
    pub(super) may_listen: bool,
}

/// One running epoch.
#[derive(Debug)]
struct Running {
    started: Started,
    /// When it was first seen live.
    live_since: Option<Instant>,
    /// Whether it has passed its probation.
    proven: bool,
    /// Whether its start was given up before it was live.
    given_up: bool,
    /// Whether it listens on nothing any more, because a newer epoch has been live.
    replaced: bool,
    /// Whether the agent counts on it no more: it was retired, told to stop, or has reported that it
    /// has stopped serving.
    dismissed: bool,
    /// Whether the last look found listening sockets for clients, if there was one.
    serves: Option<Serves>,
    /// Whether any look has.
    has_served: bool,
    /// Whether it has no client left that a stop, or a newer epoch, would wait for.
    drained: bool,
    /// Whether it was logged how its connections are counted.
    count_is_logged: bool,
}

/// How the process of an epoch is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// SIGTERM, and SIGKILL when the agent asks for it.
    Orderly,
    /// SIGKILL at once.
    Kill,
}

/// What becomes of an epoch whose start the agent withdraws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Withdrawal {
    /// It is live: the drain takes care of it.
    IsLive,
    /// It takes over from this parent, which may still have its listeners.
    TakesOverFrom(Epoch),
    /// Nothing serves beside it in its lineage.
    Alone,
}

/// A parent that does not answer the epoch that was to take over from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeafParent {
    /// It was replaced before, so nobody counts on it, and it keeps every start from going on: it is killed.
    Kill(Epoch),
    /// It serves, or may serve.
    Keep(Epoch),
}

impl Epochs {
    /// Adds an epoch that was just started.
    pub(super) fn register(&mut self, epoch: Epoch, started: Started) {
        let running = Running {
            started,
            live_since: None,
            proven: false,
            given_up: false,
            replaced: false,
            dismissed: false,
            serves: None,
            has_served: false,
            drained: false,
            count_is_logged: false,
        };
        self.running.insert(epoch, running);
    }

    /// Removes an epoch that has ended. Its number may be used again, so it must not go on counting
    /// as the newest.
    pub(super) fn remove(&mut self, epoch: Epoch) {
        self.running.remove(&epoch);
    }

    /// Gives the start of an epoch up, so that it does not go live any more. Returns false where it
    /// is live already, or has ended.
    pub(super) fn give_up_start(&mut self, epoch: Epoch) -> bool {
        let running = self.running.get_mut(&epoch);
        let Some(starting) = running.filter(|running| !running.is_live()) else {
            return false;
        };
        starting.given_up = true;
        true
    }

    /// Notes that an epoch was seen live, and that it replaces the older ones of its lineage. Returns
    /// false where its start was given up: its end is under way.
    pub(super) fn go_live(&mut self, epoch: Epoch, now: Instant) -> bool {
        let Some(running) = self.running.get_mut(&epoch) else {
            return true;
        };
        if running.given_up {
            return false;
        }
        running.live_since = Some(now);
        let lineage = running.started.lineage;
        for (_, older) in self.running.range_mut(..epoch) {
            // An epoch of another lineage closes its listeners when it is told to.
            if older.started.lineage == lineage {
                older.replaced = true;
            }
        }
        true
    }

    /// Returns the newest epoch, live or not.
    pub(super) fn newest(&self) -> Option<Epoch> {
        self.running.keys().next_back().copied()
    }

    /// Returns the newest epoch that was seen live.
    pub(super) fn newest_live(&self) -> Option<Epoch> {
        let mut newest_first = self.running.iter().rev();
        let (epoch, _) = newest_first.find(|(_, running)| running.is_live())?;
        Some(*epoch)
    }

    /// Notes that a live epoch has passed its probation.
    pub(super) fn prove(&mut self, epoch: Epoch) {
        if let Some(running) = self.running.get_mut(&epoch) {
            running.proven = true;
        }
    }

    /// Returns the newest epoch if it is live, and whether it has passed its probation. It has the admin
    /// endpoint then: a newer one takes that over as it starts.
    pub(super) fn newest_if_live(&self) -> Option<(Epoch, bool)> {
        let (epoch, running) = self.running.last_key_value()?;
        running.is_live().then_some((*epoch, running.proven))
    }

    /// Returns whether the epoch was seen live.
    pub(super) fn is_live(&self, epoch: Epoch) -> bool {
        self.running.get(&epoch).is_some_and(Running::is_live)
    }

    /// Returns whether an epoch serves beside which another one can start.
    pub(super) fn any_serves(&self) -> bool {
        let mut running = self.running.values();
        running.any(|running| running.is_live() && !running.replaced)
    }

    /// Returns the epochs that no newer one has replaced, each with its process id, oldest first.
    pub(super) fn not_replaced(&self) -> impl Iterator<Item = (Epoch, u32)> {
        let listening = self.running.iter().filter(|(_, running)| !running.replaced);
        listening.map(|(epoch, running)| (*epoch, running.started.pid))
    }

    /// Returns whether the epoch runs and was not replaced yet, as far as its listeners go.
    pub(super) fn has_listeners(&self, epoch: Epoch) -> bool {
        let running = self.running.get(&epoch);
        running.is_some_and(|running| !running.replaced)
    }

    /// Notes what a look at the sockets of an epoch has found: `None` if they could not be seen.
    pub(super) fn note_listeners(&mut self, epoch: Epoch, serves: Option<Serves>) {
        if let Some(running) = self.running.get_mut(&epoch) {
            running.serves = serves;
            running.has_served |= serves == Some(Serves::Yes);
        }
    }

    /// Returns whether clients can connect to the epoch, if that can be seen. An epoch that has no
    /// listener by its configuration is not expected to have one.
    pub(super) fn listens(&self, epoch: Epoch) -> Option<bool> {
        let running = self.running.get(&epoch)?;
        if running.replaced {
            return Some(false);
        }
        match running.serves? {
            Serves::Yes => Some(true),
            Serves::No if running.has_served || running.started.may_listen => Some(false),
            Serves::No | Serves::Unknown => None,
        }
    }

    /// Returns whether the epoch still listens although a newer one is live, and so must be told to
    /// close its listeners: it is of another lineage than the newer one, which cannot take them over.
    pub(super) fn must_give_way(&self, epoch: Epoch) -> bool {
        self.has_listeners(epoch) && self.newest_live().is_some_and(|live| live > epoch)
    }

    /// Notes what a look at the sockets of an epoch that gives way has found, and returns whether it
    /// listens on nothing any more. An epoch whose sockets cannot be seen is taken at its word.
    pub(super) fn has_given_way(&mut self, epoch: Epoch, serves: Option<Serves>) -> bool {
        if serves == Some(Serves::Yes) {
            return false;
        }
        if let Some(running) = self.running.get_mut(&epoch) {
            running.replaced = true;
        }
        true
    }

    /// Returns whether epochs newer than this one run, and none of them is its child, which would tell it
    /// to end: they are of other lineages, or its child has died and the next one runs.
    pub(super) fn is_left_behind(&self, epoch: Epoch) -> bool {
        let Some(lineage) = self.lineage(epoch) else {
            return false;
        };
        let child = epoch.next().and_then(|child| self.running.get(&child));
        let has_child = child.is_some_and(|child| child.started.lineage == lineage);
        !has_child && self.newer(epoch).next().is_some()
    }

    /// Notes that the agent has retired the epoch, because a newer one serves in its place.
    pub(super) fn retire(&mut self, epoch: Epoch) {
        if let Some(running) = self.running.get_mut(&epoch) {
            running.dismissed = true;
        }
    }

    /// Returns whether the end of an epoch, which is no longer in the table, calls for a look at the
    /// listeners of the newest live one.
    ///
    /// A start that has failed may have taken them over. A newer epoch that was live has done so. As
    /// a rule the agent has retired the older one then. But it has not if it told the newer one to
    /// stop in the very moment in which that one went live.
    pub(super) fn must_look_after_end(&self, was_live: bool) -> bool {
        let newest = self.newest_live().and_then(|live| self.running.get(&live));
        !was_live || newest.is_some_and(|live| live.replaced && !live.dismissed)
    }

    /// Returns the newest live epoch, with its process id, if the agent counts on it and a newer one
    /// that has ended may have cost it its listeners.
    pub(super) fn may_have_lost_listeners(&self) -> Option<(Epoch, u32)> {
        let epoch = self.newest_live()?;
        let running = self.running.get(&epoch)?;
        let had_any = running.has_served || (running.replaced && running.started.may_listen);
        (had_any && !running.dismissed).then_some((epoch, running.started.pid))
    }

    /// Notes what a look at the epoch has found that [may have lost its
    /// listeners](Self::may_have_lost_listeners). Returns true, once, if they are gone. What cannot be
    /// seen is taken as it was: gone if the newer one was live, and otherwise still there.
    pub(super) fn has_lost_listeners(
        &mut self,
        epoch: Epoch,
        pid: u32,
        serves: Option<Serves>,
    ) -> bool {
        // Meanwhile it may have ended, and its number be used again, or a newer one may be live.
        if self.may_have_lost_listeners() != Some((epoch, pid)) {
            return false;
        }
        let Some(running) = self.running.get_mut(&epoch) else {
            return false;
        };
        match serves {
            Some(Serves::Yes) => running.replaced = false,
            Some(Serves::No) => {
                running.replaced = true;
                running.serves = serves;
            }
            Some(Serves::Unknown) | None => {}
        }
        running.dismissed = running.replaced;
        running.replaced
    }

    /// Notes that the agent aborts the epoch, and returns how it is ended.
    ///
    /// The orderly end of an epoch tells its parent to end as well. So an epoch is killed if it
    /// initialises beside an older one of its lineage, or if the agent still counts on such a one.
    pub(super) fn abort(&mut self, epoch: Epoch, how: Abort) -> Ending {
        if let Some(running) = self.running.get_mut(&epoch) {
            running.dismissed = true;
        }
        let would_end_others = match (self.lineage(epoch), self.is_live(epoch)) {
            (None, _) => false,
            (Some(lineage), false) => self.others_run(lineage, epoch),
            (Some(lineage), true) => {
                let mut older = self.running.range(..epoch).map(|(_, older)| older);
                older.any(|older| older.started.lineage == lineage && !older.dismissed)
            }
        };
        if how == Abort::Immediate || would_end_others {
            Ending::Kill
        } else {
            Ending::Orderly
        }
    }

    /// Returns what becomes of the epoch whose start is withdrawn.
    pub(super) fn withdrawal(&self, epoch: Epoch) -> Withdrawal {
        if self.is_live(epoch) {
            return Withdrawal::IsLive;
        }
        let parent = self.older_in_lineage(epoch).next_back();
        parent.map_or(Withdrawal::Alone, Withdrawal::TakesOverFrom)
    }

    /// Returns the older epochs of the same lineage, oldest first.
    pub(super) fn older_in_lineage(&self, epoch: Epoch) -> impl DoubleEndedIterator<Item = Epoch> {
        let lineage = self.lineage(epoch);
        let older = self.running.range(..epoch);
        older
            .filter(move |(_, running)| Some(running.started.lineage) == lineage)
            .map(|(epoch, _)| *epoch)
    }

    /// Returns whether any epoch of the lineage runs beside this one.
    pub(super) fn others_run(&self, lineage: LineageId, epoch: Epoch) -> bool {
        let mut running = self.running.iter();
        running.any(|(other, running)| *other != epoch && running.started.lineage == lineage)
    }

    /// Returns whether an epoch of the lineage runs that was not live yet: the flag in shared
    /// memory is its own then.
    pub(super) fn any_initializes(&self, lineage: LineageId) -> bool {
        let mut running = self.running.values();
        running.any(|running| !running.is_live() && running.started.lineage == lineage)
    }

    /// Returns whether the flag may be cleared that this epoch may have left in the shared memory of
    /// its lineage. The epoch must have been reaped and removed. Without another epoch in the lineage
    /// nobody needs it cleared, because the next one makes the memory again.
    pub(super) fn may_clear_flag(&self, lineage: LineageId, ended: Epoch) -> bool {
        !self.any_initializes(lineage) && self.others_run(lineage, ended)
    }

    /// Returns the child of an epoch that has ended, if that child still needs answers from its
    /// parent. A child that has been live for the `parent_shutdown` time has let its parent go if that has
    /// ended `in_order`, with code 0. A parent that was killed, at that time or later, may have ended before the
    /// child could tell it to.
    pub(super) fn child_without_parent(
        &self,
        ended: Epoch,
        lineage: LineageId,
        now: Instant,
        parent_shutdown: Duration,
        in_order: bool,
    ) -> Option<Epoch> {
        let child = ended.next()?;
        let running = self.running.get(&child)?;
        let has_let_go = running
            .live_for(now)
            .is_some_and(|live| live >= parent_shutdown);
        let needs_answers = !in_order || !has_let_go;
        (running.started.lineage == lineage && needs_answers).then_some(child)
    }

    /// Returns the parent that an epoch was started for, if that parent does not run any more. The epoch
    /// must not be the first one of its lineage, which has no parent.
    pub(super) fn lost_parent(&self, child: Epoch, lineage: LineageId) -> Option<Epoch> {
        let parent = Epoch::new(child.number().checked_sub(1)?);
        let running = self.running.get(&parent);
        let is_there = running.is_some_and(|running| running.started.lineage == lineage);
        (!is_there).then_some(parent)
    }

    /// Returns what becomes of the parent of an epoch that was not live by its start deadline and has ended, if that
    /// parent does not answer; or `None` if there is no parent, or if it has another child.
    ///
    /// The parent of an epoch that was live before has been told to end by that one, or has been retired. Then it has
    /// only its old connections, and its time is over. One that listens no more serves nobody new either. Every other
    /// one serves, and to kill it would be an outage that nobody has asked for.
    pub(super) fn deaf_parent(&self, ended: Epoch, lineage: LineageId) -> Option<DeafParent> {
        let mut older = self.running.range(..ended).rev();
        let (parent, running) = older.find(|(_, older)| older.started.lineage == lineage)?;
        let is_newest = self.newest() == Some(*parent);
        let is_left = running.dismissed || self.listens(*parent) == Some(false);
        is_newest.then_some(match is_left {
            true => DeafParent::Kill(*parent),
            false => DeafParent::Keep(*parent),
        })
    }

    /// Returns how long any newer epoch has been live.
    pub(super) fn longest_live_after(&self, epoch: Epoch, now: Instant) -> Option<Duration> {
        self.newer(epoch)
            .filter_map(|running| running.live_for(now))
            .max()
    }

    /// Notes that the epoch has no client left.
    pub(super) fn set_drained(&mut self, epoch: Epoch) {
        if let Some(running) = self.running.get_mut(&epoch) {
            running.drained = true;
        }
    }

    /// Returns whether the end of the epoch at this moment would cut clients that a stop is draining.
    /// It would not if the epoch was never live, if it has lost them all, if it is an old one at its
    /// `parent_shutdown` time, or if it ends because two newer ones run.
    pub(super) fn is_undrained(
        &self,
        epoch: Epoch,
        now: Instant,
        parent_shutdown: Duration,
    ) -> bool {
        let running = self.running.get(&epoch);
        let has_clients = running.is_some_and(|running| running.is_live() && !running.drained);
        let is_its_time = self
            .longest_live_after(epoch, now)
            .is_some_and(|live| live.saturating_add(PARENT_SHUTDOWN_INACCURACY) >= parent_shutdown);
        has_clients && !is_its_time && self.newer(epoch).count() < 2
    }

    /// Returns true the first time that it is asked for a running epoch: how its connections are
    /// counted is logged once.
    pub(super) fn log_count_once(&mut self, epoch: Epoch) -> bool {
        let Some(running) = self.running.get_mut(&epoch) else {
            return false;
        };
        !std::mem::replace(&mut running.count_is_logged, true)
    }

    fn lineage(&self, epoch: Epoch) -> Option<LineageId> {
        Some(self.running.get(&epoch)?.started.lineage)
    }

    fn newer(&self, epoch: Epoch) -> impl Iterator<Item = &Running> {
        let newer = self
            .running
            .iter()
            .filter(move |(other, _)| **other > epoch);
        newer.map(|(_, running)| running)
    }
}

impl Running {
    fn is_live(&self) -> bool {
        self.live_since.is_some()
    }

    fn live_for(&self, now: Instant) -> Option<Duration> {
        Some(now.saturating_duration_since(self.live_since?))
    }
}

#[cfg(test)]
mod tests;
