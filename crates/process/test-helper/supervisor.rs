//! The helper as a supervisor.

use std::collections::HashMap;
use std::os::fd::AsRawFd;
use std::time::Duration;

use handover_process::{
    Child, Command, ExitCause, Line, Orphans, WaitError, adopt_orphans, adopts_orphans,
};
use handover_runtime::offload::offload;
use tokio::runtime::{Builder, Runtime};

/// Starts a child, tells its id, and waits to be killed.
///
/// The child is started from a thread that ends at once.
pub(crate) fn supervise() {
    let runtime = runtime();
    let handle = runtime.handle().clone();
    let spawn = move || handle.block_on(command().arg("sleep").spawn()).unwrap();
    let child = runtime.block_on(async {
        let thread = std::thread::spawn(spawn);
        offload(|| thread.join().unwrap()).await.unwrap()
    });
    println!("{}", child.pid());
    super::sleep();
}

/// Starts a child that tells what it was given, on this process's own output.
///
/// The standard input of this process is something that the child must not get.
pub(crate) fn describe_child() {
    let own = std::fs::File::open("/proc/self/exe").unwrap();
    #[expect(
        unsafe_code,
        reason = "replacing a standard stream has no safe interface"
    )]
    // SAFETY: both numbers are open, and nobody in this process reads from number 0.
    unsafe {
        libc::dup2(own.as_raw_fd(), 0);
    }
    runtime().block_on(async {
        let child = command().arg("describe").spawn().await.unwrap();
        assert!(child.wait().await.unwrap().success());
    });
}

/// As a program whose own parent ignores SIGCHLD: by itself, the kernel would forget children.
///
/// Then another part of the program collects a child.
pub(crate) fn no_child_signal() {
    super::ignore(libc::SIGCHLD);
    runtime().block_on(async {
        let child = command().args(["exit", "5"]).spawn().await.unwrap();
        println!("{}", child.wait().await.unwrap());
        let child = command().args(["exit", "5"]).spawn().await.unwrap();
        let pid = rustix::process::Pid::from_raw(child.pid().cast_signed());
        rustix::process::waitpid(pid, rustix::process::WaitOptions::empty()).unwrap();
        println!(
            "{}",
            matches!(child.wait().await, Err(WaitError::Lost { .. }))
        );
    });
}

/// Starts children that leave orphans, and children that end at once, and counts both.
pub(crate) fn reap_orphans() {
    const ROUNDS: usize = 40;
    assert!(!adopts_orphans());
    adopt_orphans().unwrap();
    assert!(adopts_orphans());
    runtime().block_on(async {
        let mut orphans = Orphans::new().unwrap();
        let mut causes: HashMap<String, usize> = HashMap::new();
        let own = tokio::spawn(async {
            for round in 0..ROUNDS {
                let code = i32::try_from(round % 5).unwrap();
                let quick = command().args(["exit".into(), code.to_string()]);
                let quick = quick.spawn().await.unwrap();
                // One that never gets to run its program is not for others to collect either.
                let never = command().current_dir("/nowhere").spawn().await;
                never.unwrap_err();
                let leaver = command().arg("orphan").spawn().await.unwrap();
                // By now either of them has ended, more often than not.
                tokio::task::yield_now().await;
                assert_eq!(quick.wait().await.unwrap(), ExitCause::Code(code));
                assert_eq!(leaver.wait().await.unwrap(), ExitCause::Code(0));
            }
        });
        for _ in 0..ROUNDS {
            let orphan = tokio::time::timeout(Duration::from_secs(20), orphans.next());
            *causes
                .entry(orphan.await.unwrap().cause.to_string())
                .or_default() += 1;
        }
        own.await.unwrap();
        for (cause, count) in causes {
            println!("{count} {cause}");
        }
    });
    println!("children left: {}", children());
}

/// Starts and ends many children in every way, and tells what is left.
pub(crate) fn many(count: u32) {
    let runtime = runtime();
    runtime.block_on(async {
        // The first child brings what stays: the spawner thread and the runtime's own descriptors.
        let first = command().args(["exit", "0"]).spawn().await.unwrap();
        first.wait().await.unwrap();
        drop(first);
        let before = descriptors();
        for _ in 0..count / 4 {
            one_of_each().await;
        }
        // Dropped children are collected in the background, and their output is read to its end.
        let quiet = async {
            while children() > 0 || descriptors() > before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(10), quiet).await;
        println!("children left: {}", children());
        println!("descriptors: {} of {before}", descriptors());
        println!("in time: {}", in_time.is_ok());
    });
}

/// Waited for, dropped, never started, and cancelled while it was being started.
async fn one_of_each() {
    let waited = command().args(["lines", "3"]).output(|_: &Line<'_>| {});
    let waited: Child = waited.spawn().await.unwrap();
    waited.wait().await.unwrap();
    drop(
        command()
            .arg("sleep")
            .output(|_: &Line<'_>| {})
            .spawn()
            .await
            .unwrap(),
    );
    command().current_dir("/nowhere").spawn().await.unwrap_err();
    let cancelled = command().arg("sleep").output(|_: &Line<'_>| {}).spawn();
    tokio::select! {
        biased;
        _ = cancelled => {}
        () = std::future::ready(()) => {}
    }
}

fn command() -> Command {
    Command::new(std::env::current_exe().unwrap())
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Zombies are among them.
fn children() -> usize {
    let parent = std::process::id();
    let is_child = |stat: String| {
        let after_name = stat.rsplit_once(')').unwrap().1;
        after_name.split_whitespace().nth(1) == Some(&parent.to_string())
    };
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok())
        .filter(|stat| is_child(stat.clone()))
        .count()
}
