//! The example runs and prints what it promises.

use std::process::Command;

#[test]
fn the_example_tests_an_agent_without_an_envoy() {
    // Cargo puts examples beside the directory of this test.
    let test = std::env::current_exe().unwrap();
    let examples = test.parent().unwrap().with_file_name("examples");
    let output = Command::new(examples.join("test_your_agent"))
        .env_remove(handover_fake_envoy::VARIABLE)
        .output();
    let output = output.expect("`cargo build -p handover-fake-envoy --examples` has built it");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}: {text}", output.status);
    assert_eq!(
        text,
        "the first try of epoch 1 ended with signal: 6 (SIGABRT)\nepoch 0 still runs: true\n"
    );
}
