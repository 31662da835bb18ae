// A match that names every variant of an enum, and takes further arms. `told.rs` compiles it inside of the crate
// and outside.
macro_rules! every {
    (Outcome, $value:expr, $($more:tt)*) => { match $value {
        Outcome::Drained | Outcome::DrainTimedOut | Outcome::DrainSkipped | Outcome::DrainFailed
        | Outcome::Killed | Outcome::GaveUp { .. } | Outcome::ProxyEnded { .. } => {}
        $($more)*
    } };
    (GaveUp, $value:expr, $($more:tt)*) => { match $value {
        GaveUp::BudgetSpent | GaveUp::Permanent | GaveUp::Unfit => {}
        $($more)*
    } };
    (Event, $value:expr, $($more:tt)*) => { match $value {
        Event::Started { .. } | Event::Live { .. } | Event::Superseded { .. }
        | Event::StoppedServing { .. } | Event::WokeLate { .. } | Event::StartTimedOut { .. }
        | Event::GivesWay { .. } | Event::Exited { .. } | Event::RetryScheduled { .. } | Event::BudgetRefilled { .. }
        | Event::ProbationPassed { .. } | Event::Unfit { .. } | Event::BeyondCap { .. }
        | Event::Restarting | Event::Held(_) | Event::GaveUp { .. } | Event::FallbackLost { .. }
        | Event::NotRestarted { .. } | Event::Draining { .. } | Event::DrainTimedOut => {}
        $($more)*
    } };
    (Held, $value:expr, $($more:tt)*) => { match $value {
        Held::Starting(_) | Held::Aborting(_) | Held::Cap { .. } | Held::Retry(_) | Held::Interval(_)
        | Held::GivenUp | Held::NotRestarted | Held::NumbersUsedUp => {}
        $($more)*
    } };
    (Ignored, $value:expr, $($more:tt)*) => { match $value {
        Ignored::Unchanged | Ignored::UnknownEpoch | Ignored::OutOfOrder | Ignored::UnderWay
        | Ignored::Finished => {}
        $($more)*
    } };
    (Denied, $value:expr, $($more:tt)*) => { match $value {
        Denied::Terminating | Denied::Finished => {}
        $($more)*
    } };
    (DeadlineReason, $value:expr, $($more:tt)*) => { match $value {
        DeadlineReason::StartDeadline(_) | DeadlineReason::Retry | DeadlineReason::FallbackRetry
        | DeadlineReason::Healthy(_) | DeadlineReason::DrainDeadline | DeadlineReason::Grace(_)
        | DeadlineReason::Withdrawal(_) | DeadlineReason::GiveWay(_)
        | DeadlineReason::Probation(_) | DeadlineReason::LateStart(_)
        | DeadlineReason::Interval => {}
        $($more)*
    } };
}
