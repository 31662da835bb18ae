//! The table at the end.

use std::fmt::Write as _;
use std::time::Duration;

use super::tally::{Counts, Kind, KindCounts};

/// What happened on the supervisor's side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EventCounts {
    /// Epochs that were started.
    pub(crate) started: u32,
    /// Epochs that went live.
    pub(crate) live: u32,
    /// Epochs that went live beside an older one.
    pub(crate) hand_overs: u32,
    /// Epochs that failed.
    pub(crate) failed: u32,
    /// Configurations that were given up.
    pub(crate) given_up: u32,
}

/// The table, and under it the failures.
pub(crate) fn table(counts: &Counts, happened: EventCounts) -> String {
    let mut text =
        String::from("                    requests   failed    median       p99   slowest\n");
    let mut all = KindCounts::default();
    for (kind, of_kind) in &counts.kinds {
        push_row(&mut text, name(*kind), of_kind);
        all.failed += of_kind.failed;
        all.times.extend(&of_kind.times);
    }
    push_row(&mut text, "all", &all);
    let EventCounts {
        started,
        hand_overs,
        failed,
        given_up,
        live: _,
    } = happened;
    let lost = all.failed;
    let verdict = match (lost, all.times.is_empty()) {
        (0, true) => "no request was sent".to_owned(),
        (0, false) => "no request was lost".to_owned(),
        (lost, _) => format!("{} requests were lost", grouped(lost)),
    };
    // Writing into a string cannot fail.
    let _infallible = write!(
        text,
        "\nepochs started {started}, hand-overs {hand_overs}, failed starts {failed}, \
         configurations given up {given_up}\n{verdict}\n"
    );
    for failure in &counts.failures {
        let _infallible = writeln!(text, "  lost: {failure}");
    }
    if counts.failures.len() < lost {
        let _infallible = writeln!(text, "  and {} more", grouped(lost - counts.failures.len()));
    }
    text
}

fn push_row(text: &mut String, name: &str, counts: &KindCounts) {
    let mut times = counts.times.clone();
    times.sort_unstable();
    let requests = grouped(times.len() + counts.failed);
    let failed = grouped(counts.failed);
    let [median, p99, slowest] = [50, 99, 100].map(|percent| millis(rank(&times, percent)));
    let _infallible = writeln!(
        text,
        "  {name:<17} {requests:>8} {failed:>8} {median:>9} {p99:>9} {slowest:>9}"
    );
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::New => "new connections",
        Kind::Kept => "kept connections",
        Kind::Slow => "slow requests",
    }
}

/// The time that this percentage of the requests did not exceed: the nearest rank of the sorted
/// times.
fn rank(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

fn millis(time: Option<Duration>) -> String {
    time.map_or_else(
        || "-".to_owned(),
        |time| format!("{:.1} ms", time.as_secs_f64() * 1000.0),
    )
}

/// `12,345`.
pub(crate) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::tally::Tally;

    #[test]
    fn the_rank_is_the_nearest_one() {
        let times: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(rank(&times, 50), Some(Duration::from_millis(100)));
        assert_eq!(rank(&times, 99), Some(Duration::from_millis(198)));
        assert_eq!(rank(&times, 100), Some(Duration::from_millis(200)));
        assert_eq!(rank(&times[..1], 50), Some(Duration::from_millis(1)));
        assert_eq!(rank(&[], 99), None);
    }

    #[test]
    fn thousands_are_set_apart() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn the_table_lists_each_kind_and_what_was_lost() {
        let tally = Tally::default();
        for millis in 1..=1200 {
            tally.answered(Kind::New, Duration::from_millis(millis), Some("0"));
        }
        tally.answered(Kind::Slow, Duration::from_millis(400), Some("1"));
        for number in 0..25 {
            tally.failed(Kind::Kept, format!("reason {number}"));
        }
        let happened = EventCounts {
            started: 3,
            live: 2,
            hand_overs: 1,
            failed: 1,
            given_up: 0,
        };
        insta::assert_snapshot!("table", table(&tally.counts(), happened));
    }
}
