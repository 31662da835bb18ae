//! Requests and states of an agent, each chosen by a number.

use std::time::Duration;

use handover_core::{Epoch, EpochState, Phase, Standing, Timestamp};

use super::MARKER;
use crate::operator::{
    AgentView, EpochView, Examination, Next, ProbeResult, Probed, Request, Seen, Shortage, Wait,
};

pub(super) fn request(number: u8) -> Request {
    let wait = match number % 3 {
        0 => Wait::No,
        1 => Wait::Unlimited,
        _ => Wait::AtMost(Duration::from_secs(1)),
    };
    match number % 6 {
        0 => Request::Status,
        1 => Request::Reload {
            next: Next::Cold,
            hurry: false,
            through_probation: number.is_multiple_of(2),
            wait,
        },
        2 => Request::Reload {
            next: Next::Renew,
            hurry: true,
            through_probation: !number.is_multiple_of(2),
            wait,
        },
        3 => Request::Drain { wait },
        4 => Request::Apply {
            wait,
            through_probation: number.is_multiple_of(2),
        },
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
            started: Timestamp::ZERO,
            desired: number.is_multiple_of(3),
            released: false,
            on_probation: number.is_multiple_of(5),
            unfit: false,
        }],
        shortage: (number.is_multiple_of(7)).then(|| Shortage {
            epoch: Epoch::ZERO,
            what: MARKER.to_owned(),
        }),
    }
}

/// What tells of missing things and failed probes, in texts that are to be left out.
pub(super) fn seen(number: u8) -> Seen {
    Seen {
        proxy: Some(Examination {
            missing: Some(vec![MARKER.to_owned()]),
            silent: number.is_multiple_of(3).then(|| MARKER.to_owned()),
            ..Examination::default()
        }),
        probes: vec![Probed {
            name: MARKER.to_owned(),
            result: ProbeResult::Failed(MARKER.to_owned()),
        }],
    }
}
