//! The files of epochs in the run directory, which are written and removed on threads that may wait for
//! the disk.
//!
//! One at a time works on the directory, in the order in which the work was asked for: so a disk that
//! hangs takes one thread and not all of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use handover_core::Epoch;
use handover_runtime::offload::{OffloadError, offload};
use handover_tokio::error_chain;
use tokio::runtime::Handle;

use super::{EnvoyConfig, EnvoyFailed};
use crate::bootstrap::Format;
use crate::files::RunDir;

/// How long the work on a file may take before it is logged: 5 s. An epoch waits for it meanwhile.
const SLOW: Duration = Duration::from_secs(5);

/// The files of all epochs. What was to be removed and was not yet, goes with this.
#[derive(Debug)]
pub(super) struct EpochFiles(Shared);

/// The same for a part of an epoch.
#[derive(Clone, Debug)]
pub(super) struct Shared(Arc<Place>);

#[derive(Debug)]
struct Place {
    dir: RunDir,
    turn: Arc<tokio::sync::Mutex<()>>,
    /// By the number of the epoch. A number that nobody has used since its files were removed is not here.
    lives: Mutex<BTreeMap<u32, Life>>,
}

/// What is known of the files of an epoch.
#[derive(Clone, Copy, Debug, Default)]
struct Life {
    /// How often something was made for the epoch.
    made: u64,
    /// Whether the files must be removed.
    owed: bool,
}

impl EpochFiles {
    pub(super) fn new(dir: RunDir) -> Self {
        Self(Shared(Arc::new(Place {
            dir,
            turn: Arc::default(),
            lives: Mutex::default(),
        })))
    }

    /// Returns a handle that a part of an epoch may keep.
    pub(super) fn shared(&self) -> Shared {
        self.0.clone()
    }

    /// Returns the path of the file of an epoch.
    pub(super) fn file(&self, epoch: Epoch, format: Format) -> PathBuf {
        self.0.0.dir.file(epoch.number(), format)
    }

    /// Writes the file of an epoch: this text, or that of the configuration.
    ///
    /// # Errors
    ///
    /// [`EnvoyFailed::Prepare`], and [`EnvoyFailed::NotWritten`] if no thread can do it.
    ///
    /// # Cancel safety
    ///
    /// A write that has begun goes on when the future is dropped. Later work on the directory waits for it.
    pub(super) async fn write(
        &self,
        epoch: Epoch,
        config: &Arc<EnvoyConfig>,
        text: Option<Vec<u8>>,
    ) -> Result<(), EnvoyFailed> {
        let (number, config) = (epoch.number(), Arc::clone(config));
        let written = self.0.make(epoch, move |dir| {
            let text = text.as_deref().unwrap_or_else(|| config.content());
            dir.write(number, config.format(), text)
        });
        match written.await {
            Ok(written) => Ok(written.map(drop)?),
            Err(source) => Err(EnvoyFailed::NotWritten {
                dir: self.0.0.dir.path().to_owned(),
                source,
            }),
        }
    }

    /// Removes the files of an epoch soon, unless something is made for the same number before.
    pub(super) fn remove(&self, epoch: Epoch) {
        let Some(made) = self.0.owe(epoch) else {
            return;
        };
        let number = epoch.number();
        self.0.remove_later(epoch, made, move |place| {
            if let Err(error) = place.dir.remove(number) {
                tracing::warn!(epoch = number, "{}", error_chain(&error));
            }
            place.forget(number, made);
        });
    }
}

impl Drop for EpochFiles {
    fn drop(&mut self) {
        let place = &self.0.0;
        let owed: Vec<u32> = {
            let lives = place.lives();
            let owed = lives.iter().filter(|(_, life)| life.owed);
            owed.map(|(number, _)| *number).collect()
        };
        for number in owed {
            if let Err(error) = place.dir.remove(number) {
                tracing::warn!(epoch = number, "{}", error_chain(&error));
            }
        }
    }
}

impl Shared {
    /// Makes something for an epoch, after all that was asked for before.
    ///
    /// # Errors
    ///
    /// If no thread can do it.
    pub(super) async fn make<T: Send + 'static>(
        &self,
        epoch: Epoch,
        work: impl FnOnce(&RunDir) -> T + Send + 'static,
    ) -> Result<T, OffloadError> {
        {
            let mut lives = self.0.lives();
            let life = lives.entry(epoch.number()).or_default();
            *life = Life {
                made: life.made.saturating_add(1),
                owed: false,
            };
        }
        let mut made = std::pin::pin!(self.in_turn(move |place| work(&place.dir)));
        tokio::select! {
            made = &mut made => return made,
            () = tokio::time::sleep(SLOW) => tracing::warn!(
                epoch = epoch.number(),
                "epoch {epoch} waits for its file in {}, for more than {SLOW:?} so far: check that this file \
                 system answers, and how busy its disk is",
                self.0.dir.path().display()
            ),
        }
        made.await
    }

    /// Removes the socket of a gate soon, unless something is made for the same epoch before.
    pub(super) fn remove_gate(&self, epoch: Epoch, path: PathBuf) {
        let made = self.0.made(epoch.number());
        self.remove_later(epoch, made, move |_| remove_socket(&path));
    }

    /// Notes that the files must be removed. Returns how often something was made until now, or `None` if
    /// nothing is there.
    fn owe(&self, epoch: Epoch) -> Option<u64> {
        let mut lives = self.0.lives();
        let life = lives.get_mut(&epoch.number())?;
        life.owed = true;
        Some(life.made)
    }

    fn remove_later(&self, epoch: Epoch, made: u64, work: impl FnOnce(&Place) + Send + 'static) {
        let number = epoch.number();
        let work = move |place: &Place| {
            if place.made(number) == made {
                work(place);
            }
        };
        // Without a runtime, everything ends, and nothing else is kept waiting.
        let Ok(runtime) = Handle::try_current() else {
            return work(&self.0);
        };
        let this = self.clone();
        runtime.spawn(async move {
            if let Err(error) = this.in_turn(work).await {
                let error = error_chain(&error);
                tracing::debug!(epoch = number, "a file is removed at the end only: {error}");
            }
        });
    }

    /// Works on the directory, after all that was asked for before.
    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Place) -> T + Send + 'static,
    ) -> Result<T, OffloadError> {
        let turn = Arc::clone(&self.0.turn).lock_owned().await;
        let place = Arc::clone(&self.0);
        offload(move || {
            let done = work(&place);
            // Not before, even if nobody waits for the result any more.
            drop(turn);
            done
        })
        .await
    }
}

impl Place {
    fn lives(&self) -> MutexGuard<'_, BTreeMap<u32, Life>> {
        // Nothing in here is left half-way by a panic.
        self.lives.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn made(&self, number: u32) -> u64 {
        self.lives().get(&number).map_or(0, |life| life.made)
    }

    /// Forgets an epoch whose files are removed, unless something was made for it meanwhile.
    fn forget(&self, number: u32, made: u64) {
        let mut lives = self.lives();
        if lives.get(&number).is_some_and(|life| life.made == made) {
            lives.remove(&number);
        }
    }
}

fn remove_socket(path: &Path) {
    // The run directory may have been removed with all that was in it.
    let _removed = std::fs::remove_file(path);
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::mpsc::{Sender, channel};
    use std::time::Instant;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    struct World {
        files: EpochFiles,
        _parent: tempfile::TempDir,
    }

    fn world() -> World {
        let mut builder = tempfile::Builder::new();
        let parent = builder.prefix("handover-").tempdir().unwrap();
        World {
            files: EpochFiles::new(RunDir::create(&parent.path().join("run")).unwrap()),
            _parent: parent,
        }
    }

    fn config(text: &str) -> Arc<EnvoyConfig> {
        let text = format!("# {text}\nadmin: {{ address: {{ pipe: {{ path: a.sock }} }} }}\n");
        let path = Path::new("envoy.yaml");
        Arc::new(EnvoyConfig::parse_as(path, text.into_bytes(), Format::Yaml).unwrap())
    }

    impl World {
        fn text(&self, epoch: u32) -> Option<String> {
            let file = self.files.file(Epoch::new(epoch), Format::Yaml);
            let text = fs::read_to_string(file).ok()?;
            text.lines().next().map(str::to_owned)
        }

        async fn write(&self, epoch: u32, text: &str) {
            let config = config(text);
            let written = self.files.write(Epoch::new(epoch), &config, None);
            tokio::time::timeout(LIMIT, written).await.unwrap().unwrap();
        }

        /// Lets work on the directory hang until the sender is dropped, as a disk does.
        async fn hang(&self, epoch: u32) -> Sender<()> {
            let (release, released) = channel::<()>();
            let (begun, has_begun) = tokio::sync::oneshot::channel();
            let shared = self.files.shared();
            tokio::spawn(async move {
                let hangs = move |_: &RunDir| {
                    begun.send(()).unwrap();
                    let _released = released.recv();
                };
                shared.make(Epoch::new(epoch), hangs).await.unwrap();
            });
            has_begun.await.unwrap();
            release
        }

        /// Waits until all that was asked for is done.
        async fn settle(&self) {
            let shared = self.files.shared();
            loop {
                // What was to be removed has its place in the row by then.
                tokio::task::yield_now().await;
                shared.in_turn(|_| ()).await.unwrap();
                if !shared.0.lives().values().any(|life| life.owed) {
                    return;
                }
            }
        }
    }

    #[tokio::test]
    async fn the_loop_goes_on_while_the_disk_hangs_and_the_writes_keep_their_order() {
        let world = world();
        let release = world.hang(7).await;
        let configs = [config("first"), config("second")];
        let [first, second] =
            [0, 1].map(|index| world.files.write(Epoch::new(1), &configs[index], None));
        let (mut first, mut second) = (Box::pin(first), Box::pin(second));
        let began = Instant::now();
        tokio::select! {
            biased;
            _ = &mut first => panic!("it was written although the disk hangs"),
            _ = &mut second => panic!("it was written although the disk hangs"),
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
        // A loop that waits for the disk would not come here.
        assert!(began.elapsed() < LIMIT);
        drop(release);
        let both = async { tokio::join!(second, first) };
        let (second, first) = tokio::time::timeout(LIMIT, both).await.unwrap();
        first.unwrap();
        second.unwrap();
        assert_eq!(world.text(1).as_deref(), Some("# second"));
    }

    #[tokio::test]
    async fn a_removal_that_was_kept_waiting_spares_the_file_of_the_next_start_of_the_same_number()
    {
        let world = world();
        world.write(1, "first").await;
        let release = world.hang(7).await;
        world.files.remove(Epoch::new(1));
        let again = config("again");
        let written = world.files.write(Epoch::new(1), &again, None);
        drop(release);
        tokio::time::timeout(LIMIT, written).await.unwrap().unwrap();
        world.settle().await;
        assert_eq!(world.text(1).as_deref(), Some("# again"));
        world.files.remove(Epoch::new(1));
        world.settle().await;
        assert_eq!(world.text(1), None);
        let lives = world.files.0.0.lives().keys().copied().collect::<Vec<_>>();
        assert_eq!(lives, [7], "what is removed is forgotten");
    }

    #[tokio::test]
    async fn what_is_still_to_be_removed_goes_with_the_files() {
        let world = world();
        world.write(0, "kept").await;
        world.write(1, "removed").await;
        let release = world.hang(7).await;
        world.files.remove(Epoch::new(1));
        let World { files, _parent } = world;
        let [kept, removed] = [0, 1].map(|epoch| files.file(Epoch::new(epoch), Format::Yaml));
        drop(files);
        assert!(kept.exists() && !removed.exists());
        drop(release);
    }

    #[tokio::test]
    async fn a_write_that_nobody_waits_for_any_more_comes_to_its_end_before_the_next_one() {
        let world = world();
        let release = world.hang(1).await;
        // It is aborted before its turn.
        let aborted = config("aborted");
        let mut write = Box::pin(world.files.write(Epoch::new(1), &aborted, None));
        let early = tokio::time::timeout(Duration::from_millis(5), &mut write).await;
        assert!(early.is_err());
        drop(write);
        drop(release);
        world.write(1, "next").await;
        world.settle().await;
        assert_eq!(world.text(1).as_deref(), Some("# next"));
    }
}
