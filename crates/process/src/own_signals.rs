//! What becomes of the signals that this process itself gets.
//!
//! A process inherits two things over `execve` that can make it deaf or mortal: the signal mask and
//! the ignored signals. And for most signals, the kernel's default action ends the process. A
//! supervisor that dies of a stray SIGALRM takes every request along, so it calls these
//! functions at its start. Children are not affected: each starts with an empty mask and with every
//! signal at its default action.

use std::ffi::c_int;
use std::io;

use super::launch::HIGHEST_SIGNAL;
use super::signal::Signal;
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

/// Adds these signals to the calling thread's mask, until [`unblock_signals`]. Threads that it starts later
/// inherit that.
///
/// A signal that comes before its handler is installed does its default action, which ends the process for
/// most signals. A program calls this first of all with the signals that it will answer to: those that come
/// meanwhile wait for their handlers.
///
/// # Errors
///
/// What the operating system says.
pub fn block_signals(signals: &[Signal]) -> io::Result<()> {
    syscalls::block_signals(signals.iter().map(|signal| signal.number()))
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

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_signal_that_is_blocked_waits_for_its_handler() {
        // Only this thread's mask and its own signals are concerned.
        let waited = thread::spawn(|| {
            block_signals(&[Signal::USR2]).unwrap();
            let pending = || is_in("SigPnd:", libc::SIGUSR2);
            assert!(!pending() && is_in("SigBlk:", libc::SIGUSR2));
            let own = rustix::thread::gettid();
            let process = rustix::process::getpid();
            let signal = rustix::process::Signal::USR2;
            // To one thread: the process would hand it to any that does not block it.
            send_to_thread(
                process.as_raw_nonzero().get(),
                own.as_raw_nonzero().get(),
                signal,
            );
            let waited = pending();
            // Its handler: it is not the default action that meets it.
            syscalls::ignore_unless_handled(libc::SIGUSR2);
            unblock_signals().unwrap();
            waited && !pending() && !is_in("SigBlk:", libc::SIGUSR2)
        });
        assert!(waited.join().unwrap());
    }

    #[test]
    fn only_signals_that_report_no_fault_are_ignored() {
        ignore_stray_signals();
        for signal in [libc::SIGALRM, libc::SIGIO, libc::SIGXFSZ, libc::SIGRTMIN()] {
            assert!(is_in("SigIgn:", signal), "{signal}");
        }
        for signal in [libc::SIGSEGV, libc::SIGTSTP, libc::SIGCHLD, libc::SIGWINCH] {
            assert!(!is_in("SigIgn:", signal), "{signal}");
        }
    }

    #[tokio::test]
    async fn a_signal_that_has_a_handler_keeps_it() {
        use tokio::signal::unix::{SignalKind, signal};
        let _handler = signal(SignalKind::user_defined1()).unwrap();
        ignore_stray_signals();
        assert!(is_in("SigCgt:", libc::SIGUSR1));
        assert!(!is_in("SigIgn:", libc::SIGUSR1));
    }

    /// Whether the signal is in this mask of the calling thread.
    fn is_in(mask: &str, signal: i32) -> bool {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(mask));
        u64::from_str_radix(line.unwrap().trim(), 16).unwrap() >> (signal - 1) & 1 == 1
    }

    fn send_to_thread(process: i32, thread: i32, signal: rustix::process::Signal) {
        #[expect(unsafe_code, reason = "a signal to one thread has no safe wrapper")]
        // SAFETY: the call reads its three numbers only.
        let sent = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal.as_raw()) };
        assert_eq!(sent, 0);
    }
}
