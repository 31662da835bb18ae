//! What becomes of the signals that this process itself gets.
//!
//! A process inherits two things over `execve` that can make it deaf or mortal: the signal mask and
//! the ignored signals. And for most signals, the kernel's default action ends the process. A
//! supervisor that dies of a stray SIGALRM takes every request along, so it calls these two
//! functions at its start. Children are not affected: each starts with an empty mask and with every
//! signal at its default action.

use std::ffi::c_int;
use std::io;

use super::launch::HIGHEST_SIGNAL;
use super::syscalls;

/// Signals whose default action this module leaves alone.
const LEFT_ALONE: [c_int; 17] = [
    // The kernel or the C library sends them for a fault of this process. To go on after one would
    // be worse than to end.
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGSEGV,
    libc::SIGSYS,
    // They cannot be ignored.
    libc::SIGKILL,
    libc::SIGSTOP,
    // They stop a process, as a person at a terminal wants it, and let it go on.
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGCONT,
    // They do nothing by default. To ignore SIGCHLD would lose the exit codes of children.
    libc::SIGCHLD,
    libc::SIGURG,
    libc::SIGWINCH,
    // Rust's runtime has decided.
    libc::SIGPIPE,
];

/// Ignores every signal that would end this process although it reports no fault of it.
///
/// Among them are SIGALRM, SIGVTALRM, SIGPROF, SIGIO, SIGPWR, SIGXCPU, SIGXFSZ and the real-time
/// signals. A signal that has a handler keeps it, so install the handlers of the signals that mean
/// something first. SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV and SIGSYS keep ending the
/// process.
///
/// Side effects: a write beyond the limit of file sizes fails with `EFBIG`, and the soft limit of
/// processor time has no effect; the hard one has.
pub fn ignore_stray_signals() {
    for signal in 1..=HIGHEST_SIGNAL {
        if !LEFT_ALONE.contains(&signal) {
            syscalls::ignore_unless_handled(signal);
        }
    }
}

/// Takes every signal out of the calling thread's mask. Threads that it starts later inherit that.
///
/// A signal that was waiting is delivered before this function returns.
///
/// # Errors
///
/// What the operating system says.
pub fn unblock_signals() -> io::Result<()> {
    syscalls::unblock_all_signals()
}
