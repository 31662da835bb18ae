//! A parent whose main thread waits for something else answers no child, however often one is started.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use handover_core::Policy;
use handover_test_support::any_envoy::AnyEnvoy;
use handover_test_support::require_envoy;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::children::Prey;
use crate::world::{Setup, World};

/// A pipe that is read until it must be full.
struct Pipe {
    must_be_full: Arc<AtomicBool>,
    thread: JoinHandle<File>,
}

impl Pipe {
    fn make(path: &Path) -> Self {
        let made = std::process::Command::new("mkfifo").arg(path).status();
        assert!(
            made.is_ok_and(|status| status.success()),
            "a pipe can be made"
        );
        let mut options = OpenOptions::new();
        // With both ends open nobody is kept waiting who opens the other one.
        options
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK);
        let mut file = options.open(path).expect("the pipe can be opened");
        let must_be_full = Arc::new(AtomicBool::new(false));
        let is_enough = Arc::clone(&must_be_full);
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while !is_enough.load(Ordering::Relaxed) {
                match file.read(&mut buffer) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    Err(error) => panic!("the pipe cannot be read: {error}"),
                }
            }
            file
        });
        Self {
            must_be_full,
            thread,
        }
    }

    /// Fills it, so that whoever writes to it waits for as long as this is kept.
    fn fill(self) -> File {
        self.must_be_full.store(true, Ordering::Relaxed);
        let mut file = self.thread.join().expect("the reader ends");
        loop {
            match file.write(b"\n") {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return file,
                Err(error) => panic!("the pipe cannot be filled: {error}"),
            }
        }
    }
}

/// Epoch 1 has taken over from epoch 0, and dies. From then on the main thread of epoch 0 stands in a write to its log,
/// so each start of an epoch beside it waits for its answer in vain. It is no stopped process: no signal continues it.
struct DeafParent {
    world: World,
    old: Prey,
    died: Instant,
    deadline: Duration,
    /// What it waits for, until this is dropped.
    _full: File,
    _place: TempDir,
}

impl DeafParent {
    async fn make(real: &AnyEnvoy) -> Self {
        let place = tempfile::Builder::new()
            .prefix("handover-")
            .tempdir()
            .expect("a directory");
        let (script, pipe) = (place.path().join("envoy"), place.path().join("pipe"));
        // The first epoch 0 logs to the pipe, and every other process as it is.
        let text = format!(
            "#!/bin/sh\ncase \" $* \" in *' --mode validate '*) ;; *' --restart-epoch 0 '*) mkdir '{first}' 2>/dev/null && \
             exec '{envoy}' \"$@\" 2>'{pipe}' ;; esac\nexec '{envoy}' \"$@\"\n",
            first = place.path().join("first").display(),
            envoy = real.path().display(),
            pipe = pipe.display(),
        );
        fs::write(&script, text).expect("the script is written");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))
            .expect("it can be executed");
        let pipe = Pipe::make(&pipe);
        let deadline = Duration::from_secs(5);
        let setup = Setup {
            policy: Policy {
                start_deadline: Some(deadline),
                ..Setup::default().policy
            },
            // Its time must not be over first: it would be killed for that.
            parent_shutdown_time: Duration::from_secs(120),
            ..Setup::default()
        };
        let world = World::with(&real.at(&script), setup).await;
        let old = world.process(0);
        world.hand_over("v1", 1).await;
        let full = pipe.fill();
        let died = Instant::now();
        world.process(1).send(Signal::KILL);
        Self {
            world,
            old,
            died,
            deadline,
            _full: full,
            _place: place,
        }
    }

    /// Waits until a first epoch is live, and returns its number: 0, unless the retry came before the end of the old
    /// one was noticed.
    async fn live(&self) -> u32 {
        let mut live = None;
        self.world
            .until("a first epoch to be live", |world| {
                live = (0..=1).find(|epoch| world.is_live(*epoch));
                live.is_some()
            })
            .await;
        live.expect("it was waited for")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_parent_that_answers_no_child_is_killed_and_the_next_start_is_a_first_one() {
    let real = AnyEnvoy::real(require_envoy!());
    let deaf = DeafParent::make(&real).await;
    let (world, deadline) = (&deaf.world, deaf.deadline);
    world
        .until("the end of the deaf parent", |_| !deaf.old.is_running())
        .await;
    let killed = deaf.died.elapsed();
    let live = deaf.live().await;
    println!(
        "=== deaf parent: killed after {killed:?}, served again after {:?} (start deadline {deadline:?})",
        deaf.died.elapsed()
    );
    assert!(killed >= deadline, "{killed:?}");
    let failure = world.handle.status().borrow().last_failure.clone();
    let message = failure.expect("it has failed").message();
    // Both epochs have ended, and either may be told last.
    let told = [
        "epoch 0, from which it was to take over, did not answer it and was killed",
        "Envoy hung: it did not answer the epoch that was to take over from it",
    ];
    assert!(told.iter().any(|told| message.contains(told)), "{message}");
    world.served_by("v1").await;
    world.hand_over("v2", live + 1).await;
    let report = deaf.world.finish().await;
    // What was lost is the outage: nothing listened since epoch 1 was dead.
    assert!(report.longest_gap >= deadline, "{report}");
}

/// It is given five seconds to answer. Nobody serves meanwhile, so one that ends is waited for no longer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deaf_parent_that_ends_while_it_is_asked_keeps_nobody_waiting() {
    let real = AnyEnvoy::real(require_envoy!());
    let deaf = DeafParent::make(&real).await;
    let in_vain = deaf.world.hunt(1, |child| child);
    let in_vain = in_vain.await.expect("a child is started beside it");
    deaf.world
        .until("the end of the child", |_| !in_vain.is_running())
        .await;
    // Its end is followed by the question at once.
    sleep(Duration::from_millis(200)).await;
    deaf.old.send(Signal::KILL);
    let killed = Instant::now();
    deaf.live().await;
    let served = killed.elapsed();
    println!("=== deaf parent that ends while it is asked: served again after {served:?}");
    assert!(served < Duration::from_secs(4), "{served:?}");
    deaf.world.served_by("v1").await;
    deaf.world.finish().await;
}
