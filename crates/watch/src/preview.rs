//! What watching some paths would take, without watching them.

use std::io;
use std::path::{Path, PathBuf};

use super::filesystem::FileSystems;
use super::gap::{Gap, Gaps};
use super::snapshot::Targets;
use super::watch_points::{Survey, is_mounted};

/// What a [`Watcher`](crate::Watcher) of some paths would need, and what it would miss.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Preview {
    /// How many inotify watches it takes.
    pub watches: usize,
    /// What the kernel would not report. Limits of the kernel are not among them, because none is
    /// touched.
    pub gaps: Vec<Gap>,
    /// The watched files that are a mount by themselves. Such a mount goes on showing the old file
    /// when the file is replaced where it comes from. Kernels before 5.8 do not tell.
    pub mounted_files: Vec<PathBuf>,
}

impl Preview {
    /// Follows the paths as a watcher would. No file is opened, and nothing is watched.
    ///
    /// It blocks for as long as the file systems like, for ever on one whose server is gone, so call
    /// it where that does no harm.
    ///
    /// # Errors
    ///
    /// What the operating system says if a path is relative and the working directory is unknown.
    pub fn of<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> io::Result<Self> {
        let absolute = paths.into_iter().map(std::path::absolute);
        let targets = Targets {
            contents: absolute.collect::<Result<_, _>>()?,
            identities: Vec::new(),
        };
        let (mut systems, mut gaps) = (FileSystems::default(), Gaps::default());
        let survey = Survey::take(&targets, &mut systems, &mut gaps);
        survey.find_silent_places(&mut systems, &mut gaps);
        let places = &survey.places;
        let files = places.files.keys();
        let mounted = files.filter(|file| is_mounted(file) == Some(true));
        Ok(Self {
            watches: places.directories.len() + places.files.len(),
            mounted_files: mounted.cloned().collect(),
            gaps: gaps.into_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GapCause;

    #[test]
    fn a_file_takes_a_watch_for_itself_and_one_for_each_directory_on_the_way() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        let file = real.join("envoy.yaml");
        std::fs::write(&file, "a").unwrap();
        let preview = Preview::of([&file]).unwrap();
        // The root has no name in itself by which it could go.
        assert_eq!(preview.watches, file.ancestors().count() - 1);
        assert_eq!((preview.gaps, preview.mounted_files), (vec![], vec![]));
    }

    #[test]
    fn what_the_kernel_does_not_report_is_known_before() {
        let preview = Preview::of(["/proc/self/status"]).unwrap();
        let why = preview.gaps.iter().map(|gap| &gap.why);
        let file_system = "proc";
        let silent = GapCause::NoEvents { file_system };
        assert!(why.into_iter().any(|why| *why == silent), "{preview:?}");
    }

    #[test]
    fn a_missing_path_is_no_error() {
        let preview = Preview::of(["/no/such/file"]).unwrap();
        assert!(preview.watches > 0 && preview.gaps.is_empty());
    }
}
