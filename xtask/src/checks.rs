//! The checks and their registry. A check that is only a call of Cargo is in [`cargo`], each other one in a
//! file of its own.

mod cargo;
mod commands;
mod layering;
pub(crate) mod leftovers;
mod licences;
mod manifests;
mod packages;
pub(crate) mod publish;
mod purity;
mod snapshots;
pub(crate) mod tests;
mod text;
mod workflows;

use anyhow::Result;

use crate::commands::{bench, envoy, generate, promtool, servers};
use crate::context::Context;
use crate::report::Counts;

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
    /// How many tests there were, if the check runs tests.
    pub(crate) counts: Option<Counts>,
    /// The `SKIPPED` lines of those tests.
    pub(crate) skipped: Vec<String>,
}

impl Findings {
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

/// One line for each check: its name, what it holds, its function, and the checks that it needs.
macro_rules! checks {
    ($($name:ident, $about:literal, $run:path, [$($need:ident),*];)*) => {
        &[$(Check {
            name: stringify!($name),
            about: $about,
            needs: &[$(stringify!($need)),*],
            run: $run,
        }),*]
    };
}

/// Every check, in the order in which they run: the quick ones first, and each after those it needs.
pub(crate) const ALL: &[Check] = checks! {
    format, "every file is as rustfmt writes it", cargo::format, [];
    text, "short files, links that lead somewhere, nothing of one machine, no unfinished marks", text::check, [];
    manifests, "each fact is written once and inherited; dependencies fit our compiler", manifests::check, [];
    layering, "each crate's whole dependency tree keeps out what it must never contain", layering::check, [];
    purity, "core, core-testing and retry have no std, no unsafe code, no clock, no environment", purity::check, [];
    licences, "licences, bans, duplicates, sources and excused advisories are those of deny.toml", licences::check, [];
    workflows, "CI calls these checks, has its other jobs, and pins what it uses by hash", workflows::check, [];
    clippy, "no warning from the compiler or clippy, with all features and with none", cargo::clippy, [];
    features, "each crate alone, with each combination of its features, compiles without a warning", cargo::features, [];
    generated, "what is generated from code is what the code gives", generate::check, [];
    docs, "the documentation builds without a warning, private items too", cargo::docs, [];
    publish, "each library's package has what its user needs, nothing else, and builds", publish::check, [];
    packages, "the static binary, the Debian package and the image are made, and work where they are installed", packages::check, [];
    envoy, "the pinned real Envoy is installed below the target directory", envoy::check, [];
    promtool, "the checker of Prometheus is fetched below the target directory, where apt can", promtool::check, [];
    servers, "the servers of docs/servers.md are fetched below the target directory, where they can be", servers::check, [];
    tests, "every test passes; those with a real Envoy have one", tests::check, [envoy, promtool, servers];
    doctests, "every example in the documentation compiles and runs", cargo::doctests, [];
    commands, "every command shown in README.md and docs runs, or a test runs it", commands::check, [envoy];
    snapshots, "no snapshot waits for review, and each one belongs to a test", snapshots::check, [tests];
    bench, "everything that docs/performance.md shows can be measured, and leaves no figure unknown", bench::check, [envoy];
    leftovers, "tests and commands leave no process, socket or file behind", leftovers::check, [tests, doctests, commands, bench];
};
