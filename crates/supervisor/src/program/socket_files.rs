//! Keeps the files of Unix sockets in their place, while programs run that may remove them.
//!
//! Some servers remove the file of their socket at their end, also if they did not make it. The next one
//! holds the socket, and no client finds it. So the files are watched, and put back at once.

use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use handover_netutil::{FileLook, FileWatch, ServerSocket};
use handover_runtime::offload::offload;
use handover_runtime::time_limit::timeout;
use handover_tokio::error_chain;

use super::sockets::Sockets;

/// How often files are looked at that the system does not watch.
const UNWATCHED: Duration = Duration::from_secs(1);

/// How long the end of an epoch is held at most by the look at the files after it, and that of the program by their
/// removal: 1 s.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// What was seen last of the file of each socket.
#[derive(Clone, Debug, Default)]
pub(super) struct SocketFiles(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    states: Vec<State>,
    /// Whether the files were removed, because no program is to run any more.
    are_removed: bool,
}

/// What was seen last of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    InPlace,
    Gone,
    Replaced,
    Unknown,
}

/// What must be logged after a look.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Info(String),
    Warning(String),
}

impl SocketFiles {
    /// Looks after the files of these sockets. It never returns. Each epoch that runs calls it.
    ///
    /// # Cancel safety
    ///
    /// It can be dropped at any point.
    pub(super) async fn keep(&self, sockets: &Arc<Sockets>) -> Infallible {
        if !has_files(sockets) {
            return std::future::pending().await;
        }
        let events = FileWatch::new().inspect_err(|error| {
            tracing::debug!("the files of sockets are looked at every second: {error}");
        });
        let events = events.ok().map(Arc::new);
        loop {
            let (states, all, watch) = (self.clone(), Arc::clone(sockets), events.clone());
            let looked = offload(move || {
                // The watch comes first, so that nothing happens between the look and the watch.
                let all_watched = watch.is_some_and(|watch| are_watched(&watch, all.all()));
                (all_watched, states.look(all.all()))
            });
            let looked = looked.await.unwrap_or_else(|error| {
                tracing::debug!("no file of a socket was looked at: {}", error_chain(&error));
                (false, false)
            });
            match (&events, looked) {
                // What was put back is not watched yet.
                (_, (_, true)) => {}
                // A watch that fails is no reason to look without a pause.
                (Some(watch), (true, false)) => match watch.changed().await {
                    Ok(()) => {}
                    Err(_) => tokio::time::sleep(UNWATCHED).await,
                },
                _ => tokio::time::sleep(UNWATCHED).await,
            }
        }
    }

    /// Looks at each file after an epoch has ended, but not for long.
    ///
    /// # Cancel safety
    ///
    /// A look that has begun goes on.
    pub(super) async fn look_once_more(&self, sockets: &Arc<Sockets>) {
        if !has_files(sockets) {
            return;
        }
        let (states, all) = (self.clone(), Arc::clone(sockets));
        let look = offload(move || states.look(all.all()));
        if !matches!(timeout(LAST_LOOK, look).await, Ok(Ok(_))) {
            tracing::debug!("the files of sockets were not looked at after the end of an epoch");
        }
    }

    /// Removes the files, and waits for that, but not for long. A look that was left behind by its epoch has the sockets
    /// as well, and would put them back, or keep them there until the process has ended, which removes nothing.
    pub(super) fn remove(&self, sockets: &Arc<Sockets>) {
        if !has_files(sockets) {
            return;
        }
        let (files, all) = (self.clone(), Arc::clone(sockets));
        let (done, is_done) = mpsc::channel();
        let remover = thread::Builder::new().spawn(move || {
            files.remove_all(&all);
            // The other side has given up.
            let _sent = done.send(());
        });
        match remover {
            Ok(_) if is_done.recv_timeout(LAST_LOOK).is_err() => tracing::warn!(
                "the files of sockets may stay where they are: their file system has not answered within {LAST_LOOK:?}"
            ),
            Ok(_) => {}
            // There is no thread for it.
            Err(_) => self.remove_all(sockets),
        }
    }

    fn remove_all(&self, sockets: &Sockets) {
        let mut seen = self.lock();
        seen.are_removed = true;
        for (_, socket) in sockets.all() {
            socket.remove_file();
        }
    }

    /// Looks at each file once, and logs what has changed. Returns whether one was put back. It blocks.
    fn look(&self, sockets: &[(String, ServerSocket)]) -> bool {
        let mut seen = self.lock();
        if seen.are_removed {
            return false;
        }
        seen.states.resize(sockets.len(), State::InPlace);
        let mut put_back = false;
        for ((name, socket), state) in sockets.iter().zip(seen.states.iter_mut()) {
            let (Some(path), Some(look)) = (socket.file(), socket.look_at_file()) else {
                continue;
            };
            put_back |= matches!(look, FileLook::PutBack);
            let (now, entry) = after(*state, &look, name, path);
            *state = now;
            let path = path.display();
            match entry {
                Some(Entry::Warning(text)) => tracing::warn!(name, %path, "{text}"),
                Some(Entry::Info(text)) => tracing::info!(name, %path, "{text}"),
                None => {}
            }
        }
        put_back
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        // Nothing in here is left half-way by a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn has_files(sockets: &Sockets) -> bool {
    let mut all = sockets.all().iter();
    all.any(|(_, socket)| socket.file().is_some())
}

fn are_watched(watch: &FileWatch, sockets: &[(String, ServerSocket)]) -> bool {
    let mut paths = sockets.iter().filter_map(|(_, socket)| socket.file());
    paths.all(|path: &Path| watch.watch(path).is_ok())
}

/// What a look shows of a file, and what must be logged of it.
fn after(was: State, look: &FileLook, name: &str, path: &Path) -> (State, Option<Entry>) {
    let path = path.display();
    let (now, entry) = match look {
        FileLook::PutBack => {
            return (
                State::InPlace,
                Some(Entry::Warning(format!(
                    "the file of the socket {name} was removed, and is back: clients can connect to {path} again; \
                     keep the program from removing it at its end"
                ))),
            );
        }
        FileLook::InPlace => (
            State::InPlace,
            Entry::Info(format!(
                "the file of the socket {name} is in its place again: clients can connect to {path}"
            )),
        ),
        FileLook::Gone => (
            State::Gone,
            Entry::Warning(format!(
                "the file of the socket {name} is gone, so no client can connect to {path}: restart handover, and \
                 keep the program from removing it"
            )),
        ),
        FileLook::Replaced => (
            State::Replaced,
            Entry::Warning(format!(
                "another file has the place of the socket {name}, so clients of {path} do not reach the program: \
                 stop what has made it, and remove the file"
            )),
        ),
        FileLook::Unknown(error) => (
            State::Unknown,
            Entry::Warning(format!(
                "it is unknown whether clients find the socket {name}: {path} cannot be looked at ({error}); let \
                 handover read and write in its directory"
            )),
        ),
        _ => return (was, None),
    };
    (now, (now != was).then_some(entry))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use handover_netutil::ListenUnix;

    use super::super::Program;
    use super::*;

    /// A socket whose file is put back.
    fn kept() -> (tempfile::TempDir, PathBuf, Sockets) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.sock");
        let mut sockets = Sockets::new(false);
        let socket = ListenUnix::new(&path).keep_file(true).bind().unwrap();
        sockets.add("web", socket);
        (dir, path, sockets)
    }

    /// The sockets are in the hands of a look that is late, so that their end is not that of the program.
    #[test]
    fn a_look_that_comes_after_the_end_puts_nothing_back() {
        let (dir, path, sockets) = kept();
        let sockets = Arc::new(sockets);
        let files = SocketFiles::default();
        std::fs::remove_file(&path).unwrap();
        assert!(files.look(sockets.all()));
        assert!(path.exists());
        files.remove(&sockets);
        assert!(!files.look(sockets.all()));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_files_go_with_the_program_whoever_still_has_the_sockets() {
        let (dir, _, sockets) = kept();
        let program = Program::builder("sleep").sockets(sockets).build();
        let (late, files) = (
            Arc::clone(&program.settings.sockets),
            program.socket_files.clone(),
        );
        drop(program);
        assert!(!files.look(late.all()));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_look_that_hangs_does_not_hold_the_end_and_the_files_go_once_it_is_over() {
        let (_dir, path, sockets) = kept();
        let sockets = Arc::new(sockets);
        let files = SocketFiles::default();
        let looking = files.lock();
        files.remove(&sockets);
        assert!(path.exists());
        drop(looking);
        let is_gone = (0..20_000).any(|_| {
            thread::sleep(Duration::from_millis(1));
            !path.exists()
        });
        assert!(is_gone, "20 s later it is still there");
    }

    #[test]
    fn each_change_is_logged_once() {
        let unknown = || FileLook::Unknown(io::ErrorKind::PermissionDenied.into());
        let looks = [
            FileLook::InPlace,
            FileLook::PutBack,
            FileLook::InPlace,
            FileLook::PutBack,
            FileLook::Gone,
            FileLook::Gone,
            FileLook::InPlace,
            FileLook::Replaced,
            FileLook::Replaced,
            unknown(),
            unknown(),
            FileLook::InPlace,
        ];
        let mut state = State::default();
        let mut lines = Vec::new();
        for look in looks {
            let (now, entry) = after(state, &look, "web", Path::new("/run/web.sock"));
            state = now;
            lines.push(match entry {
                Some(Entry::Info(text)) => format!("{look:?} INFO {text}"),
                Some(Entry::Warning(text)) => format!("{look:?} WARN {text}"),
                None => format!("{look:?}"),
            });
        }
        insta::assert_snapshot!(lines.join("\n"), @r"
        InPlace
        PutBack WARN the file of the socket web was removed, and is back: clients can connect to /run/web.sock again; keep the program from removing it at its end
        InPlace
        PutBack WARN the file of the socket web was removed, and is back: clients can connect to /run/web.sock again; keep the program from removing it at its end
        Gone WARN the file of the socket web is gone, so no client can connect to /run/web.sock: restart handover, and keep the program from removing it
        Gone
        InPlace INFO the file of the socket web is in its place again: clients can connect to /run/web.sock
        Replaced WARN another file has the place of the socket web, so clients of /run/web.sock do not reach the program: stop what has made it, and remove the file
        Replaced
        Unknown(Kind(PermissionDenied)) WARN it is unknown whether clients find the socket web: /run/web.sock cannot be looked at (permission denied); let handover read and write in its directory
        Unknown(Kind(PermissionDenied))
        InPlace INFO the file of the socket web is in its place again: clients can connect to /run/web.sock
        ");
    }
}
