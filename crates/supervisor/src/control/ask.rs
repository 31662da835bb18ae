//! What is asked of the supervisor over the socket, and the way to it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::wire::{
    ApplyRequest, Code, DrainRequest, Refusal, ReloadRequest, Reply, StopRequest, Until,
    WaitRequest, WhoRequest,
};
use crate::operator::{Condition, Next, Request, Wait};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Status,
    Reload(ReloadRequest),
    Apply(ApplyRequest),
    Drain(DrainRequest),
    Undrain,
    Stop(StopRequest),
    Who(WhoRequest),
    Wait(WaitRequest),
}

impl Ask {
    /// Whether the answer may take long.
    pub(super) fn waits(self) -> bool {
        match self {
            Self::Reload(request) => request.wait || request.now,
            Self::Apply(request) => request.wait,
            Self::Drain(request) => request.wait,
            Self::Stop(request) => request.wait,
            Self::Wait(_) => true,
            Self::Status | Self::Undrain | Self::Who(_) => false,
        }
    }

    /// What it is for the operator.
    pub(crate) fn request(self) -> Request {
        let (waits, limit) = self.timeout_ms();
        let wait = match (waits, limit) {
            (false, _) => Wait::No,
            (true, None) => Wait::Unlimited,
            (true, Some(limit)) => Wait::AtMost(Duration::from_millis(limit)),
        };
        match self {
            Self::Status => Request::Status,
            Self::Who(_) => Request::Who,
            Self::Reload(request) => Request::Reload {
                next: match (request.cold, request.if_changed) {
                    (true, _) => Next::Cold,
                    (false, true) => Next::IfDifferent,
                    (false, false) => Next::Renew,
                },
                hurry: request.now,
                wait,
                through_probation: request.through_probation,
            },
            Self::Apply(request) => Request::Apply {
                wait,
                through_probation: request.through_probation,
            },
            Self::Drain(_) => Request::Drain { wait },
            Self::Undrain => Request::Undrain,
            Self::Wait(request) => Request::Await {
                condition: match request.until {
                    Until::Ready => Condition::Ready,
                    Until::Live => Condition::Live,
                    Until::Current => Condition::Current,
                },
                wait,
            },
            Self::Stop(request) => Request::Stop {
                now: request.now,
                wait,
            },
        }
    }

    /// How long the answer may take, where it waits.
    fn timeout_ms(self) -> (bool, Option<u64>) {
        match self {
            Self::Reload(request) => (request.wait, request.timeout_ms),
            Self::Apply(request) => (request.wait, request.timeout_ms),
            Self::Drain(request) => (request.wait, request.timeout_ms),
            Self::Stop(request) => (request.wait, request.timeout_ms),
            Self::Wait(request) => (true, request.timeout_ms),
            Self::Status | Self::Undrain | Self::Who(_) => (false, None),
        }
    }

    /// Refuses fields that contradict each other.
    pub(super) fn check(self) -> Result<Self, Refusal> {
        if let (false, Some(_)) = self.timeout_ms() {
            let message = "`timeout_ms` goes with `wait` only";
            return Err(Refusal::new(Code::BadRequest, message));
        }
        let (wait, through_probation) = match self {
            Self::Reload(request) => (request.wait, request.through_probation),
            Self::Apply(request) => (request.wait, request.through_probation),
            Self::Status
            | Self::Drain(_)
            | Self::Undrain
            | Self::Stop(_)
            | Self::Who(_)
            | Self::Wait(_) => (false, false),
        };
        if through_probation && !wait {
            let message = "`through_probation` goes with `wait` only";
            return Err(Refusal::new(Code::BadRequest, message));
        }
        if let Self::Reload(request) = self
            && request.cold
            && (request.now || request.if_changed)
        {
            let message = "`cold` goes neither with `now` nor with `if_changed`";
            return Err(Refusal::new(Code::BadRequest, message));
        }
        Ok(self)
    }
}

/// As it would be typed.
impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, flags): (_, &[(bool, &str)]) = match self {
            Self::Status => ("status", &[]),
            Self::Who(_) => ("who", &[]),
            Self::Reload(request) => (
                "reload",
                &[
                    (request.wait, "--wait"),
                    (request.now, "--now"),
                    (request.cold, "--cold"),
                    (request.if_changed, "--if-changed"),
                    (request.through_probation, "--through-probation"),
                ],
            ),
            Self::Apply(request) => (
                "apply",
                &[(request.through_probation, "--through-probation")],
            ),
            Self::Drain(request) => ("drain", &[(request.wait, "--wait")]),
            Self::Undrain => ("undrain", &[]),
            Self::Wait(request) => (
                "wait",
                match request.until {
                    Until::Ready => &[(true, "--ready")],
                    Until::Live => &[(true, "--live")],
                    Until::Current => &[(true, "--current")],
                },
            ),
            Self::Stop(request) => ("stop", &[(request.wait, "--wait"), (request.now, "--now")]),
        };
        f.write_str(name)?;
        for (_, flag) in flags.iter().filter(|(set, _)| *set) {
            write!(f, " {flag}")?;
        }
        if let Self::Who(request) = self {
            if let Some(epoch) = request.epoch {
                write!(f, " --epoch {epoch}")?;
            }
            if let Some(peers) = request.end {
                write!(f, " --end {peers}")?;
            }
        }
        Ok(())
    }
}

/// What becomes of it.
pub(crate) type Answer = Result<Reply, Refusal>;

/// A question that is on its way.
#[derive(Debug)]
pub(crate) struct PendingAsk {
    pub(crate) ask: Ask,
    /// The configuration that is given, if one is.
    pub(crate) text: Option<Arc<[u8]>>,
    /// The process that asks, where the kernel tells.
    pub(crate) pid: Option<i32>,
    /// Where the answer goes. It is closed when nobody waits for it any more.
    pub(crate) answer: oneshot::Sender<Answer>,
}

/// The way to the supervisor.
#[derive(Clone, Debug)]
pub(super) struct Supervisor(pub(super) mpsc::Sender<PendingAsk>);

impl Supervisor {
    pub(super) async fn ask(&self, ask: Ask, text: Option<Arc<[u8]>>, pid: Option<i32>) -> Answer {
        let (answer, answered) = oneshot::channel();
        let ended = || Refusal::new(Code::Ending, "the supervisor has ended");
        let asked = PendingAsk {
            ask,
            text,
            pid,
            answer,
        };
        self.0.send(asked).await.map_err(|_| ended())?;
        answered.await.unwrap_or_else(|_| Err(ended()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_as_it_would_be_typed() {
        let ask = Ask::Reload(ReloadRequest {
            wait: true,
            cold: true,
            ..ReloadRequest::default()
        });
        assert_eq!(ask.to_string(), "reload --wait --cold");
        assert_eq!(Ask::Undrain.to_string(), "undrain");
        let ask = Ask::Wait(WaitRequest {
            until: Until::Current,
            timeout_ms: Some(1),
        });
        assert_eq!(ask.to_string(), "wait --current");
        let ask = Ask::Who(WhoRequest {
            end: "10.0.0.7".parse().ok(),
            epoch: Some(3),
            ..WhoRequest::default()
        });
        assert_eq!(ask.to_string(), "who --epoch 3 --end 10.0.0.7");
    }

    #[test]
    fn the_least_that_is_asked_for_is_the_next_epoch_and_no_wait() {
        let asked = |request| Ask::Reload(request).request();
        let reload = |next, hurry, wait| Request::Reload {
            next,
            hurry,
            wait,
            through_probation: false,
        };
        let plain = ReloadRequest::default();
        assert_eq!(asked(plain), reload(Next::Renew, false, Wait::No));
        let careful = ReloadRequest {
            if_changed: true,
            now: true,
            wait: true,
            ..plain
        };
        let waits = reload(Next::IfDifferent, true, Wait::Unlimited);
        assert_eq!(asked(careful), waits);
        let cold = ReloadRequest {
            cold: true,
            wait: true,
            timeout_ms: Some(7),
            ..plain
        };
        let limit = Wait::AtMost(Duration::from_millis(7));
        assert_eq!(asked(cold), reload(Next::Cold, false, limit));
    }

    #[test]
    fn a_time_limit_needs_something_to_wait_for() {
        let ask = |wait| {
            Ask::Drain(DrainRequest {
                wait,
                timeout_ms: Some(1),
            })
        };
        assert!(ask(true).check().is_ok());
        assert_eq!(ask(false).check().unwrap_err().code, Code::BadRequest);
    }

    #[test]
    fn through_the_probation_is_a_longer_wait() {
        let ask = |wait| {
            Ask::Reload(ReloadRequest {
                wait,
                through_probation: true,
                ..ReloadRequest::default()
            })
        };
        assert_eq!(ask(false).check().unwrap_err().code, Code::BadRequest);
        let waits = ask(true).check().unwrap();
        assert_eq!(waits.to_string(), "reload --wait --through-probation");
        let Request::Reload {
            through_probation, ..
        } = waits.request()
        else {
            panic!("{waits}");
        };
        assert!(through_probation);
    }

    #[test]
    fn a_cold_restart_has_nothing_to_hurry_or_to_compare() {
        let ask = Ask::Reload(ReloadRequest {
            cold: true,
            now: true,
            ..ReloadRequest::default()
        });
        assert_eq!(ask.check().unwrap_err().code, Code::BadRequest);
    }
}
