//! `run --print-command`. No Envoy is needed: it is named, and not called.

use std::path::Path;
use std::process::Output;

use crate::support::{finish, handover, output_of, stderr, stdout};

const ALWAYS: [&str; 6] = [
    "run",
    "--print-command",
    "--config-path",
    "/etc/envoy.yaml",
    "--envoy-path",
    "/opt/envoy proxy",
];

fn printed(flags: &[&str]) -> String {
    line_of(&output_of(ALWAYS.iter().chain(flags)))
}

/// The one line on standard output.
#[track_caller]
fn line_of(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
    assert_eq!(stderr(output), "");
    let text = stdout(output);
    let line = text.strip_suffix('\n').unwrap();
    assert!(!line.contains('\n'), "{line}");
    line.to_owned()
}

fn arguments_after_a_shell(line: &str) -> Vec<String> {
    let script = format!("printf '%s\\n' {line}");
    let output = finish(std::process::Command::new("sh").args(["-c", &script]));
    stdout(&output).lines().map(str::to_owned).collect()
}

const EVERYTHING: [&str; 22] = [
    "--base-id",
    "7",
    "--run-dir",
    "/run/x",
    "--drain-time",
    "5s",
    "--parent-shutdown-time",
    "8s",
    "--concurrency",
    "3",
    "--service-cluster",
    "front",
    "--service-node",
    "node 1's",
    "--local-address-ip-version",
    "v6",
    "--envoy-log-level",
    "debug",
    "--envoy-component-log-level",
    "upstream:trace",
    "--",
    "--enable-core-dump",
];

#[test]
fn the_line_has_every_flag_and_a_shell_reads_it_back() {
    let line = printed(&EVERYTHING);
    insta::assert_snapshot!(line, @r"'/opt/envoy proxy' -c /run/x/envoy-rev0.yaml --restart-epoch 0 --base-id 7 --drain-time-s 5 --parent-shutdown-time-s 8 --drain-strategy gradual --concurrency 3 --log-level debug --component-log-level upstream:trace --service-cluster front --service-node 'node 1'\''s' --local-address-ip-version v6 --enable-core-dump");
    let words = arguments_after_a_shell(&line);
    assert_eq!(words[0], "/opt/envoy proxy");
    let node = words.iter().position(|word| word == "--service-node");
    assert_eq!(words[node.unwrap() + 1], "node 1's");
    assert_eq!(words.len(), 26);
}

#[test]
fn variables_make_the_same_line() {
    let mut command = handover(ALWAYS);
    let flags = EVERYTHING.split(|word| *word == "--").next().unwrap();
    for flag in flags.chunks(2) {
        let name = flag[0].trim_start_matches("--");
        let name = format!("HANDOVER_{}", name.to_uppercase().replace('-', "_"));
        command.env(name, flag[1]);
    }
    let line = line_of(&finish(command.args(["--", "--enable-core-dump"])));
    assert_eq!(line, printed(&EVERYTHING));
}

#[test]
fn a_flag_without_a_value_is_on_unless_its_variable_says_no() {
    for (value, printed) in [
        ("1", true),
        ("yes", true),
        ("0", false),
        ("off", false),
        ("", false),
    ] {
        let mut command = handover([
            "run",
            "--config-path",
            "/nonexistent.yaml",
            "--envoy-path",
            "/bin/true",
            "--base-id",
            "7",
        ]);
        for name in ["NO_REPAIR", "TEMPLATE", "PRINT_COMMAND"] {
            command.env(format!("HANDOVER_{name}"), value);
        }
        let output = finish(&mut command);
        // Otherwise it starts, and finds no configuration.
        let code = if printed { 0 } else { 65 };
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
    }
}

#[test]
fn a_directory_that_is_made_at_the_start_is_not_made() {
    let temporary = tempfile::tempdir().unwrap();
    let mut command = handover(ALWAYS);
    command
        .args(["--base-id", "7"])
        .env("TMPDIR", temporary.path());
    let line = line_of(&finish(&mut command));
    let config = temporary.path().join("handover-run-XXXXXX/envoy-rev0.yaml");
    assert!(line.contains(config.to_str().unwrap()), "{line}");
    assert_eq!(names_in(temporary.path()), [""; 0]);
}

#[test]
fn a_base_id_that_is_picked_is_free_again() {
    let locks = tempfile::tempdir().unwrap();
    let line = printed(&["--lock-dir", locks.path().to_str().unwrap()]);
    let words: Vec<_> = line.split(' ').collect();
    let place = words.iter().position(|word| *word == "--base-id").unwrap();
    let picked: u32 = words[place + 1].parse().unwrap();
    assert!((1..=1000).contains(&picked), "{line}");
    assert_eq!(names_in(locks.path()), [""; 0]);
}

#[test]
fn the_family_of_the_node_is_found_out_where_that_is_asked_for() {
    let line = printed(&["--base-id", "7"]);
    assert!(!line.contains("--local-address-ip-version"), "{line}");

    let has = |flags: &[&str]| {
        let output = output_of(["private-ips", "--timeout", "0s"].iter().chain(flags));
        let text = stdout(&output);
        (text.contains('.'), text.contains(':'))
    };
    let output =
        output_of(
            ALWAYS
                .iter()
                .chain(&["--base-id", "7", "--local-address-ip-version", "auto"]),
        );
    let line = stdout(&output);
    let wanted = match has(&[]) {
        (true, _) => "--local-address-ip-version v4",
        (false, true) => "--local-address-ip-version v6",
        (false, false) => {
            assert!(stderr(&output).contains("has no address"));
            assert!(!line.contains("--local-address-ip-version"), "{line}");
            return;
        }
    };
    assert!(line.contains(wanted), "{line}");
}

#[test]
fn what_breaks_a_hand_over_is_refused_with_the_reason() {
    for (flags, reason) in [
        ("--base-id 3", "--base-id cannot be passed on"),
        ("--restart-epoch 3", "--restart-epoch cannot be passed on"),
        (
            "--disable-hot-restart",
            "--disable-hot-restart cannot be passed on",
        ),
        ("--mode serve", "--mode cannot be passed on"),
        ("--config-yaml a:b", "--config-yaml cannot be passed on"),
        ("--service-node n", "--service-node is set twice"),
        ("-l info", "--log-level is set twice"),
        ("--concurrency 1", "--concurrency is set twice"),
    ] {
        let set = "--service-node n --envoy-log-level info --concurrency 1 --";
        let words = set.split(' ').chain(flags.split(' '));
        let output = output_of(ALWAYS.into_iter().chain(words));
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(64), "{said}");
        assert_eq!(stdout(&output), "");
        assert!(said.contains(reason), "`{reason}` is not in:\n{said}");
    }
}

#[test]
fn an_empty_name_is_refused_as_a_flag() {
    for flag in ["--service-node", "--service-cluster"] {
        let output = output_of(ALWAYS.iter().chain(&[flag, ""]));
        assert_eq!(output.status.code(), Some(64), "{}", stderr(&output));
    }
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}
