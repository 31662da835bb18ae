//! The subcommands: one file each under `commands/`, one variant each in [`Command`].

pub(crate) mod bench;
mod chaos;
mod ci;
pub(crate) mod envoy;
mod fuzz;
pub(crate) mod generate;
mod minimal;
mod model;
mod mutants;
mod package;
pub(crate) mod promtool;
pub(crate) mod servers;
mod soak;
mod web_test;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};

/// Checks the workspace and fetches what the checks need.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
pub(crate) struct Xtask {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run every check, then list all that failed; exit 1 if there is one.
    Ci {
        /// List the checks and what each holds; run nothing.
        #[arg(long)]
        list: bool,
    },
    /// Run some checks by name, with those they build on.
    Check {
        /// Names, as `cargo xtask ci --list` shows them.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Install a pinned, real Envoy below the target directory and print its path, as for
    /// `ENVOY_BIN=$(cargo xtask envoy)`.
    Envoy {
        /// Which of the pinned versions.
        #[arg(long, value_name = "X.Y.Z", default_value = envoy::DEFAULT_VERSION)]
        version: String,
    },
    /// Fetch the servers of docs/servers.md below the target directory, and print where they are.
    Servers,
    /// Measure the released binary beside a bare loop and other supervisors, and write docs/performance.md; about ten
    /// minutes, once it is built.
    Bench {
        /// Something else to measure, with the release profile.
        #[arg(conflicts_with_all = ["quick", "only", "binary", "page"])]
        subject: Option<Subject>,
        /// Take few samples of the binary of the dev profile, and only show that everything can be measured.
        #[arg(long)]
        quick: bool,
        /// Only these measures, with commas between them. The page stays as it is.
        #[arg(long, value_delimiter = ',', value_name = "NAME")]
        only: Vec<String>,
        /// Measure this binary instead. The page stays as it is.
        #[arg(long, value_name = "FILE")]
        binary: Option<PathBuf>,
        /// Measure nothing, and make the page again from docs/performance/figures.json.
        #[arg(long, conflicts_with_all = ["quick", "only", "binary"])]
        page: bool,
    },
    /// Run the fuzz targets of the state machine for a while.
    Fuzz {
        /// How long each of them runs.
        #[arg(long, value_name = "N", default_value_t = 30)]
        seconds: u32,
    },
    /// Write what is derived from code into the files that show it.
    Generate,
    /// Explore the large set of models of the state machine, some minutes.
    Model,
    /// Run the tests on real Envoy in their long form, with every pinned version; half an hour and more.
    Soak {
        /// Begin further rounds until so much time has passed since the first; at least one is run.
        #[arg(long, value_name = "N", default_value_t = 0)]
        minutes: u64,
    },
    /// Let the fake Envoy hand over at random, with faults, signals, stops and shortages, and check that nothing is
    /// lost that need not be lost. A run that fails is made shorter, and prints how to repeat it.
    Chaos {
        /// End after so many hand-overs.
        #[arg(long, value_name = "N", default_value_t = 300)]
        hand_overs: u64,
        /// The number that all steps follow from. Without it, one is chosen and printed.
        #[arg(long, value_name = "S", conflicts_with = "steps")]
        seed: Option<u64>,
        /// Do these steps instead, once, with semicolons between them.
        #[arg(long, value_name = "LIST")]
        steps: Option<String>,
        /// Print each burst of steps, with its time and what was lost.
        #[arg(long)]
        verbose: bool,
    },
    /// Test the page of the status server in headless Chromium; seconds, once it is built.
    WebTest {
        /// Also take the pictures that docs/status.md shows.
        #[arg(long)]
        pictures: bool,
    },
    /// Make what is released: the static binary with its pages and units, the Debian package, the files of the
    /// container image, and checksums. Each is tried in namespaces, so this needs root. Exit 1 if one was not tried.
    Package {
        /// Write them to this directory, which is emptied first. Otherwise `packages` below the target directory.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Compile every member with the oldest version of each dependency that a manifest allows.
    MinimalVersions,
    /// Change the libraries in small ways and see whether a test notices; hours.
    Mutants {
        /// Only this part of the changes of each package, for example `0/8`.
        #[arg(long, value_name = "K/N")]
        shard: Option<String>,
        /// Only these packages; all libraries otherwise.
        #[arg(long = "package", value_name = "NAME")]
        packages: Vec<String>,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Subject {
    /// A step of the state machine, and a million hand-overs on one machine.
    Core,
}

impl Xtask {
    /// Does what the command line asks for, and returns whether nothing was found to be wrong.
    ///
    /// # Errors
    ///
    /// When the work cannot be done at all. Checks that fail are no error.
    pub(crate) fn run(self) -> Result<bool> {
        match self.command {
            Command::Ci { list: true } => {
                ci::list();
                Ok(true)
            }
            Command::Ci { list: false } => ci::run_all(),
            Command::Check { names } => ci::run_some(&names),
            Command::Envoy { version } => envoy::command(&version),
            Command::Servers => servers::command(),
            Command::Bench {
                subject: Some(Subject::Core),
                ..
            } => bench::core(),
            Command::Bench { page: true, .. } => bench::page(),
            Command::Bench {
                quick,
                only,
                binary,
                ..
            } => bench::command(quick, &only, binary),
            Command::Fuzz { seconds } => fuzz::command(seconds),
            Command::Generate => generate::command(),
            Command::Model => model::command(),
            Command::Soak { minutes } => soak::command(minutes),
            Command::Chaos {
                hand_overs,
                seed,
                steps,
                verbose,
            } => {
                let chaos = chaos::Chaos {
                    hand_overs,
                    seed,
                    steps,
                    verbose,
                };
                chaos.command()
            }
            Command::WebTest { pictures } => web_test::command(pictures),
            Command::Package { out } => package::command(out.as_deref()),
            Command::MinimalVersions => minimal::command(),
            Command::Mutants { shard, packages } => mutants::command(shard.as_deref(), &packages),
        }
    }
}
