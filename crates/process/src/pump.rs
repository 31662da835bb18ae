//! Reading a child's output for as long as anybody writes to it.

use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rustix::pipe::{PipeFlags, fcntl_getpipe_size, pipe_with};
use tokio::net::unix::pipe;
use tokio::sync::watch;

use super::lines::Lines;
use super::output::{Line, OutputSink, SharedTail, Source, Stream, Tail};
use super::read_burst::ReadBurst;

/// The two ends of a pipe.
#[derive(Debug)]
pub(super) struct Pipe {
    /// Does not block.
    pub(super) reader: OwnedFd,
    /// Blocks, as programs expect of their output.
    pub(super) writer: OwnedFd,
}

impl Pipe {
    pub(super) fn new() -> rustix::io::Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&reader, true)?;
        Ok(Self { reader, writer })
    }
}

/// The output of one child: two tasks, one per stream.
pub(super) struct Output {
    exited: watch::Sender<bool>,
    pumps: [watch::Receiver<bool>; 2],
    /// Of standard output and of standard error.
    tails: [SharedTail; 2],
}

impl Output {
    pub(super) fn start(
        stdout: OwnedFd,
        stderr: OwnedFd,
        source: Source,
        sink: &Arc<dyn OutputSink>,
    ) -> io::Result<Self> {
        let (exited, _) = watch::channel(false);
        let source = Arc::new(source);
        let tails = [Stream::Stdout, Stream::Stderr].map(SharedTail::of);
        let start = |fd, stream, tail: &SharedTail| -> io::Result<_> {
            let (drained, is_drained) = watch::channel(false);
            let pump = Pump {
                pipe: pipe::Receiver::from_owned_fd(fd)?,
                buffer: vec![0; READ_SIZE],
                lines: Lines::default(),
                to: Destination {
                    source: Arc::clone(&source),
                    stream,
                    sink: Arc::clone(sink),
                    tail: tail.clone(),
                },
            };
            tokio::spawn(pump.run(exited.subscribe(), drained));
            Ok(is_drained)
        };
        let [of_stdout, of_stderr] = &tails;
        let pumps = [
            start(stdout, Stream::Stdout, of_stdout)?,
            start(stderr, Stream::Stderr, of_stderr)?,
        ];
        Ok(Self {
            exited,
            pumps,
            tails,
        })
    }

    /// Returns once everything that the child had written when it ended has reached the sink.
    ///
    /// The caller has seen the child's end. A grandchild that still holds the pipe is not waited
    /// for.
    pub(super) async fn finish(&self) {
        self.exited.send_replace(true);
        for pump in &self.pumps {
            // An error means that the task is gone, with its runtime for instance.
            drop(became_true(&mut pump.clone()).await);
        }
    }

    pub(super) fn tail(&self, stream: Stream) -> Tail {
        let [stdout, stderr] = &self.tails;
        match stream {
            Stream::Stdout => stdout.snapshot(),
            Stream::Stderr => stderr.snapshot(),
        }
    }
}

/// How much is read at once, in bytes.
const READ_SIZE: usize = 8 * 1024;
/// Read after the child's end at most, if the size of the pipe cannot be told: its default size.
const DEFAULT_PIPE_SIZE: usize = 64 * 1024;

struct Pump {
    pipe: pipe::Receiver,
    buffer: Vec<u8>,
    lines: Lines,
    to: Destination,
}

impl Pump {
    /// Reads until nobody can write any more, and tells when the child's own output is complete.
    async fn run(mut self, mut exited: watch::Receiver<bool>, drained: watch::Sender<bool>) {
        let burst = ReadBurst::of_output();
        loop {
            // A child that writes without pause must not keep the thread from everything else.
            burst.pause_if_long().await;
            let is_drained = *drained.borrow();
            tokio::select! {
                biased;
                // The sender is dropped with the `Child`; whatever is still written is read on.
                Ok(()) = became_true(&mut exited), if !is_drained => {
                    let taken = self.drain();
                    drained.send_replace(true);
                    if taken == Taken::Closed {
                        return;
                    }
                }
                ready = self.pipe.readable() => {
                    let result = ready.and_then(|()| self.pipe.try_read(&mut self.buffer));
                    let taken = self.take(result);
                    burst.note(taken != Taken::Nothing);
                    if taken == Taken::Closed {
                        drained.send_replace(true);
                        return;
                    }
                }
            }
        }
    }

    /// Reads what the ended child left in the pipe.
    ///
    /// What it wrote is all there, and it is at most what the pipe holds. So a grandchild that
    /// goes on writing cannot keep this from returning. The kernel is asked directly, because the
    /// runtime's notion of readiness may lag behind.
    fn drain(&mut self) -> Taken {
        let mut left = fcntl_getpipe_size(&self.pipe).unwrap_or(DEFAULT_PIPE_SIZE);
        loop {
            let result = rustix::io::read(&self.pipe, self.buffer.as_mut_slice());
            match self.take(result.map_err(io::Error::from)) {
                Taken::Bytes(count) if count < left => left -= count,
                Taken::Closed => return Taken::Closed,
                taken @ (Taken::Bytes(_) | Taken::Nothing) => {
                    self.flush();
                    return taken;
                }
            }
        }
    }

    /// Hands on what a read brought into the buffer.
    fn take(&mut self, result: io::Result<usize>) -> Taken {
        match result {
            Ok(count) if count > 0 => {
                let bytes = self.buffer.get(..count).unwrap_or_default();
                self.lines.feed(bytes, &mut |piece, continues| {
                    self.to.take(piece, continues);
                });
                Taken::Bytes(count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Taken::Nothing,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Taken::Bytes(0),
            // End of file; a pipe has no other errors, but a runtime that shuts down has.
            Ok(_) | Err(_) => {
                self.flush();
                Taken::Closed
            }
        }
    }

    fn flush(&mut self) {
        self.lines.flush(&mut |piece, continues| {
            self.to.take(piece, continues);
        });
    }
}

/// What one read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    Bytes(usize),
    /// The pipe is empty.
    Nothing,
    /// Nobody can write any more.
    Closed,
}

/// Gives the lock on the value back at once.
async fn became_true(value: &mut watch::Receiver<bool>) -> Result<(), watch::error::RecvError> {
    value.wait_for(|value| *value).await.map(drop)
}

struct Destination {
    source: Arc<Source>,
    stream: Stream,
    sink: Arc<dyn OutputSink>,
    tail: SharedTail,
}

impl Destination {
    fn take(&self, bytes: &[u8], continues: bool) {
        self.tail.push(bytes);
        let line = Line {
            source: &self.source,
            stream: self.stream,
            bytes,
            continues,
        };
        // A sink's bug must not close the pipe under the child, which would kill most programs.
        if catch_unwind(AssertUnwindSafe(|| self.sink.line(&line))).is_err() {
            tracing::error!(
                pid = self.source.pid,
                "the output sink panicked; a line is lost"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::Mutex;

    use super::*;

    fn pump(pipe: OwnedFd, buffer: usize, sink: Arc<dyn OutputSink>) -> Pump {
        let source = Source {
            pid: 7,
            epoch: None,
            label: "x".into(),
        };
        Pump {
            pipe: pipe::Receiver::from_owned_fd(pipe).unwrap(),
            buffer: vec![0; buffer],
            lines: Lines::default(),
            to: Destination {
                source: Arc::new(source),
                stream: Stream::Stdout,
                sink,
                tail: SharedTail::of(Stream::Stdout),
            },
        }
    }

    fn ignore() -> Arc<dyn OutputSink> {
        Arc::new(|_: &Line<'_>| ())
    }

    #[tokio::test]
    async fn what_an_ended_child_left_is_read_in_one_piece() {
        let lengths = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&lengths);
        let sink = move |line: &Line<'_>| seen.lock().unwrap().push(line.bytes.len());
        let pipe = Pipe::new().unwrap();
        let mut writer = std::fs::File::from(pipe.writer);
        writer.write_all(&[b'x'; 100]).unwrap();
        let mut pump = pump(pipe.reader, 8, Arc::new(sink));
        assert_eq!(pump.drain(), Taken::Nothing);
        assert_eq!(*lengths.lock().unwrap(), [100]);
        drop(writer);
        assert_eq!(pump.drain(), Taken::Closed);
    }

    /// The sink writes as much as it takes, as a grandchild may that never ends.
    #[tokio::test]
    async fn no_more_is_read_of_an_ended_child_than_its_pipe_holds() {
        const LINE: &[u8; 8] = b"1234567\n";
        let pipe = Pipe::new().unwrap();
        let size = fcntl_getpipe_size(&pipe.reader).unwrap();
        let writer = Mutex::new(std::fs::File::from(pipe.writer));
        writer.lock().unwrap().write_all(LINE).unwrap();
        let lines = Arc::new(Mutex::new(0));
        let taken = Arc::clone(&lines);
        let sink = move |_: &Line<'_>| {
            let mut taken = taken.lock().unwrap();
            *taken += 1;
            // Otherwise a fault would last for ever.
            if *taken < 2 * size / LINE.len() {
                writer.lock().unwrap().write_all(LINE).unwrap();
            }
        };
        let mut pump = pump(pipe.reader, LINE.len(), Arc::new(sink));
        assert_eq!(pump.drain(), Taken::Bytes(LINE.len()));
        assert_eq!(*lines.lock().unwrap(), size / LINE.len());
    }

    #[tokio::test]
    async fn only_an_error_that_lasts_closes_the_pipe() {
        let pipe = Pipe::new().unwrap();
        let mut pump = pump(pipe.reader, 8, ignore());
        let mut took = |kind: io::ErrorKind| pump.take(Err(kind.into()));
        assert_eq!(took(io::ErrorKind::WouldBlock), Taken::Nothing);
        assert_eq!(took(io::ErrorKind::Interrupted), Taken::Bytes(0));
        assert_eq!(took(io::ErrorKind::Other), Taken::Closed);
    }
}
