//! What a process leaves behind when it ends: others that it has started, that are not of its group, and that serve: they
//! have the sockets, or listen themselves where none were passed.
//!
//! A program may be started by another one that puts it into a group or session of its own, as `dumb-init`, `tini` and
//! `setsid` do. When that one is killed, or passes no signal on, the program stays. It would take connections for ever,
//! beside its successors, with what it was started with. One that has bound its address itself would keep them from it.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use handover_core::Epoch;
use handover_netutil::proc_net::{InetSocket, each_tcp_socket, sockets_of};
use handover_process::{Child, Descendant, Descendants};
use handover_runtime::offload::offload;
use handover_runtime::time_limit::timeout;
use handover_tokio::error_chain;
use rustix::fs::fstat;
use tokio::time::{Instant, sleep_until};

use super::Sockets;

/// When a process is looked at that has become live, from that moment on. It may have others start or move later.
const YOUNG: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(10),
];

/// How long a stop waits at most for the look before it.
const LOOK: Duration = Duration::from_secs(1);

/// How long those that are killed are waited for. The kernel takes milliseconds.
const END: Duration = Duration::from_secs(2);

/// Between two looks at what was killed.
const PAUSE: Duration = Duration::from_millis(5);

/// The processes below one process, as far as they were seen.
#[derive(Debug)]
pub(super) struct Strays {
    seen: Arc<Mutex<Descendants>>,
    /// The inodes of the sockets that were passed, if any were.
    sockets: Arc<BTreeSet<u64>>,
}

/// What has become of a process that was left behind.
#[derive(Debug)]
struct Left {
    process: Descendant,
    name: String,
    fate: Fate,
}

#[derive(Debug)]
enum Fate {
    /// It has served, and was killed, or could not be.
    Killed(io::Result<()>),
    /// Whether it serves cannot be seen, so it runs on.
    Unseen(io::Error),
}

impl Left {
    /// What it is, and what has become of it. `how` tells what serves from what does not.
    fn in_words(&self, how: &str) -> String {
        match &self.fate {
            Fate::Killed(Ok(())) if self.process.has_ended() => {
                format!(" and {how}: it was killed")
            }
            Fate::Killed(Ok(())) => {
                format!(
                    " and {how}: it was killed and has not ended yet, so it may take connections"
                )
            }
            Fate::Killed(Err(error)) => {
                format!(" and {how}: it cannot be killed ({error}), so it may take connections")
            }
            Fate::Unseen(error) => {
                let remedy = if error.kind() == io::ErrorKind::PermissionDenied {
                    "; handover needs the capability CAP_SYS_PTRACE to look at what another user runs"
                } else {
                    ""
                };
                format!(
                    ": whether it is left {how} cannot be seen ({error}), so it runs on and may take connections{remedy}"
                )
            }
        }
    }
}

impl Strays {
    /// Those of a process that gets these sockets: none yet.
    pub(super) fn of(child: &Child, sockets: &Sockets) -> Self {
        let sockets = sockets.all().iter();
        let inodes = sockets.filter_map(|(_, socket)| Some(fstat(socket).ok()?.st_ino));
        Self {
            seen: Arc::new(Mutex::new(Descendants::of(child.pid()))),
            sockets: Arc::new(inodes.collect()),
        }
    }

    /// Looks which there are. When their parents have ended, nobody can tell whose they were, so this comes before.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the look goes on to its end.
    pub(super) async fn look(&self, child: &Child) {
        if child.has_ended() {
            return;
        }
        let seen = Arc::clone(&self.seen);
        let look = offload(move || {
            let mut noted = lock(&seen).clone();
            noted.note()?;
            // Two looks at once have seen nearly the same.
            *lock(&seen) = noted;
            Ok::<_, io::Error>(())
        });
        let failed = match timeout(LOOK, look).await {
            Ok(Ok(Ok(()))) => return,
            // It has ended in this moment.
            Ok(Ok(Err(error))) if error.kind() == io::ErrorKind::NotFound => return,
            Ok(Ok(Err(error))) => error_chain(&error),
            Ok(Err(error)) => error_chain(&error),
            Err(error) => error_chain(&error),
        };
        let pid = child.pid();
        tracing::debug!(pid, "what it has started is unknown: {failed}");
    }

    /// Looks some times once the process is live, because it may end by itself. It never returns.
    pub(super) async fn look_while_young(&self, child: &Child) -> Infallible {
        let live = Instant::now();
        for after in YOUNG {
            sleep_until(live + after).await;
            self.look(child).await;
        }
        std::future::pending().await
    }

    /// Kills those that still serve. Call it when the process has ended.
    pub(super) async fn end(&self, epoch: Epoch) {
        if lock(&self.seen).is_empty() {
            return;
        }
        let (seen, sockets) = (lock(&self.seen).clone(), Arc::clone(&self.sockets));
        let how = match sockets.is_empty() {
            true => "listening",
            false => "with the sockets",
        };
        let ended = match offload(move || kill_those_that_serve(&seen, &sockets)).await {
            Ok(Ok(left)) => left,
            Ok(Err(error)) => return unknown(epoch, &error_chain(&error)),
            Err(error) => return unknown(epoch, &error_chain(&error)),
        };
        for left in ended {
            tracing::warn!(
                epoch = epoch.number(),
                "epoch {epoch} has ended, and left process {} ({}) behind, in a process group of its own{}; start the \
                 program by `exec`, or by what passes signals on and waits for it",
                left.process.pid(),
                left.name.escape_debug(),
                left.in_words(how)
            );
        }
    }
}

fn unknown(epoch: Epoch, why: &str) {
    tracing::warn!(
        epoch = epoch.number(),
        "whether epoch {epoch} has left a process behind is unknown: {why}"
    );
}

/// Kills what serves, until nothing does, and what these have started meanwhile.
fn kill_those_that_serve(seen: &Descendants, sockets: &BTreeSet<u64>) -> io::Result<Vec<Left>> {
    let until = Instant::now() + END;
    let mut left: Vec<Left> = Vec::new();
    loop {
        let (mut serving, mut unseen) = (Vec::new(), Vec::new());
        for process in seen.outside_group()? {
            match serves(process, sockets) {
                Ok(true) => serving.push(process),
                Ok(false) => {}
                Err(_) if process.has_ended() => {}
                Err(error) => unseen.push((process, Fate::Unseen(error))),
            }
        }
        if serving.is_empty() || Instant::now() >= until {
            let unseen = unseen.into_iter().map(|(process, fate)| Left {
                process,
                name: name(process),
                fate,
            });
            left.extend(unseen);
            return Ok(left);
        }
        for process in serving {
            if left.iter().all(|known| known.process != process) {
                left.push(Left {
                    process,
                    name: name(process),
                    fate: Fate::Killed(process.kill().map(drop)),
                });
            }
        }
        thread::sleep(PAUSE);
    }
}

/// Whether the process has one of the sockets, or listens itself if there are none.
fn serves(process: Descendant, sockets: &BTreeSet<u64>) -> io::Result<bool> {
    let directory = PathBuf::from(format!("/proc/{}", process.pid()));
    if !sockets.is_empty() {
        let own = sockets_of(&directory)?;
        return Ok(own.keys().any(|inode| sockets.contains(inode)));
    }
    let mut listens = false;
    each_tcp_socket(&directory, |socket, _| {
        listens |= socket.state == InetSocket::LISTEN;
    })
    .map_err(|(_, error)| error)?;
    Ok(listens)
}

fn name(process: Descendant) -> String {
    let name = std::fs::read(format!("/proc/{}/comm", process.pid())).unwrap_or_default();
    String::from_utf8_lossy(&name).trim_end().to_owned()
}

fn lock(seen: &Mutex<Descendants>) -> MutexGuard<'_, Descendants> {
    // A look that panics leaves what was seen before.
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
