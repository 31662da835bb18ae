//! The example runs and prints what it promises.

use std::process::Command;

#[test]
fn the_example_runs_to_its_end() {
    // Cargo puts examples beside the directory of this test.
    let test = std::env::current_exe().unwrap();
    let examples = test.parent().unwrap().with_file_name("examples");
    let output = Command::new(examples.join("where_am_i")).output();
    let output = output.expect("`cargo build -p handover-netutil --examples` has built it");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}: {text}", output.status);
    // Which addresses there are is for the host to say.
    let last = text.lines().last().unwrap_or_default();
    assert!(last.contains(":80 is reached from "), "{text}");
}
