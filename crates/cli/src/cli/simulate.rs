//! `handover simulate`.

use std::path::PathBuf;

use clap::Args;

/// Run a script of inputs through the state machine and print what it does, step by step.
///
/// No process is started and no time passes. A script has one line per input, each with its time:
///
///   # A failed epoch 1 is tried again beside a good epoch 0.
///   policy resilient retries=3
///   0      desire A
///   50ms   live 0
///   1s     desire B
///   +20ms  exit 1 failed
///   2s     wait
///
/// The inputs are `desire NAME`, `restart NAME`, `live N`, `released N`,
/// `exit N clean|failed|permanent|aborted`, `terminate`, `kill` and `wait`. Between two lines every deadline fires when it is due; with a
/// time such as `9s!` those on the way are missed. After each step every invariant is checked.
#[derive(Args, Clone, Debug)]
#[command(
    verbatim_doc_comment,
    after_long_help = "\
Exit codes:
   0  the script ran to its end
  65  the script cannot be read, or an invariant does not hold"
)]
pub(crate) struct SimulateArgs {
    /// The script; `-` is standard input.
    #[arg(value_name = "FILE")]
    pub(crate) script: PathBuf,

    /// Print one JSON object in place of the table.
    #[arg(long)]
    pub(crate) json: bool,
}
