//! The command line: what is printed, what is refused, and where a base id comes from.

use std::ffi::OsString;
use std::fs;
use std::process::{Command, Output};

use handover_test_support::bare_envoy::{BareEnvoy, Epoch, LIMIT};
use handover_test_support::limit::eventually;
use handover_test_support::supervisor::Signal;

use crate::subject::Subject;
use crate::world::small_load;

/// The version of the hot restart stands on standard error, and no line ends it.
pub(crate) fn the_hot_restart_version_is_printed_to_standard_error(subject: &Subject) {
    let output = Command::new(&subject.binary)
        .arg("--hot-restart-version")
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output), ("", "11.104"));
}

/// The version stands on standard output, with the revision before it and the kind of build behind it.
pub(crate) fn the_version_is_printed_to_standard_output(subject: &Subject) {
    let output = Command::new(&subject.binary)
        .arg("--version")
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(0));
    let (stdout, stderr) = text(&output);
    assert!(stdout.contains(" version: "), "{stdout}");
    let version = format!("/{}/", subject.version);
    assert!(stdout.contains(&version) && stderr.is_empty(), "{output:?}");
}

fn text(output: &Output) -> (&str, &str) {
    let text = |bytes| str::from_utf8(bytes).expect("it prints text");
    (text(&output.stdout), text(&output.stderr))
}

/// A flag and its value are two arguments. One with an equals sign is refused.
pub(crate) fn a_flag_joined_with_its_value_is_refused(subject: &Subject) {
    let host = subject.host();
    let mut epoch = host.start_with(0, &host.config("v0"), &["--drain-strategy=immediate"]);
    epoch
        .wait()
        .assert_exit(1, "Couldn't find match for argument");
    assert!(!host.shared_memory().exists());
}

/// A flag that is given twice is refused.
pub(crate) fn a_flag_given_twice_is_refused(subject: &Subject) {
    let host = subject.host();
    let mut epoch = host.start_with(0, &host.config("v0"), &["--drain-time-s", "1"]);
    epoch.wait().assert_exit(1, "Argument already set!");
    assert!(!host.shared_memory().exists());
}

/// So is one that there is not.
pub(crate) fn an_unknown_flag_is_refused(subject: &Subject) {
    let host = subject.host();
    let mut epoch = host.start_with(0, &host.config("v0"), &["--no-such-flag"]);
    epoch
        .wait()
        .assert_exit(1, "Couldn't find match for argument");
    assert!(!host.shared_memory().exists());
}

/// A base id of Envoy's own choice is written to a file: digits and no line end. The file stays. A later epoch
/// must be given that number.
pub(crate) fn a_dynamic_base_id_is_written_to_a_file(subject: &Subject) {
    let host = subject.host();
    let file = host.dir().join("base-id");
    let path = file.to_str().expect("the directory has a plain name");
    let words = ["--use-dynamic-base-id", "--base-id-path", path];
    let mut epoch_0 = host.run(dynamic(&host, 0, &words));
    host.wait_live_of(0, &epoch_0);
    let what = "the file of the base id";
    let written = eventually(LIMIT, what, || {
        fs::read_to_string(&file)
            .ok()
            .filter(|text| !text.is_empty())
    });
    let base_id: u32 = written
        .parse()
        .unwrap_or_else(|_| panic!("no number: {written:?}"));
    let memory = SharedMemory::of(base_id);
    assert!(fs::exists(&memory.0).expect("it can be looked at"));
    // A later epoch cannot choose for itself.
    let mut refused = host.run(dynamic(&host, 1, &["--use-dynamic-base-id"]));
    let text = "error: cannot use --restart-epoch=1 with --use-dynamic-base-id";
    refused.wait().assert_exit(1, text);
    let load = small_load(host.web());
    let number = base_id.to_string();
    let epoch_1 = host.run(dynamic(&host, 1, &["--base-id", &number]));
    host.wait_live_of(1, &epoch_1);
    epoch_0.wait().assert_exit(0, "");
    load.stop_blocking().assert_no_loss();
    assert_eq!(fs::read_to_string(&file).ok(), Some(written));
}

/// The usual arguments without a base id, and others.
fn dynamic(host: &BareEnvoy, epoch: u32, others: &[&str]) -> Vec<OsString> {
    let mut words = host.arguments(epoch, &host.config(&format!("v{epoch}")));
    let place = words.iter().position(|word| word == "--base-id");
    let place = place.expect("it is among them");
    words.drain(place..=place + 1);
    words.extend(others.iter().map(OsString::from));
    words
}

/// Removes the file of a base id that Envoy has chosen.
struct SharedMemory(String);

impl SharedMemory {
    fn of(base_id: u32) -> Self {
        Self(format!(
            "/dev/shm/envoy_shared_memory_{}",
            u64::from(base_id) * 10
        ))
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // Whether it is there is what the fact asserts.
        let _removed = fs::remove_file(&self.0);
    }
}

/// Without hot restart there is no shared memory, and the process is as good as any other.
pub(crate) fn without_hot_restart_there_is_no_shared_memory(subject: &Subject) {
    let host = subject.host();
    let words = ["--disable-hot-restart"];
    let mut epoch: Epoch = host.start_with(0, &host.config("v0"), &words);
    host.wait_live_of(0, &epoch);
    host.wait_served_by("v0");
    assert!(!host.shared_memory().exists());
    epoch.signal(Signal::TERM);
    epoch.wait().assert_exit(0, "");
}
