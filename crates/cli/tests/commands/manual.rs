//! The help texts in other forms: completions and manual pages.

use std::process::Command;

use crate::support::{finish, handover, output_of, skipped, stderr, stdout};

#[test]
fn bash_completes_a_command_a_flag_and_a_word() {
    let output = output_of(["completions", "bash"]);
    assert_eq!(output.status.code(), Some(0));
    let script = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(script.path(), &output.stdout).unwrap();
    let complete = |line: &[&str]| {
        let words = line.join("' '");
        let last = line.len() - 1;
        let (current, before) = (line[last], line[last - 1]);
        let test = format!(
            ". {}; COMP_WORDS=('{words}'); COMP_CWORD={last}; \
             _handover handover '{current}' '{before}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            script.path().display()
        );
        let completed = Command::new("bash")
            .args(["--norc", "-c", &test])
            .output()
            .unwrap();
        assert!(completed.status.success(), "{completed:?}");
        assert_eq!(stderr(&completed), "", "{line:?}");
        stdout(&completed)
            .lines()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(complete(&["handover", "wa"]), ["wait"]);
    assert_eq!(complete(&["handover", "wait", "--cu"]), ["--current"]);
    assert_eq!(
        complete(&["handover", "run", "--wait-for"]),
        [
            "--wait-for-resources",
            "--wait-for-file",
            "--wait-for-file-timeout"
        ]
    );
    assert_eq!(complete(&["handover", "status", "--check", "r"]), ["ready"]);
    // What handover runs for itself is nobody's to type.
    assert_eq!(complete(&["handover", "render"]), [""]);
}

#[test]
fn each_shell_has_completions_of_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = output_of(["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        let text = stdout(&output);
        for word in ["private-ips", "through-probation", "exit-with-pid"] {
            assert!(text.contains(word), "{shell}: {word}");
        }
    }
    assert_eq!(output_of(["completions", "csh"]).status.code(), Some(64));
}

#[test]
fn a_page_for_each_command_is_written_and_shows_no_value_of_a_variable() {
    let dir = tempfile::tempdir().unwrap();
    let directory = dir.path().join("share/man1");
    let mut command = handover(["man".as_ref(), directory.as_os_str()]);
    let output = finish(command.env("HANDOVER_PROBE_HTTP", "http://leaked.example"));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let help = stdout(&output_of(["--help"]));
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands = commands.take_while(|line| !line.is_empty());
    let mut expected: Vec<String> = commands
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| !name.is_empty())
        .map(|name| format!("handover-{name}.1"))
        .collect();
    expected.push("handover.1".to_owned());
    expected.sort();
    let mut written = Vec::new();
    for entry in std::fs::read_dir(&directory).unwrap() {
        let entry = entry.unwrap();
        let text = std::fs::read_to_string(entry.path()).unwrap();
        assert!(!text.contains("leaked"), "{:?}", entry.path());
        written.push(entry.file_name().into_string().unwrap());
    }
    written.sort();
    assert_eq!(written, expected);
    let page = std::fs::read_to_string(directory.join("handover-exec.1")).unwrap();
    assert!(page.contains("HANDOVER_PROBE_HTTP"), "a variable is named");
    assert_eq!(
        std::fs::read(directory.join("handover.1")).unwrap(),
        output_of(["man"]).stdout
    );
    let output = output_of(["man", "/proc/self/nowhere"]);
    assert_eq!(output.status.code(), Some(71));
    assert!(stderr(&output).contains("/proc/self/nowhere"));
}

#[test]
fn the_pages_have_no_fault_that_man_warns_of() {
    let dir = tempfile::tempdir().unwrap();
    let output = output_of(["man".as_ref(), dir.path().as_os_str()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        let mut man = Command::new("man");
        man.args(["--warnings", "-E", "UTF-8", "-l"]).arg(&path);
        let Ok(shown) = man.env("LC_ALL", "C.UTF-8").output() else {
            return skipped(
                "manual::the_pages_have_no_fault_that_man_warns_of",
                "man is not here",
            );
        };
        assert!(
            shown.status.success(),
            "{}: {}",
            path.display(),
            stderr(&shown)
        );
        assert_eq!(stderr(&shown), "", "{}", path.display());
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(stdout(&shown).contains(name), "{}", path.display());
    }
}

#[test]
fn the_schema_of_a_settings_file_is_printed() {
    for (command, key) in [("run", "envoy-args"), ("exec", "command")] {
        let output = output_of(["schema", command]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let schema: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!(schema["additionalProperties"], false);
        let value = &schema["properties"][key];
        assert_eq!(value["type"], "array");
        assert_eq!(value["items"]["type"], "string");
        assert_eq!(schema["properties"]["max-retries"]["default"], 10);
    }
    assert_eq!(output_of(["schema", "demo"]).status.code(), Some(64));
}
