//! Reading a recording, whatever has become of it.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use handover_files::below;
use rustix::fs::OFlags;

use super::files::{NEW, OLD};
use super::format::{HEADER, LONGEST_LINE, MAGIC, Record};

/// The largest file that is read, in bytes: far more than is ever written.
const MAX_FILE: u64 = 16 << 20;

/// A recording as it was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recording {
    /// The files, oldest first.
    pub parts: Vec<Part>,
    /// What is wrong with them.
    pub problems: Vec<Problem>,
}

/// One file of a recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// The file.
    pub path: PathBuf,
    /// Its records in their order. `None` is a line that is no record.
    pub records: Vec<Option<Record>>,
}

/// Something that is wrong with a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// The number of the line, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, what } = self;
        write!(f, "{}, line {line}: {what}", path.display())
    }
}

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The operating system refuses it.
    #[error("cannot read the recording {}", path.display())]
    Os {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It is something else.
    #[error("{} is no recording: it does not begin with `{HEADER}`", path.display())]
    Other {
        /// The file.
        path: PathBuf,
    },
    /// Another version of the program has written it.
    #[error("{} has a format of another version, {found:?}: read it with that version", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its first line, cut if it is long.
        found: String,
    },
    /// There is none in the directory.
    #[error("there is no recording in {}", dir.display())]
    Nothing {
        /// The directory.
        dir: PathBuf,
    },
}

/// Returns whether a file that begins like this is a recording, of any version.
#[must_use]
pub fn is_recording(beginning: &[u8]) -> bool {
    beginning.starts_with(MAGIC.as_bytes())
}

impl Recording {
    /// Reads a file of a recording, or both from a state directory. It blocks.
    ///
    /// A half-written record at the end, and lines that are no records, are problems of the recording and
    /// no errors.
    ///
    /// # Errors
    ///
    /// If nothing can be read, or if it is no recording of this version.
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        let mut recording = Self::default();
        if !path.is_dir() {
            let bytes = bytes_of(path).map_err(|source| ReadError::Os {
                path: path.to_owned(),
                source,
            })?;
            recording.add(path, &bytes)?;
            return Ok(recording);
        }
        let mut refused = None;
        for path in Self::files_in(path) {
            let added = bytes_of(&path)
                .map_err(|source| {
                    let path = path.clone();
                    ReadError::Os { path, source }
                })
                .and_then(|bytes| recording.add(&path, &bytes));
            if let Err(error) = added {
                recording.problems.push(Problem {
                    path,
                    line: 1,
                    what: handover_tokio::error_chain(&error),
                });
                refused = Some(error);
            }
        }
        match refused {
            _ if !recording.parts.is_empty() => Ok(recording),
            Some(error) => Err(error),
            None => Err(ReadError::Nothing {
                dir: path.to_owned(),
            }),
        }
    }

    /// Returns the files of the recording in a state directory, oldest first. Where others can write to the
    /// directory, they are in one of our user below.
    #[must_use]
    pub fn files_in(dir: &Path) -> Vec<PathBuf> {
        let dirs = [dir.to_owned(), below(dir)];
        let files = dirs
            .iter()
            .flat_map(|dir| [OLD, NEW].map(|name| dir.join(name)));
        files.filter(|path| path.is_file()).collect()
    }

    /// Adds what one file holds.
    ///
    /// # Errors
    ///
    /// If it is no recording of this version.
    pub fn add(&mut self, path: &Path, bytes: &[u8]) -> Result<(), ReadError> {
        let first = bytes
            .split(|byte| *byte == b'\n')
            .next()
            .unwrap_or_default();
        if first != HEADER.as_bytes() {
            return Err(other(path, first));
        }
        let mut records = Vec::new();
        // After a line feed at the end comes nothing.
        let mut lines = bytes.split_inclusive(|byte| *byte == b'\n').enumerate();
        lines.next();
        for (index, line) in lines {
            let read = record(line);
            records.push(read.as_ref().ok().cloned());
            if let Err(what) = read {
                self.problems.push(Problem {
                    path: path.to_owned(),
                    line: index.saturating_add(1),
                    what,
                });
            }
        }
        self.parts.push(Part {
            path: path.to_owned(),
            records,
        });
        Ok(())
    }
}

fn record(line: &[u8]) -> Result<Record, String> {
    let Some(line) = line.strip_suffix(b"\n") else {
        return Err("it was written in part only, and is left out".to_owned());
    };
    if line.len() > LONGEST_LINE {
        return Err(format!("it is longer than {LONGEST_LINE} bytes"));
    }
    let line = str::from_utf8(line).map_err(|error| format!("it is no text: {error}"))?;
    Record::parse(line).map_err(|error| error.to_string())
}

fn other(path: &Path, first: &[u8]) -> ReadError {
    let path = path.to_owned();
    if !is_recording(first) {
        return ReadError::Other { path };
    }
    let found = first.get(..64).unwrap_or(first);
    let found = String::from_utf8_lossy(found).into_owned();
    ReadError::Version { path, found }
}

/// Reads a file, which has an end. A pipe is not waited for.
pub(crate) fn bytes_of(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::options()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    let mut bytes = Vec::new();
    let limit = MAX_FILE.saturating_add(1);
    let read = file.take(limit).read_to_end(&mut bytes)?;
    if u64::try_from(read).is_ok_and(|read| read <= MAX_FILE) {
        return Ok(bytes);
    }
    let message = format!("it is larger than {MAX_FILE} bytes");
    Err(io::Error::new(io::ErrorKind::FileTooLarge, message))
}
