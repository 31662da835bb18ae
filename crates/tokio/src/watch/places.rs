//! Where to listen so that no change of what a path leads to goes unheard.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::snapshot::is_left_out;

/// Directories, by their path without symlinks, and what is of interest in each.
pub(super) type Places = BTreeMap<PathBuf, Interest>;

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

    /// Two paths can lead to the same directory.
    pub(super) fn merge(&mut self, other: &Self) {
        self.names.extend(other.names.iter().cloned());
        self.files |= other.files;
    }
}

/// The kernel's limit of symlinks on one path.
const MOST_SYMLINKS: usize = 40;

/// Follows each path as the kernel would.
///
/// Each symlink can be replaced, so its directory is listened to for its name. The last component
/// can be replaced, or appear; so can the first one that is missing. Each real directory on the way
/// can be moved away or removed, and tells so itself.
pub(super) fn places(paths: &[PathBuf]) -> Places {
    let mut places = Places::new();
    for path in paths {
        let Some(directory) = follow(path, &mut places) else {
            continue;
        };
        places.entry(directory.clone()).or_default().files = true;
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries.flatten() {
            let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            if is_link && !is_left_out(&entry.file_name()) {
                follow(&entry.path(), &mut places);
            }
        }
    }
    places
}

/// Returns the directory the path leads to, if it leads to one.
fn follow(path: &Path, places: &mut Places) -> Option<PathBuf> {
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
                places.entry(next.clone()).or_default();
                here = next;
            }
            Ok(kind) if kind.is_symlink() => {
                listen(places, &here, name);
                symlinks += 1;
                let target = fs::read_link(&next).ok()?;
                if symlinks > MOST_SYMLINKS {
                    return None;
                }
                if target.is_absolute() {
                    here = PathBuf::from("/");
                }
                for name in names(&target).rev() {
                    ahead.push_front(name);
                }
            }
            other => {
                listen(places, &here, name);
                return other.is_ok_and(|kind| kind.is_dir()).then_some(next);
            }
        }
    }
    // The path ended in `/` or `..`, so it leads to the directory reached.
    Some(here)
}

fn listen(places: &mut Places, directory: &Path, name: OsString) {
    let interest = places.entry(directory.into()).or_default();
    interest.names.insert(name);
}

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

    fn listened(places: &Places, directory: &Path) -> Vec<String> {
        let names = &places[directory].names;
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
            let places = places(&[watched]);
            assert_eq!(listened(&places, &dir), ["..data", "envoy.yaml"]);
            assert_eq!(listened(&places, &dir.join("..2026_a")), ["envoy.yaml"]);
            assert!(places[&dir].covers(OsStr::new("..data")));
        }
    }

    #[test]
    fn a_missing_path_is_awaited_where_it_would_appear() {
        let (_guard, dir) = real_temp_dir();
        let places = places(&[dir.join("not/yet/there")]);
        assert_eq!(listened(&places, &dir), ["not"]);
        assert!(!places[&dir].covers(OsStr::new("other")));
    }

    #[test]
    fn a_loop_of_symlinks_ends() {
        let (_guard, dir) = real_temp_dir();
        symlink("b", dir.join("a")).unwrap();
        symlink("a", dir.join("b")).unwrap();
        let places = places(&[dir.join("a")]);
        assert_eq!(listened(&places, &dir), ["a", "b"]);
    }

    #[test]
    fn the_directories_above_are_only_asked_about_themselves() {
        let (_guard, dir) = real_temp_dir();
        fs::write(dir.join("file"), "a").unwrap();
        let places = places(&[dir.join("file")]);
        assert!(!places[dir.parent().unwrap()].is_in_entries());
        assert!(places[&dir].is_in_entries());
    }

    #[test]
    fn dots_and_absolute_targets_are_followed() {
        let (_guard, dir) = real_temp_dir();
        fs::create_dir(dir.join("real")).unwrap();
        fs::write(dir.join("real/file"), "a").unwrap();
        symlink(dir.join("real/../real"), dir.join("link")).unwrap();
        let places = places(&[dir.join("link/./file")]);
        assert_eq!(listened(&places, &dir), ["link"]);
        assert_eq!(listened(&places, &dir.join("real")), ["file"]);
    }
}
