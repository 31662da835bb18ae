//! The example runs and prints what it promises.

use std::process::Command;

#[test]
fn the_example_runs_to_its_end() {
    // Cargo puts examples beside the directory of this test.
    let test = std::env::current_exe().unwrap();
    let examples = test.parent().unwrap().with_file_name("examples");
    let output = Command::new(examples.join("reload_and_stop")).output();
    let output = output.expect("`cargo build -p handover-supervisor --examples` has built it");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}: {text}", output.status);
    // The hang-up renews an equal configuration, and the second signal stops what the first one drains.
    let mut rest = text.as_str();
    for part in [
        "Apply {",
        "Renew {",
        "Terminate(Drain)",
        "Terminate(Stop)",
        "Finish(",
    ] {
        let (_, after) = rest
            .split_once(part)
            .unwrap_or_else(|| panic!("{part}: {text}"));
        rest = after;
    }
}
