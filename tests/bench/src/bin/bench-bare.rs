//! The least that a supervisor can do: it starts a program by `posix_spawn`, starts it again when it ends, and starts
//! the next one on HUP and when a file in a directory changes. The one before is killed. TERM ends both.
//!
//! `bench-bare PROGRAM DIRECTORY`
//!
//! It has no configuration, no state, no log and no policy, so the times of any supervisor are at least its times.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::process::{Child, Command, ExitCode};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(program), Some(directory)) = (arguments.next(), arguments.next()) else {
        return fail("it needs a program and a directory");
    };
    match keep(&mut Command::new(program), directory.as_ref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

#[expect(clippy::print_stderr, reason = "the measure shows it")]
fn fail(why: &str) -> ExitCode {
    eprintln!("bench-bare: {why}");
    ExitCode::FAILURE
}

fn keep(program: &mut Command, directory: &std::path::Path) -> io::Result<()> {
    let signals = signals()?;
    let mut child = program.spawn()?;
    let changes = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    let kinds = inotify::WatchFlags::CLOSE_WRITE | inotify::WatchFlags::MOVED_TO;
    inotify::add_watch(&changes, directory, kinds)?;
    loop {
        let mut descriptors = [
            PollFd::new(&signals, PollFlags::IN),
            PollFd::new(&changes, PollFlags::IN),
        ];
        match poll(&mut descriptors, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        while let Some(signal) = next_signal(&signals)? {
            match signal {
                libc::SIGTERM => {
                    child.kill()?;
                    child.wait()?;
                    return Ok(());
                }
                libc::SIGHUP => replace(&mut child, program)?,
                // Several ends may have become one signal, and that of an older child was collected already.
                _ => {
                    if child.try_wait()?.is_some() {
                        child = program.spawn()?;
                    }
                }
            }
        }
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&changes, &mut buffer);
        while let Ok(event) = reader.next() {
            let name = event.file_name().map(std::ffi::CStr::to_bytes);
            if matches!(name, Some(b"config" | b"..data")) {
                replace(&mut child, program)?;
            }
        }
    }
}

/// Starts the next one before the one before it ends.
fn replace(child: &mut Child, program: &mut Command) -> io::Result<()> {
    let mut before = std::mem::replace(child, program.spawn()?);
    let killed = before.kill();
    before.wait()?;
    killed
}

/// Blocks the signals that it takes, and returns the descriptor that reads them. A child gets none of them blocked,
/// because the standard library empties the mask of what it starts.
#[expect(unsafe_code, reason = "the standard library reads no signals")]
fn signals() -> io::Result<OwnedFd> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the set is initialized here, and nothing reads it before.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for signal in [libc::SIGHUP, libc::SIGTERM, libc::SIGCHLD] {
        // SAFETY: the set was initialized above.
        unsafe { libc::sigaddset(set.as_mut_ptr(), signal) };
    }
    // SAFETY: as above, and the old mask is not asked for.
    if unsafe { libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: as above, and no existing descriptor is changed.
    let descriptor = unsafe { libc::signalfd(-1, set.as_ptr(), flags) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it, and nothing else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// The next signal that has come.
#[expect(unsafe_code, reason = "the standard library reads no signals")]
fn next_signal(signals: &OwnedFd) -> io::Result<Option<libc::c_int>> {
    let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
    let size = size_of::<libc::signalfd_siginfo>();
    // SAFETY: the kernel writes at most `size` bytes to `info`.
    let read = unsafe { libc::read(signals.as_raw_fd(), info.as_mut_ptr().cast(), size) };
    if usize::try_from(read) != Ok(size) {
        let error = io::Error::last_os_error();
        let is_empty = matches!(
            error.kind(),
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
        );
        return if is_empty { Ok(None) } else { Err(error) };
    }
    // SAFETY: the kernel has written all of it.
    let info = unsafe { info.assume_init() };
    Ok(libc::c_int::try_from(info.ssi_signo).ok())
}
