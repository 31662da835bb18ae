//! Writing lines without ever waiting for the reader.

use std::io::{self, Write};
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
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// When the system has no thread left.
    pub(crate) fn start(name: &str, stream: impl Write + Send + 'static) -> io::Result<Self> {
        let (queue, lines) = sync_channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&dropped);
        thread::Builder::new()
            .name(format!("write-{name}"))
            .stack_size(STACK)
            .spawn(move || write_all(&lines, stream, &counter))?;
        Ok(Self { queue, dropped })
    }

    /// Hands over a text, usually one line with its line feed, or counts it as dropped.
    pub(crate) fn line(&self, line: Vec<u8>) {
        match self.queue.try_send(Message::Line(line)) {
            Ok(()) => {}
            // The thread ends only when its stream is broken, and then nobody reads any line.
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

/// Writes until every writer is gone. A stream that breaks loses its lines and nothing else.
fn write_all(lines: &Receiver<Message>, mut stream: impl Write, dropped: &AtomicU64) {
    for message in lines {
        let written = match message {
            Message::Line(line) => write_whole(&mut stream, &line),
            Message::Flush(done) => {
                // Whoever asked may have stopped waiting.
                let _gone = done.try_send(());
                Ok(())
            }
        };
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let note = format!("... {lost} lines were dropped: the reader was too slow\n");
            let _broken = write_whole(&mut stream, note.as_bytes());
        }
        if let Err(error) = written
            && error.kind() == io::ErrorKind::BrokenPipe
        {
            return;
        }
    }
}

/// Writes everything. Another process may have set the stream to not block, for all that share it;
/// then this waits nevertheless.
fn write_whole(stream: &mut impl Write, mut text: &[u8]) -> io::Result<()> {
    while !text.is_empty() {
        match stream.write(text) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => text = text.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(PAUSE),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    stream.flush()
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
        let writer = Writer::start("test", stream).unwrap();
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
}
