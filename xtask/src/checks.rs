//! The checks, one file each, and their registry.

mod clippy;
mod commands;
mod docs;
mod doctests;
mod envoy;
mod features;
mod format;
mod generated;
mod layering;
pub(crate) mod leftovers;
mod licences;
mod manifests;
pub(crate) mod publish;
mod purity;
mod snapshots;
pub(crate) mod tests;
mod text;
mod workflows;

use anyhow::Result;

use crate::context::Context;

/// One check.
pub(crate) struct Check {
    /// How it is called on the command line.
    pub(crate) name: &'static str,
    /// What it holds, in one line.
    pub(crate) about: &'static str,
    /// The checks that must have run before it, in the same run.
    pub(crate) needs: &'static [&'static str],
    /// Does the work. An error means the same as a problem: the check failed.
    pub(crate) run: fn(&Context) -> Result<Findings>,
}

/// What a check found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// What a reader should know but what fails nothing.
    pub(crate) notes: Vec<String>,
    /// What is wrong; the check passed if there is none.
    pub(crate) problems: Vec<String>,
    /// What this machine could not do, and the job of the workflow that does it.
    pub(crate) left: Vec<String>,
}

impl Findings {
    /// The findings of a check that could not do its work.
    pub(crate) fn from_error(error: &anyhow::Error) -> Self {
        Self {
            problems: vec![format!("{error:#}")],
            ..Self::default()
        }
    }

    /// Adds something worth knowing.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Adds something wrong.
    pub(crate) fn problem(&mut self, problem: impl Into<String>) {
        self.problems.push(problem.into());
    }

    /// Adds something that was not done here, with the job of the workflow that does it.
    pub(crate) fn left(&mut self, what: impl Into<String>) {
        self.left.push(what.into());
    }
}

/// Every check, in the order in which they run: the quick ones first, and each after those it needs.
pub(crate) const ALL: &[Check] = &[
    Check {
        name: "format",
        about: "every file is as rustfmt writes it",
        needs: &[],
        run: format::check,
    },
    Check {
        name: "text",
        about: "short files, links that lead somewhere, nothing of one machine, no unfinished marks",
        needs: &[],
        run: text::check,
    },
    Check {
        name: "manifests",
        about: "each fact is written once and inherited; dependencies fit our compiler",
        needs: &[],
        run: manifests::check,
    },
    Check {
        name: "layering",
        about: "each crate's whole dependency tree keeps out what it must never contain",
        needs: &[],
        run: layering::check,
    },
    Check {
        name: "purity",
        about: "core, core-testing and retry have no std, no unsafe code, no clock, no environment",
        needs: &[],
        run: purity::check,
    },
    Check {
        name: "licences",
        about: "licences, bans, duplicates, sources and excused advisories are those of deny.toml",
        needs: &[],
        run: licences::check,
    },
    Check {
        name: "workflows",
        about: "CI calls these checks, has its other jobs, and pins what it uses by hash",
        needs: &[],
        run: workflows::check,
    },
    Check {
        name: "clippy",
        about: "no warning from the compiler or clippy, with all features and with none",
        needs: &[],
        run: clippy::check,
    },
    Check {
        name: "features",
        about: "each crate alone, with each combination of its features, compiles without a warning",
        needs: &[],
        run: features::check,
    },
    Check {
        name: "generated",
        about: "what is generated from code is what the code gives",
        needs: &[],
        run: generated::check,
    },
    Check {
        name: "docs",
        about: "the documentation builds without a warning, private items too",
        needs: &[],
        run: docs::check,
    },
    Check {
        name: "publish",
        about: "each library's package has what its user needs, nothing else, and builds",
        needs: &[],
        run: publish::check,
    },
    Check {
        name: "envoy",
        about: "the pinned real Envoy is installed below the target directory",
        needs: &[],
        run: envoy::check,
    },
    Check {
        name: "tests",
        about: "every test passes; those with a real Envoy have one",
        needs: &["envoy"],
        run: tests::check,
    },
    Check {
        name: "doctests",
        about: "every example in the documentation compiles and runs",
        needs: &[],
        run: doctests::check,
    },
    Check {
        name: "commands",
        about: "every command shown in README.md and docs runs, or a test runs it",
        needs: &["envoy"],
        run: commands::check,
    },
    Check {
        name: "snapshots",
        about: "no snapshot waits for review, and each one belongs to a test",
        needs: &["tests"],
        run: snapshots::check,
    },
    Check {
        name: "leftovers",
        about: "tests and commands leave no process, socket or file behind",
        needs: &["tests", "doctests", "commands"],
        run: leftovers::check,
    },
];
