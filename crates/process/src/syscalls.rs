//! The calls about children that have no safe wrapper elsewhere.

use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::launch::HIGHEST_SIGNAL;

/// What `waitid` tells of a child that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EndedProcess {
    pub(super) pid: i32,
    pub(super) code: i32,
    pub(super) status: i32,
}

/// Whose end `waitid` looks for.
#[derive(Debug, Clone, Copy)]
pub(super) enum WaitFor<'fd> {
    Any,
    Pid(i32),
    PidFd(BorrowedFd<'fd>),
}

/// Looks for an ended child and leaves it as it is.
pub(super) fn peek(which: WaitFor<'_>) -> io::Result<Option<EndedProcess>> {
    waitid(which, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT)
}

/// Collects an ended child, if there is one, so that its number is free again.
pub(super) fn reap(which: WaitFor<'_>) -> io::Result<Option<EndedProcess>> {
    waitid(which, libc::WEXITED | libc::WNOHANG)
}

/// Waits until the child has ended and collects it.
pub(super) fn reap_blocking(which: WaitFor<'_>) -> io::Result<Option<EndedProcess>> {
    waitid(which, libc::WEXITED)
}

fn waitid(which: WaitFor<'_>, options: i32) -> io::Result<Option<EndedProcess>> {
    let (kind, id) = match which {
        WaitFor::Any => (libc::P_ALL, 0),
        WaitFor::Pid(pid) => (libc::P_PID, pid.unsigned_abs()),
        WaitFor::PidFd(fd) => (libc::P_PIDFD, fd.as_raw_fd().unsigned_abs()),
    };
    loop {
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        #[expect(unsafe_code, reason = "waitid by process descriptor and by any child")]
        // SAFETY: `info` is valid for writes of a `siginfo_t`.
        let result = unsafe { libc::waitid(kind, id, info.as_mut_ptr(), options) };
        if result != 0 {
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            return Err(error);
        }
        #[expect(unsafe_code, reason = "the fields of siginfo_t are a union")]
        // SAFETY: every bit pattern of a `siginfo_t` is valid; zeroes stay if nothing was written.
        let info = unsafe { info.assume_init() };
        #[expect(unsafe_code, reason = "the fields of siginfo_t are a union")]
        // SAFETY: `waitid` fills in the child part of the union, or leaves the zeroes.
        let pid = unsafe { info.si_pid() };
        #[expect(unsafe_code, reason = "the fields of siginfo_t are a union")]
        // SAFETY: as above.
        let status = unsafe { info.si_status() };
        return Ok((pid != 0).then_some(EndedProcess {
            pid,
            code: info.si_code,
            status,
        }));
    }
}

/// Makes sure that ended children are kept until they are collected.
///
/// A program whose parent ignores SIGCHLD inherits that, and the kernel then forgets children as
/// they end: no exit code could be told. A handler, tokio's for instance, is left alone.
pub(super) fn keep_exit_statuses() {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    #[expect(
        unsafe_code,
        reason = "reading a signal disposition has no safe wrapper"
    )]
    // SAFETY: the new action is absent and `action` is valid for writes.
    let read = unsafe { libc::sigaction(libc::SIGCHLD, std::ptr::null(), action.as_mut_ptr()) };
    if read != 0 {
        return;
    }
    #[expect(
        unsafe_code,
        reason = "reading a signal disposition has no safe wrapper"
    )]
    // SAFETY: the call above filled it in.
    let mut action = unsafe { action.assume_init() };
    let ignored = action.sa_sigaction == libc::SIG_IGN;
    if !ignored && action.sa_flags & libc::SA_NOCLDWAIT == 0 {
        return;
    }
    if ignored {
        action.sa_sigaction = libc::SIG_DFL;
    }
    action.sa_flags &= !libc::SA_NOCLDWAIT;
    #[expect(
        unsafe_code,
        reason = "setting a signal disposition has no safe wrapper"
    )]
    // SAFETY: the action is the one that was in force, or the default, with a flag taken away.
    unsafe {
        libc::sigaction(libc::SIGCHLD, &raw const action, std::ptr::null_mut());
    }
}

/// Blocks every signal for the calling thread.
pub(super) fn block_all_signals() {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    #[expect(unsafe_code, reason = "signal masks have no safe wrapper")]
    // SAFETY: `set` is valid for writes.
    unsafe {
        libc::sigfillset(set.as_mut_ptr());
    }
    #[expect(unsafe_code, reason = "signal masks have no safe wrapper")]
    // SAFETY: `set` was filled in above; the old mask is not asked for.
    unsafe {
        libc::pthread_sigmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut());
    }
}

/// Adds signals to the mask of the calling thread.
pub(super) fn block_signals(signals: impl IntoIterator<Item = c_int>) -> io::Result<()> {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    #[expect(unsafe_code, reason = "signal masks have no safe wrapper")]
    // SAFETY: `set` is valid for writes.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
    }
    for signal in signals {
        #[expect(unsafe_code, reason = "signal masks have no safe wrapper")]
        // SAFETY: `set` was emptied above. A number that is no signal is refused.
        unsafe {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
    }
    #[expect(unsafe_code, reason = "signal masks have no safe wrapper")]
    // SAFETY: `set` was filled above; the old mask is not asked for.
    let error =
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()) };
    match error {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Takes every signal out of the mask of the calling thread.
pub(super) fn unblock_all_signals() -> io::Result<()> {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    #[expect(unsafe_code, reason = "signal masks have no safe wrapper")]
    // SAFETY: `set` is valid for writes.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
    }
    #[expect(unsafe_code, reason = "signal masks have no safe wrapper")]
    // SAFETY: `set` was emptied above; the old mask is not asked for.
    let error =
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut()) };
    match error {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Ignores a signal that is at its default action.
///
/// The kernel is asked directly. The C library keeps two signals to itself and would refuse to
/// change them, yet until it has a handler for them they end the process like any other.
pub(super) fn ignore_unless_handled(signal: c_int) {
    let size = HIGHEST_SIGNAL.unsigned_abs() as usize / 8;
    // The kernel's own layout, which is smaller than this on every platform.
    let mut action = [0_usize; 16];
    #[expect(unsafe_code, reason = "the C library hides two signals")]
    // SAFETY: no new action is given, `action` is valid for writes, and the last number is the size
    // of the kernel's signal set.
    let read = unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            signal,
            std::ptr::null::<usize>(),
            action.as_mut_ptr(),
            size,
        )
    };
    if read != 0 || action[HANDLER] != libc::SIG_DFL {
        return;
    }
    let mut ignored = [0_usize; 16];
    ignored[HANDLER] = libc::SIG_IGN;
    #[expect(unsafe_code, reason = "the C library hides two signals")]
    // SAFETY: `ignored` is valid for reads and runs no code; the old action is not asked for. What
    // cannot be changed is refused.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            signal,
            ignored.as_ptr(),
            std::ptr::null_mut::<usize>(),
            size,
        );
    }
}

/// Which word of the kernel's `struct sigaction` names the handler. MIPS has the flags first.
const HANDLER: usize = if cfg!(any(target_arch = "mips", target_arch = "mips64")) {
    1
} else {
    0
};

/// Whether the kernel has `close_range`, which came with Linux 5.9.
///
/// Some container sandboxes refuse it as well.
pub(super) fn has_close_range() -> bool {
    #[expect(unsafe_code, reason = "a call newer than the oldest supported kernel")]
    // SAFETY: no descriptor has this number, so nothing is closed.
    let result = unsafe { libc::syscall(libc::SYS_close_range, u32::MAX, u32::MAX, 0) };
    result == 0
}
