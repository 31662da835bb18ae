//! The whole program.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::arguments::{Arguments, ArgumentsError, Request};
use crate::life;
use crate::log::Log;
use crate::settings::{Settings, SettingsError, VARIABLE};

/// Runs as Envoy does with these arguments, and returns its exit code. The first argument is the name
/// of the program. What the environment variable [`VARIABLE`] holds comes before the arguments.
///
/// Call it from `main`, and return what it returns: worker threads go on until the process ends. It
/// takes signal handlers, raises the limit of open files, and ends the process by a signal where the
/// real Envoy would crash.
///
/// ```no_run
/// fn main() -> std::process::ExitCode {
///     handover_fake_envoy::run(std::env::args_os())
/// }
/// ```
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = arguments.into_iter();
    let arguments: Vec<_> = arguments
        .map(|it| it.to_string_lossy().into_owned())
        .collect();
    let program = arguments.first().cloned().unwrap_or_default();
    let request = settings()
        .map_err(ArgumentsError::from)
        .and_then(|settings| Arguments::parse_with(arguments, settings));
    match request {
        Err(error) => {
            Log::raw(&error.to_string());
            ExitCode::FAILURE
        }
        Ok(Request::Help(page)) => print(&page),
        Ok(Request::Version(settings)) => {
            let version = life::version_text(&settings.version);
            print(&format!("\n{program}  version: {version}\n\n"))
        }
        Ok(Request::HotRestartVersion(settings)) => {
            // Envoy writes it to standard error, and without the end of the line.
            Log::raw(&settings.hot_restart_version.to_string());
            ExitCode::SUCCESS
        }
        Ok(Request::Start(arguments)) => {
            end_by_signals_of_a_crash();
            let ending = life::live(*arguments);
            Log::raw(&ending.last_words);
            ExitCode::from(ending.code)
        }
    }
}

fn settings() -> Result<Settings, SettingsError> {
    match std::env::var_os(VARIABLE) {
        None => Ok(Settings::default()),
        Some(text) => text.to_string_lossy().parse(),
    }
}

/// Lets SIGSEGV and SIGBUS end the process. Rust's runtime takes the first one for a fault that comes again, so a
/// signal that somebody sends would be lost.
#[expect(unsafe_code, reason = "there is no safe call for it")]
fn end_by_signals_of_a_crash() {
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: the default action runs no code of this process.
        let _as_before = unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

fn print(text: &str) -> ExitCode {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
