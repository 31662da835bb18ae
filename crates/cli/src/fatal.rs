//! An error that ends the program, together with the exit code it ends with.

use std::fmt;

use crate::exit_code::ExitCode;

/// Why a command did not do its work.
#[derive(Debug)]
pub(crate) struct Fatal {
    pub(crate) code: ExitCode,
    error: anyhow::Error,
}

impl Fatal {
    pub(crate) fn new(code: ExitCode, error: impl Into<anyhow::Error>) -> Self {
        let error = error.into();
        Self { code, error }
    }

    /// A configuration that was not read.
    #[cfg(feature = "envoy")]
    pub(crate) fn not_read(error: anyhow::Error) -> Self {
        Self::new(ExitCode::of_reading(error.as_ref()), error)
    }

    /// Returns the error and its causes, the outermost one first.
    pub(crate) fn chain(&self) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
        self.error.chain()
    }

    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(ExitCode::USAGE, anyhow::anyhow!("{message}"))
    }
}

/// The error and all its causes on one line.
impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.error)
    }
}

/// Gives an error the code with which it ends the program.
pub(crate) trait OrExit<T> {
    fn or_exit(self, code: ExitCode) -> Result<T, Fatal>;
}

impl<T, E: Into<anyhow::Error>> OrExit<T> for Result<T, E> {
    fn or_exit(self, code: ExitCode) -> Result<T, Fatal> {
        self.map_err(|error| Fatal::new(code, error))
    }
}
