//! Where to listen so that no change of what a path leads to goes unheard.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, StatxAttributes, StatxFlags, accessat, statx};
use rustix::io::Errno;

use super::filesystem::FileSystems;
use super::gap::{GapCause, Gaps};
use super::snapshot::{Targets, is_left_out};
use super::tree::{Limits, Tree};

/// What is listened to, by paths without symlinks.
#[derive(Debug, Default)]
pub(super) struct WatchPoints {
    /// Directories, and what is of interest in each.
    pub(super) directories: BTreeMap<PathBuf, Interest>,
    /// Files that are listened to by themselves. True where changes of the file can pass by its
    /// directory.
    pub(super) files: BTreeMap<PathBuf, bool>,
}

/// What is of interest in a directory, besides its own disappearance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Interest {
    names: BTreeSet<OsString>,
    /// Every name that a watched directory is looked through for.
    files: bool,
}

impl Interest {
    pub(super) fn covers(&self, name: &OsStr) -> bool {
        self.names.contains(name) || (self.files && !is_left_out(name))
    }

    /// Whether any entry matters, or only the directory itself.
    pub(super) fn is_in_entries(&self) -> bool {
        self.files || !self.names.is_empty()
    }

    /// The entries that matter by name.
    pub(super) fn names(&self) -> impl Iterator<Item = &OsString> {
        self.names.iter()
    }

    /// Two paths can lead to the same directory.
    pub(super) fn merge(&mut self, other: &Self) {
        self.names.extend(other.names.iter().cloned());
        self.files |= other.files;
    }
}

/// The kernel's limit of symlinks on one path.
const MOST_SYMLINKS: usize = 40;

/// Where the watched paths lead at one moment.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) places: WatchPoints,
    /// What lies below each path that leads to a directory.
    pub(super) trees: BTreeMap<PathBuf, Tree>,
    /// What is left of the limits.
    pub(super) left: Limits,
}

impl Survey {
    /// Follows each path as the kernel would, and the directories below.
    pub(super) fn take(targets: &Targets, systems: &mut FileSystems, gaps: &mut Gaps) -> Self {
        let mut survey = Self::default();
        for path in targets.paths() {
            let places = &mut survey.places;
            match places.follow(path) {
                PathTarget::Directory(directory) => {
                    // A directory that cannot be listed may become one that can.
                    places.directory(directory).files = true;
                    let tree = Tree::walk(path, &mut survey.left, systems, gaps);
                    if let Ok(tree) = tree {
                        places.follow_tree(&tree, gaps);
                        survey.trees.insert(path.into(), tree);
                    }
                }
                PathTarget::File(file) => {
                    places.file(&file, gaps);
                    places.files.entry(file).or_insert(false);
                }
                PathTarget::Nowhere => {}
            }
        }
        survey
    }

    /// Finds the places on file systems that leave changes unreported.
    pub(super) fn find_silent_places(&self, systems: &mut FileSystems, gaps: &mut Gaps) {
        let directories = self.places.directories.iter();
        let directories = directories.filter(|(_, interest)| interest.is_in_entries());
        let files = self.places.files.keys();
        for path in directories.map(|(directory, _)| directory).chain(files) {
            let Ok(meta) = fs::symlink_metadata(path) else {
                continue;
            };
            if let Some(file_system) = systems.of(meta.dev(), path).silent() {
                gaps.add(Some(path), GapCause::NoEvents { file_system });
            }
        }
    }
}

/// What a path leads to, by its path without symlinks.
enum PathTarget {
    Directory(PathBuf),
    /// What is no directory.
    File(PathBuf),
    Nowhere,
}

impl WatchPoints {
    fn directory(&mut self, path: PathBuf) -> &mut Interest {
        self.directories.entry(path).or_default()
    }

    fn listen(&mut self, directory: &Path, name: OsString) {
        self.directory(directory.into()).names.insert(name);
    }

    fn follow_tree(&mut self, tree: &Tree, gaps: &mut Gaps) {
        for directory in &tree.directories {
            if let PathTarget::Directory(real) = self.follow(directory) {
                self.directory(real).files = true;
            }
        }
        for link in &tree.links {
            if let PathTarget::File(file) = self.follow(link) {
                self.file(&file, gaps);
            }
        }
        for file in &tree.files {
            self.file(file, gaps);
        }
    }

    /// Takes in a file, if its directory does not report every change.
    fn file(&mut self, file: &Path, gaps: &mut Gaps) {
        let reports = Reports::of(file);
        if reports != Reports::ByDirectory {
            self.files.insert(file.into(), true);
        }
        if reports == Reports::Never {
            gaps.add(Some(file), GapCause::OldFileMounted);
        }
    }

    /// Follows a path, and takes in each place at which another path could come of it.
    ///
    /// Each symlink can be replaced, so its directory is listened to for its name. The last component
    /// can be replaced, or appear; so can the first one that is missing. Each real directory on the
    /// way can be moved away or removed, and reports that itself, unless it may not be read.
    fn follow(&mut self, path: &Path) -> PathTarget {
        let mut here = PathBuf::from("/");
        let mut ahead: VecDeque<OsString> = names(path).collect();
        let mut symlinks = 0;
        while let Some(name) = ahead.pop_front() {
            if name == ".." {
                here.pop();
                continue;
            }
            let next = here.join(&name);
            let kind = fs::symlink_metadata(&next).map(|meta| meta.file_type());
            match kind {
                Ok(kind) if kind.is_dir() && !ahead.is_empty() => {
                    if !is_readable(&next) {
                        self.listen(&here, name);
                    }
                    self.directory(next.clone());
                    here = next;
                }
                Ok(kind) if kind.is_symlink() => {
                    self.listen(&here, name);
                    symlinks += 1;
                    let Ok(target) = fs::read_link(&next) else {
                        return PathTarget::Nowhere;
                    };
                    if symlinks > MOST_SYMLINKS {
                        return PathTarget::Nowhere;
                    }
                    if target.is_absolute() {
                        here = PathBuf::from("/");
                    }
                    for name in names(&target).rev() {
                        ahead.push_front(name);
                    }
                }
                other => {
                    self.listen(&here, name);
                    return match other {
                        Ok(kind) if kind.is_dir() => PathTarget::Directory(next),
                        Ok(_) => PathTarget::File(next),
                        Err(_) => PathTarget::Nowhere,
                    };
                }
            }
        }
        // The path ended in `/` or `..`, so it leads to the directory reached.
        PathTarget::Directory(here)
    }
}

/// The kernel reports the events of a directory only to those who may read it.
fn is_readable(directory: &Path) -> bool {
    accessat(CWD, directory, Access::READ_OK, AtFlags::EACCESS) != Err(Errno::ACCESS)
}

/// Whether a file is a mount by itself, or `None` where the kernel does not tell.
pub(super) fn is_mounted(file: &Path) -> Option<bool> {
    let flags = StatxFlags::BASIC_STATS;
    let stat = statx(CWD, file, AtFlags::SYMLINK_NOFOLLOW, flags).ok()?;
    // A kernel before 5.8 cannot tell.
    let tells = stat
        .stx_attributes_mask
        .contains(StatxAttributes::MOUNT_ROOT);
    let mounted = stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
    tells.then_some(mounted)
}

/// How the kernel reports changes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reports {
    /// By its directory.
    ByDirectory,
    /// By the file alone: it can be changed by another name, which also is what a bind mount of a
    /// single file makes.
    ByItself,
    /// Not at all: it is mounted, and has no name any more where it comes from.
    Never,
}

impl Reports {
    fn of(file: &Path) -> Self {
        let stat = statx(
            CWD,
            file,
            AtFlags::SYMLINK_NOFOLLOW,
            StatxFlags::BASIC_STATS,
        );
        match stat {
            Ok(stat) if stat.stx_mode & KIND == SYMLINK => Self::ByDirectory,
            Ok(stat) => {
                // A kernel before 5.8 cannot tell.
                let tells = stat
                    .stx_attributes_mask
                    .contains(StatxAttributes::MOUNT_ROOT);
                let mounted = stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
                match stat.stx_nlink {
                    0 if tells && mounted => Self::Never,
                    2.. => Self::ByItself,
                    _ if mounted || !tells => Self::ByItself,
                    _ => Self::ByDirectory,
                }
            }
            Err(Errno::NOENT | Errno::NOTDIR) => Self::ByDirectory,
            // A sandbox may refuse the call.
            Err(_) => Self::ByItself,
        }
    }
}

/// The bits of a mode that tell the kind of a file, and those of a symlink.
const KIND: u16 = 0o170_000;
const SYMLINK: u16 = 0o120_000;

fn names(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_os_string()),
        Component::ParentDir => Some("..".into()),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn real_temp_dir() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        (dir, path)
    }

    fn places(path: &Path) -> WatchPoints {
        let targets = Targets {
            contents: vec![path.into()],
            identities: Vec::new(),
        };
        let mut gaps = Gaps::default();
        Survey::take(&targets, &mut FileSystems::default(), &mut gaps).places
    }

    fn listened(places: &WatchPoints, directory: &Path) -> Vec<String> {
        let names = &places.directories[directory].names;
        names
            .iter()
            .map(|name| name.to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn every_symlink_on_the_way_of_a_config_map_is_listened_to() {
        let (_guard, dir) = real_temp_dir();
        fs::create_dir(dir.join("..2026_a")).unwrap();
        fs::write(dir.join("..2026_a/envoy.yaml"), "a").unwrap();
        symlink("..2026_a", dir.join("..data")).unwrap();
        symlink("..data/envoy.yaml", dir.join("envoy.yaml")).unwrap();

        for watched in [dir.join("envoy.yaml"), dir.clone()] {
            let places = places(&watched);
            assert_eq!(listened(&places, &dir), ["..data", "envoy.yaml"]);
            assert_eq!(listened(&places, &dir.join("..2026_a")), ["envoy.yaml"]);
            assert!(places.directories[&dir].covers(OsStr::new("..data")));
        }
    }

    #[test]
    fn a_missing_path_is_awaited_where_it_would_appear() {
        let (_guard, dir) = real_temp_dir();
        let places = places(&dir.join("not/yet/there"));
        assert_eq!(listened(&places, &dir), ["not"]);
        assert!(!places.directories[&dir].covers(OsStr::new("other")));
    }

    #[test]
    fn a_loop_of_symlinks_ends() {
        let (_guard, dir) = real_temp_dir();
        symlink("b", dir.join("a")).unwrap();
        symlink("a", dir.join("b")).unwrap();
        let places = places(&dir.join("a"));
        assert_eq!(listened(&places, &dir), ["a", "b"]);
    }

    #[test]
    fn the_directories_above_are_only_asked_about_themselves() {
        let (_guard, dir) = real_temp_dir();
        fs::write(dir.join("file"), "a").unwrap();
        let places = places(&dir.join("file"));
        assert!(!places.directories[dir.parent().unwrap()].is_in_entries());
        assert!(places.directories[&dir].is_in_entries());
    }

    #[test]
    fn dots_and_absolute_targets_are_followed() {
        let (_guard, dir) = real_temp_dir();
        fs::create_dir(dir.join("real")).unwrap();
        fs::write(dir.join("real/file"), "a").unwrap();
        symlink(dir.join("real/../real"), dir.join("link")).unwrap();
        let places = places(&dir.join("link/./file"));
        assert_eq!(listened(&places, &dir), ["link"]);
        assert_eq!(listened(&places, &dir.join("real")), ["file"]);
    }

    #[test]
    fn a_named_file_is_listened_to_itself_and_one_in_a_directory_where_it_has_another_name() {
        let (_guard, dir) = real_temp_dir();
        for name in ["plain", "linked"] {
            fs::write(dir.join(name), "a").unwrap();
        }
        let named = places(&dir.join("plain"));
        assert_eq!(named.files, BTreeMap::from([(dir.join("plain"), false)]));

        fs::hard_link(dir.join("linked"), dir.join(".other")).unwrap();
        let in_directory = places(&dir);
        let linked = BTreeMap::from([(dir.join("linked"), true)]);
        assert_eq!(in_directory.files, linked);
    }

    #[test]
    fn a_projected_volume_is_listened_to_below_its_links() {
        let (_guard, dir) = real_temp_dir();
        fs::create_dir_all(dir.join("..2026_a/tls")).unwrap();
        fs::write(dir.join("..2026_a/tls/cert.pem"), "a").unwrap();
        symlink("..2026_a", dir.join("..data")).unwrap();
        symlink("..data/tls", dir.join("tls")).unwrap();
        let places = places(&dir);
        assert_eq!(listened(&places, &dir), ["..data", "tls"]);
        assert!(places.directories[&dir.join("..2026_a/tls")].files);
    }

    #[test]
    fn as_many_symlinks_are_followed_as_the_kernel_follows() {
        let (_guard, dir) = real_temp_dir();
        fs::write(dir.join("file"), "a").unwrap();
        let link = |number: usize| dir.join(number.to_string());
        symlink("file", link(1)).unwrap();
        for number in 2..=MOST_SYMLINKS + 1 {
            symlink((number - 1).to_string(), link(number)).unwrap();
        }
        for number in [MOST_SYMLINKS - 1, MOST_SYMLINKS, MOST_SYMLINKS + 1] {
            let is_followed = fs::read(link(number)).is_ok();
            let places = places(&link(number));
            assert_eq!(places.files.contains_key(&dir.join("file")), is_followed);
            assert_eq!(is_followed, number <= MOST_SYMLINKS);
        }
    }

    #[test]
    fn a_symlink_cannot_be_written_by_another_name() {
        let (_guard, dir) = real_temp_dir();
        symlink("nowhere", dir.join("link")).unwrap();
        fs::hard_link(dir.join("link"), dir.join(".other")).unwrap();
        assert_eq!(Reports::of(&dir.join("link")), Reports::ByDirectory);
        assert_eq!(places(&dir).files, BTreeMap::new());
    }
}
