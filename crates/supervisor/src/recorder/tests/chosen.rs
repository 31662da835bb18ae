//! Requests and states of an agent, each chosen by a number.

use std::time::Duration;

use handover_core::{Epoch, EpochState, Phase, Standing};

use super::MARKER;
use crate::operator::{AgentView, EpochView, Next, Request, Shortage, Wait};

pub(super) fn request(number: u8) -> Request {
    let wait = match number % 3 {
        0 => Wait::No,
        1 => Wait::Unlimited,
        _ => Wait::AtMost(Duration::from_secs(1)),
    };
    match number % 5 {
        0 => Request::Status,
        1 => Request::Reload {
            next: Next::Cold,
            hurry: false,
            wait,
        },
        2 => Request::Reload {
            next: Next::Renew,
            hurry: true,
            wait,
        },
        3 => Request::Drain { wait },
        _ => Request::Undrain,
    }
}

pub(super) fn view(number: u8) -> AgentView {
    AgentView {
        phase: Phase::Running,
        standing: Standing::Live(Epoch::ZERO),
        epochs: vec![EpochView {
            epoch: Epoch::new(u32::from(number % 2)),
            state: EpochState::Live,
            desired: number.is_multiple_of(3),
            released: false,
        }],
        shortage: (number.is_multiple_of(7)).then(|| Shortage {
            epoch: Epoch::ZERO,
            what: MARKER.to_owned(),
        }),
    }
}
