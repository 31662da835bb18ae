//! What is asked for.

use super::{Model, State, Wish, is_live, is_told};

impl Model {
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
                .any(|it| it.is_spare && it.is_past && !is_told(it));
        if was_spare {
            self.spare = None;
        }
        for proxy in self.running.values_mut() {
            proxy.is_past |= is_told(proxy);
            proxy.is_spare &= !was_spare;
        }
        self.wish = Some(Wish::new(config));
        self.go_on();
    }

    pub(super) fn renew(&mut self, config: &str) {
        for proxy in self.running.values_mut() {
            proxy.is_past = true;
        }
        self.wish = Some(Wish::new(config));
        self.go_on();
    }

    pub(super) fn restart(&mut self, config: &str) {
        let live = self.running.values().find(|it| is_live(it));
        let live = live.and_then(|it| it.config.clone());
        let good = live.or_else(|| Some(self.spare.take()?.config));
        self.spare = good
            .filter(|good| good != config && self.may_hold())
            .map(|good| Wish::new(&good));
        self.wish = Some(Wish::new(config));
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
