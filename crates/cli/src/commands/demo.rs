//! `handover demo`.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use clap::builder::Resettable;
use clap::{Args as _, FromArgMatches as _};
use handover_process::{Line, OutputSink, Signal};
use handover_supervisor::Signals;

use super::exec;
use crate::cli::demo::DemoArgs;
use crate::cli::exec::ExecArgs;
use crate::demo::fake_envoy;
use crate::demo::report::table;
use crate::demo::screen::Screen;
use crate::demo::script::{Script, ScriptEnd};
use crate::demo::tally::Tally;
use crate::exit_code::ExitCode;
use crate::fatal::{Fatal, OrExit as _};
use crate::logging::Writer;
use crate::supervise;
use crate::supervised::Builder;

pub(super) async fn run(args: DemoArgs) -> Result<ExitCode, Fatal> {
    let signals = Signals::take_over().or_exit(ExitCode::OS)?;
    let dir = tempfile::Builder::new()
        .prefix("handover-demo-")
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir()
        .context("making a temporary directory")
        .or_exit(ExitCode::OS)?;
    let envoy = match &args.envoy {
        Some(envoy) => super::envoy_binary(envoy)?,
        None if args.fake_envoy => fake_envoy::install(dir.path())?,
        None => return with_own_server(&args, dir.path(), signals).await,
    };
    super::demo_envoy::run(&args, envoy, dir.path(), signals).await
}

/// Supervises this program's own server, exactly as `exec` does it.
async fn with_own_server(args: &DemoArgs, dir: &Path, signals: Signals) -> Result<ExitCode, Fatal> {
    let config = dir.join("server.conf");
    std::fs::write(&config, "configuration 0")
        .context("writing the first configuration")
        .or_exit(ExitCode::OS)?;
    let command = exec_command(&config).or_exit(ExitCode::OS)?;
    let exec = parse(&command).or_exit(ExitCode::INTERNAL)?;
    let judged = exec::Judged::of(exec, Vec::new()).await?;
    let (supervisor, addresses) = judged.bind(silent()).await?;
    let address = addresses
        .first()
        .copied()
        .ok_or_else(|| Fatal::new(ExitCode::INTERNAL, anyhow::anyhow!("no socket was bound")))?;
    let title = command.join(&OsString::from(" "));
    let script = Script {
        config,
        good: Box::new(|number| format!("configuration {number}")),
        bad: "broken on purpose".to_owned(),
        hand_overs: args.hand_overs,
        interval: args.interval,
        address,
    };
    perform(args, &title.to_string_lossy(), supervisor, script, signals).await
}

/// The command line that is demonstrated.
fn exec_command(config: &Path) -> anyhow::Result<Vec<OsString>> {
    let program = std::env::current_exe().context("finding this program")?;
    let mut command: Vec<OsString> = ["handover", "exec", "--listen", "127.0.0.1:0", "--notify"]
        .map(OsString::from)
        .into();
    let retries = ["--max-retries", "2", "--retry-interval", "100ms"];
    command.extend(retries.map(OsString::from));
    command.extend(["--watch".into(), config.into()]);
    command.extend(["--".into(), program.into(), "demo-server".into()]);
    command.extend(["--config".into(), config.into()]);
    Ok(command)
}

/// Understands the command line as `exec` would, but for the variables: what the environment says
/// about other supervisors must not change the demonstration.
fn parse(command: &[OsString]) -> anyhow::Result<ExecArgs> {
    let parser = ExecArgs::augment_args(clap::Command::new("exec"))
        .mut_args(|arg| arg.env(Resettable::Reset));
    let words = command.iter().skip(1);
    Ok(ExecArgs::from_arg_matches(
        &parser.try_get_matches_from(words)?,
    )?)
}

/// Drops what the servers print: what matters of it is in the reason when one fails.
fn silent() -> Arc<dyn OutputSink> {
    Arc::new(|_: &Line<'_>| {})
}

/// Plays the script on what the supervisor keeps running, and tells how it went.
pub(super) async fn perform(
    args: &DemoArgs,
    title: &str,
    supervisor: Builder,
    script: Script,
    mut signals: Signals,
) -> Result<ExitCode, Fatal> {
    let stdout = std::io::stdout();
    let moving = stdout.is_terminal() && !args.no_progress;
    let writer = Writer::start("screen", stdout, "").or_exit(ExitCode::OS)?;
    let tally = Arc::new(Tally::default());
    let screen = Arc::new(Screen::new(writer, moving, Arc::clone(&tally)));
    screen.print(&format!("$ {title}\n"));

    let supervisor = supervisor.build()?;
    let handle = supervisor.handle();
    let shown = tokio::spawn(Arc::clone(&screen).follow(handle.events(), handle.status()));
    let (shared, interrupted) = (Arc::clone(&screen), signals.divert_first_end());
    let played = tokio::spawn(script.play(handle, shared, Arc::clone(&tally), interrupted));
    let ended = supervise::supervise(supervisor, signals, exec::DRAIN_TIME_FLAG).await;
    let played = played.await;
    // A display that has failed leaves the table.
    let _shown = shown.await;

    let counts = tally.counts();
    screen.print(&format!(
        "\n{}",
        table(&counts, *screen.happened().borrow())
    ));
    screen.flush();
    let played = played.or_exit(ExitCode::INTERNAL)?;
    if let Ok(ScriptEnd::Interrupted) = played {
        return Ok(ExitCode::of_signal(Signal::INT));
    }
    let code = ended?;
    match played.or_exit(ExitCode::UNAVAILABLE)? {
        ScriptEnd::Interrupted => Ok(ExitCode::of_signal(Signal::INT)),
        ScriptEnd::Finished if counts.sums().failed > 0 => Ok(ExitCode::LOSS),
        ScriptEnd::Finished if counts.sums().requests == 0 => Err(Fatal::new(
            ExitCode::INTERNAL,
            anyhow::anyhow!("no request was sent"),
        )),
        ScriptEnd::Finished => Ok(code),
    }
}
