//! `handover simulate`.

use std::path::PathBuf;

use clap::Args;

/// Run a script against the state machine and print each step
///
/// The clock is simulated, and no process is started. A script has one input per
/// line, after its time:
///
///   # A failed epoch 1 is tried again beside a good epoch 0.
///   policy resilient retries=3
///   0      desire A
///   50ms   live 0
///   1s     desire B
///   +20ms  exit 1 failed
///   2s     wait
///
/// The inputs are `desire NAME`, `renew NAME`, `restart NAME`, `live N`,
/// `stopped_serving N`, `released N`, `withdrawn N`, `unfit N`,
/// `exit N clean|failed|permanent|aborted`, `terminate drain|stop|kill` and `wait`.
/// NAME is a configuration, and N the number of an epoch.
///
/// Deadlines between two lines fire when they are due. A time with `!`, such as
/// `9s!`, stands for a gap: deadlines in it fire late. After each step the
/// invariants of the machine are checked.
#[derive(Args, Clone, Debug)]
#[command(
    verbatim_doc_comment,
    after_long_help = "\
Exit codes:
   0  the script ran to its end
  64  the command line is wrong
  65  the script is invalid or cannot be read, or an invariant was broken"
)]
pub(crate) struct SimulateArgs {
    /// The script to run. `-` reads standard input.
    #[arg(value_name = "FILE")]
    pub(crate) script: PathBuf,

    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}
