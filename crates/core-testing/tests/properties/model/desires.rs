//! What is asked for.

use std::time::Duration;

use handover_core::{Advance, Epoch, Output, Timestamp};

use super::{Life, Model, State, Wish, is_draining, is_late, is_live, is_told};

impl Model {
    /// When the start that keeps a new wish waiting makes room for it.
    pub(super) fn room_is_made(&self) -> Option<(Timestamp, u32)> {
        let patience = self.policy.give_way_after? * 2_u32.pow(self.made_room);
        let patience = patience.min(self.policy.start_deadline.unwrap_or(Duration::MAX));
        let wish = self.wish.as_ref()?;
        let (&epoch, newest) = self.running.last_key_value()?;
        let is_new = wish.used == 0 && wish.not_before.is_none() && wish.over.is_none();
        let waits = self.life == Life::Running
            && self.policy.advance == Advance::WhenLive
            && !self.running.values().any(is_told)
            && matches!(
                newest.state,
                State::Starting {
                    withdrawn: None,
                    ..
                }
            )
            && !self.is_wished(newest)
            && !self.waits_for_the_last_change()
            && self.policy.start_deadline != Some(patience);
        (is_new && waits).then(|| (newest.born.after(patience), epoch))
    }

    /// When the newest wish need not wait for the change before it, if it is one that could wait.
    pub(super) fn change_may_start(&self) -> Option<Timestamp> {
        let wish = self.wish.as_ref()?;
        let can_wait = wish.is_new && wish.not_before.is_none() && wish.over.is_none();
        let end = self.last_change?.after(self.policy.min_interval?);
        (can_wait && self.life == Life::Running).then_some(end)
    }

    pub(super) fn waits_for_the_last_change(&self) -> bool {
        self.change_may_start().is_some() && self.is_served_well()
    }

    pub(super) fn a_wish_is_started(&mut self) {
        let beside = self.is_served_well() && self.policy.min_interval.is_some();
        let wish = self.wish.as_mut().unwrap();
        if wish.is_new && beside {
            self.last_change = Some(self.now);
        }
        wish.is_new = false;
    }

    fn new_wish(&mut self, config: &str) {
        let span = self.policy.min_interval.unwrap_or_default();
        self.last_change.take_if(|at| at.after(span) <= self.now);
        self.wish = Some(Wish::new(config));
    }

    pub(super) fn make_room(&mut self) {
        if let Some((_, epoch)) = self.room_is_made().filter(|(at, _)| *at <= self.now) {
            self.made_room = 5.min(self.made_room + 1);
            self.running.get_mut(&epoch).unwrap().state = State::Starting {
                withdrawn: Some(self.now),
                late: false,
            };
            self.acts.push(Output::Withdraw(Epoch::new(epoch)));
        }
    }

    pub(super) fn desire(&mut self, config: &str) {
        if self.wish.as_ref().is_some_and(|wish| wish.config == config) {
            return;
        }
        let was_spare = self
            .spare
            .as_ref()
            .is_some_and(|spare| spare.config == config)
            && !self
                .running
                .values()
                .any(|it| it.is_spare && it.is_past && !is_told(it) && !is_draining(it));
        if was_spare {
            self.spare = None;
        }
        for proxy in self.running.values_mut() {
            proxy.is_past |= is_told(proxy) || is_late(proxy);
            proxy.is_spare &= !was_spare;
        }
        self.new_wish(config);
        self.remember_the_bad();
        self.go_on();
    }

    pub(super) fn renew(&mut self, config: &str) {
        self.forgive(config);
        for proxy in self.running.values_mut() {
            proxy.is_past = true;
        }
        self.new_wish(config);
        self.go_on();
    }

    pub(super) fn restart(&mut self, config: &str) {
        self.bad = None;
        let live = self.running.values().find(|it| is_live(it));
        let live = live.filter(|it| !self.is_worse(it));
        let live = live.and_then(|it| it.config.clone());
        let good = live.or_else(|| Some(self.spare.take()?.config));
        self.spare = good
            .filter(|good| good != config && self.may_hold())
            .map(|good| Wish::new(&good));
        self.new_wish(config);
        self.tell_all();
        for proxy in self.running.values_mut() {
            proxy.is_past = true;
            proxy.is_spare = false;
            if let State::Told { late, .. } = &mut proxy.state {
                *late = false;
            }
        }
        self.go_on();
    }
}
