//! What the process tests share.

use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use handover_process::{Child, Command, Line, OutputSink, Stream};

/// No test takes longer, however busy the machine is.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// The helper program, told what to do.
pub(crate) fn helper(arguments: &[&str]) -> Command {
    Command::new(helper_path()).args(arguments.iter().copied())
}

/// Where Cargo puts the example that is the helper: `examples` beside the directory of this test.
pub(crate) fn helper_path() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().with_file_name("examples");
    let path = path.join("process-test-helper");
    assert!(
        path.exists(),
        "{} is missing: `cargo build -p handover-process --examples` builds it",
        path.display()
    );
    path
}

/// Fails the test if the future takes too long.
pub(crate) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future)
        .await
        .expect("it took too long")
}

/// Keeps every line.
#[derive(Clone, Default)]
pub(crate) struct Recorder(Arc<Mutex<Vec<Recorded>>>);

type Recorded = (Stream, Vec<u8>);

impl Recorder {
    pub(crate) fn lines(&self, stream: Stream) -> Vec<String> {
        let lines = self.0.lock().unwrap();
        let of_stream = lines.iter().filter(|(from, _)| *from == stream);
        of_stream
            .map(|(_, bytes)| String::from_utf8(bytes.clone()).unwrap())
            .collect()
    }

    /// The `value` of the line `name=value`.
    pub(crate) fn value(&self, name: &str) -> Option<String> {
        self.lines(Stream::Stdout).iter().find_map(|line| {
            let (key, value) = line.split_once('=')?;
            (key == name).then(|| value.to_owned())
        })
    }

    /// The first line of standard output, once it is there.
    pub(crate) async fn first_line(&self) -> String {
        in_time(async {
            loop {
                if let Some(line) = self.lines(Stream::Stdout).first() {
                    return line.clone();
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await
    }
}

impl OutputSink for Recorder {
    fn line(&self, line: &Line<'_>) {
        assert!(!line.continues);
        self.0
            .lock()
            .unwrap()
            .push((line.stream, line.bytes.to_vec()));
    }
}

/// Starts the helper with its output recorded.
pub(crate) async fn recorded(command: Command) -> (Child, Recorder) {
    let recorder = Recorder::default();
    let child = in_time(command.output(recorder.clone()).spawn())
        .await
        .unwrap();
    (child, recorder)
}

/// Runs the helper to its end with its output recorded.
pub(crate) async fn run(command: Command) -> Recorder {
    let (child, recorder) = recorded(command).await;
    let cause = in_time(child.wait()).await.unwrap();
    assert!(cause.success(), "{cause}\n{}", child.stderr_tail());
    recorder
}

/// The kernel's letter for what the process does, if it is there.
fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')').unwrap().1.trim_start().chars().next()
}

/// Whether the process is there and no zombie.
pub(crate) fn runs(pid: u32) -> bool {
    !matches!(state(pid), None | Some('Z' | 'X'))
}

/// Returns once the process has been stopped by a signal.
pub(crate) async fn frozen(pid: u32) {
    in_time(async {
        while state(pid) != Some('T') {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// Returns once the process, which need not be a child, has ended.
pub(crate) async fn gone(pid: u32) {
    let patience = Instant::now() + LIMIT;
    while runs(pid) {
        assert!(Instant::now() < patience, "process {pid} still runs");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
