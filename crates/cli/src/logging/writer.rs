//! Writing lines without ever waiting for the reader.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

/// How many lines wait at most. A child's line has up to 16 KiB, so this bounds the memory to
/// 16 MiB for a reader that stands still.
const QUEUE: usize = 1024;

/// The stack of a writer's thread, which calls nothing but `write`.
const STACK: usize = 64 * 1024;

/// How long to wait before something that is full is tried again.
const PAUSE: Duration = Duration::from_millis(5);

/// How long a stream that takes nothing is left alone at first, without a further line, and at most.
const FIRST_OWED: Duration = Duration::from_secs(1);
const LONGEST_OWED: Duration = Duration::from_secs(60);

/// Hands lines to a thread that writes them. Clones write to the same stream.
#[derive(Clone)]
pub(crate) struct Writer {
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

enum Message {
    Line(Vec<u8>),
    /// Answered once everything before it is written.
    Flush(SyncSender<()>),
}

impl Writer {
    /// Starts the thread. Its own notes, on lines that were lost, begin with this.
    ///
    /// # Errors
    ///
    /// When the system has no thread left.
    pub(crate) fn start(
        name: &str,
        stream: impl Write + Send + 'static,
        note: &'static str,
    ) -> io::Result<Self> {
        let (queue, lines) = sync_channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&dropped);
        thread::Builder::new()
            .name(format!("write-{name}"))
            .stack_size(STACK)
            .spawn(move || write_all(&lines, stream, &counter, note))?;
        Ok(Self { queue, dropped })
    }

    /// Hands over a text, usually one line with its line feed, or counts it as dropped.
    pub(crate) fn line(&self, line: Vec<u8>) {
        match self.queue.try_send(Message::Line(line)) {
            Ok(()) => {}
            // The thread ends with the last writer, so it is there.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Waits until every line so far is written, or until the limit is over.
    pub(crate) fn flush(&self, limit: Duration) {
        let (done, flushed) = sync_channel(1);
        let mut message = Message::Flush(done);
        let mut left = limit;
        // A full queue is given the same time to empty itself.
        while let Err(TrySendError::Full(back)) = self.queue.try_send(message) {
            if left.is_zero() {
                return;
            }
            thread::sleep(PAUSE);
            left = left.saturating_sub(PAUSE);
            message = back;
        }
        match flushed.recv_timeout(left) {
            // Lines that the reader does not take in time are given up.
            Ok(()) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }
}

/// Writes until every writer is gone. A stream that takes nothing, because its disk is full or its
/// reader has gone, loses its lines and nothing else. It is told how many once it takes some again.
fn write_all(
    lines: &Receiver<Message>,
    mut stream: impl Write,
    dropped: &AtomicU64,
    note_begins: &'static str,
) {
    let mut lost = Lost {
        note_begins,
        ..Lost::default()
    };
    loop {
        let message = match lost.wait(lines) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        lost.report(&mut stream);
        match message {
            Some(Message::Line(line)) => lost.write(&mut stream, &line, 1),
            Some(Message::Flush(done)) => {
                // The caller may have stopped waiting.
                let _gone = done.try_send(());
            }
            None => {}
        }
        let slow = dropped.swap(0, Ordering::Relaxed);
        if slow > 0 {
            let note =
                format!("{note_begins}... {slow} lines were dropped: the reader was too slow\n");
            lost.write(&mut stream, note.as_bytes(), slow);
        }
    }
}

/// The lines that a stream did not take and was not told of yet.
#[derive(Default)]
struct Lost {
    /// How a note on them begins.
    note_begins: &'static str,
    lines: u64,
    /// Why the last of them was not taken.
    reason: Option<io::Error>,
    /// Whether a part of one was taken, so that its line has no end.
    torn: bool,
    /// How long to wait for a line before the stream is tried without one.
    pause: Duration,
}

impl Lost {
    /// Waits for what is to be written, and no longer than a while if the stream is owed a word.
    fn wait(&mut self, lines: &Receiver<Message>) -> Result<Message, RecvTimeoutError> {
        if self.lines == 0 {
            return lines.recv().map_err(|_| RecvTimeoutError::Disconnected);
        }
        let message = lines.recv_timeout(self.pause);
        if message.is_err() {
            self.pause = LONGEST_OWED.min(self.pause * 2);
        }
        message
    }

    /// Writes a text, or counts its lines.
    fn write(&mut self, stream: &mut impl Write, text: &[u8], lines: u64) {
        // What comes after a loss must not be written before the word on it.
        if self.lines == 0 {
            match write_whole(stream, text) {
                Ok(()) => return,
                Err(failed) => {
                    self.pause = FIRST_OWED;
                    self.note(failed);
                }
            }
        }
        self.lines = self.lines.saturating_add(lines);
    }

    /// Says how many lines were lost, if the stream takes that.
    fn report(&mut self, stream: &mut impl Write) {
        let Some(reason) = self.reason.as_ref().filter(|_| self.lines > 0) else {
            return;
        };
        let end = if self.torn { "\n" } else { "" };
        let begin = self.note_begins;
        let note = format!("{end}{begin}... {} lines were lost: {reason}\n", self.lines);
        match write_whole(stream, note.as_bytes()) {
            Ok(()) => {
                *self = Self {
                    note_begins: begin,
                    ..Self::default()
                }
            }
            Err(failed) => self.note(failed),
        }
    }

    fn note(&mut self, failed: NotWritten) {
        self.torn |= failed.written > 0;
        self.reason = Some(failed.error);
    }
}

/// Why a text was not written, or only its first bytes.
struct NotWritten {
    written: usize,
    error: io::Error,
}

/// Writes everything. Another process may have set the stream to not block, for all that share it;
/// then this waits nevertheless.
fn write_whole(stream: &mut impl Write, text: &[u8]) -> Result<(), NotWritten> {
    let mut written = 0;
    let failed = |written, error| NotWritten { written, error };
    while let Some(rest) = text.get(written..).filter(|rest| !rest.is_empty()) {
        match stream.write(rest) {
            Ok(0) => return Err(failed(written, io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(PAUSE),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(written, error)),
        }
    }
    stream.flush().map_err(|error| failed(written, error))
}

/// A standard stream without the buffer of the standard library, which keeps what was not written
/// and does not say so.
pub(super) struct Unbuffered<T>(pub(super) T);

impl<T: AsFd> Write for Unbuffered<T> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(&self.0, text)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::channel;

    use super::*;

    /// A stream that takes nothing until it is let go.
    struct Stalled {
        gate: Receiver<()>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Stalled {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            let _opened = self.gate.recv();
            self.written.lock().unwrap().extend_from_slice(text);
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stalled_reader_holds_nobody_and_is_told_what_it_missed() {
        let (open, gate) = channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let stream = Stalled {
            gate,
            written: Arc::clone(&written),
        };
        let writer = Writer::start("test", stream, "").unwrap();
        for number in 0..2 * QUEUE {
            writer.line(format!("{number}\n").into_bytes());
        }
        writer.flush(Duration::from_millis(10));
        assert!(written.lock().unwrap().is_empty());

        drop(open);
        writer.flush(Duration::from_secs(10));
        let written = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        assert!(written.starts_with("0\n"), "{written}");
        let lines = written.lines().filter(|line| !line.starts_with("..."));
        let lost: usize = written
            .lines()
            .filter_map(|line| {
                line.strip_prefix("... ")?
                    .split(' ')
                    .next()?
                    .parse::<usize>()
                    .ok()
            })
            .sum();
        assert!(lost > 0, "{written}");
        assert_eq!(lines.count() + lost, 2 * QUEUE);
    }
    /// A disk with room for so many bytes.
    #[derive(Clone)]
    struct Disk(Arc<Mutex<(usize, Vec<u8>)>>);

    impl Disk {
        fn with_room(room: usize) -> Self {
            Self(Arc::new(Mutex::new((room, Vec::new()))))
        }

        fn make_room(&self) {
            self.0.lock().unwrap().0 = usize::MAX;
        }

        fn content(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().1.clone()).unwrap()
        }
    }

    impl Write for Disk {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            let (room, content) = &mut *self.0.lock().unwrap();
            let count = text.len().min(*room);
            if count == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            *room -= count;
            content.extend_from_slice(text.get(..count).unwrap());
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const LIMIT: Duration = Duration::from_secs(20);

    #[test]
    fn lines_that_a_full_disk_did_not_take_are_counted_and_told_before_the_next_one() {
        let disk = Disk::with_room("one\ntw".len());
        let writer = Writer::start("test", disk.clone(), "").unwrap();
        for line in ["one\n", "two\n", "three\n"] {
            writer.line(line.into());
        }
        writer.flush(LIMIT);
        assert_eq!(disk.content(), "one\ntw");
        disk.make_room();
        writer.line("four\n".into());
        writer.flush(LIMIT);
        let reason = io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(
            disk.content(),
            format!("one\ntw\n... 2 lines were lost: {reason}\nfour\n")
        );
    }

    #[test]
    fn what_was_lost_is_told_without_a_further_line() {
        let disk = Disk::with_room(0);
        let writer = Writer::start("test", disk.clone(), "").unwrap();
        writer.line("one\n".into());
        writer.flush(LIMIT);
        disk.make_room();
        let end = std::time::Instant::now() + LIMIT;
        while disk.content().is_empty() && std::time::Instant::now() < end {
            thread::sleep(PAUSE);
        }
        assert!(disk.content().starts_with("... 1 lines were lost: "));
    }

    #[test]
    fn a_reader_that_comes_back_is_told_what_it_missed() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
        let read = || {
            let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK;
            rustix::fs::open(&fifo, flags, rustix::fs::Mode::empty()).unwrap()
        };
        let reader = read();
        let stream = std::fs::File::options().write(true).open(&fifo).unwrap();
        let writer = Writer::start("test", Unbuffered(stream), "").unwrap();
        drop(reader);
        writer.line("one\n".into());
        writer.flush(LIMIT);
        let reader = read();
        writer.line("two\n".into());
        writer.flush(LIMIT);
        let mut text = [0; 200];
        let count = rustix::io::read(&reader, &mut text).unwrap();
        let text = String::from_utf8_lossy(text.get(..count).unwrap());
        assert!(
            text.starts_with("... 1 lines were lost: Broken pipe"),
            "{text}"
        );
        assert!(text.ends_with("\ntwo\n"), "{text}");
    }
}
