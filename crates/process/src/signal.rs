//! Signals by name.

use std::fmt;
use std::str::FromStr;

use rustix::process::Signal as Raw;

/// A signal that can be sent to a child, for instance [`Signal::TERM`].
///
/// It is parsed from, and shown as, the usual names: `SIGTERM`, `TERM`, `term` and `15` all parse.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signal(Raw);

impl Signal {
    /// `SIGHUP`: by convention, read the configuration again.
    pub const HUP: Self = Self(Raw::HUP);
    /// `SIGINT`: what the terminal sends for Ctrl-C.
    pub const INT: Self = Self(Raw::INT);
    /// `SIGQUIT`: what the terminal sends for Ctrl-\; some servers take it as "finish, then end".
    pub const QUIT: Self = Self(Raw::QUIT);
    /// `SIGKILL`: ends the process at once; it cannot be caught.
    pub const KILL: Self = Self(Raw::KILL);
    /// `SIGUSR1`: free for the program; many open their log files again.
    pub const USR1: Self = Self(Raw::USR1);
    /// `SIGUSR2`: free for the program.
    pub const USR2: Self = Self(Raw::USR2);
    /// `SIGTERM`: the polite request to end.
    pub const TERM: Self = Self(Raw::TERM);
    /// `SIGCONT`: goes on after a stop.
    pub const CONT: Self = Self(Raw::CONT);
    /// `SIGSTOP`: stops the process; it cannot be caught.
    pub const STOP: Self = Self(Raw::STOP);
    /// `SIGWINCH`: some servers take it as "finish the workers".
    pub const WINCH: Self = Self(Raw::WINCH);

    /// Returns the signal with this number, or `None` if the number has no name (real-time signals have
    /// none).
    pub fn from_number(number: i32) -> Option<Self> {
        Raw::from_named_raw(number).map(Self)
    }

    /// Returns the number the kernel uses.
    pub fn number(self) -> i32 {
        self.0.as_raw()
    }

    pub(super) fn raw(self) -> Raw {
        self.0
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SignalName(self.number()).fmt(f)
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Signal {
    type Err = UnknownSignal;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownSignal { text: text.into() };
        if let Ok(number) = text.parse() {
            return Self::from_number(number).ok_or_else(unknown);
        }
        let upper = text.to_ascii_uppercase();
        let short = upper.strip_prefix("SIG").unwrap_or(&upper);
        NAMES
            .iter()
            .find(|(_, name)| *name == short)
            .and_then(|(number, _)| Self::from_number(*number))
            .ok_or_else(unknown)
    }
}

/// No signal has the given name or number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a signal: use a name such as TERM or a number from 1 to 31")]
pub struct UnknownSignal {
    text: String,
}

/// Shows any signal number by name, real-time signals included.
pub(super) struct SignalName(pub(super) i32);

impl fmt::Display for SignalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((_, name)) = NAMES.iter().find(|(number, _)| *number == self.0) {
            return write!(f, "SIG{name}");
        }
        match self.0.checked_sub(libc::SIGRTMIN()) {
            Some(0) => f.write_str("SIGRTMIN"),
            Some(above) if above > 0 && self.0 <= libc::SIGRTMAX() => {
                write!(f, "SIGRTMIN+{above}")
            }
            _ => write!(f, "signal {}", self.0),
        }
    }
}

const NAMES: &[(i32, &str)] = &[
    (libc::SIGHUP, "HUP"),
    (libc::SIGINT, "INT"),
    (libc::SIGQUIT, "QUIT"),
    (libc::SIGILL, "ILL"),
    (libc::SIGTRAP, "TRAP"),
    (libc::SIGABRT, "ABRT"),
    (libc::SIGBUS, "BUS"),
    (libc::SIGFPE, "FPE"),
    (libc::SIGKILL, "KILL"),
    (libc::SIGUSR1, "USR1"),
    (libc::SIGSEGV, "SEGV"),
    (libc::SIGUSR2, "USR2"),
    (libc::SIGPIPE, "PIPE"),
    (libc::SIGALRM, "ALRM"),
    (libc::SIGTERM, "TERM"),
    (libc::SIGCHLD, "CHLD"),
    (libc::SIGCONT, "CONT"),
    (libc::SIGSTOP, "STOP"),
    (libc::SIGTSTP, "TSTP"),
    (libc::SIGTTIN, "TTIN"),
    (libc::SIGTTOU, "TTOU"),
    (libc::SIGURG, "URG"),
    (libc::SIGXCPU, "XCPU"),
    (libc::SIGXFSZ, "XFSZ"),
    (libc::SIGVTALRM, "VTALRM"),
    (libc::SIGPROF, "PROF"),
    (libc::SIGWINCH, "WINCH"),
    (libc::SIGIO, "IO"),
    (libc::SIGPWR, "PWR"),
    (libc::SIGSYS, "SYS"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_signal_is_understood() {
        for text in ["TERM", "SIGTERM", "term", "sigterm", "15"] {
            assert_eq!(text.parse::<Signal>(), Ok(Signal::TERM), "{text}");
        }
        assert_eq!(Signal::TERM.to_string(), "SIGTERM");
        assert_eq!(format!("{:?}", Signal::TERM), "SIGTERM");
    }

    #[test]
    fn what_is_no_signal_is_refused_with_the_text() {
        for text in ["", "SIG", "0", "-1", "99", "STOPP"] {
            let error = text.parse::<Signal>().unwrap_err();
            assert!(error.to_string().contains(&format!("`{text}`")), "{error}");
        }
    }

    #[test]
    fn a_number_without_a_name_is_still_shown() {
        assert_eq!(SignalName(libc::SIGRTMIN()).to_string(), "SIGRTMIN");
        assert_eq!(SignalName(libc::SIGRTMIN() + 3).to_string(), "SIGRTMIN+3");
        assert_eq!(SignalName(1000).to_string(), "signal 1000");
    }

    #[test]
    fn every_name_parses_back_to_its_number() {
        for (number, name) in NAMES {
            assert_eq!(name.parse::<Signal>().unwrap().number(), *number, "{name}");
        }
    }
}
