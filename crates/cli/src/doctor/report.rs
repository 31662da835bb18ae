//! The findings, for people and for machines.

use std::fmt::Write as _;

use serde::Serialize;

use super::{CHECKS, Facts, Finding, Severity, examine};
use crate::escape::escaped;
use crate::exit_code::ExitCode;

/// The version of the JSON, which rises when a field changes its meaning or goes.
const VERSION: u32 = 1;

/// The findings of one examination.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    version: u32,
    errors: usize,
    warnings: usize,
    findings: Vec<Finding>,
}

impl Report {
    /// Asks every check. `all` keeps the findings that are only information.
    pub(crate) fn new(facts: &Facts, all: bool) -> Self {
        let mut findings = examine(facts);
        let count = |severity| {
            let of_it = |finding: &&Finding| finding.severity == severity;
            findings.iter().filter(of_it).count()
        };
        let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
        findings.retain(|finding| all || finding.severity > Severity::Information);
        Self {
            version: VERSION,
            errors,
            warnings,
            findings,
        }
    }

    /// Returns the exit code, which is the same for people and for machines.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match (self.errors, self.warnings) {
            (0, 0) => ExitCode::CLEAN,
            (0, _) => ExitCode::WARNINGS,
            _ => ExitCode::ERRORS,
        }
    }

    /// Returns the report for people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            let severity = match finding.severity {
                // What could be done better, or is unknown.
                Severity::Information if finding.remedy.is_some() => "note",
                Severity::Information => "ok",
                Severity::Warning => "warning",
                Severity::Error => "error",
            };
            let shown = |text: &str| escaped(text, &[]);
            let value = shown(&finding.value);
            // Writing to a text does not fail.
            let _ = writeln!(text, "{severity:<8} {}: {value}", finding.name);
            let _ = writeln!(text, "         {}", shown(&finding.reason));
            if let Some(remedy) = &finding.remedy {
                let _ = writeln!(text, "         remedy: {}", shown(remedy));
            }
        }
        let count = |number: usize, what: &str| match number {
            1 => format!("1 {what}"),
            number => format!("{number} {what}s"),
        };
        let _ = write!(
            text,
            "{}, {} in {} checks",
            count(self.errors, "error"),
            count(self.warnings, "warning"),
            CHECKS.len()
        );
        text
    }
}
