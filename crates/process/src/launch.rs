//! From a prepared command to a running program: the only code that makes a process.
//!
//! The child is made as `posix_spawn` makes it: it borrows the memory of the supervisor while the
//! calling thread is suspended, until it executes its program (`CLONE_VM | CLONE_VFORK`). That
//! costs the same however large the supervisor is, needs no pipe to report a failure, and hands
//! back a process descriptor that cannot refer to any other process (`CLONE_PIDFD`). The price is
//! the rule for everything below [`in_child`]: **system calls on values prepared beforehand, and
//! nothing else**. No allocation, no lock, no panic.
//!
//! A child that becomes another user gets a copy of the memory instead. Otherwise that user could reach
//! into the memory of the supervisor by way of the child, and the kernel would mark the memory of both as
//! closed to inspection.

use std::ffi::{CString, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use super::become_user::Become;
use super::syscalls::{self, WaitFor};

/// All that a new process needs, in the form in which the kernel takes it.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) program: CString,
    pub(super) arguments: Vec<CString>,
    pub(super) environment: Vec<CString>,
    pub(super) working_directory: Option<CString>,
    /// Whether `LISTEN_PID`, which only the child knows, is added to the environment.
    pub(super) tell_listen_pid: bool,
    pub(super) descriptors: Descriptors,
    /// 0 for none.
    pub(super) death_signal: c_int,
    /// What changes its user, its capabilities or its limits.
    pub(super) identity: Become,
}

/// Which descriptors the child gets, and under which numbers.
///
/// Every source is higher than every target (see [`Descriptors::new`]), so that the child can put
/// them in place one after the other without overwriting one that it still needs.
#[derive(Debug, Default)]
pub(super) struct Descriptors {
    moves: Vec<(OwnedFd, RawFd)>,
    /// Ranges of numbers to close, ends included.
    gaps: Vec<(u32, u32)>,
}

impl Descriptors {
    /// Makes room: a source that lies at or below the highest target is moved above it.
    ///
    /// On failure the target is told with the error.
    pub(super) fn new(wanted: Vec<(OwnedFd, RawFd)>) -> Result<Self, (RawFd, io::Error)> {
        let highest = wanted.iter().map(|(_, target)| *target).fold(2, RawFd::max);
        let mut moves = Vec::with_capacity(wanted.len());
        for (source, target) in wanted {
            let source = if source.as_raw_fd() <= highest {
                rustix::io::fcntl_dupfd_cloexec(&source, highest.saturating_add(1))
                    .map_err(|errno| (target, errno.into()))?
            } else {
                source
            };
            moves.push((source, target));
        }
        let mut targets: Vec<u32> = moves.iter().map(|(_, to)| to.unsigned_abs()).collect();
        targets.sort_unstable();
        let mut gaps = Vec::new();
        let mut next = 3;
        for target in targets {
            if target > next {
                gaps.push((next, target - 1));
            }
            next = next.max(target.saturating_add(1));
        }
        gaps.push((next, u32::MAX));
        Ok(Self { moves, gaps })
    }
}

/// A step of the child that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    DeathSignal,
    ProcessGroup,
    Descriptors,
    WorkingDirectory,
    SignalMask,
    OpenFiles,
    Groups,
    Group,
    User,
    Capabilities,
    AmbientCapabilities,
    Exec,
}

/// Why there is no new process.
#[derive(Debug)]
pub(super) enum Failure {
    Fork(io::Error),
    Step(Step, io::Error),
}

/// Makes the process and returns once it executes its program, with its number and descriptor.
///
/// The caller must have every signal blocked and must live as long as the process: its end is what
/// triggers the parent-death signal.
pub(super) fn launch(prepared: &Prepared, stack: &mut Stack) -> Result<(i32, OwnedFd), Failure> {
    let listed = if syscalls::has_close_range() {
        Vec::new()
    } else {
        open_descriptors()
    };
    launch_closing(prepared, stack, &listed)
}

/// `listed` are the open descriptors where the kernel cannot close a range of them.
fn launch_closing(
    prepared: &Prepared,
    stack: &mut Stack,
    listed: &[RawFd],
) -> Result<(i32, OwnedFd), Failure> {
    const NAME: &[u8; 11] = b"LISTEN_PID=";
    let mut listen_pid = *b"LISTEN_PID=\0\0\0\0\0\0\0\0\0\0\0";
    let listen_pid = (&raw mut listen_pid).cast::<u8>();
    let mut environment: Vec<*const c_char> = Vec::with_capacity(prepared.environment.len() + 2);
    environment.extend(prepared.environment.iter().map(|entry| entry.as_ptr()));
    if prepared.tell_listen_pid {
        environment.push(listen_pid.cast_const().cast());
    }
    environment.push(ptr::null());
    let mut arguments: Vec<*const c_char> = Vec::with_capacity(prepared.arguments.len() + 1);
    arguments.extend(prepared.arguments.iter().map(|argument| argument.as_ptr()));
    arguments.push(ptr::null());
    let moves: Vec<(RawFd, RawFd)> = prepared
        .descriptors
        .moves
        .iter()
        .map(|(source, target)| (source.as_raw_fd(), *target))
        .collect();
    let directory = prepared.working_directory.as_ref();
    let mut orders = Orders {
        program: prepared.program.as_ptr(),
        arguments: arguments.as_ptr(),
        environment: environment.as_ptr(),
        listen_pid_digits: listen_pid.wrapping_add(NAME.len()),
        working_directory: directory.map_or(ptr::null(), |path| path.as_ptr()),
        moves: &moves,
        gaps: &prepared.descriptors.gaps,
        listed,
        death_signal: prepared.death_signal,
        identity: &prepared.identity,
        supervisor: std::process::id().cast_signed(),
        failed: stack.clear_report(),
    };
    let mut pidfd: c_int = -1;
    let memory = match prepared.identity.changes_rights() {
        true => 0,
        false => libc::CLONE_VM,
    };
    let flags = memory | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    #[expect(unsafe_code, reason = "a process in its own group, on borrowed memory")]
    // SAFETY: the stack is large enough, aligned by the call, and used by nobody else, as the
    // exclusive borrow proves. `orders` and all it points to outlive the call, because
    // CLONE_VFORK suspends this thread until the child has executed its program or ended.
    // `in_child` keeps to system calls. No signal handler can run in the child, since the caller
    // blocks all signals and the child resets the handlers before it unblocks them.
    let pid = unsafe {
        libc::clone(
            in_child,
            stack.top(),
            flags,
            (&raw mut orders).cast(),
            &raw mut pidfd,
        )
    };
    if pid < 0 {
        return Err(Failure::Fork(io::Error::last_os_error()));
    }
    #[expect(unsafe_code, reason = "taking over the descriptor that clone made")]
    // SAFETY: a successful clone with CLONE_PIDFD stored a new descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    if let Some((step, errno)) = stack.report() {
        // The child is on its way out. Nobody else knows its number, so it is collected here; the
        // result tells nothing new.
        drop(syscalls::reap_blocking(WaitFor::PidFd(pidfd.as_fd())));
        return Err(Failure::Step(step, io::Error::from_raw_os_error(errno)));
    }
    Ok((pid, pidfd))
}

/// What the child is to do, and the place where it reports a failure.
struct Orders<'a> {
    program: *const c_char,
    arguments: *const *const c_char,
    environment: *const *const c_char,
    listen_pid_digits: *mut u8,
    working_directory: *const c_char,
    moves: &'a [(RawFd, RawFd)],
    gaps: &'a [(u32, u32)],
    /// Descriptors of the supervisor, where the kernel cannot close a range.
    listed: &'a [RawFd],
    death_signal: c_int,
    identity: &'a Become,
    supervisor: c_int,
    /// In memory that the child shares in any case.
    failed: *mut Report,
}

/// The step of the child that failed, and the number of its error.
type Report = Option<(Step, c_int)>;

extern "C" fn in_child(orders: *mut c_void) -> c_int {
    #[expect(unsafe_code, reason = "the argument of clone is untyped")]
    // SAFETY: `launch` passes its `Orders` and is suspended, so this is the only user.
    let orders = unsafe { &mut *orders.cast::<Orders<'_>>() };
    let step = follow(orders);
    #[expect(unsafe_code, reason = "the place is in shared memory")]
    // SAFETY: the mapping outlives the call of `launch`, which does not read it before this child has ended.
    unsafe {
        orders.failed.write(Some((step, errno())));
    }
    #[expect(
        unsafe_code,
        reason = "leaving without running the supervisor's exit handlers"
    )]
    // SAFETY: ends this process only.
    unsafe {
        libc::_exit(127)
    }
}

/// Carries the orders out; returns the step that failed, or does not return.
///
/// The signals are reset before they are unblocked, and unblocked last: a handler of the supervisor
/// must never run in here.
#[expect(
    unsafe_code,
    reason = "between clone and execve only bare system calls are allowed"
)]
#[expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "each operation in the one block is the same kind of bare system call"
)]
fn follow(orders: &Orders<'_>) -> Step {
    // SAFETY: system calls on numbers, and on pointers that `launch` keeps alive and terminated.
    unsafe {
        if libc::setpgid(0, 0) != 0 {
            return Step::ProcessGroup;
        }
        default_signals();
        for &(source, target) in orders.moves {
            if libc::dup2(source, target) < 0 {
                return Step::Descriptors;
            }
        }
        close_the_rest(orders);
        if let Err(step) = orders.identity.in_child() {
            return step;
        }
        // The kernel forgets the signal when a process becomes another user, so it is set afterwards.
        if orders.death_signal != 0 {
            let signal = orders.death_signal.unsigned_abs();
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::c_ulong::from(signal)) != 0 {
                return Step::DeathSignal;
            }
            // A supervisor that died before the call above sends nothing any more.
            if libc::getppid() != orders.supervisor {
                libc::_exit(127);
            }
        }
        if !orders.working_directory.is_null() && libc::chdir(orders.working_directory) != 0 {
            return Step::WorkingDirectory;
        }
        write_decimal(orders.listen_pid_digits, libc::getpid().unsigned_abs());
        let mut none = std::mem::MaybeUninit::<libc::sigset_t>::zeroed();
        libc::sigemptyset(none.as_mut_ptr());
        if libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut()) != 0 {
            return Step::SignalMask;
        }
        libc::execve(orders.program, orders.arguments, orders.environment);
    }
    Step::Exec
}

/// Sets every signal to its default action: an ignored one would stay ignored in the program.
///
/// The kernel is asked directly. The C library keeps two signals to itself and would refuse to
/// change them, yet a supervisor can have been started with them ignored.
#[expect(
    unsafe_code,
    reason = "between clone and execve only bare system calls are allowed"
)]
fn default_signals() {
    // All zeroes are the default action, no flags and an empty mask, in the kernel's own layout,
    // which is smaller than this on every platform.
    let action = [0_u64; 8];
    for signal in 1..=HIGHEST_SIGNAL {
        // SAFETY: `action` is valid for reads, the old action is not asked for, and the last
        // number is the size of the kernel's signal set. What cannot be changed is refused.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                action.as_ptr(),
                ptr::null_mut::<c_void>(),
                HIGHEST_SIGNAL.unsigned_abs() as usize / 8,
            );
        }
    }
}

/// Closes what the program is not meant to inherit, whether or not it is marked close-on-exec.
#[expect(
    unsafe_code,
    reason = "between clone and execve only bare system calls are allowed"
)]
fn close_the_rest(orders: &Orders<'_>) {
    for &(first, last) in orders.gaps {
        if orders.listed.is_empty() {
            // SAFETY: the child has its own table of descriptors and needs none of these.
            unsafe {
                libc::syscall(libc::SYS_close_range, first, last, 0);
            }
        }
        for &fd in orders.listed {
            if (first..=last).contains(&fd.unsigned_abs()) {
                // SAFETY: as above.
                unsafe {
                    libc::close(fd);
                }
            }
        }
    }
}

/// Writes a number and a final NUL; ten digits and the NUL are the most it can be.
#[expect(
    unsafe_code,
    reason = "slices could panic, which is not allowed between clone and execve"
)]
fn write_decimal(to: *mut u8, number: u32) {
    let mut digits = 1;
    let mut rest = number / 10;
    while rest > 0 {
        digits += 1;
        rest /= 10;
    }
    let mut rest = number;
    for place in (0..digits).rev() {
        let digit = b'0'.wrapping_add((rest % 10).to_le_bytes()[0]);
        // SAFETY: `place` is below ten and the buffer has room for eleven bytes.
        unsafe { to.wrapping_add(place).write(digit) };
        rest /= 10;
    }
    // SAFETY: the place behind at most ten digits is inside the buffer.
    unsafe { to.wrapping_add(digits).write(0) };
}

fn errno() -> c_int {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// `_NSIG` of the kernel, which is 64 but for MIPS.
pub(super) const HIGHEST_SIGNAL: c_int = if cfg!(any(target_arch = "mips", target_arch = "mips64"))
{
    128
} else {
    64
};

/// The numbers that are open in this process, for kernels that cannot close a range.
///
/// One that another thread opens in the meantime is marked close-on-exec, as everything is that
/// Rust's standard library opens.
fn open_descriptors() -> Vec<RawFd> {
    std::fs::read_dir("/proc/self/fd").map_or_else(
        |_| Vec::new(),
        |entries| {
            entries
                .flatten()
                .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
                .collect()
        },
    )
}

/// The stack a child runs on until it executes its program, with a guard page below it.
#[derive(Debug)]
pub(super) struct Stack {
    base: *mut c_void,
    /// Where the child reports a failure: shared with it even if it has a copy of all other memory.
    report: *mut c_void,
}

impl Stack {
    /// The child needs well under a page; debug builds and the C library's wrappers some more.
    const SIZE: usize = 64 * 1024;
    /// At least a page on every platform, so that a page of it can be made inaccessible.
    const GUARD: usize = 64 * 1024;

    pub(super) fn new() -> io::Result<Self> {
        use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect};
        #[expect(unsafe_code, reason = "memory for a stack with a guard")]
        // SAFETY: a new anonymous mapping at a place of the kernel's choice disturbs nothing.
        let base = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                Self::GUARD + Self::SIZE,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::STACK,
            )
        }?;
        #[expect(unsafe_code, reason = "memory that a child writes to")]
        // SAFETY: as above.
        let report = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                size_of::<Report>(),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
            )
        };
        let report = report.inspect_err(|_| {
            #[expect(unsafe_code, reason = "memory for a stack with a guard")]
            // SAFETY: the mapping was made above, and nobody uses it yet. The first error counts.
            let _ = unsafe { rustix::mm::munmap(base, Self::GUARD + Self::SIZE) };
        })?;
        let stack = Self { base, report };
        #[expect(unsafe_code, reason = "memory for a stack with a guard")]
        // SAFETY: the range is the start of the mapping made above, which nobody uses yet.
        unsafe { mprotect(base, Self::GUARD, MprotectFlags::empty()) }?;
        Ok(stack)
    }

    fn top(&mut self) -> *mut c_void {
        self.base.wrapping_byte_add(Self::GUARD + Self::SIZE)
    }

    /// Empties the report, and returns its place.
    fn clear_report(&mut self) -> *mut Report {
        let place = self.report.cast::<Report>();
        #[expect(unsafe_code, reason = "memory that a child writes to")]
        // SAFETY: the mapping starts at a page and has room for a report. No child uses it, as the
        // exclusive borrow proves.
        unsafe {
            place.write(None);
        }
        place
    }

    /// Returns what a child has reported, which executes its program or has ended.
    fn report(&self) -> Report {
        #[expect(unsafe_code, reason = "memory that a child writes to")]
        // SAFETY: `clear_report` has written a report here, and so may a child have that shares the code of
        // this process. No child uses it any more.
        unsafe {
            self.report.cast::<Report>().read_volatile()
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "memory for a stack with a guard")]
        // SAFETY: the mapping was made by `new` with this length, and no child runs on it: a
        // child runs only inside `launch`, which borrows the stack. There is no remedy for a
        // failure.
        let _ = unsafe { rustix::mm::munmap(self.base, Self::GUARD + Self::SIZE) };
        #[expect(unsafe_code, reason = "memory that a child writes to")]
        // SAFETY: as above.
        let _ = unsafe { rustix::mm::munmap(self.report, size_of::<Report>()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the child of a `launch_closing` still holds a descriptor that it was not given.
    fn leaks(listed: impl FnOnce() -> Vec<RawFd>) -> bool {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let arguments = ["sleep", "60"].map(|argument| CString::new(argument).unwrap());
        let prepared = Prepared {
            program: c"/bin/sleep".into(),
            arguments: arguments.into(),
            environment: Vec::new(),
            working_directory: None,
            tell_listen_pid: false,
            descriptors: Descriptors::new(Vec::new()).unwrap(),
            death_signal: 0,
            identity: Become::default(),
        };
        syscalls::block_all_signals();
        let mut stack = Stack::new().unwrap();
        let (_, pidfd) = launch_closing(&prepared, &mut stack, &listed()).unwrap();
        drop(writer);
        rustix::io::ioctl_fionbio(&reader, true).unwrap();
        let end = rustix::io::read(&reader, &mut [0; 1]);
        rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL).unwrap();
        syscalls::reap_blocking(WaitFor::PidFd(pidfd.as_fd())).unwrap();
        end != Ok(0)
    }

    #[test]
    fn an_inheritable_descriptor_is_closed_on_old_and_new_kernels() {
        let open = std::fs::File::open("/dev/null").unwrap();
        assert!(open_descriptors().contains(&open.as_raw_fd()));
        assert!(!leaks(open_descriptors));
        if syscalls::has_close_range() {
            assert!(!leaks(Vec::new));
        }
        // The list is what does it on an old kernel.
        assert!(leaks(|| vec![RawFd::MAX]));
    }

    #[test]
    fn every_process_id_is_written_in_full() {
        for number in [0, 1, 9, 10, 4_194_304, u32::MAX] {
            let mut buffer = [b'#'; 11];
            write_decimal(buffer.as_mut_ptr(), number);
            let text = buffer.split(|byte| *byte == 0).next().unwrap();
            assert_eq!(std::str::from_utf8(text).unwrap(), number.to_string());
        }
    }

    #[test]
    fn everything_but_the_targets_is_closed() {
        let fd = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let gaps = |targets: &[RawFd]| {
            let wanted = targets.iter().map(|target| (fd(), *target)).collect();
            Descriptors::new(wanted).unwrap().gaps
        };
        assert_eq!(gaps(&[]), [(3, u32::MAX)]);
        assert_eq!(gaps(&[0, 1, 2]), [(3, u32::MAX)]);
        assert_eq!(gaps(&[3, 4]), [(5, u32::MAX)]);
        assert_eq!(gaps(&[9, 3, 6]), [(4, 5), (7, 8), (10, u32::MAX)]);
    }

    #[test]
    fn no_source_lies_among_the_targets() {
        let wanted: Vec<_> = (3..40)
            .map(|target| (std::fs::File::open("/dev/null").unwrap().into(), target))
            .collect();
        let descriptors = Descriptors::new(wanted).unwrap();
        for (source, _) in &descriptors.moves {
            assert!(source.as_raw_fd() >= 40);
        }
    }

    #[test]
    fn a_target_beyond_the_limit_of_open_files_is_an_error() {
        let fd = std::fs::File::open("/dev/null").unwrap().into();
        let (target, _) = Descriptors::new(vec![(fd, RawFd::MAX - 1)]).unwrap_err();
        assert_eq!(target, RawFd::MAX - 1);
    }
}
