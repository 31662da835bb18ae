//! The thread that writes. The control loops never wait for it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use handover_files::LockFile;
use tokio::sync::oneshot;
use tracing::{debug, info, warn};

use super::format::Note;
use super::lines::LastLines;

/// How many lines wait at most.
const QUEUED_LINES: usize = 512;
/// How many bytes wait at most.
const QUEUED_BYTES: usize = 1 << 20;
/// How many bytes are written at once.
const BATCH: usize = 64 << 10;
/// How many bytes a file begins with, nearly.
const BEGINNING: usize = 1 << 10;
/// The pause between two tries to write again.
pub(super) const PAUSE: Duration = Duration::from_secs(30);

/// How long the last lines of processes wait for more.
const LINES_PAUSE: Duration = Duration::from_secs(1);

/// Every sender is gone.
struct Disconnected;

/// What the writer is told.
enum Message {
    Line(String),
    Rotate,
    /// A process has printed something.
    Lines,
    End(oneshot::Sender<()>),
}

/// The way to the writer.
#[derive(Clone)]
pub(crate) struct Writer {
    sender: SyncSender<Message>,
    shared: Arc<Shared>,
}

struct Shared {
    /// The bytes of the lines that wait.
    queued: AtomicUsize,
    /// The lines that wait.
    lines: AtomicUsize,
    /// How often the file has begun again after lines were lost: each machine must save its state.
    gaps: AtomicU64,
    /// The bytes after which the next file must begin, so that there is room for both.
    file_limit: AtomicU64,
}

impl Shared {
    fn forget(&self, bytes: usize, lines: usize) {
        self.lines.fetch_sub(lines, Ordering::Relaxed);
        self.queued.fetch_sub(bytes, Ordering::Release);
    }
}

/// The queue is full, and the line was not taken.
#[derive(Debug)]
pub(crate) struct Full;

impl Writer {
    /// Starts the thread. It ends with the last of these, and gives the lock back then.
    pub(super) fn start(
        place: impl Place + Send + 'static,
        lock: Option<Arc<LockFile>>,
        lines: LastLines,
        pause: Duration,
    ) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(QUEUED_LINES);
        let shared = Arc::new(Shared {
            queued: AtomicUsize::new(0),
            lines: AtomicUsize::new(0),
            gaps: AtomicU64::new(0),
            file_limit: AtomicU64::new(place.file_limit()),
        });
        let thread = Thread {
            place,
            pause,
            shared: Arc::clone(&shared),
            failed: None,
            dropped: 0,
            rotation_is_due: false,
            lines,
            lines_due: None,
            _lock: lock,
        };
        thread::Builder::new()
            .name("handover-record".into())
            .spawn(move || thread.run(&receiver))?;
        Ok(Self { sender, shared })
    }

    /// Whether a line can be passed on at all, so that none is made for nothing.
    pub(super) fn has_room(&self) -> bool {
        self.shared.lines.load(Ordering::Relaxed) < QUEUED_LINES
            && self.shared.queued.load(Ordering::Relaxed) < QUEUED_BYTES
    }

    /// Passes a line on, which ends with a line feed.
    pub(crate) fn line(&self, line: String) -> Result<(), Full> {
        let length = line.len();
        let queued = self.shared.queued.load(Ordering::Relaxed);
        if queued.saturating_add(length) > QUEUED_BYTES {
            return Err(Full);
        }
        self.shared.queued.fetch_add(length, Ordering::Relaxed);
        self.shared.lines.fetch_add(1, Ordering::Relaxed);
        match self.sender.try_send(Message::Line(line)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.shared.forget(length, 1);
                Err(Full)
            }
        }
    }

    /// Lets the next line be the first of a new file.
    pub(crate) fn rotate(&self) -> Result<(), Full> {
        self.sender.try_send(Message::Rotate).map_err(|_| Full)
    }

    /// Lets the last lines of processes be written soon.
    pub(super) fn lines_are_new(&self) {
        // While the queue is full, they are written with the next ones.
        let _full = self.sender.try_send(Message::Lines);
    }

    /// Returns the bytes after which the next file must begin, so that the older one need not go before this one is
    /// full. It was measured with the last line that was written.
    pub(crate) fn file_limit(&self) -> u64 {
        self.shared.file_limit.load(Ordering::Relaxed)
    }

    /// How often lines were lost on the way to the file.
    pub(super) fn gaps(&self) -> u64 {
        self.shared.gaps.load(Ordering::Relaxed)
    }

    /// Waits until every line that was passed on is written or lost.
    #[cfg(test)]
    pub(super) fn wait_until_idle(&self) {
        while self.shared.queued.load(Ordering::Acquire) > 0 {
            thread::sleep(Duration::from_micros(100));
        }
    }

    /// Lets the writer end the recording. The receiver hears when that is on the disk.
    pub(crate) fn end(&self) -> Option<oneshot::Receiver<()>> {
        let (done, receiver) = oneshot::channel();
        self.sender.try_send(Message::End(done)).ok()?;
        Some(receiver)
    }
}

/// Where the lines go.
pub(super) trait Place {
    /// Writes whole lines.
    fn write(&mut self, lines: &[u8]) -> io::Result<()>;
    /// Takes back a record that was written in part.
    fn repair(&mut self) -> io::Result<()>;
    /// Whether a new file would free the room that others need, where so many bytes are to be written.
    fn would_free_enough(&self, bytes: usize) -> bool;
    /// The bytes after which a new file must begin, so that there is room for both.
    fn file_limit(&self) -> u64;
    /// Begins a new file at this time.
    fn rotate(&mut self, at: String) -> io::Result<()>;
    /// Forces what was written to the disk.
    fn sync(&self) -> io::Result<()>;
    /// The file that is written, for people.
    fn path(&self) -> PathBuf;
    /// Replaces the file with the last lines of processes.
    fn write_last_lines(&mut self, text: &str) -> io::Result<()>;
}

struct Thread<P> {
    place: P,
    pause: Duration,
    shared: Arc<Shared>,
    /// When writing failed last, until it succeeds.
    failed: Option<Instant>,
    /// The lines that were lost since the last success.
    dropped: u64,
    rotation_is_due: bool,
    lines: LastLines,
    /// When the last lines must be written.
    lines_due: Option<Instant>,
    /// The files are ours as long as this is held.
    _lock: Option<Arc<LockFile>>,
}

impl<P: Place> Thread<P> {
    fn run(mut self, receiver: &Receiver<Message>) {
        let mut batch = String::new();
        while let Ok(message) = self.next(receiver) {
            let mut next = message;
            while let Some(message) = next {
                match message {
                    Message::Line(line) => batch.push_str(&line),
                    Message::Rotate => {
                        self.write(&mut batch);
                        self.rotate();
                    }
                    Message::Lines => {
                        let soon = Instant::now().checked_add(LINES_PAUSE);
                        self.lines_due = self.lines_due.or(soon);
                    }
                    Message::End(done) => {
                        self.write(&mut batch);
                        self.write_last_lines();
                        self.write_lines(&Note::End { at: now() }.line(), 1);
                        // That the disk does not take it was told when it began to.
                        let _refused = self.place.sync();
                        // Its waiter may have given up.
                        let _unheard = done.send(());
                        return;
                    }
                }
                next = match batch.len() {
                    0..BATCH => receiver.try_recv().ok(),
                    BATCH.. => None,
                };
            }
            self.write(&mut batch);
            if self.lines_due.is_some_and(|due| due <= Instant::now()) {
                self.lines_due = None;
                self.write_last_lines();
            }
        }
        self.write(&mut batch);
        self.write_last_lines();
    }

    /// Waits for the next message, or until the last lines are due.
    fn next(&self, receiver: &Receiver<Message>) -> Result<Option<Message>, Disconnected> {
        let Some(due) = self.lines_due else {
            return receiver.recv().map(Some).map_err(|_| Disconnected);
        };
        match receiver.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(message) => Ok(Some(message)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(Disconnected),
        }
    }

    fn write_last_lines(&mut self) {
        if let Some(text) = self.lines.news()
            && let Err(error) = self.place.write_last_lines(&text)
        {
            debug!("cannot write the last lines: {error}");
        }
    }

    /// Writes what has been gathered, or counts it as lost.
    fn write(&mut self, batch: &mut String) {
        if batch.is_empty() {
            return;
        }
        let lines = batch.bytes().filter(|byte| *byte == b'\n').count();
        self.write_lines(batch, u64::try_from(lines).unwrap_or(u64::MAX));
        let limit = self.place.file_limit();
        self.shared.file_limit.store(limit, Ordering::Relaxed);
        self.shared.forget(batch.len(), lines);
        batch.clear();
    }

    fn write_lines(&mut self, batch: &str, lines: u64) {
        if let Some(failed) = self.failed {
            if failed.elapsed() < self.pause {
                self.dropped = self.dropped.saturating_add(lines);
                return;
            }
            if let Err(error) = self.begin_again() {
                self.fail(&error);
                self.dropped = self.dropped.saturating_add(lines);
                return;
            }
        }
        if let Err(error) = self.place.write(batch.as_bytes()) {
            self.dropped = self.dropped.saturating_add(lines);
            // Where the room is its own, it need not wait for others to give some back.
            let again = match self.place.would_free_enough(batch.len().max(BEGINNING)) {
                true => self.begin_again(),
                false => Err(error),
            };
            if let Err(error) = again {
                self.fail(&error);
            }
        }
    }

    /// Goes on after a failure: the file says how many records are missing.
    fn begin_again(&mut self) -> io::Result<()> {
        self.place.repair()?;
        if self.rotation_is_due || self.place.would_free_enough(BEGINNING) {
            self.place.rotate(now())?;
            self.rotation_is_due = false;
        }
        let note = Note::Dropped(self.dropped);
        self.place.write(note.line().as_bytes())?;
        let (path, dropped) = (self.place.path(), self.dropped);
        info!(
            dropped,
            "{} is written again; {dropped} records are missing",
            path.display()
        );
        self.failed = None;
        self.dropped = 0;
        // From here on each machine begins with its state.
        self.shared.gaps.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn rotate(&mut self) {
        if self.failed.is_some() {
            self.rotation_is_due = true;
        } else if let Err(error) = self.place.rotate(now()) {
            self.rotation_is_due = true;
            self.fail(&error);
        }
    }

    fn fail(&mut self, error: &io::Error) {
        if self.failed.replace(Instant::now()).is_none() {
            warn!(
                "cannot write {}: {error}; nothing is recorded until it can be written again, which is tried \
                 every {:?}",
                self.place.path().display(),
                self.pause
            );
        }
    }
}

/// The wall clock, as RFC 3339.
pub(super) fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}
