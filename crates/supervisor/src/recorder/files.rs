//! The two files of a recording: the one that is written, and the one before it.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use handover_files::PrivateDir;
use rustix::fs::OFlags;

use super::format::{Begin, HEADER, Note};
use super::lines::{LAST_LINES, OLD_LINES};
use super::room::Gauge;
use super::writer::Place;

/// The file that is written.
pub const NEW: &str = "recording";
/// The file before it.
pub const OLD: &str = "recording.old";

/// Which files these are.
#[derive(Debug)]
pub(crate) struct Kind {
    /// The file that is written.
    pub(crate) new: &'static str,
    /// The file before it.
    pub(crate) old: &'static str,
    /// Their first line.
    pub(crate) header: &'static str,
}

/// A recording.
pub(super) const RECORDING: Kind = Kind {
    new: NEW,
    old: OLD,
    header: HEADER,
};

/// How much one file holds. Two of them hold at least as many records, and at most twice as many.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The records after which a new file begins.
    pub(crate) records: u64,
    /// The bytes after which a new file begins.
    pub(crate) bytes: u64,
    /// The bytes that a file never exceeds.
    pub(crate) hard: u64,
}

/// The least that a file holds before the next one begins when room is short: what it begins with are the states of the
/// machines, and beside those it must have something to tell.
const SMALLEST: u64 = 16 << 10;

/// Ten thousand inputs and outputs, unless they are unusually long.
pub(super) const LIMITS: Limits = Limits {
    records: 10_000,
    bytes: 1 << 20,
    hard: (1 << 20) + (256 << 10),
};

/// The file that is written.
#[derive(Debug)]
pub(super) struct Files {
    dir: PrivateDir,
    kind: &'static Kind,
    begin: Begin,
    file: File,
    /// The bytes of whole records. What follows them is a record that was written in part.
    whole: u64,
    gauge: Gauge,
}

impl Files {
    /// Goes on with the file of an earlier run if it has room, and begins a new one otherwise. Returns the
    /// records that it has as well.
    pub(super) fn open(
        dir: PrivateDir,
        kind: &'static Kind,
        begin: Begin,
        limits: Limits,
        gauge: Gauge,
    ) -> io::Result<(Self, u64)> {
        let mut file = open(&dir.path().join(kind.new))?;
        let found = look(&mut file, kind, limits)?;
        let (whole, records) = match found {
            Found::Room { bytes, records } => (bytes, records),
            Found::Empty => (0, 0),
            Found::Other => {
                file = next_file(dir.path(), kind, &file)?;
                (0, 0)
            }
        };
        let mut files = Self {
            dir,
            kind,
            begin,
            file,
            whole,
            gauge,
        };
        let mut records = records;
        if files.would_free_enough(0) {
            files.file = next_file(files.dir.path(), kind, &files.file)?;
            (files.whole, records) = (0, 0);
        }
        // The beginning is written however little room there is: then the rest follows once there is more.
        if files.whole == 0 {
            files.append(header(kind).as_bytes())?;
        }
        let note = Note::Begin(Box::new(files.begin.clone()));
        files.append(note.line().as_bytes())?;
        Ok((files, records))
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.file.write_all(lines)?;
        let written = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        self.whole = self.whole.saturating_add(written);
        Ok(())
    }

    /// How many bytes must be freed before so many may be written, and how many are left free for others.
    fn lacking(&self, bytes: usize) -> Option<(u64, u64)> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let room = self.gauge.measure(&self.file)?;
        let lacking = room.lacking(bytes);
        (lacking > 0).then(|| (lacking, room.reserve()))
    }

    /// Gives the file before back if others need its room, and refuses if that is not enough. Then it
    /// would be lost for nothing.
    fn make_room(&self, bytes: usize) -> io::Result<()> {
        let Some((lacking, reserve)) = self.lacking(bytes) else {
            return Ok(());
        };
        if self.old_bytes() < lacking {
            let why = format!(
                "the last {reserve} bytes of its file system are kept for configurations: free {lacking} bytes there, \
                 or choose another state directory"
            );
            return Err(io::Error::new(io::ErrorKind::StorageFull, why));
        }
        fs::remove_file(self.dir.path().join(self.kind.old))
    }

    /// The bytes of the file before.
    fn old_bytes(&self) -> u64 {
        let old = fs::symlink_metadata(self.dir.path().join(self.kind.old));
        old.map_or(0, |old| if old.is_file() { old.len() } else { 0 })
    }

    /// The bytes of whole records.
    pub(super) fn whole(&self) -> u64 {
        self.whole
    }
}

impl Place for Files {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        self.make_room(lines.len())?;
        self.append(lines)
    }

    fn repair(&mut self) -> io::Result<()> {
        self.file.set_len(self.whole)
    }

    fn would_free_enough(&self, bytes: usize) -> bool {
        let lacking = self.lacking(bytes);
        lacking.is_some_and(|(lacking, _)| self.whole.saturating_add(self.old_bytes()) >= lacking)
    }

    /// The file that was written becomes the one before, and is on the disk then.
    fn rotate(&mut self, at: String) -> io::Result<()> {
        self.file.sync_all()?;
        self.file = next_file(self.dir.path(), self.kind, &self.file)?;
        self.whole = 0;
        let begin = Begin {
            at,
            continues: true,
            ..self.begin.clone()
        };
        let note = Note::Begin(Box::new(begin)).line();
        self.write(format!("{}{note}", header(self.kind)).as_bytes())?;
        // The names are on the disk once the directory is.
        File::open(self.dir.path())?.sync_all()
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Three eighths of what both files may take. So the older one stays while the newer one grows to that size, and
    /// the last quarter is for what others write meanwhile.
    fn file_limit(&self) -> u64 {
        let Some(room) = self.gauge.measure(&self.file) else {
            return u64::MAX;
        };
        let both = room
            .spare()
            .saturating_add(self.whole)
            .saturating_add(self.old_bytes());
        let limit = both / 8 * 3;
        if limit < SMALLEST { u64::MAX } else { limit }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join(self.kind.new)
    }

    fn write_last_lines(&mut self, text: &str) -> io::Result<()> {
        self.make_room(text.len())?;
        let written = self.dir.write(LAST_LINES, text.as_bytes());
        written.map(drop).map_err(io::Error::other)
    }
}

/// Lets the last lines of the run before stay beside those of this run.
pub(super) fn keep_old_lines(dir: &PrivateDir) {
    let [lines, old] = [LAST_LINES, OLD_LINES].map(|name| dir.path().join(name));
    // There may be none.
    fs::rename(lines, old).ok();
}

fn header(kind: &Kind) -> String {
    format!("{}\n", kind.header)
}

/// What an earlier run has left.
enum Found {
    Empty,
    /// A recording of this version with room for more.
    Room {
        bytes: u64,
        records: u64,
    },
    /// A full one, or something else.
    Other,
}

fn look(file: &mut File, kind: &Kind, limits: Limits) -> io::Result<Found> {
    let length = file.metadata()?.len();
    if length == 0 {
        return Ok(Found::Empty);
    }
    if length >= limits.bytes {
        return Ok(Found::Other);
    }
    let mut text = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(limits.bytes).read_to_end(&mut text)?;
    let records = text.iter().filter(|byte| **byte == b'\n').count();
    let records = u64::try_from(records).unwrap_or(u64::MAX);
    if !text.starts_with(header(kind).as_bytes()) || records >= limits.records {
        return Ok(Found::Other);
    }
    let mut bytes = u64::try_from(text.len()).unwrap_or(u64::MAX);
    if text.last() != Some(&b'\n') {
        // The last record of a run that was killed; it ends here, so that the next one is whole.
        file.write_all(b"\n")?;
        bytes = bytes.saturating_add(1);
    }
    Ok(Found::Room { bytes, records })
}

/// Opens a file of mode 0600 for appending. Neither a link is followed nor a pipe waited for.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Makes the present file the one before, and opens a new one.
fn next_file(dir: &Path, kind: &Kind, present: &File) -> io::Result<File> {
    let path = dir.join(kind.new);
    // Somebody may have removed it, or put something else in its place.
    if handover_files::is_at(present, &path)? {
        fs::rename(&path, dir.join(kind.old))?;
    }
    open(&path)
}
