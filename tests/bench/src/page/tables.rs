//! Numbers and tables.

use std::fmt::Write as _;

use crate::figures::{Figures, Stats, Unit};

/// What stands for an unknown figure.
pub(super) const DASH: &str = "–";

/// A number with its unit, with about three digits that count.
pub(super) fn number(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Nanoseconds => format!("{} ns", digits(value)),
        Unit::Microseconds if value >= 1_000.0 => format!("{} ms", digits(value / 1_000.0)),
        Unit::Microseconds => format!("{} µs", digits(value)),
        Unit::Milliseconds if value >= 10_000.0 => format!("{} s", digits(value / 1_000.0)),
        Unit::Milliseconds => format!("{} ms", digits(value)),
        Unit::Bytes if value >= 1e5 => format!("{} MB", digits(value / 1e6)),
        Unit::Bytes => format!("{} kB", digits(value / 1e3)),
        Unit::Count => count(value),
    }
}

fn digits(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        small if small < 10.0 => format!("{value:.2}"),
        middle if middle < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// With commas between thousands, and a half if the median is one.
pub(super) fn count(value: f64) -> String {
    let text = format!("{value:.1}");
    let (whole, part) = text.split_once('.').unwrap_or((&text, "0"));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if part != "0" {
        let _infallible = write!(grouped, ".{part}");
    }
    grouped
}

/// The median, and the p99 if there is more than one sample.
fn cell(unit: Unit, stats: &Stats) -> String {
    let median = number(unit, stats.median);
    let p99 = number(unit, stats.p99);
    match p99.rsplit_once(' ') {
        _ if stats.n == 1 || median == p99 => median,
        // The unit once, where it is the same.
        Some((_, word)) if median.ends_with(&format!(" {word}")) => {
            let median = median.trim_end_matches(word).trim_end();
            format!("{median} / {p99}")
        }
        _ => format!("{median} / {p99}"),
    }
}

/// A table with a row for each subject and a column for each thing that was measured. Rows without any figure are
/// left out.
pub(super) fn table(
    figures: &Figures,
    measure: &str,
    corner: &str,
    rows: &[&str],
    columns: &[(String, String)],
) -> String {
    let mut table = format!("| {corner} |");
    for (heading, _) in columns {
        let _infallible = write!(table, " {heading} |");
    }
    table.push_str(" n |\n| --- |");
    table.push_str(&" ---: |".repeat(columns.len() + 1));
    table.push('\n');
    let mut is_empty = true;
    for subject in rows {
        let (mut line, mut counts) = (format!("| {subject} |"), Vec::new());
        for (_, what) in columns {
            let known = figures
                .find(measure, what, subject)
                .map(|figure| figure.unit);
            let stats = figures.stats(measure, what, subject).ok();
            let shown = match (known, stats) {
                (Some(unit), Some(stats)) => {
                    counts.push(stats.n);
                    cell(unit, &stats)
                }
                _ => DASH.to_owned(),
            };
            let _infallible = write!(line, " {shown} |");
        }
        let n = match (counts.iter().min(), counts.iter().max()) {
            (Some(least), Some(most)) if least == most => least.to_string(),
            (Some(least), Some(most)) => format!("{least} to {most}"),
            _ => continue,
        };
        is_empty = false;
        let _infallible = writeln!(table, "{line} {n} |");
    }
    if is_empty {
        return format!("Unknown: {}.\n", figures.why_missing(measure));
    }
    table
}

/// A table with a row for each thing that was measured of one subject.
pub(super) fn list(figures: &Figures, measure: &str, subject: &str, things: &[&str]) -> String {
    let mut list = String::new();
    for thing in things {
        let unit = figures
            .find(measure, thing, subject)
            .map(|figure| figure.unit);
        let stats = figures.stats(measure, thing, subject).ok();
        if let Some((unit, stats)) = unit.zip(stats) {
            let _infallible = writeln!(list, "| {thing} | {} | {} |", cell(unit, &stats), stats.n);
        }
    }
    if list.is_empty() {
        return format!("Unknown: {}.\n", figures.why_missing(measure));
    }
    format!("| | {subject} | n |\n| --- | ---: | ---: |\n{list}")
}

/// Columns whose heading is the name of what was measured.
pub(super) fn columns(names: &[&str]) -> Vec<(String, String)> {
    names
        .iter()
        .map(|name| ((*name).to_owned(), (*name).to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_count() {
        assert_eq!(number(Unit::Milliseconds, 1.234), "1.23 ms");
        assert_eq!(number(Unit::Milliseconds, 12.34), "12.3 ms");
        assert_eq!(number(Unit::Milliseconds, 1_234.5), "1234 ms");
        assert_eq!(number(Unit::Milliseconds, 12_345.0), "12.3 s");
        assert_eq!(number(Unit::Microseconds, 1_500.0), "1.50 ms");
        assert_eq!(number(Unit::Bytes, 6_881_280.0), "6.88 MB");
        assert_eq!(number(Unit::Bytes, 2_048.0), "2.05 kB");
        assert_eq!(number(Unit::Count, 15_000.0), "15,000");
        assert_eq!(number(Unit::Count, 2.5), "2.5");
        assert_eq!(number(Unit::Count, 0.0), "0");
        assert_eq!(number(Unit::Microseconds, 0.0), "0 µs");
    }

    #[test]
    fn a_cell_has_its_unit_once_and_no_p99_of_a_single_sample() {
        let stats = |n, median, p99| Stats {
            n,
            median,
            p99,
            sum: 0.0,
        };
        let unit = Unit::Milliseconds;
        assert_eq!(cell(unit, &stats(3, 1.0, 2.0)), "1.00 / 2.00 ms");
        assert_eq!(cell(unit, &stats(3, 1.0, 20_000.0)), "1.00 ms / 20.0 s");
        assert_eq!(cell(unit, &stats(1, 1.0, 1.0)), "1.00 ms");
        assert_eq!(cell(Unit::Count, &stats(2, 1.0, 3.0)), "1 / 3");
    }
}
