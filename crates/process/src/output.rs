//! Where a child's output goes.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

/// Which of its two output streams a child wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        })
    }
}

/// Which child wrote a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The child's process id.
    pub pid: u32,
    /// The epoch given with [`Command::epoch`](super::Command::epoch).
    pub epoch: Option<u32>,
    /// The label given with [`Command::label`](super::Command::label), or the program's file name.
    pub label: Arc<str>,
}

/// A line of a child's output, or a piece of one that is longer than 16 KiB.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    /// Who wrote it.
    pub source: &'a Source,
    /// Where it was written to.
    pub stream: Stream,
    /// The bytes as they were written, without the line feed. They need not be UTF-8, and the end
    /// of a piece may fall within a character.
    pub bytes: &'a [u8],
    /// Whether the next piece from the same source and stream belongs to the same line.
    pub continues: bool,
}

/// Takes the lines that children write.
///
/// A closure `Fn(&Line<'_>)` is a sink too.
pub trait OutputSink: Send + Sync {
    /// Takes one line. Lines of one stream come in order; the two streams of a child are
    /// independent, as they are in the kernel.
    ///
    /// It is called on the runtime's thread and must not block. A sink that may have to wait puts
    /// the line into a [`queue`] instead. A panic loses the line and nothing else.
    fn line(&self, line: &Line<'_>);
}

impl<F: Fn(&Line<'_>) + Send + Sync> OutputSink for F {
    fn line(&self, line: &Line<'_>) {
        self(line);
    }
}

/// A [`Line`] that owns its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedLine {
    /// Who wrote it.
    pub source: Source,
    /// Where it was written to.
    pub stream: Stream,
    /// The bytes as they were written, without the line feed.
    pub bytes: Vec<u8>,
    /// Whether the next piece from the same source and stream belongs to the same line.
    pub continues: bool,
}

/// Makes a bounded queue of lines between children and a consumer that may be slow.
///
/// At most `capacity` lines wait. A line that finds the queue full is dropped and counted, so the
/// child never waits for the consumer. A line takes up to 16 KiB, so `capacity` bounds the memory
/// as well.
///
/// # Panics
///
/// If `capacity` is 0.
pub fn queue(capacity: usize) -> (QueueSink, QueueLines) {
    let (sender, receiver) = mpsc::channel(capacity);
    let dropped = Arc::new(AtomicU64::new(0));
    let sink = QueueSink {
        sender,
        dropped: Arc::clone(&dropped),
    };
    (sink, QueueLines { receiver, dropped })
}

/// The end of a [`queue`] that children write to.
#[derive(Debug, Clone)]
pub struct QueueSink {
    sender: mpsc::Sender<OwnedLine>,
    dropped: Arc<AtomicU64>,
}

impl OutputSink for QueueSink {
    fn line(&self, line: &Line<'_>) {
        // The place is reserved first, so that a line to be dropped is not copied.
        if let Ok(place) = self.sender.try_reserve() {
            place.send(OwnedLine {
                source: line.source.clone(),
                stream: line.stream,
                bytes: line.bytes.to_vec(),
                continues: line.continues,
            });
        } else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The end of a [`queue`] that the consumer reads from.
#[derive(Debug)]
pub struct QueueLines {
    receiver: mpsc::Receiver<OwnedLine>,
    dropped: Arc<AtomicU64>,
}

impl QueueLines {
    /// Returns the next line, or `None` once every sink is gone and the queue is empty.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a line is either returned or still in the queue.
    pub async fn recv(&mut self) -> Option<OwnedLine> {
        self.receiver.recv().await
    }

    /// Returns how many lines have been dropped since the queue was made.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// The last lines that a child wrote to one of its outputs: at most 256 of standard error and 16 of standard output,
/// and at most 64 KiB of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tail {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Tail {
    /// The largest number of lines of standard error that is kept. Envoy tells what is wrong with its command line
    /// above its usage, whose lines are the more the longer the path of the binary is: 41 for a short
    /// one, about 180 for the longest path there can be.
    pub const LINES: usize = 256;
    /// The largest number of bytes that is kept.
    pub const BYTES: usize = 64 * 1024;

    /// Returns the lines, oldest first, each without its line feed.
    pub fn lines(&self) -> impl DoubleEndedIterator<Item = &[u8]> + ExactSizeIterator {
        self.lines.iter().map(Vec::as_slice)
    }

    /// Returns whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    fn push(&mut self, line: &[u8], most: usize) {
        self.bytes += line.len();
        self.lines.push_back(line.to_vec());
        while self.lines.len() > most || self.bytes > Self::BYTES {
            let Some(oldest) = self.lines.pop_front() else {
                break;
            };
            self.bytes -= oldest.len();
        }
    }
}

/// One line per line; what is not UTF-8 is replaced.
impl fmt::Display for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            writeln!(f, "{}", String::from_utf8_lossy(line))?;
        }
        Ok(())
    }
}

/// A [`Tail`] that is written and read from different tasks.
#[derive(Debug, Clone)]
pub(super) struct SharedTail {
    tail: Arc<Mutex<Tail>>,
    most: usize,
}

impl SharedTail {
    /// Standard output may have a line for each request, and rarely says why a program ends.
    pub(super) fn of(stream: Stream) -> Self {
        Self {
            tail: Arc::default(),
            most: match stream {
                Stream::Stdout => 16,
                Stream::Stderr => Tail::LINES,
            },
        }
    }

    pub(super) fn push(&self, line: &[u8]) {
        self.lock().push(line, self.most);
    }

    pub(super) fn snapshot(&self) -> Tail {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_bounded_in_lines_and_in_bytes() {
        let shared = SharedTail::of(Stream::Stderr);
        assert!(shared.snapshot().is_empty());
        for number in 0..=Tail::LINES {
            shared.push(format!("line {number}").as_bytes());
            assert!(!shared.snapshot().is_empty());
        }
        let tail = shared.snapshot();
        assert_eq!(tail.lines().len(), Tail::LINES);
        assert_eq!(tail.lines().next(), Some(&b"line 1"[..]));
        assert!(tail.to_string().ends_with("line 255\nline 256\n"));
        for _ in 0..10 {
            shared.push(&vec![b'x'; 16 * 1024]);
        }
        let tail = shared.snapshot();
        assert_eq!(tail.lines().len(), 4);
        assert_eq!(tail.bytes, Tail::BYTES);
        let shared = SharedTail::of(Stream::Stdout);
        for number in 0..100 {
            shared.push(format!("line {number}").as_bytes());
        }
        assert_eq!(shared.snapshot().lines().next(), Some(&b"line 84"[..]));
    }

    #[test]
    fn a_stream_is_called_as_everybody_calls_it() {
        let names = [Stream::Stdout, Stream::Stderr].map(|stream| stream.to_string());
        assert_eq!(names, ["stdout", "stderr"]);
    }

    #[tokio::test]
    async fn a_full_queue_drops_the_newest_line_and_counts_it() {
        let (sink, mut lines) = queue(2);
        let source = Source {
            pid: 7,
            epoch: Some(1),
            label: "x".into(),
        };
        for text in ["a", "b", "c"] {
            sink.line(&Line {
                source: &source,
                stream: Stream::Stderr,
                bytes: text.as_bytes(),
                continues: false,
            });
        }
        drop(sink);
        assert_eq!(lines.dropped(), 1);
        assert_eq!(lines.recv().await.unwrap().bytes, b"a");
        assert_eq!(lines.recv().await.unwrap().bytes, b"b");
        assert_eq!(lines.recv().await, None);
    }
}
