//! What a test run reports: the `JUnit` file of cargo-nextest, and the summary lines of Rust's own harness.

use std::fmt;
use std::ops::AddAssign;
use std::path::Path;

use anyhow::{Context as _, Result};
use quick_junit::{Report, TestCase, TestCaseStatus, XmlString};
use regex_lite::Regex;

/// How a line starts by which a test reports that it did nothing, and why. Large letters or small: nextest
/// shows what a test prints, whatever it prints it with.
const SKIPPED: [&str; 2] = ["skipped ", "skipped:"];

/// How many tests there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
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
        let Self {
            passed,
            failed,
            skipped,
        } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// The results of a run.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) counts: Counts,
    /// The names of the tests that failed, with the runner's word for how.
    pub(crate) failed: Vec<String>,
    /// The line of each test that skipped itself: it returned early, so that its runner took it for passed.
    pub(crate) skipped: Vec<String>,
    /// What the tests printed.
    pub(crate) output: String,
}

impl Results {
    /// Reads the `JUnit` file that cargo-nextest wrote.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or is no `JUnit` report.
    pub(crate) fn from_junit(path: &Path) -> Result<Self> {
        let text = fs_err::read_to_string(path)?;
        let report = Report::deserialize_from_str(&text)
            .with_context(|| format!("parsing the test report {}", path.display()))?;
        let mut results = Self::default();
        for suite in &report.test_suites {
            for case in &suite.test_cases {
                results.add(suite.name.as_str(), case);
            }
        }
        Ok(results)
    }

    fn add(&mut self, binary: &str, case: &TestCase) {
        let text =
            |part: &Option<XmlString>| part.as_ref().map_or("", |text| text.as_str()).to_owned();
        let output = text(&case.system_out) + "\n" + &text(&case.system_err);
        match &case.status {
            TestCaseStatus::Success { .. } => match skip_line(&output) {
                Some(line) => {
                    self.counts.skipped += 1;
                    self.skipped.push(line);
                }
                None => self.counts.passed += 1,
            },
            TestCaseStatus::NonSuccess { ty, .. } => {
                self.counts.failed += 1;
                let name = case.name.as_str();
                self.failed.push(format!("`{binary} {name}`: {}", text(ty)));
            }
            TestCaseStatus::Skipped { .. } => self.counts.skipped += 1,
        }
        self.output.push_str(&output);
    }

    /// Counts the tests of a run that the report has nothing of: the run was broken off before their turn.
    pub(crate) fn without_turn(&mut self, listed: usize) {
        let Counts { passed, failed, .. } = self.counts;
        let listed = u64::try_from(listed).unwrap_or(u64::MAX);
        self.counts.skipped = self
            .counts
            .skipped
            .max(listed.saturating_sub(passed + failed));
    }
}

/// The line by which a test reports that it skipped itself, the first where there are several.
fn skip_line(output: &str) -> Option<String> {
    let is_skip = |line: &&str| {
        let line = line.to_ascii_lowercase();
        SKIPPED.iter().any(|start| line.starts_with(start))
    };
    let line = output.lines().map(str::trim_start).find(is_skip)?;
    Some(line.to_owned())
}

/// The sum of the summary lines of Rust's own harness, or `None` if there is no such line.
///
/// # Errors
///
/// When a number of a line is none.
pub(crate) fn libtest_summaries(output: &str) -> Result<Option<Counts>> {
    let line = Regex::new(r"(?m)^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored")?;
    let mut sum: Option<Counts> = None;
    for (_, numbers) in line.captures_iter(output).map(|found| found.extract()) {
        let [passed, failed, skipped] = numbers.map(str::parse);
        *sum.get_or_insert_default() += Counts {
            passed: passed?,
            failed: failed?,
            skipped: skipped?,
        };
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    const JUNIT: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="nextest-run" tests="5" failures="1" errors="1" time="0.5">
    <testsuite name="handover-tests::real" tests="5" disabled="0" errors="1" failures="1">
        <testcase name="t::good" classname="handover-tests::real" time="0.1">
            <system-err>chatter about what is not SKIPPED </system-err>
        </testcase>
        <testcase name="t::bare" classname="handover-tests::real" time="0.1">
            <system-err>SKIPPED t::bare: no root
SKIPPED t::bare: and no Envoy</system-err>
        </testcase>
        <testcase name="t::quiet" classname="handover-tests::real" time="0.1">
            <system-out>skipped: no network</system-out>
        </testcase>
        <testcase name="t::red" classname="handover-tests::real" time="0.1">
            <failure type="test failure with exit code 101">boom</failure>
            <system-err>SKIPPED t::red: no root</system-err>
        </testcase>
        <testcase name="t::hung" classname="handover-tests::real" time="0.1">
            <error type="test timeout"/>
        </testcase>
    </testsuite>
</testsuites>"#;

    fn read() -> Results {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), JUNIT).unwrap();
        Results::from_junit(file.path()).unwrap()
    }

    #[test]
    fn a_test_that_skipped_itself_did_not_pass_and_one_that_failed_did_not_skip() {
        let results = read();
        assert_eq!(results.counts.to_string(), "1 passed, 2 failed, 2 skipped");
        assert_eq!(
            results.skipped,
            ["SKIPPED t::bare: no root", "skipped: no network"]
        );
        assert_eq!(
            results.failed,
            [
                "`handover-tests::real t::red`: test failure with exit code 101",
                "`handover-tests::real t::hung`: test timeout"
            ]
        );
    }

    #[test]
    fn a_test_without_a_turn_is_skipped() {
        let mut results = read();
        results.without_turn(5);
        assert_eq!(results.counts.skipped, 2);
        results.without_turn(9);
        assert_eq!(results.counts.to_string(), "1 passed, 2 failed, 6 skipped");
    }

    #[test]
    fn a_report_that_cannot_be_read_is_an_error_with_its_path() {
        let error = Results::from_junit(Path::new("no/junit.xml")).unwrap_err();
        assert!(error.to_string().contains("`no/junit.xml`"), "{error}");
    }

    #[test]
    fn summaries_of_the_harness_are_added_up_and_other_lines_are_none() {
        let line = "test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 7 filtered out; finished in 0.00s";
        let failed = "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured";
        let counts = libtest_summaries(&format!("a\n{line}\nb\n{failed}\n")).unwrap();
        assert_eq!(
            counts.unwrap().to_string(),
            "13 passed, 2 failed, 3 skipped"
        );
        let others = "running 3 tests\ntest a ... ok\n1 passed; 2 failed\n";
        assert_eq!(libtest_summaries(others).unwrap(), None);
    }
}
