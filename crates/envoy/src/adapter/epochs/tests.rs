use super::*;

const HOME: LineageId = LineageId(0);
const OTHER: LineageId = LineageId(1);
const TIME: Duration = Duration::from_secs(10);

fn epoch(number: u32) -> Epoch {
    Epoch::new(number)
}

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

struct Table {
    epochs: Epochs,
    start: Instant,
}

impl Table {
    /// Epochs of these lineages, from 0 on, each live as many seconds after the beginning as its
    /// number says.
    fn live(lineages: &[LineageId]) -> Self {
        let mut table = Self {
            epochs: Epochs::default(),
            start: Instant::now(),
        };
        for (number, lineage) in (0..).zip(lineages) {
            table.start(number, *lineage);
            assert!(table.go_live(number, u64::from(number)));
        }
        table
    }

    fn start(&mut self, number: u32, lineage: LineageId) {
        let started = Started {
            pid: 100 + number,
            lineage,
            may_listen: true,
        };
        self.epochs.register(epoch(number), started);
    }

    fn go_live(&mut self, number: u32, at: u64) -> bool {
        let now = self.at(at);
        self.epochs.go_live(epoch(number), now)
    }

    fn at(&self, after: u64) -> Instant {
        self.start + seconds(after)
    }

    fn replaced(&self) -> Vec<u32> {
        let listening: Vec<_> = self.epochs.not_replaced().map(|(epoch, _)| epoch).collect();
        let running = self.epochs.running.keys();
        let replaced = running.filter(|epoch| !listening.contains(epoch));
        replaced.map(|epoch| epoch.number()).collect()
    }
}

#[test]
fn a_live_epoch_replaces_the_older_ones_of_its_lineage() {
    let mut table = Table::live(&[HOME, HOME]);
    assert_eq!(table.replaced(), [0]);
    table.start(2, HOME);
    assert_eq!(table.replaced(), [0]);
    assert_eq!(table.epochs.newest(), Some(epoch(2)));
    assert_eq!(table.epochs.newest_live(), Some(epoch(1)));
    assert!(table.go_live(2, 2));
    assert_eq!(table.replaced(), [0, 1]);
    assert_eq!(table.epochs.newest_live(), Some(epoch(2)));
}

#[test]
fn an_epoch_of_another_lineage_gives_way_and_is_replaced_only_then() {
    let mut table = Table::live(&[HOME]);
    table.start(1, OTHER);
    assert!(!table.epochs.must_give_way(epoch(0)));
    table.go_live(1, 1);
    assert_eq!(table.replaced(), [0; 0]);
    assert!(table.epochs.must_give_way(epoch(0)));
    assert!(!table.epochs.must_give_way(epoch(1)));
    assert!(!table.epochs.has_given_way(epoch(0), Some(Serves::Yes)));
    assert!(table.epochs.must_give_way(epoch(0)));
    assert!(table.epochs.has_given_way(epoch(0), Some(Serves::No)));
    assert_eq!(table.replaced(), [0]);
    assert!(!table.epochs.must_give_way(epoch(0)));
}

#[test]
fn one_whose_sockets_cannot_be_seen_is_taken_at_its_word() {
    for serves in [None, Some(Serves::Unknown)] {
        let mut table = Table::live(&[HOME, OTHER]);
        assert!(table.epochs.has_given_way(epoch(0), serves));
        assert_eq!(table.replaced(), [0]);
    }
}

#[test]
fn an_epoch_gives_way_to_nobody_once_the_newer_one_has_died() {
    let mut table = Table::live(&[HOME, OTHER]);
    table.epochs.remove(epoch(1));
    assert!(!table.epochs.must_give_way(epoch(0)));
    assert_eq!(table.epochs.newest_live(), Some(epoch(0)));
    assert_eq!(table.epochs.newest(), Some(epoch(0)));
}

#[test]
fn one_is_left_behind_when_newer_ones_run_and_none_is_its_child() {
    assert!(!Table::live(&[HOME]).epochs.is_left_behind(epoch(0)));
    assert!(!Table::live(&[HOME, HOME]).epochs.is_left_behind(epoch(0)));
    assert!(Table::live(&[HOME, OTHER]).epochs.is_left_behind(epoch(0)));
    let mixed = Table::live(&[HOME, OTHER, HOME]);
    assert!(mixed.epochs.is_left_behind(epoch(0)));
    assert!(mixed.epochs.is_left_behind(epoch(1)));
    assert!(!mixed.epochs.is_left_behind(epoch(7)));
    // Its child has died while the next one started.
    let mut orphan = Table::live(&[HOME, HOME, HOME]);
    assert!(!orphan.epochs.is_left_behind(epoch(0)));
    orphan.epochs.remove(epoch(1));
    assert!(orphan.epochs.is_left_behind(epoch(0)));
    // The child is started again under the same number.
    orphan.epochs.remove(epoch(2));
    assert!(!orphan.epochs.is_left_behind(epoch(0)));
}

#[test]
fn one_that_initialises_beside_its_parent_is_killed_and_every_other_one_ends_in_order() {
    let mut table = Table::live(&[HOME]);
    let abort = |table: &mut Table, number| table.epochs.abort(epoch(number), Abort::Graceful);
    assert_eq!(abort(&mut table, 0), Ending::Orderly);
    table.start(1, HOME);
    assert_eq!(abort(&mut table, 1), Ending::Kill);
    // The older one is live: its own end is no harm to the one that initialises.
    assert_eq!(abort(&mut table, 0), Ending::Orderly);
    table.go_live(1, 1);
    assert_eq!(abort(&mut table, 1), Ending::Orderly);
    // In another lineage it has no parent to take along.
    table.start(2, OTHER);
    assert_eq!(abort(&mut table, 2), Ending::Orderly);
    let mut alone = Table::live(&[]);
    alone.start(0, HOME);
    assert_eq!(abort(&mut alone, 0), Ending::Orderly);
    for number in 0..=2 {
        let immediately = table.epochs.abort(epoch(number), Abort::Immediate);
        assert_eq!(immediately, Ending::Kill);
    }
}

#[test]
fn a_live_one_is_killed_while_the_agent_counts_on_an_older_one() {
    let abort = |table: &mut Table, number| table.epochs.abort(epoch(number), Abort::Graceful);
    // It went live in the moment in which the agent gave its start up.
    let mut table = Table::live(&[HOME, HOME]);
    assert_eq!(abort(&mut table, 1), Ending::Kill);
    // As a rule the agent has retired the older one.
    let mut table = Table::live(&[HOME, HOME]);
    table.epochs.retire(epoch(0));
    assert_eq!(abort(&mut table, 1), Ending::Orderly);
    // Everything is told to stop.
    let mut table = Table::live(&[HOME, HOME]);
    abort(&mut table, 0);
    assert_eq!(abort(&mut table, 1), Ending::Orderly);
    // It is no parent of one in another lineage.
    let mut table = Table::live(&[HOME, OTHER]);
    assert_eq!(abort(&mut table, 1), Ending::Orderly);
}

/// Epoch 0 was seen to listen, and epoch 1 has been live and has ended.
fn outlived(retired: bool) -> Table {
    let mut table = Table::live(&[HOME]);
    table.epochs.note_listeners(epoch(0), Some(Serves::Yes));
    table.start(1, HOME);
    assert!(table.go_live(1, 1));
    if retired {
        table.epochs.retire(epoch(0));
    }
    table.epochs.remove(epoch(1));
    table
}

#[test]
fn one_that_the_agent_counts_on_has_stopped_serving_when_a_live_newer_one_has_ended() {
    for serves in [Some(Serves::No), Some(Serves::Unknown), None] {
        let mut table = outlived(false);
        assert!(table.epochs.must_look_after_end(true));
        let suspect = Some((epoch(0), 100));
        assert_eq!(table.epochs.may_have_lost_listeners(), suspect);
        assert!(!table.epochs.has_lost_listeners(epoch(0), 77, serves));
        assert!(table.epochs.has_lost_listeners(epoch(0), 100, serves));
        // Once.
        assert!(!table.epochs.has_lost_listeners(epoch(0), 100, serves));
        assert!(!table.epochs.must_look_after_end(true));
        assert_eq!(table.epochs.may_have_lost_listeners(), None);
        assert_eq!(table.epochs.listens(epoch(0)), Some(false));
    }
}

#[test]
fn one_that_was_retired_says_nothing_when_the_newer_one_ends() {
    let mut table = outlived(true);
    assert!(!table.epochs.must_look_after_end(true));
    assert_eq!(table.epochs.may_have_lost_listeners(), None);
    let lost = |table: &mut Table| {
        let no = Some(Serves::No);
        table.epochs.has_lost_listeners(epoch(0), 100, no)
    };
    assert!(!lost(&mut table));
    // The start of the next one that fails changes nothing.
    assert!(table.epochs.must_look_after_end(false));
    assert!(!lost(&mut table));
}

#[test]
fn one_that_is_seen_to_listen_after_all_serves_on_until_it_does_not() {
    let mut table = outlived(false);
    let mut look = |serves| {
        let lost = table.epochs.has_lost_listeners(epoch(0), 100, serves);
        (lost, table.epochs.any_serves())
    };
    assert_eq!(look(Some(Serves::Yes)), (false, true));
    assert_eq!(look(None), (false, true));
    assert_eq!(look(Some(Serves::No)), (true, false));
}

#[test]
fn one_that_has_no_listener_by_its_configuration_loses_none() {
    let mut table = Table::live(&[]);
    let started = Started {
        pid: 100,
        lineage: HOME,
        may_listen: false,
    };
    table.epochs.register(epoch(0), started);
    table.go_live(0, 0);
    table.start(1, HOME);
    table.go_live(1, 1);
    table.epochs.remove(epoch(1));
    assert_eq!(table.epochs.may_have_lost_listeners(), None);
}

#[test]
fn only_an_end_that_may_have_cost_listeners_calls_for_a_look() {
    let mut table = Table::live(&[HOME, HOME]);
    table.epochs.retire(epoch(0));
    table.epochs.remove(epoch(0));
    assert!(!table.epochs.must_look_after_end(true));
    assert!(table.epochs.must_look_after_end(false));
    table.epochs.remove(epoch(1));
    assert!(!table.epochs.must_look_after_end(true));
}

#[test]
fn a_start_is_given_up_until_the_epoch_is_live() {
    let mut table = Table::live(&[HOME]);
    assert!(!table.epochs.give_up_start(epoch(0)));
    assert!(!table.epochs.give_up_start(epoch(1)));
    table.start(1, HOME);
    assert!(table.epochs.give_up_start(epoch(1)));
    // It has been seen live too late, and replaces nobody.
    assert!(!table.go_live(1, 1));
    assert!(!table.epochs.is_live(epoch(1)));
    assert_eq!(table.replaced(), [0; 0]);
    assert_eq!(table.epochs.newest_live(), Some(epoch(0)));
}

#[test]
fn a_withdrawn_start_takes_over_from_the_newest_older_one_of_its_lineage() {
    let mut table = Table::live(&[HOME, HOME]);
    assert_eq!(table.epochs.withdrawal(epoch(1)), Withdrawal::IsLive);
    table.start(2, HOME);
    let parent = Withdrawal::TakesOverFrom(epoch(1));
    assert_eq!(table.epochs.withdrawal(epoch(2)), parent);
    table.start(3, OTHER);
    assert_eq!(table.epochs.withdrawal(epoch(3)), Withdrawal::Alone);
    let older: Vec<_> = table.epochs.older_in_lineage(epoch(2)).collect();
    assert_eq!(older, [epoch(0), epoch(1)]);
    assert_eq!(table.epochs.older_in_lineage(epoch(3)).count(), 0);
}

#[test]
fn the_flag_is_cleared_when_none_initialises_and_another_one_needs_it() {
    let mut table = Table::live(&[HOME]);
    // Epoch 1 has failed and is gone.
    assert!(table.epochs.may_clear_flag(HOME, epoch(1)));
    // The next one makes the memory of another lineage again.
    assert!(!table.epochs.may_clear_flag(OTHER, epoch(1)));
    // The flag of one that initialises is its own.
    table.start(2, HOME);
    assert!(table.epochs.any_initializes(HOME) && !table.epochs.any_initializes(OTHER));
    assert!(!table.epochs.may_clear_flag(HOME, epoch(1)));
    table.go_live(2, 1);
    assert!(table.epochs.may_clear_flag(HOME, epoch(1)));
    // Nobody else is left.
    let alone = Table::live(&[HOME]);
    assert!(!alone.epochs.may_clear_flag(HOME, epoch(0)));
}

#[test]
fn one_that_was_seen_to_listen_and_does_not_any_more_has_lost_its_listeners_once() {
    let mut table = Table::live(&[HOME]);
    let lost = |table: &mut Table, serves| {
        let pid = table.epochs.may_have_lost_listeners().map(|(_, pid)| pid);
        table
            .epochs
            .has_lost_listeners(epoch(0), pid.unwrap_or(0), serves)
    };
    // It was never seen to listen, so it has nothing to lose.
    assert_eq!(table.epochs.may_have_lost_listeners(), None);
    assert!(
        !table
            .epochs
            .has_lost_listeners(epoch(0), 100, Some(Serves::No))
    );
    table.epochs.note_listeners(epoch(0), Some(Serves::Yes));
    table.epochs.note_listeners(epoch(0), None);
    assert_eq!(
        table.epochs.may_have_lost_listeners(),
        Some((epoch(0), 100))
    );
    for serves in [None, Some(Serves::Unknown), Some(Serves::Yes)] {
        assert!(!lost(&mut table, serves));
    }
    assert_eq!(table.epochs.listens(epoch(0)), None);
    assert!(lost(&mut table, Some(Serves::No)));
    assert!(!lost(&mut table, Some(Serves::No)));
    assert_eq!(table.epochs.listens(epoch(0)), Some(false));
    assert!(!table.epochs.any_serves());
}

#[test]
fn a_look_at_an_epoch_that_is_not_the_newest_live_one_any_more_proves_nothing() {
    let mut table = Table::live(&[HOME, OTHER]);
    table.epochs.note_listeners(epoch(0), Some(Serves::Yes));
    table.epochs.note_listeners(epoch(1), Some(Serves::Yes));
    assert_eq!(
        table.epochs.may_have_lost_listeners(),
        Some((epoch(1), 101))
    );
    assert!(
        !table
            .epochs
            .has_lost_listeners(epoch(0), 100, Some(Serves::No))
    );
    // Another process has its number by now.
    assert!(
        !table
            .epochs
            .has_lost_listeners(epoch(1), 77, Some(Serves::No))
    );
    assert!(table.epochs.any_serves());
}

#[test]
fn what_clients_can_reach_is_told_as_far_as_it_was_seen() {
    let mut table = Table::live(&[HOME]);
    let listens = |table: &Table| table.epochs.listens(epoch(0));
    assert_eq!(listens(&table), None);
    table.epochs.note_listeners(epoch(0), Some(Serves::No));
    assert_eq!(listens(&table), Some(false));
    table.epochs.note_listeners(epoch(0), Some(Serves::Unknown));
    assert_eq!(listens(&table), None);
    table.epochs.note_listeners(epoch(0), Some(Serves::Yes));
    assert_eq!(listens(&table), Some(true));
    // Without a listener in its configuration none is missed, until one was seen.
    let started = Started {
        pid: 1,
        lineage: HOME,
        may_listen: false,
    };
    table.epochs.register(epoch(0), started);
    table.epochs.note_listeners(epoch(0), Some(Serves::No));
    assert_eq!(listens(&table), None);
    table.epochs.note_listeners(epoch(0), Some(Serves::Yes));
    table.epochs.note_listeners(epoch(0), Some(Serves::No));
    assert_eq!(listens(&table), Some(false));
    table.start(1, HOME);
    table.go_live(1, 1);
    assert_eq!(listens(&table), Some(false));
    assert_eq!(table.epochs.listens(epoch(2)), None);
}

#[test]
fn another_one_can_start_beside_one_that_serves() {
    let mut table = Table::live(&[]);
    assert!(!table.epochs.any_serves());
    table.start(0, HOME);
    assert!(!table.epochs.any_serves());
    table.go_live(0, 0);
    assert!(table.epochs.any_serves());
    let numbers: Vec<_> = table.epochs.not_replaced().collect();
    assert_eq!(numbers, [(epoch(0), 100)]);
}

#[test]
fn a_child_needs_a_stand_in_until_it_has_let_its_parent_go() {
    let mut table = Table::live(&[HOME, HOME]);
    let child = |table: &Table, lineage, at, in_order| {
        let now = table.at(at);
        let epochs = &table.epochs;
        epochs.child_without_parent(epoch(0), lineage, now, TIME, in_order)
    };
    // Epoch 1 went live after one second.
    assert_eq!(child(&table, HOME, 2, true), Some(epoch(1)));
    assert_eq!(child(&table, HOME, 10, true), Some(epoch(1)));
    assert_eq!(child(&table, HOME, 11, true), None);
    // A parent that was killed, even at its time or later, may have ended before the child told it to.
    assert_eq!(child(&table, HOME, 11, false), Some(epoch(1)));
    // A child of another lineage has no parent.
    assert_eq!(child(&table, OTHER, 2, true), None);
    assert_eq!(child(&table, OTHER, 2, false), None);
    table.epochs.remove(epoch(1));
    assert_eq!(child(&table, HOME, 2, false), None);
    // One that still initialises waits for its parent too.
    table.start(1, HOME);
    assert_eq!(child(&table, HOME, 99, true), Some(epoch(1)));
}

#[test]
fn a_parent_that_ends_while_its_child_is_made_ready_is_missed_once_the_child_runs() {
    let mut table = Table::live(&[HOME, HOME]);
    table.start(2, HOME);
    assert_eq!(table.epochs.lost_parent(epoch(2), HOME), None);
    table.epochs.remove(epoch(1));
    assert_eq!(table.epochs.lost_parent(epoch(2), HOME), Some(epoch(1)));
    // One of another lineage is no parent.
    assert_eq!(table.epochs.lost_parent(epoch(1), OTHER), Some(epoch(0)));
    assert_eq!(table.epochs.lost_parent(epoch(0), HOME), None);
}

#[test]
fn an_end_during_a_stop_cuts_clients_that_were_neither_drained_nor_due() {
    let mut table = Table::live(&[HOME, HOME]);
    let undrained = |table: &Table, number, at| {
        let now = table.at(at);
        table.epochs.is_undrained(epoch(number), now, TIME)
    };
    assert!(undrained(&table, 1, 99));
    assert!(undrained(&table, 0, 5));
    // The newer one has been live since 1 s; Envoy's own count may be a second ahead.
    assert!(undrained(&table, 0, 9));
    assert!(!undrained(&table, 0, 10));
    table.epochs.set_drained(epoch(1));
    assert!(!undrained(&table, 1, 5));
    table.start(2, HOME);
    // Two newer ones run, so it was told to end; one that was never live has no client.
    assert!(!undrained(&table, 0, 5));
    assert!(!undrained(&table, 2, 5));
    assert!(!undrained(&table, 7, 5));
}

#[test]
fn the_time_of_an_old_epoch_counts_from_the_first_newer_one_that_was_live() {
    let table = Table::live(&[HOME, HOME, HOME]);
    let longest = |number| table.epochs.longest_live_after(epoch(number), table.at(9));
    assert_eq!(longest(0), Some(seconds(8)));
    assert_eq!(longest(1), Some(seconds(7)));
    assert_eq!(longest(2), None);
}

#[test]
fn how_connections_are_counted_is_logged_once_for_each_run() {
    let mut table = Table::live(&[HOME]);
    assert!(table.epochs.log_count_once(epoch(0)));
    assert!(!table.epochs.log_count_once(epoch(0)));
    assert!(!table.epochs.log_count_once(epoch(1)));
    table.epochs.remove(epoch(0));
    table.start(0, HOME);
    assert!(table.epochs.log_count_once(epoch(0)));
}

#[test]
fn a_parent_that_answers_no_child_is_killed_only_if_nobody_counts_on_it() {
    let deaf = |table: &Table, child| table.epochs.deaf_parent(epoch(child), HOME);
    // An epoch serves, and hangs: to kill it is for its watchdog.
    let mut table = Table::live(&[HOME]);
    assert_eq!(deaf(&table, 1), Some(DeafParent::Keep(epoch(0))));
    // It has lost its listeners, as far as was seen.
    table.epochs.note_listeners(epoch(0), Some(Serves::Unknown));
    assert_eq!(deaf(&table, 1), Some(DeafParent::Keep(epoch(0))));
    table.epochs.note_listeners(epoch(0), Some(Serves::No));
    assert_eq!(deaf(&table, 1), Some(DeafParent::Kill(epoch(0))));
    // It was retired by a child that has died since.
    let mut table = Table::live(&[HOME, HOME]);
    table.epochs.retire(epoch(0));
    assert_eq!(deaf(&table, 2), Some(DeafParent::Keep(epoch(1))));
    assert_eq!(deaf(&table, 1), None, "it has another child");
    table.epochs.remove(epoch(1));
    assert_eq!(deaf(&table, 1), Some(DeafParent::Kill(epoch(0))));
    // Nothing is older in its lineage.
    let table = Table::live(&[OTHER]);
    assert_eq!(deaf(&table, 1), None);
    assert_eq!(deaf(&table, 0), None);
}
