//! Reading the summaries of the test runners, and thinning out their output.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

/// How a line starts by which a test says that it did nothing, and why.
pub(crate) const SKIPPED: &str = "SKIPPED ";

/// How many tests there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Counts {
    /// Counts so many tests as skipped that their runner took for passed, because they returned early
    /// with a [`SKIPPED`] line.
    pub(crate) fn skip_by_name(&mut self, tests: usize) {
        let tests = u64::try_from(tests).unwrap_or(u64::MAX);
        let tests = tests.min(self.passed);
        self.passed -= tests;
        self.skipped = self.skipped.saturating_add(tests);
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

/// Who runs the tests, and so writes the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runner {
    /// The harness of Rust itself, under `cargo test`.
    Libtest,
    /// cargo-nextest, with the output of passing tests switched on.
    Nextest,
}

/// The numbers of a summary line, or `None` for any other line. nextest repeats what the harness below it
/// wrote, which is not counted twice.
pub(crate) fn parse(runner: Runner, line: &str) -> Option<Counts> {
    let plain = without_colour(line);
    let mut counts = Counts::default();
    let parts = match runner {
        Runner::Libtest => plain
            .strip_prefix("test result: ")?
            .split_once(". ")?
            .1
            .replace(';', ","),
        Runner::Nextest => {
            let rest = plain.trim_start().strip_prefix("Summary [")?;
            let (begun, rest) = rest.split_once(" run: ")?;
            counts.skipped += not_run(begun);
            without_parentheses(rest)
        }
    };
    for part in parts.split(',') {
        let Some((number, what)) = part.trim().split_once(' ') else {
            continue;
        };
        let Ok(number) = number.parse::<u64>() else {
            continue;
        };
        match what.trim() {
            "passed" => counts.passed += number,
            "failed" | "timed out" | "exec failed" => counts.failed += number,
            "ignored" | "skipped" => counts.skipped += number,
            _ => {}
        }
    }
    Some(counts)
}

/// How many tests did not have their turn: three where `9/12 tests` ran.
fn not_run(begun: &str) -> u64 {
    let numbers = begun
        .split_whitespace()
        .find_map(|word| word.split_once('/'));
    let Some((ran, all)) = numbers else { return 0 };
    match (ran.parse::<u64>(), all.parse::<u64>()) {
        (Ok(ran), Ok(all)) => all.saturating_sub(ran),
        _ => 0,
    }
}

/// The tests that said of themselves that they did nothing, and that their runner took for passed.
#[derive(Debug, Default)]
pub(crate) struct Skips {
    /// The test whose output nextest shows, where it passed.
    below: Option<String>,
    /// Each test, with its line.
    tests: BTreeMap<String, String>,
}

impl Skips {
    /// Takes in a line of the output. nextest says whose output it shows, and shows that of a failed
    /// test as well, which is counted as failed. libtest says neither.
    pub(crate) fn read(&mut self, runner: Runner, line: &str) {
        let plain = without_colour(line);
        if runner == Runner::Nextest
            && let Some(status) = status(&plain)
        {
            self.below = ["PASS", "LEAK"]
                .contains(&status)
                .then(|| test_of(&plain).unwrap_or_default().to_owned());
        }
        let Some(line) = skipped(line) else { return };
        let test = match runner {
            Runner::Nextest => self.below.clone(),
            Runner::Libtest => Some(line.split(": ").next().unwrap_or_default().to_owned()),
        };
        if let Some(test) = test {
            self.tests.entry(test).or_insert(line);
        }
    }

    /// The line of each test.
    pub(crate) fn lines(self) -> Vec<String> {
        let mut lines: Vec<_> = self.tests.into_values().collect();
        lines.sort();
        lines
    }
}

/// The line by which a test says that it skipped itself, if this is one.
pub(crate) fn skipped(line: &str) -> Option<String> {
    let plain = without_colour(line);
    Some(plain.trim_start())
        .filter(|text| text.starts_with(SKIPPED))
        .map(str::to_owned)
}

/// The name of a failed test, if the line tells of one. nextest tells twice.
pub(crate) fn failed(runner: Runner, line: &str) -> Option<String> {
    let plain = without_colour(line);
    match runner {
        Runner::Libtest => Some(
            plain
                .strip_prefix("test ")?
                .strip_suffix(" ... FAILED")?
                .to_owned(),
        ),
        Runner::Nextest => {
            // Whatever else ends a test has a word of its own: a signal, a time limit, a leak.
            let harmless = [
                "PASS",
                "SLOW",
                "LEAK",
                "START",
                "SKIP",
                "SETUP",
                "TERMINATING",
            ];
            status(&plain).filter(|status| !harmless.contains(status))?;
            test_of(&plain).map(str::to_owned)
        }
    }
}

/// Hides what passing tests wrote, except for their [`SKIPPED`] lines: nextest has to be told to print
/// all of it for those to come through, libtest prints none.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    below_a_pass: bool,
}

impl Filter {
    /// Whether to show the line.
    pub(crate) fn shows(&mut self, runner: Runner, line: &str) -> bool {
        if runner == Runner::Libtest || skipped(line).is_some() {
            return true;
        }
        let plain = without_colour(line);
        let status = status(&plain);
        let is_output = status.is_none() && (plain.is_empty() || plain.starts_with("  "));
        self.below_a_pass = status == Some("PASS") || (self.below_a_pass && is_output);
        !self.below_a_pass || status.is_some()
    }
}

/// The word in capitals by which nextest starts the line of a test: `PASS [   0.021s] ...`.
fn status(line: &str) -> Option<&str> {
    let (word, rest) = line.trim_start().split_once(' ')?;
    let is_status = rest.starts_with('[')
        && word
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte == b'-');
    is_status.then_some(word)
}

/// The test that such a line is about.
fn test_of(line: &str) -> Option<&str> {
    let (_, name) = line.split_once("] ")?;
    let (counter, rest) = name.split_once(") ").unwrap_or(("", name));
    Some(if counter.starts_with('(') { rest } else { name })
}

/// The line without the escape sequences that set colours.
pub(crate) fn without_colour(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        rest = after
            .split_once(|c: char| c.is_ascii_alphabetic())
            .map_or("", |(_, tail)| tail);
    }
    plain.push_str(rest);
    plain
}

fn without_parentheses(text: &str) -> String {
    let mut depth = 0_u32;
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ if depth == 0 => plain.push(c),
            _ => {}
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(passed: u64, failed: u64, skipped: u64) -> Option<Counts> {
        Some(Counts {
            passed,
            failed,
            skipped,
        })
    }

    #[test]
    fn libtest_summaries_are_read() {
        let parse = |line| parse(Runner::Libtest, line);
        let ok = "test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 7 filtered out; finished in 0.00s";
        assert_eq!(parse(ok), counts(12, 0, 3));
        let red = "test result: \u{1b}[31mFAILED\u{1b}[0m. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(parse(red), counts(1, 2, 0));
    }

    #[test]
    fn nextest_summaries_are_read() {
        let parse = |line| parse(Runner::Nextest, line);
        assert_eq!(
            parse("     Summary [   0.010s] 3 tests run: 3 passed, 1 skipped"),
            counts(3, 0, 1)
        );
        assert_eq!(
            parse("     Summary [   0.010s] 1 test run: 1 passed, 0 skipped"),
            counts(1, 0, 0)
        );
        let mixed = "     Summary [  90.002s] 9/12 tests run: 4 passed (1 slow, 1 flaky), \
                     2 failed (1 due to being leaky), 2 timed out, 1 exec failed, 5 skipped";
        // Three of twelve did not have their turn.
        assert_eq!(parse(mixed), counts(4, 5, 8));
        let coloured = "\u{1b}[32;1m     Summary\u{1b}[0m [   0.010s] \u{1b}[1m3\u{1b}[0m tests run: \
                        \u{1b}[1m3\u{1b}[0m \u{1b}[32;1mpassed\u{1b}[0m, \u{1b}[1m1\u{1b}[0m skipped";
        assert_eq!(parse(coloured), counts(3, 0, 1));
    }

    #[test]
    fn other_lines_are_no_summaries() {
        for line in [
            "",
            "running 3 tests",
            "test a ... ok",
            "Summary of changes",
            "1 passed, 2 failed",
        ] {
            assert_eq!(parse(Runner::Libtest, line), None, "{line}");
            assert_eq!(parse(Runner::Nextest, line), None, "{line}");
        }
    }

    #[test]
    fn what_nextest_repeats_of_the_harness_is_not_counted() {
        let repeated =
            "    test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 4 filtered out";
        assert_eq!(parse(Runner::Nextest, repeated), None);
        assert_eq!(parse(Runner::Libtest, repeated), None);
    }

    #[test]
    fn failed_tests_are_named() {
        for (line, name) in [
            ("test a::b ... FAILED", Some("a::b")),
            (
                "test src/lib.rs - two (line 3) ... FAILED",
                Some("src/lib.rs - two (line 3)"),
            ),
            ("test a::b ... ok", None),
        ] {
            assert_eq!(failed(Runner::Libtest, line).as_deref(), name, "{line}");
        }
        for (line, name) in [
            (
                "        FAIL [   0.095s] (  3/124) handover-tests t::f",
                Some("handover-tests t::f"),
            ),
            (
                "     TIMEOUT [   4.003s] (125/126) handover-tests::real hangs",
                Some("handover-tests::real hangs"),
            ),
            (
                "     SIGABRT [   4.003s] handover-tests t::f",
                Some("handover-tests t::f"),
            ),
            (
                "   LEAK-FAIL [   0.526s] (4/4) handover-tests t::leaky",
                Some("handover-tests t::leaky"),
            ),
            (
                " TERMINATING [>  4.000s] (───────) handover-tests::real hangs",
                None,
            ),
            ("        PASS [   0.021s] (1/4) handover-tests t::a", None),
            (
                "     Summary [   4.823s] 126 tests run: 125 passed, 1 timed out, 0 skipped",
                None,
            ),
        ] {
            assert_eq!(failed(Runner::Nextest, line).as_deref(), name, "{line}");
        }
    }

    #[test]
    fn a_test_that_skipped_itself_did_not_pass() {
        let mut counts = Counts {
            passed: 5,
            failed: 0,
            skipped: 1,
        };
        counts.skip_by_name(2);
        assert_eq!(counts.to_string(), "3 passed, 0 failed, 3 skipped");
    }

    #[test]
    fn no_more_tests_are_taken_off_than_passed() {
        let mut counts = Counts {
            passed: 1,
            failed: 0,
            skipped: 0,
        };
        counts.skip_by_name(2);
        assert_eq!(counts.to_string(), "0 passed, 0 failed, 1 skipped");
    }

    #[test]
    fn each_test_that_skipped_itself_counts_once_and_one_that_failed_does_not() {
        let read = |runner, lines: &[&str]| {
            let mut skips = Skips::default();
            for line in lines {
                skips.read(runner, line);
            }
            skips.lines()
        };
        let nextest = [
            "        PASS [   0.021s] (1/4) handover::a t::one",
            "    SKIPPED t::one: no root",
            "    SKIPPED t::one: and no Envoy",
            "        PASS [   0.021s] (2/4) handover::b t::one",
            "    SKIPPED t::one: no root",
            "        FAIL [   0.021s] (3/4) handover::b t::two",
            "    SKIPPED t::two: no root",
            "        PASS [   0.021s] (4/4) handover::b t::three",
            "     Summary [   0.010s] 4 tests run: 3 passed, 1 failed, 0 skipped",
            "        FAIL [   0.021s] (3/4) handover::b t::two",
            "    SKIPPED t::two: no root",
        ];
        let same = "SKIPPED t::one: no root";
        assert_eq!(read(Runner::Nextest, &nextest), [same, same]);
        let libtest = [
            "SKIPPED t::one: no root",
            "SKIPPED t::one: and no Envoy",
            "SKIPPED t::two: no root",
        ];
        assert_eq!(
            read(Runner::Libtest, &libtest),
            [same, "SKIPPED t::two: no root"]
        );
    }

    #[test]
    fn a_reason_for_skipping_is_found_below_indentation_and_colour() {
        assert_eq!(
            skipped("    SKIPPED a: why\u{1b}[0m"),
            Some("SKIPPED a: why".to_owned())
        );
        assert_eq!(skipped("test SKIPPED a"), None);
        assert_eq!(skipped("SKIPPEDX a"), None);
    }

    #[test]
    fn the_output_of_passing_tests_is_hidden_but_not_their_reason_for_skipping() {
        let output = [
            (
                "    Starting 4 tests across 1 binary (1 test skipped)",
                true,
            ),
            ("        PASS [   0.021s] (1/4) handover-tests t::a", true),
            ("  stderr ───", false),
            ("    chatter", false),
            ("", false),
            ("    SKIPPED a: no Envoy\u{1b}[0m", true),
            ("    more chatter", false),
            ("        FAIL [   0.095s] (3/4) handover-tests t::f", true),
            ("  stdout ───", true),
            ("    red", true),
            ("        PASS [   0.009s] (4/4) handover-tests t::b", true),
            ("    chatter", false),
            ("────────────", true),
            (
                "     Summary [   0.679s] 4 tests run: 3 passed, 1 failed, 1 skipped",
                true,
            ),
        ];
        let mut filter = Filter::default();
        for (line, shown) in output {
            assert_eq!(filter.shows(Runner::Nextest, line), shown, "{line}");
            assert!(Filter::default().shows(Runner::Libtest, line), "{line}");
        }
    }
}
