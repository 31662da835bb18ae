//! The rules, written down once more: every epoch keeps its own copy of its configuration, and
//! configurations are compared whenever it matters.

mod desires;
mod ends;
mod exits;
mod trials;

use std::collections::BTreeMap;
use std::time::Duration;

use handover_core::{
    Abort, Advance, Epoch, GaveUp, Input, LATE, LOOK_AROUND, OnExhausted, OnFailure, Outcome,
    Output, Policy, Severity, Target, Timestamp, Urgency,
};

/// The kind of the time at which a start that is late is told to stop.
const LATE_START: u32 = 9;

/// The kind of the time at which a change need not wait for the one before it any more.
const INTERVAL: u32 = 10;

/// A command; the model has no events.
pub(crate) type Act = Output<String>;

pub(crate) struct Model {
    policy: Policy,
    now: Timestamp,
    /// When it was found that nobody had looked for too long.
    woke: Option<Timestamp>,
    life: Life,
    running: BTreeMap<u32, Proxy>,
    wish: Option<Wish>,
    /// The last good configuration, after its epoch has failed.
    spare: Option<Wish>,
    /// What was found unfit last, and of which epoch.
    bad: Option<(String, u32)>,
    /// How often in a row a start has made room for another wish.
    made_room: u32,
    /// When a change was started last beside one that served well.
    last_change: Option<Timestamp>,
    /// Clients were lost since the terminate, or the drain was.
    undrained: bool,
    acts: Vec<Act>,
}

#[derive(Clone, Copy, PartialEq)]
enum Life {
    Running,
    Draining {
        until: Option<Timestamp>,
        drain: Option<u32>,
    },
    Stopping(Outcome),
    Finished,
}

/// A running epoch.
#[derive(Clone)]
struct Proxy {
    /// None for the one that drains the others.
    config: Option<String>,
    born: Timestamp,
    state: State,
    /// It was started as the spare, and is the spare still.
    is_spare: bool,
    /// Another one was started to serve while it was the one that serves or will.
    is_contested: bool,
    /// It was told to stop or late before the last desire, or by a restart, or was started before a
    /// renewal, and has nothing to do with what is wished.
    is_past: bool,
    /// It was told that a newer one serves.
    is_retired: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Starting {
        withdrawn: Option<Timestamp>,
        /// It should be live by now.
        late: bool,
    },
    Live {
        since: Timestamp,
        trusted: bool,
        trial: Trial,
    },
    Draining {
        released: bool,
    },
    Told {
        how: Abort,
        at: Timestamp,
        late: bool,
    },
}

/// Whether a live one must still prove itself, has, or could not.
#[derive(Clone, Copy, PartialEq)]
enum Trial {
    Begun,
    Over,
    Lost,
}

/// A configuration to get running.
struct Wish {
    config: String,
    used: u32,
    first_at_once: bool,
    not_before: Option<Timestamp>,
    over: Option<Over>,
    /// Nothing was tried for it.
    is_new: bool,
}

#[derive(Clone, Copy)]
enum Over {
    GivenUp(u32, GaveUp),
    EndedCleanly,
}

#[derive(Clone, Copy, PartialEq)]
enum Role {
    Wished,
    Good,
    Other,
}

impl Model {
    pub(crate) fn new(policy: Policy) -> Self {
        Self {
            policy,
            now: Timestamp::ZERO,
            woke: None,
            life: Life::Running,
            running: BTreeMap::new(),
            wish: None,
            spare: None,
            bad: None,
            made_room: 0,
            last_change: None,
            undrained: false,
            acts: Vec::new(),
        }
    }

    pub(crate) fn take_acts(&mut self) -> Vec<Act> {
        std::mem::take(&mut self.acts)
    }

    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        self.timers().into_iter().map(|(at, ..)| self.due(at)).min()
    }

    pub(crate) fn input(&mut self, now: Timestamp, input: &Input<String>) {
        self.now = self.now.max(now);
        self.look_at_the_clock();
        if self.life == Life::Finished {
            return;
        }
        match input {
            Input::Desire(config) if self.life == Life::Running => self.desire(config),
            Input::Renew(config) if self.life == Life::Running => self.renew(config),
            Input::Restart(config) if self.life == Life::Running => self.restart(config),
            Input::Desire(_) | Input::Renew(_) | Input::Restart(_) => {}
            Input::Live(epoch) => self.live(epoch.number()),
            Input::StoppedServing(epoch) => self.stopped_serving(epoch.number()),
            Input::Unfit(epoch) => self.unfit(epoch.number()),
            Input::Released(epoch) => self.released(epoch.number()),
            Input::Withdrawn(epoch) => self.withdrawn(epoch.number()),
            Input::Exited(epoch, exit) => self.exited(epoch.number(), *exit),
            Input::Terminate(Urgency::Drain) => self.drain(),
            Input::Terminate(Urgency::Stop) => self.skip_the_drain(),
            Input::Terminate(Urgency::Kill) => self.kill(),
        }
    }

    pub(crate) fn timeout(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        loop {
            self.look_at_the_clock();
            let mut due = self.timers();
            due.retain(|(at, ..)| self.due(*at) <= self.now);
            // What has waited once is not kept waiting; the rest comes in the order of its time.
            let first = |(at, kind, epoch): &(Timestamp, u32, u32)| {
                (self.due(*at) == *at, self.due(*at), *kind, *epoch)
            };
            let Some(due) = due.into_iter().min_by_key(first) else {
                return;
            };
            match due {
                (_, 0, epoch) => {
                    self.made_room = 0;
                    self.too_late(epoch);
                    self.go_on();
                }
                (_, LATE_START, epoch) => {
                    self.tell(epoch, Abort::Immediate, true);
                    self.go_on();
                }
                (_, 1, _) => {
                    self.wish.as_mut().unwrap().not_before = None;
                    self.go_on();
                }
                (_, 2, _) => {
                    self.spare.as_mut().unwrap().not_before = None;
                    self.go_on();
                }
                (_, 3, epoch) => self.trust(epoch),
                (_, 4, _) => self.stop(Outcome::DrainTimedOut),
                (_, 5, _) => self.end_all_graces(),
                (_, 7, _) => self.make_room(),
                (_, 8, epoch) => self.passed(epoch),
                (_, INTERVAL, _) => {
                    self.last_change = None;
                    self.go_on();
                }
                _ => self.stop(self.drained()),
            }
        }
    }

    /// When something is to be done whose time is this.
    fn due(&self, at: Timestamp) -> Timestamp {
        match self.woke {
            Some(woke) if at <= woke => woke.after(LOOK_AROUND),
            _ => at,
        }
    }

    /// What was missed by more than a moment waits, unless something waits already that has waited
    /// long enough.
    fn look_at_the_clock(&mut self) {
        let times: Vec<Timestamp> = self.timers().into_iter().map(|(at, ..)| at).collect();
        let has_waited = |at: &Timestamp| self.due(*at) != *at && self.due(*at) <= self.now;
        let missed = |at: &Timestamp| self.due(*at) == *at && self.now.since(*at) > LATE;
        if !times.iter().any(has_waited) && times.iter().any(missed) {
            self.woke = Some(self.now);
        }
    }

    /// When, a number for the kind in the order in which those of one moment fire, and the epoch.
    fn timers(&self) -> Vec<(Timestamp, u32, u32)> {
        let mut timers = Vec::new();
        let running = self.life == Life::Running;
        if running {
            let retry = self.wish.as_ref().and_then(|it| it.not_before);
            timers.extend(retry.map(|at| (at, 1, 0)));
            let retry = self.spare.as_ref().and_then(|it| it.not_before);
            timers.extend(retry.map(|at| (at, 2, 0)));
        }
        if let Life::Draining {
            until: Some(until), ..
        } = self.life
        {
            timers.push((until, 4, 0));
        }
        for (&epoch, proxy) in &self.running {
            match proxy.state {
                State::Starting {
                    withdrawn: Some(asked),
                    late: true,
                } => timers.push((asked.after(self.policy.abort_grace), LATE_START, epoch)),
                State::Starting { .. } if proxy.config.is_some() => {
                    let span = self.policy.start_deadline;
                    timers.extend(span.map(|span| (proxy.born.after(span), 0, epoch)));
                }
                State::Live {
                    since,
                    trusted: false,
                    ..
                } if running => {
                    let span = self.policy.retry.reset_after;
                    timers.extend(span.map(|span| (since.after(span), 3, epoch)));
                }
                State::Told {
                    how: Abort::Graceful,
                    at,
                    ..
                } => {
                    timers.push((at.after(self.policy.abort_grace), 5, epoch));
                }
                State::Starting { .. }
                | State::Live { .. }
                | State::Draining { .. }
                | State::Told { .. } => {}
            }
        }
        timers.extend(self.ends_of_trials());
        if let Life::Draining { drain: None, .. } = self.life
            && !self.has_anything_to_drain()
        {
            for (&epoch, proxy) in &self.running {
                if let State::Starting {
                    withdrawn: Some(at),
                    ..
                } = proxy.state
                {
                    timers.push((at.after(self.policy.abort_grace), 6, epoch));
                }
            }
        }
        timers.extend(self.change_may_start().map(|at| (at, INTERVAL, 0)));
        timers.extend(self.room_is_made().map(|(at, epoch)| (at, 7, epoch)));
        timers
    }

    fn live(&mut self, epoch: u32) {
        let Some(proxy) = self.running.get_mut(&epoch) else {
            return;
        };
        if !is_starting(proxy) || proxy.config.is_none() {
            return;
        }
        let is_new = !proxy.is_spare;
        let tried = is_new && self.policy.probation.is_some();
        proxy.state = State::Live {
            since: self.now,
            trusted: false,
            trial: if tried { Trial::Begun } else { Trial::Over },
        };
        self.made_room = 0;
        if tried && self.may_hold() {
            self.keep_a_spare(epoch);
        } else if is_new {
            self.drop_spare();
        }
        let newest_live = self
            .running
            .iter()
            .rev()
            .find(|(_, it)| is_live(it))
            .map(|(e, _)| *e);
        let newest_live = newest_live.unwrap_or_default();
        for (number, older) in self.running.range_mut(..newest_live) {
            if is_live(older) || is_starting(older) {
                older.state = State::Draining { released: false };
            }
            if is_draining(older) && !older.is_retired {
                older.is_retired = true;
                let (epoch, by) = (Epoch::new(*number), Epoch::new(newest_live));
                self.acts.push(Output::Retire { epoch, by });
            }
        }
        self.go_on();
    }

    fn stopped_serving(&mut self, epoch: u32) {
        let Some(proxy) = self.running.get_mut(&epoch).filter(|it| is_live(it)) else {
            return;
        };
        let was = proxy.clone();
        proxy.state = State::Draining { released: false };
        match self.life {
            Life::Running if was.is_contested => self.robbed(&was),
            Life::Running => self.failed(epoch, &was, Severity::Transient),
            Life::Draining { .. } | Life::Stopping(_) | Life::Finished => self.go_on(),
        }
    }

    fn withdrawn(&mut self, epoch: u32) {
        if let Some(proxy) = self.running.get_mut(&epoch)
            && let State::Starting {
                withdrawn: Some(_),
                late,
            } = proxy.state
        {
            let was = proxy.clone();
            proxy.state = State::Draining { released: false };
            if late && self.life == Life::Running {
                self.failed(epoch, &was, Severity::Transient);
            } else {
                self.go_on();
            }
        }
    }

    fn released(&mut self, epoch: u32) {
        if let Some(proxy) = self.running.get_mut(&epoch)
            && proxy.state == (State::Draining { released: false })
        {
            proxy.state = State::Draining { released: true };
            self.go_on();
        }
    }

    fn trust(&mut self, epoch: u32) {
        let proxy = self.running.get_mut(&epoch).unwrap();
        if let State::Live { trusted, .. } = &mut proxy.state {
            *trusted = true;
        }
        let is_spare = proxy.is_spare;
        let proxy = &self.running[&epoch];
        let wish = if self.is_wished(proxy) {
            self.wish.as_mut()
        } else {
            self.spare.as_mut().filter(|_| is_spare)
        };
        if let Some(wish) = wish {
            (wish.used, wish.first_at_once) = (0, false);
        }
    }

    /// Does what can be done.
    fn go_on(&mut self) {
        match self.life {
            Life::Running => {
                self.pursue();
                self.make_room();
            }
            Life::Draining {
                drain: Some(drain), ..
            } => {
                if !self.running.contains_key(&drain) || self.running.len() == 1 {
                    self.stop(self.drained());
                }
            }
            Life::Draining { drain: None, .. } => {
                let is_withdrawn = |it: &Proxy| {
                    matches!(
                        it.state,
                        State::Starting {
                            withdrawn: Some(_),
                            ..
                        }
                    )
                };
                let may_answer = self.policy.abort_grace > Duration::ZERO
                    && self.running.values().any(is_withdrawn);
                if !self.has_anything_to_drain() {
                    if !may_answer {
                        self.stop(self.drained());
                    }
                } else if !self.is_busy() {
                    self.start(None, false);
                }
            }
            Life::Stopping(outcome) if self.running.is_empty() => self.finish(outcome),
            Life::Stopping(_) | Life::Finished => {}
        }
    }

    fn pursue(&mut self) {
        let newest = self.running.values().rev().find(|it| !is_told(it));
        let Some(wish) = &self.wish else { return };
        if newest.is_some_and(|newest| self.is_wished(newest) && !is_draining(newest)) {
            return;
        }
        let (config, is_spare) = match (wish.over, wish.not_before, &self.spare) {
            (None, None, _) => (wish.config.clone(), false),
            (_, _, Some(spare)) if !self.is_served_well() && spare.not_before.is_none() => {
                (spare.config.clone(), true)
            }
            (Some(Over::GivenUp(epoch, why)), _, None) if !self.is_serving() => {
                return self.panic(epoch, why);
            }
            _ => return,
        };
        if !is_spare && self.waits_for_the_last_change() {
            return;
        }
        let counted = self
            .running
            .values()
            .filter(|it| it.state != (State::Draining { released: true }));
        let counted = u32::try_from(counted.count()).unwrap();
        let fits = self.policy.max_epochs.is_none_or(|max| counted < max);
        if !self.is_busy() && (fits || self.running.values().any(is_bad)) {
            self.start(Some(config), is_spare);
        }
    }

    fn start(&mut self, config: Option<String>, is_spare: bool) {
        let number = self
            .running
            .keys()
            .next_back()
            .map_or(0, |newest| newest + 1);
        let epoch = Epoch::new(number);
        if config.is_some() && !is_spare {
            self.a_wish_is_started();
        }
        let target = match &config {
            Some(config) => Target::Serve(config.clone()),
            None => Target::Drain,
        };
        for other in self.running.values_mut() {
            other.is_contested |= config.is_some() && (is_starting(other) || is_live(other));
        }
        if let (None, Life::Draining { drain, .. }) = (&config, &mut self.life) {
            *drain = Some(number);
        }
        self.acts.push(Output::Start { epoch, target });
        let state = State::Starting {
            withdrawn: None,
            late: false,
        };
        let (born, is_past, is_contested) = (self.now, false, false);
        self.running.insert(
            number,
            Proxy {
                config,
                born,
                state,
                is_spare,
                is_contested,
                is_past,
                is_retired: false,
            },
        );
    }

    /// Whether nothing may be started at all.
    fn is_busy(&self) -> bool {
        let newest = self.running.values().next_back();
        let newest_starts = newest.is_some_and(is_starting);
        self.running.values().any(is_told)
            || (self.policy.advance == Advance::WhenLive && newest_starts)
    }

    fn drained(&self) -> Outcome {
        if self.undrained {
            Outcome::DrainFailed
        } else {
            Outcome::Drained
        }
    }

    fn starts_at_once(&self) -> bool {
        self.policy.advance == Advance::AtOnce
    }

    fn is_serving(&self) -> bool {
        let at_once = self.starts_at_once();
        self.running
            .values()
            .any(|it| is_live(it) || (at_once && is_starting(it)))
    }

    fn has_anything_to_drain(&self) -> bool {
        self.is_serving() || self.running.values().any(is_draining)
    }

    fn is_wished(&self, proxy: &Proxy) -> bool {
        let wished = self.wish.as_ref().map(|wish| &wish.config);
        !proxy.is_past
            && !proxy.is_spare
            && proxy.config.is_some()
            && proxy.config.as_ref() == wished
    }

    fn may_hold(&self) -> bool {
        self.policy.on_exhausted == OnExhausted::HoldLastGood
            && self.policy.on_failure == OnFailure::KeepServing
    }
}

impl Wish {
    fn new(config: &str) -> Self {
        Self {
            config: config.to_owned(),
            used: 0,
            first_at_once: false,
            not_before: None,
            over: None,
            is_new: true,
        }
    }

    /// Spends a retry; false when there is none.
    fn put_off(&mut self, policy: &Policy, now: Timestamp, healthy: bool) -> bool {
        let retry = &policy.retry;
        if healthy {
            (self.used, self.first_at_once) = (0, true);
        }
        if self.used >= retry.max_retries {
            return false;
        }
        let doublings = if self.first_at_once {
            self.used.checked_sub(1)
        } else {
            Some(self.used)
        };
        let delay = doublings.map_or(Duration::ZERO, |doublings| {
            let delay = retry.initial_interval * 2_u32.pow(doublings);
            retry
                .max_interval
                .map_or(delay, |longest| delay.min(longest))
        });
        self.used += 1;
        self.over = None;
        self.not_before = (delay > Duration::ZERO).then(|| now.after(delay));
        true
    }
}

fn is_starting(proxy: &Proxy) -> bool {
    matches!(proxy.state, State::Starting { .. })
}

fn is_late(proxy: &Proxy) -> bool {
    matches!(proxy.state, State::Starting { late: true, .. })
}

fn is_live(proxy: &Proxy) -> bool {
    matches!(proxy.state, State::Live { .. })
}

fn is_bad(proxy: &Proxy) -> bool {
    let trial = Trial::Lost;
    matches!(proxy.state, State::Live { trial: it, .. } if it == trial)
}

fn is_draining(proxy: &Proxy) -> bool {
    matches!(proxy.state, State::Draining { .. })
}

fn is_told(proxy: &Proxy) -> bool {
    matches!(proxy.state, State::Told { .. })
}
