//! What follows from an exit.

use handover_core::{Epoch, Exit, GaveUp, OnCleanExit, OnFailure, Outcome, Output, Severity};

use super::{
    Life, Model, Over, Proxy, Role, State, Wish, is_draining, is_live, is_starting, is_told,
};

impl Model {
    pub(super) fn exited(&mut self, epoch: u32, exit: Exit) {
        let Some(proxy) = self.running.remove(&epoch) else {
            return;
        };
        self.acts.push(Output::Cleanup(Epoch::new(epoch)));
        let was_asked = |state| {
            matches!(
                state,
                State::Starting {
                    withdrawn: Some(_),
                    late: false,
                }
            )
        };
        let dropped = was_asked(proxy.state) && exit == Exit::Aborted;
        if is_starting(&proxy) && !dropped {
            self.made_room = 0;
        }
        if self.life != Life::Running {
            let had_clients = is_live(&proxy)
                || proxy.state == (State::Draining { released: false })
                || (is_starting(&proxy) && proxy.config.is_some() && self.starts_at_once());
            let is_drain = proxy.config.is_none() && !is_told(&proxy);
            let unasked =
                is_live(&proxy) && matches!(self.life, Life::Draining { drain: None, .. });
            self.undrained |=
                unasked || (exit != Exit::Clean && !dropped && (had_clients || is_drain));
            return self.go_on();
        }
        let severity = match (proxy.state, exit) {
            (State::Told { late: false, .. }, _) => return self.go_on(),
            _ if dropped => return self.go_on(),
            (_, Exit::Failed(severity)) => severity,
            (State::Told { late: true, .. } | State::Starting { late: true, .. }, _)
            | (_, Exit::Aborted) => Severity::Transient,
            (_, Exit::Clean) => return self.ended(epoch, &proxy),
        };
        self.failed(epoch, &proxy, severity);
    }

    pub(super) fn role(&self, epoch: u32, proxy: &Proxy) -> Role {
        let newer = self
            .running
            .range(epoch..)
            .any(|(other, newer)| *other != epoch && !is_told(newer));
        if is_draining(proxy) {
            Role::Other
        } else if self.is_wished(proxy) && !newer {
            Role::Wished
        } else if proxy.is_spare || (is_live(proxy) && !self.is_wished(proxy)) {
            Role::Good
        } else {
            Role::Other
        }
    }

    pub(super) fn ended(&mut self, epoch: u32, proxy: &Proxy) {
        match (self.role(epoch, proxy), self.policy.on_clean_exit) {
            (Role::Wished | Role::Good, OnCleanExit::Restart) => {
                return self.failed(epoch, proxy, Severity::Transient);
            }
            (Role::Wished, OnCleanExit::Stop) => {
                let epoch = Epoch::new(epoch);
                return self.stop(Outcome::ProxyEnded { epoch });
            }
            (Role::Wished, OnCleanExit::Stay) => {
                if is_live(proxy) {
                    self.drop_spare();
                }
                let wish = self.wish.as_mut().unwrap();
                wish.over = Some(Over::EndedCleanly);
                wish.not_before = None;
            }
            (Role::Good, _) if proxy.is_spare => self.spare = None,
            (Role::Good | Role::Other, _) => {}
        }
        self.go_on();
    }

    pub(super) fn failed(&mut self, epoch: u32, proxy: &Proxy, severity: Severity) {
        let role = self.role(epoch, proxy);
        let healthy = self.was_healthy(proxy);
        match (self.policy.on_failure, role) {
            (_, Role::Wished) if severity == Severity::Permanent => {
                self.give_up(epoch, GaveUp::Permanent);
            }
            (OnFailure::AbortAll, _) => {
                self.tell_all_but(Some(epoch));
                self.retry(epoch, healthy);
            }
            (OnFailure::KeepServing, Role::Wished) => self.retry(epoch, healthy),
            (OnFailure::KeepServing, Role::Good) if self.may_hold() && !self.is_worse(proxy) => {
                self.spare(proxy, healthy);
            }
            (OnFailure::KeepServing, Role::Good | Role::Other) => self.go_on(),
        }
    }

    /// Another one has taken its listeners, so what it ran is wanted again, at once and for nothing.
    pub(super) fn robbed(&mut self, proxy: &Proxy) {
        if self.is_wished(proxy) {
            let wish = self.wish.as_mut().unwrap();
            (wish.over, wish.not_before, wish.is_new) = (None, None, false);
        } else if self.may_hold() && !self.is_worse(proxy) {
            let spare = self.spare.take().filter(|_| proxy.is_spare);
            let spare = spare.unwrap_or_else(|| Wish::new(proxy.config.as_ref().unwrap()));
            self.spare = Some(Wish {
                not_before: None,
                ..spare
            });
        }
        self.go_on();
    }

    pub(super) fn was_healthy(&self, proxy: &Proxy) -> bool {
        match (proxy.state, self.policy.retry.reset_after) {
            (State::Live { since, trusted, .. }, Some(enough)) => {
                trusted || self.due(since.after(enough)) <= self.now
            }
            _ => false,
        }
    }

    pub(super) fn retry(&mut self, epoch: u32, healthy: bool) {
        let Some(wish) = &mut self.wish else { return };
        if wish.not_before.is_some() || matches!(wish.over, Some(Over::GivenUp(..))) {
            return self.go_on();
        }
        wish.is_new = false;
        if wish.put_off(&self.policy, self.now, healthy) {
            self.go_on();
        } else {
            self.give_up(epoch, GaveUp::BudgetSpent);
        }
    }

    pub(super) fn spare(&mut self, proxy: &Proxy, healthy: bool) {
        let mut spare = match self.spare.take() {
            Some(spare) if proxy.is_spare => spare,
            _ => Wish::new(proxy.config.as_ref().unwrap()),
        };
        if spare.put_off(&self.policy, self.now, healthy) {
            self.spare = Some(spare);
        }
        self.go_on();
    }

    pub(super) fn give_up(&mut self, epoch: u32, why: GaveUp) {
        let wish = self.wish.as_mut().unwrap();
        wish.over = Some(Over::GivenUp(epoch, why));
        wish.not_before = None;
        if self.may_hold() && (self.is_serving() || self.spare.is_some()) {
            self.go_on();
        } else {
            self.panic(epoch, why);
        }
    }

    pub(super) fn panic(&mut self, epoch: u32, why: GaveUp) {
        let epoch = Epoch::new(epoch);
        let config = self.wish.take().unwrap().config;
        self.acts.push(Output::Panic { config, epoch });
        self.stop(Outcome::GaveUp { epoch, why });
    }
}
