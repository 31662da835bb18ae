//! Measures Handover beside a bare loop and other supervisors, in one run, and writes the page with the figures.
//!
//! `cargo xtask bench` builds it and the programs that it needs, and runs it. Each measure runs in a process of its own
//! with a limit. One that fails is named, and the others go on.

mod clock;
mod facts;
mod figures;
mod goals;
mod measures;
mod page;
mod place;
mod plot;
mod proc;
mod record;
mod run;
mod started;
mod subjects;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};

use crate::figures::Figures;
use crate::measures::{Bench, agents};
use crate::record::Record;
use crate::subjects::Tools;

/// Measures Handover, and writes the page with the figures.
#[derive(Debug, Parser)]
#[command(name = "handover-bench", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure, and write the figures as JSON. Exit 1 if a measure has failed.
    Measure(run::Request),
    /// Write the page and its plots from figures.
    Page {
        /// The file that `measure` has written.
        #[arg(long)]
        figures: PathBuf,
        /// The directory for `performance.md` and the plots beside it.
        #[arg(long)]
        out: PathBuf,
    },
    /// Run one measure in this process.
    #[command(hide = true)]
    One(One),
    /// Measure so many agents in this process.
    #[command(hide = true, name = agents::ALONE)]
    Agents { agents: u32, changes: u32 },
}

/// What the process of one measure is told.
#[derive(Debug, Args)]
struct One {
    name: String,
    #[arg(long)]
    handover: PathBuf,
    #[arg(long)]
    handover_exec: PathBuf,
    #[arg(long)]
    child: PathBuf,
    #[arg(long)]
    envoy: Option<PathBuf>,
    #[arg(long)]
    directory: PathBuf,
    #[arg(long)]
    part: PathBuf,
    #[arg(long = "base-id", required = true)]
    base_ids: Vec<u32>,
    #[arg(long)]
    quick: bool,
}

fn main() -> ExitCode {
    match carry_out(Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Returns whether nothing has failed.
fn carry_out(command: Command) -> Result<bool> {
    match command {
        Command::Measure(request) => run::measure(&request),
        Command::Page { figures, out } => {
            page::write(&Figures::read(&figures)?, &out)?;
            Ok(true)
        }
        Command::One(one) => {
            measure_one(one)?;
            Ok(true)
        }
        Command::Agents { agents, changes } => {
            print(&agents::alone(agents, changes)?);
            Ok(true)
        }
    }
}

fn measure_one(one: One) -> Result<()> {
    let measure = measures::ALL
        .iter()
        .find(|measure| measure.name == one.name);
    let measure = measure.with_context(|| format!("there is no measure `{}`", one.name))?;
    let base_ids = <[u32; 2]>::try_from(one.base_ids);
    let bench = Bench {
        tools: Tools {
            handover: one.handover,
            handover_exec: one.handover_exec,
            bare: run::beside("bench-bare")?,
            child: one.child,
            envoy: one.envoy,
        },
        directory: one.directory,
        base_ids: base_ids.ok().context("two base ids are needed")?,
        quick: one.quick,
    };
    let mut record = Record::new(measure.name, one.part);
    let result = (measure.run)(&bench, &mut record);
    // What there is until a failure is kept.
    record.save()?;
    result
}

#[expect(clippy::print_stderr, reason = "this is a command")]
fn say(what: &str) {
    eprintln!("{what}");
}

#[expect(clippy::print_stdout, reason = "this is a command")]
fn print(what: &str) {
    println!("{what}");
}
