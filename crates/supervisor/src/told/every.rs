// A match that names every variant of an enum, and takes further arms. `told.rs` compiles it inside of the
// crate and outside.
macro_rules! every {
    (Event, $value:expr, $($more:tt)*) => { match $value {
        Event::Ending { .. } | Event::NextIsDue(_) | Event::NotRead(_) | Event::NotTakenIn(_)
        | Event::Unchanged(_) | Event::Short(_) | Event::TriesAgain(_) | Event::Called { .. }
        | Event::ProbeUnknown { .. } | Event::DrainTooLate | Event::AwaitsFiles(_)
        | Event::FilesAreThere | Event::AwaitsConfiguration | Event::HookFailed { .. } => {}
        $($more)*
    } };
    (Summary, $value:expr, $($more:tt)*) => { match $value {
        Summary::Starting | Summary::AwaitingFiles | Summary::AwaitingConfiguration | Summary::Serving(_) | Summary::ServingAnother(_)
        | Summary::NotListening(_) | Summary::Draining | Summary::Stopping => {}
        $($more)*
    } };
    (Ignored, $value:expr, $($more:tt)*) => { match $value {
        Ignored::Stale | Ignored::UnknownAsk | Ignored::UsedAsk | Ignored::Ending
        | Ignored::Unchanged | Ignored::Finished => {}
        $($more)*
    } };
    (DeadlineReason, $value:expr, $($more:tt)*) => { match $value {
        DeadlineReason::Limit(_) | DeadlineReason::Again(_) | DeadlineReason::Look
        | DeadlineReason::Examine | DeadlineReason::ExaminationLimit
        | DeadlineReason::FilesReport | DeadlineReason::FilesLimit | DeadlineReason::Alive
        | DeadlineReason::MoreTime | DeadlineReason::DrainHook => {}
        $($more)*
    } };
}
