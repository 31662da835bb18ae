// A match that names every variant of an enum, and takes further arms. `told.rs` compiles it inside of the
// crate and outside.
macro_rules! every {
    (Applied, $value:expr, $($more:tt)*) => { match $value {
        Applied::Changed | Applied::Unchanged => {}
        $($more)*
    } };
    (ApplyError, $value:expr, $($more:tt)*) => { match $value {
        ApplyError::Terminating | ApplyError::Ended => {}
        $($more)*
    } };
    (NotLive, $value:expr, $($more:tt)*) => { match $value {
        NotLive::NotApplied(_) | NotLive::Replaced | NotLive::GivenUp { .. }
        | NotLive::NotRestarted | NotLive::Ended => {}
        $($more)*
    } };
}
