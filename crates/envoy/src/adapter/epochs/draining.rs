//! Whether an epoch has finished its work, from one count of its connections.

/// What a count of connections has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::adapter) enum Count {
    /// So many are open.
    Open(u64),
    /// The process has ended.
    Ended,
    /// They cannot be counted, so there may be some.
    Unknown,
}

/// What follows from a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::adapter) enum Progress {
    /// No client is left, and none can come.
    Drained,
    /// The process has ended. Whether an old epoch was to end is judged where its end is seen.
    Ended,
    /// Connections are open, or may be.
    Waits,
}

/// Returns how far the drain of an epoch is. An epoch that is giving way to one of another lineage
/// `may_accept` further connections.
pub(in crate::adapter) fn progress(count: Count, may_accept: bool) -> Progress {
    match count {
        Count::Open(0) if !may_accept => Progress::Drained,
        Count::Open(_) | Count::Unknown => Progress::Waits,
        Count::Ended => Progress::Ended,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_drained_when_no_connection_is_open_and_none_can_come() {
        assert_eq!(progress(Count::Open(0), false), Progress::Drained);
        assert_eq!(progress(Count::Open(0), true), Progress::Waits);
        for may_accept in [false, true] {
            assert_eq!(progress(Count::Open(1), may_accept), Progress::Waits);
            assert_eq!(progress(Count::Unknown, may_accept), Progress::Waits);
            assert_eq!(progress(Count::Ended, may_accept), Progress::Ended);
        }
    }
}
