//! Facts 6 and 16: what an Envoy does to itself, and to whom it is bound.

use std::fs;
use std::thread;

use handover_test_support::bare_envoy::{BareEnvoy, Epoch, LIMIT};
use handover_test_support::envoy_config::EnvoyConfig;
use handover_test_support::limit::eventually;
use handover_test_support::process_tag::process;
use handover_test_support::supervisor::{Signal, Supervisor};

use crate::subject::Subject;
use crate::world::stays;

/// Envoy gets TERM when the *thread* that spawned it ends, and exits with 0 as if all were well.
pub(crate) fn an_epoch_ends_with_the_thread_that_spawned_it(subject: &Subject) {
    let host = subject.host();
    let mut epoch = on_a_thread_that_ends(&host, &[]);
    epoch.wait().assert_exit(0, "");
    assert!(host.is_refused());
}

/// Without hot restart it does not ask for that.
pub(crate) fn without_hot_restart_an_epoch_outlives_the_thread_that_spawned_it(subject: &Subject) {
    let host = subject.host();
    let epoch = on_a_thread_that_ends(&host, &["--disable-hot-restart"]);
    stays("it runs", || epoch.is_running());
    host.wait_served_by("v0");
}

fn on_a_thread_that_ends(host: &BareEnvoy, words: &[&str]) -> Epoch {
    thread::scope(|scope| {
        let starter = scope.spawn(|| {
            let epoch = host.start_with(0, &host.config("v0"), words);
            host.wait_live_of(0, &epoch);
            epoch
        });
        starter.join().expect("it goes live")
    })
}

/// KILL to the supervisor ends every epoch.
pub(crate) fn every_epoch_ends_with_a_killed_supervisor(subject: &Subject) {
    let host = subject.host();
    let (supervisor, epoch) = below_a_shell(&host, &host.config("v0"), "wait");
    supervisor.signal(Signal::KILL);
    wait_gone(epoch);
    // It is a zombie before the last of its threads has let the sockets go.
    eventually(LIMIT, "nobody listens", || host.is_refused().then_some(()));
}

/// A supervisor whose image is replaced by exec, on the thread that spawned, keeps its epochs as children.
pub(crate) fn an_epoch_outlives_an_exec_of_its_supervisor(subject: &Subject) {
    let host = subject.host();
    let (supervisor, epoch) = below_a_shell(&host, &host.config("v0"), "exec sleep 1000");
    let replaced = || process(supervisor.pid()).is_some_and(|it| it.command == "sleep 1000");
    eventually(LIMIT, "the exec", || replaced().then_some(()));
    let is_child = || process(epoch).is_some_and(|it| it.parent == supervisor.pid());
    stays("the epoch is its child", is_child);
    assert_eq!(host.served_by().ok().as_deref(), Some("v0"));
    supervisor.signal(Signal::KILL);
    wait_gone(epoch);
}

/// Starts an epoch below a shell, which does `then` once the epoch is live.
fn below_a_shell(host: &BareEnvoy, config: &EnvoyConfig, then: &str) -> (Supervisor, u32) {
    // The shell tells the epoch's id: its other children look like itself until they have become others.
    let script = "\"$0\" \"$@\" & echo $! > epoch.pid; while [ ! -e go ]; do sleep 0.02; done; ";
    let script = script.to_owned() + then;
    let launch = host.launch().args(host.arguments(0, config));
    let launch = launch.current_dir(host.dir());
    let supervisor = launch.by("sh", &["-c", &script]).start();
    host.wait_live(0);
    let told = fs::read_to_string(host.dir().join("epoch.pid")).unwrap_or_default();
    let epoch = told.trim().parse();
    let epoch = epoch.unwrap_or_else(|_| panic!("the shell tells {told:?} of its epoch"));
    fs::write(host.dir().join("go"), "").expect("the directory is ours");
    (supervisor, epoch)
}

/// Waits until a process is gone, or was not waited for by whoever has inherited it.
fn wait_gone(pid: u32) {
    let gone = || process(pid).is_none_or(|it| it.is_zombie);
    eventually(LIMIT, "the end of the epoch", || gone().then_some(()));
}

/// It raises its own soft limit of open files to the hard one.
pub(crate) fn an_epoch_raises_its_limit_of_open_files(subject: &Subject) {
    let host = subject.host();
    let launch = host.launch().args(host.arguments(0, &host.config("v0")));
    let shell = [
        "-c",
        "ulimit -S -n 1024; ulimit -H -n 3000; exec \"$0\" \"$@\"",
    ];
    let epoch = launch.by("sh", &shell).start();
    host.wait_live(0);
    let limits = fs::read_to_string(format!("/proc/{}/limits", epoch.pid()));
    let limits = limits.expect("the process is ours");
    let open_files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let words: Vec<&str> = open_files
        .into_iter()
        .flat_map(str::split_whitespace)
        .collect();
    assert_eq!(words, ["Max", "open", "files", "3000", "3000", "files"]);
}
