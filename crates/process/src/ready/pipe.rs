//! Readiness by a line on a descriptor.

use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::net::unix::pipe;

use crate::read_burst::ReadBurst;

/// A pipe on which a program writes a line as soon as it serves.
///
/// The other end goes to the program with
/// [`Command::descriptor`](crate::Command::descriptor), under the number that the program
/// was told. This is the convention of s6 and others: any bytes, then a line feed.
#[derive(Debug)]
pub struct ReadyPipe {
    reader: pipe::Receiver,
    announced: bool,
    burst: ReadBurst,
}

/// Why a [`ReadyPipe`] will not tell readiness any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadyPipeError {
    /// The program ended, or closed the descriptor, and has written no line.
    #[error("the program closed its readiness descriptor without writing a line to it")]
    Closed,
    /// The pipe could not be read.
    #[error("could not read from the readiness descriptor")]
    Read(#[source] io::Error),
}

impl ReadyPipe {
    /// Makes the pipe; the second value is the end for the program.
    ///
    /// # Errors
    ///
    /// If the limit of open files is reached.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with its I/O driver enabled.
    pub fn new() -> io::Result<(Self, OwnedFd)> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        let pipe = Self {
            reader: pipe::Receiver::from_owned_fd(reader)?,
            announced: false,
            burst: ReadBurst::of_messages(),
        };
        Ok((pipe, writer))
    }

    /// Returns once the program has written a line. What is in the line does not matter.
    ///
    /// # Errors
    ///
    /// [`ReadyPipeError::Closed`] if no line can come any more.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a line that has been read is remembered.
    pub async fn wait(&mut self) -> Result<(), ReadyPipeError> {
        while !self.announced {
            self.announced = self.read().await?;
        }
        Ok(())
    }

    /// Reads and drops what the program goes on to write, until it closes the descriptor. Without
    /// that, a program that writes there once more would be ended by SIGPIPE, or wait for ever.
    ///
    /// # Errors
    ///
    /// [`ReadyPipeError::Closed`] at the usual end.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn drain(&mut self) -> Result<Infallible, ReadyPipeError> {
        loop {
            self.read().await?;
        }
    }

    /// Reads some bytes; returns whether a line feed is among them.
    async fn read(&mut self) -> Result<bool, ReadyPipeError> {
        let mut buffer = [0; 4096];
        loop {
            self.burst.pause_if_long().await;
            self.reader.readable().await.map_err(ReadyPipeError::Read)?;
            let read = self.reader.try_read(&mut buffer);
            self.burst.note(read.is_ok());
            match read {
                Ok(0) => return Err(ReadyPipeError::Closed),
                Ok(count) => {
                    let bytes = buffer.get(..count).unwrap_or_default();
                    return Ok(bytes.contains(&b'\n'));
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(ReadyPipeError::Read(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_line_in_pieces_is_readiness_and_stays_so() {
        let (mut pipe, writer) = ReadyPipe::new().unwrap();
        rustix::io::write(&writer, b"almost").unwrap();
        let early = timeout(Duration::from_millis(20), pipe.wait()).await;
        assert!(early.is_err(), "ready without a line feed");
        rustix::io::write(&writer, b" there\n").unwrap();
        pipe.wait().await.unwrap();
        drop(writer);
        pipe.wait().await.unwrap();
    }

    #[tokio::test]
    async fn what_follows_the_line_is_read_until_the_end() {
        let (mut pipe, writer) = ReadyPipe::new().unwrap();
        let chatter = std::thread::spawn(move || {
            // More than fits into a pipe.
            for _ in 0..100 {
                rustix::io::write(&writer, &[b'\n'; 4096]).unwrap();
            }
        });
        pipe.wait().await.unwrap();
        let end = timeout(Duration::from_secs(20), pipe.drain())
            .await
            .unwrap();
        assert!(matches!(end, Err(ReadyPipeError::Closed)), "{end:?}");
        chatter.join().unwrap();
    }

    #[tokio::test]
    async fn a_program_that_ends_without_a_line_is_not_waited_for() {
        let (mut pipe, writer) = ReadyPipe::new().unwrap();
        rustix::io::write(&writer, b"no line").unwrap();
        drop(writer);
        assert!(matches!(pipe.wait().await, Err(ReadyPipeError::Closed)));
    }
}
