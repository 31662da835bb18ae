//! The file of a Unix socket that was bound here, for as long as the socket is there.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, RenameFlags, Stat};
use rustix::io::Errno;

/// The file of a Unix socket. It is removed when this is dropped, unless another one has its place.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    file: FileId,
    /// Where a second link of it is, from which it can be put back.
    spare: Option<PathBuf>,
}

/// What tells a file from every other one, as long as it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

/// What has become of the file of a Unix socket, through which its clients connect.
#[derive(Debug)]
#[non_exhaustive]
pub enum FileLook {
    /// It is in its place.
    InPlace,
    /// It was gone, and is back. What waited in the socket still waits there.
    PutBack,
    /// It is gone, and no client can connect.
    Gone,
    /// Another file is in its place, so clients do not reach the socket.
    Replaced,
    /// It cannot be looked at.
    Unknown(io::Error),
}

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// The file of the socket.
    Ours,
    Other,
    Nothing,
}

/// What must be done for the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    /// Make the second link again.
    MakeSpare,
    PutBack,
    GiveUp,
    /// Leave the other file alone. Its owner wants it there.
    Leave,
}

/// What must be done, by what is at the path and what is at that of the second link, if one is kept.
fn step(at_path: Found, at_spare: Option<Found>) -> Step {
    match (at_path, at_spare) {
        (Found::Ours, Some(Found::Nothing)) => Step::MakeSpare,
        (Found::Ours, None | Some(Found::Ours | Found::Other)) => Step::Nothing,
        (Found::Other, _) => Step::Leave,
        (Found::Nothing, Some(Found::Ours)) => Step::PutBack,
        (Found::Nothing, None | Some(Found::Other | Found::Nothing)) => Step::GiveUp,
    }
}

impl FileId {
    pub(crate) fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
        }
    }
}

impl SocketFile {
    /// The file at this path, which is removed with the value.
    pub(crate) fn new(path: &Path, file: FileId) -> Self {
        Self {
            path: path.to_owned(),
            file,
            spare: None,
        }
    }

    /// Makes a second link, beside the file and hidden. The file system may refuse it; then the file cannot be
    /// put back.
    pub(crate) fn keep_spare(&mut self) {
        let mut name = std::ffi::OsString::from(".");
        name.push(self.path.file_name().unwrap_or_default());
        name.push(".handover");
        let spare = self.path.with_file_name(name);
        // One that a killed instance has left. Nobody else uses the name.
        let is_left = rustix::fs::lstat(&spare)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Socket);
        if is_left {
            drop(std::fs::remove_file(&spare));
        }
        self.make_spare(&spare);
        self.spare = Some(spare);
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Looks after the file, and puts it back if it is gone.
    pub(crate) fn look(&self) -> FileLook {
        let looked = self.found(&self.path).and_then(|at_path| {
            let at_spare = self.spare.as_deref().map(|spare| self.found(spare));
            Ok((at_path, at_spare.transpose()?))
        });
        let (at_path, at_spare) = match looked {
            Ok(found) => found,
            Err(error) => return FileLook::Unknown(error.into()),
        };
        match (step(at_path, at_spare), &self.spare) {
            (Step::Nothing, _) | (Step::MakeSpare, None) => FileLook::InPlace,
            (Step::MakeSpare, Some(spare)) => {
                self.make_spare(spare);
                FileLook::InPlace
            }
            (Step::PutBack, Some(spare)) => self.put_back(spare),
            (Step::PutBack, None) | (Step::GiveUp, _) => FileLook::Gone,
            (Step::Leave, _) => FileLook::Replaced,
        }
    }

    /// Removes the file and its second link, unless another one has its place. What stays is found unused and replaced
    /// by whoever binds it next.
    pub(crate) fn remove(&self) {
        for path in self.spare.iter().chain([&self.path]) {
            if self.found(path) == Ok(Found::Ours) {
                drop(std::fs::remove_file(path));
            }
        }
    }

    fn found(&self, path: &Path) -> Result<Found, Errno> {
        match rustix::fs::lstat(path) {
            Ok(stat) if FileId::of(&stat) == self.file => Ok(Found::Ours),
            Ok(_) => Ok(Found::Other),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(Found::Nothing),
            Err(error) => Err(error),
        }
    }

    fn make_spare(&self, spare: &Path) {
        let made = rustix::fs::linkat(CWD, &self.path, CWD, spare, AtFlags::empty());
        // The file was replaced in that moment.
        if made.is_ok() && self.found(spare) == Ok(Found::Other) {
            drop(std::fs::remove_file(spare));
        }
    }

    fn put_back(&self, spare: &Path) -> FileLook {
        let linked = rustix::fs::linkat(CWD, spare, CWD, &self.path, AtFlags::empty());
        let back = match linked {
            // The system may let only its owner link a file, and it may have been given away. Its name can be
            // changed all the same, but then it is the only one.
            Err(Errno::PERM | Errno::ACCESS) => {
                rustix::fs::renameat_with(CWD, spare, CWD, &self.path, RenameFlags::NOREPLACE)
            }
            linked => linked,
        };
        match back {
            Ok(()) => FileLook::PutBack,
            // Another look was quicker, or another server.
            Err(Errno::EXIST | Errno::NOENT) if self.found(&self.path) == Ok(Found::Ours) => {
                FileLook::InPlace
            }
            Err(Errno::EXIST) => FileLook::Replaced,
            Err(Errno::NOENT | Errno::NOTDIR) => FileLook::Gone,
            Err(error) => FileLook::Unknown(error.into()),
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        self.remove();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;
    use crate::{ListenUnix, ServerSocket};

    #[test]
    fn a_file_is_put_back_only_where_nothing_is() {
        use Found::{Nothing, Other, Ours};

        let found = [Ours, Other, Nothing];
        let spares = [None, Some(Ours), Some(Other), Some(Nothing)];
        let lines = found.into_iter().flat_map(|path| {
            spares.map(|spare| format!("{path:?}, spare {spare:?}: {:?}", step(path, spare)))
        });
        insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @r"
        Ours, spare None: Nothing
        Ours, spare Some(Ours): Nothing
        Ours, spare Some(Other): Nothing
        Ours, spare Some(Nothing): MakeSpare
        Other, spare None: Leave
        Other, spare Some(Ours): Leave
        Other, spare Some(Other): Leave
        Other, spare Some(Nothing): Leave
        Nothing, spare None: GiveUp
        Nothing, spare Some(Ours): PutBack
        Nothing, spare Some(Other): GiveUp
        Nothing, spare Some(Nothing): GiveUp
        ");
    }

    #[test]
    fn a_file_that_is_removed_with_its_second_link_is_not_put_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.sock");
        let socket = kept(&path);
        socket.remove_file();
        assert_eq!(looked(&socket), "Gone");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        // What another server has put there is its own.
        let _other = UnixListener::bind(&path).unwrap();
        socket.remove_file();
        drop(socket);
        assert!(path.exists());
    }

    fn kept(path: &Path) -> ServerSocket {
        ListenUnix::new(path).keep_file(true).bind().unwrap()
    }

    fn looked(socket: &ServerSocket) -> String {
        format!("{:?}", socket.look_at_file().unwrap())
    }

    /// A program removed the file of the passed socket at its end, as gunicorn does. The next one had the socket,
    /// and no client found it.
    #[test]
    fn the_file_that_a_program_has_removed_is_put_back_and_its_queue_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.sock");
        let socket = kept(&path);
        assert_eq!(socket.file(), Some(&*path));
        assert_eq!(looked(&socket), "InPlace");
        let _waits = UnixStream::connect(&path).unwrap();
        for _ in 0..2 {
            std::fs::remove_file(&path).unwrap();
            assert_eq!(looked(&socket), "PutBack");
            assert_eq!(looked(&socket), "InPlace");
        }
        let _also_waits = UnixStream::connect(&path).unwrap();
        let listener = UnixListener::from(socket.try_clone().unwrap());
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_ok() && listener.accept().is_ok());

        // Without its second link it is put back no more, but the link is made again in time.
        let spare = dir.path().join(".web.sock.handover");
        std::fs::remove_file(&spare).unwrap();
        assert_eq!(looked(&socket), "InPlace");
        assert!(spare.exists());
        std::fs::remove_file(&spare).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(looked(&socket), "Gone");
        drop(socket);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_another_server_has_bound_in_its_place_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.sock");
        let socket = kept(&path);
        std::fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        assert_eq!(looked(&socket), "Replaced");
        drop(socket);
        let left = std::fs::read_dir(dir.path()).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().path()).collect();
        assert_eq!(left, [path]);
    }

    #[test]
    fn a_second_link_that_a_killed_instance_has_left_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.sock");
        let spare = dir.path().join(".web.sock.handover");
        drop(UnixListener::bind(&path).unwrap());
        std::fs::hard_link(&path, &spare).unwrap();
        let socket = kept(&path);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(looked(&socket), "PutBack");
        UnixStream::connect(&path).unwrap();
        drop(socket);

        // What is no socket is no link of ours.
        std::fs::write(&spare, "precious").unwrap();
        let socket = kept(&path);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(looked(&socket), "Gone");
        drop(socket);
        assert_eq!(std::fs::read(&spare).unwrap(), b"precious");
    }

    #[test]
    fn without_being_asked_for_there_is_no_second_link() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.sock");
        let socket = ListenUnix::new(&path).bind().unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(looked(&socket), "Gone");
        let unnamed = ListenUnix::new("@handover-netutil-no-file").keep_file(true);
        assert!(unnamed.bind().unwrap().look_at_file().is_none());
    }
}
