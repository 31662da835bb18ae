//! What lies below a watched directory.

use std::collections::{HashSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::filesystem::{FileSystem, FileSystems};
use super::gap::{GapCause, Gaps};
use super::snapshot::is_left_out;

/// How much of the watched directories is taken in. The numbers are for all of them together.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    /// How many directories lie between a watched one and a file at most.
    pub(super) depth: usize,
    /// How many directories are listened to.
    pub(super) directories: usize,
    /// How many files are compared.
    pub(super) files: usize,
    /// How many bytes are read.
    pub(super) bytes: u64,
}

/// Far above a directory of certificates, far below what makes a look slow.
impl Default for Limits {
    fn default() -> Self {
        Self {
            depth: 8,
            directories: 1024,
            files: 16 * 1024,
            bytes: 512 * 1024 * 1024,
        }
    }
}

/// How many names of one directory are listed: they are sorted before the limits count, so that
/// the same ones are left out each time.
const MOST_NAMES: usize = 128 * 1024;

/// A watched directory and what it leads to. Hidden names and backup copies are left out, each
/// directory is met once, and what is neither file, directory nor symlink is no part of it.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// The directory itself first.
    pub(super) directories: Vec<PathBuf>,
    /// Symlinks, wherever they lead.
    pub(super) links: Vec<PathBuf>,
    /// What is read: files, and symlinks that lead to no directory.
    pub(super) files: Vec<PathBuf>,
    /// Directories below it that cannot be listed.
    pub(super) failed: Vec<(PathBuf, io::Error)>,
}

impl Tree {
    /// Lists a directory and those below it, nearest first.
    ///
    /// # Errors
    ///
    /// If the directory itself cannot be listed.
    pub(super) fn walk(
        root: &Path,
        left: &mut Limits,
        systems: &mut FileSystems,
        gaps: &mut Gaps,
    ) -> io::Result<Self> {
        let mut walk = Walk {
            tree: Self::default(),
            met: HashSet::new(),
            ahead: VecDeque::new(),
            left,
            systems,
            gaps,
        };
        let meta = fs::metadata(root)?;
        walk.met.insert((meta.dev(), meta.ino()));
        walk.list(root, 0)?;
        while let Some((directory, depth)) = walk.ahead.pop_front() {
            if let Err(error) = walk.list(&directory, depth) {
                walk.tree.failed.push((directory, error));
            }
        }
        Ok(walk.tree)
    }
}

struct Walk<'a> {
    tree: Tree,
    /// By device and inode: a symlink can lead back to a directory above.
    met: HashSet<(u64, u64)>,
    ahead: VecDeque<(PathBuf, usize)>,
    left: &'a mut Limits,
    systems: &'a mut FileSystems,
    gaps: &'a mut Gaps,
}

impl Walk<'_> {
    fn list(&mut self, directory: &Path, depth: usize) -> io::Result<()> {
        // It is listened to even if it cannot be listed, because that may change.
        self.tree.directories.push(directory.into());
        let mut entries = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if is_left_out(&entry.file_name()) {
                continue;
            }
            if entries.len() == MOST_NAMES {
                self.gaps.add(Some(directory), GapCause::TooManyFiles);
                break;
            }
            if let Ok(kind) = entry.file_type() {
                entries.push((entry.file_name(), kind));
            }
        }
        entries.sort_unstable_by(|(a, _), (b, _): &(OsString, _)| a.cmp(b));
        for (name, kind) in entries {
            let path = directory.join(name);
            if kind.is_dir() {
                self.directory(path, depth);
            } else if kind.is_symlink() {
                self.tree.links.push(path.clone());
                match fs::metadata(&path) {
                    Ok(meta) if meta.is_dir() => self.directory(path, depth),
                    // What leads nowhere is worth telling.
                    Ok(_) | Err(_) => self.file(path),
                }
            } else if kind.is_file() {
                self.file(path);
            }
        }
        Ok(())
    }

    fn file(&mut self, path: PathBuf) {
        if self.left.files == 0 {
            return self.gaps.add(Some(&path), GapCause::TooManyFiles);
        }
        self.left.files -= 1;
        self.tree.files.push(path);
    }

    fn directory(&mut self, path: PathBuf, depth: usize) {
        // What has just gone is no part of the directory.
        let Ok(meta) = fs::metadata(&path) else {
            return;
        };
        if !self.met.insert((meta.dev(), meta.ino())) {
            return;
        }
        if let FileSystem::Kernel(file_system) = self.systems.of(meta.dev(), &path) {
            let why = GapCause::NotFollowed { file_system };
            return self.gaps.add(Some(&path), why);
        }
        if depth == self.left.depth {
            return self.gaps.add(Some(&path), GapCause::TooDeep);
        }
        if self.left.directories == 0 {
            return self.gaps.add(Some(&path), GapCause::TooManyDirectories);
        }
        self.left.directories -= 1;
        self.ahead.push_back((path, depth + 1));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn walk(root: &Path, mut left: Limits) -> (Vec<PathBuf>, Vec<String>) {
        let mut gaps = Gaps::default();
        let tree = Tree::walk(root, &mut left, &mut FileSystems::default(), &mut gaps).unwrap();
        let relative = |path: &PathBuf| path.strip_prefix(root).unwrap().to_path_buf();
        let files = tree.files.iter().map(relative).collect();
        let gaps = gaps.into_vec();
        (files, gaps.iter().map(ToString::to_string).collect())
    }

    fn files(names: &[&str]) -> Vec<PathBuf> {
        names.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn directories_below_are_followed_and_a_loop_ends() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("b/c")).unwrap();
        fs::create_dir(at(".hidden")).unwrap();
        for name in ["a", "b/c/d", "b/old~", ".hidden/e"] {
            fs::write(at(name), "").unwrap();
        }
        symlink("..", at("b/up")).unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        symlink("b/c", at("to-c")).unwrap();
        let (found, gaps) = walk(dir.path(), Limits::default());
        // The directory that two paths lead to is met once, by the shorter one.
        assert_eq!(found, files(&["a", "dangling", "to-c/d"]));
        assert_eq!(gaps, [] as [&str; 0]);
    }

    #[test]
    fn what_is_beyond_a_limit_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("a/b/c")).unwrap();
        fs::create_dir(at("z")).unwrap();
        for name in ["a/1", "a/b/2", "a/b/c/3", "z/4"] {
            fs::write(at(name), "").unwrap();
        }
        let deep = Limits {
            depth: 2,
            ..Limits::default()
        };
        let (found, gaps) = walk(dir.path(), deep);
        assert_eq!(found, files(&["a/1", "z/4", "a/b/2"]));
        assert!(
            gaps[0].contains("a/b/c`, more than 8 directories"),
            "{gaps:?}"
        );

        let narrow = Limits {
            directories: 1,
            files: 1,
            ..Limits::default()
        };
        let (found, gaps) = walk(dir.path(), narrow);
        assert_eq!(found, files(&["a/1"]));
        assert!(
            gaps[0].contains("z` and 1 more, beyond 1024 dir"),
            "{gaps:?}"
        );

        let few = Limits {
            files: 1,
            ..Limits::default()
        };
        let (found, gaps) = walk(dir.path(), few);
        assert_eq!(found, files(&["a/1"]));
        assert!(
            gaps[0].contains("z/4` and 2 more, beyond 16384 f"),
            "{gaps:?}"
        );
    }

    #[test]
    fn a_directory_of_more_than_a_thousand_names_is_taken_in_whole() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..1200 {
            fs::write(dir.path().join(number.to_string()), "").unwrap();
        }
        let (found, gaps) = walk(dir.path(), Limits::default());
        assert_eq!(found.len(), 1200);
        assert_eq!(gaps, [] as [&str; 0]);
    }

    #[test]
    fn the_kernels_own_directories_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/proc/self", dir.path().join("proc")).unwrap();
        let (found, gaps) = walk(dir.path(), Limits::default());
        assert_eq!(found, files(&[]));
        assert!(gaps[0].ends_with("which is on proc"), "{gaps:?}");
    }
}
