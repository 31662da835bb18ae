//! Whether what is live serves as well as what served before.

use handover_core::{GaveUp, Timestamp};

use super::{
    Life, Model, Over, Proxy, State, Trial, Wish, is_bad, is_draining, is_live, is_starting,
    is_told,
};

impl Model {
    pub(super) fn ends_of_trials(&self) -> Vec<(Timestamp, u32, u32)> {
        let mut ends = Vec::new();
        for (&epoch, proxy) in &self.running {
            if let (State::Live { since, trial, .. }, Some(span)) =
                (proxy.state, self.policy.probation)
                && trial == Trial::Begun
                && self.life == Life::Running
            {
                ends.push((since.after(span), 8, epoch));
            }
        }
        ends
    }

    /// From one that goes live, there is a way back to what was proven last.
    pub(super) fn keep_a_spare(&mut self, epoch: u32) {
        let mut older = self.running.range(..epoch).rev().map(|(_, it)| it);
        let before = older.find(|it| is_live(it)).cloned();
        if let Some(before) = before.filter(|it| !it.is_spare && !is_bad(it) && !self.is_worse(it))
        {
            self.drop_spare();
            self.spare = before.config.as_deref().map(Wish::new);
        }
        let new = self.running[&epoch].config.clone();
        match &mut self.spare {
            Some(spare) if Some(&spare.config) == new.as_ref() => self.drop_spare(),
            Some(spare) => spare.not_before = None,
            None => {}
        }
    }

    pub(super) fn drop_spare(&mut self) {
        self.spare = None;
        for proxy in self.running.values_mut() {
            proxy.is_spare = false;
        }
    }

    /// Whether the spare is better than what this one runs.
    pub(super) fn is_worse(&self, proxy: &Proxy) -> bool {
        let unproven = matches!(proxy.state, State::Live { trial, .. } if trial != Trial::Over);
        self.spare.is_some() && unproven
    }

    pub(super) fn unfit(&mut self, epoch: u32) {
        let Some(proxy) = self.running.get(&epoch) else {
            return;
        };
        let on_trial = matches!(proxy.state, State::Live { trial, .. } if trial == Trial::Begun);
        if !on_trial || self.life != Life::Running {
            return;
        }
        let was_wished = self.is_wished(proxy);
        let wished = self.wish.as_ref().map(|wish| &wish.config);
        let tried_again = !was_wished && wished == proxy.config.as_ref();
        let bad = proxy
            .config
            .clone()
            .filter(|_| self.may_hold() && !tried_again);
        self.bad = bad.map(|config| (config, epoch));
        let goes_back = self.spare.is_some();
        let proxy = self.running.get_mut(&epoch).unwrap();
        if let State::Live { trial, .. } = &mut proxy.state {
            *trial = Trial::Lost;
        }
        proxy.is_past |= goes_back;
        if was_wished && goes_back {
            self.give_up(epoch, GaveUp::Unfit);
        } else {
            self.go_on();
        }
    }

    pub(super) fn passed(&mut self, epoch: u32) {
        let proxy = self.running.get_mut(&epoch).unwrap();
        if let State::Live { trial, .. } = &mut proxy.state {
            *trial = Trial::Over;
        }
        self.drop_spare();
    }

    /// What is wished is not tried if it is known to be bad and there is better.
    pub(super) fn remember_the_bad(&mut self) {
        let newest = self.running.values().rev().find(|it| !is_told(it));
        let runs = newest.is_some_and(|it| self.is_wished(it) && !is_draining(it));
        let better = !runs && (self.is_served_well() || self.spare.is_some());
        if let (Some(wish), Some((bad, epoch))) = (&mut self.wish, &self.bad)
            && wish.config == *bad
        {
            if better {
                wish.over = Some(Over::GivenUp(*epoch, GaveUp::Unfit));
            } else {
                self.bad = None;
            }
        }
    }

    pub(super) fn forgive(&mut self, config: &str) {
        self.bad.take_if(|(bad, _)| bad == config);
    }

    pub(super) fn is_served_well(&self) -> bool {
        let at_once = self.starts_at_once();
        let serves_well = |it: &Proxy| is_live(it) && !is_bad(it);
        self.running
            .values()
            .any(|it| serves_well(it) || (at_once && is_starting(it)))
    }
}
