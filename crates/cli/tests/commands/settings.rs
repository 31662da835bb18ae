//! `--settings` and `--print-config`: where a setting comes from, and which origin wins.

use std::path::PathBuf;
use std::process::{Command, Output};

use rustix::process::Signal;

use crate::support::{exec_script, finish, handover, handover_client, output_of, stderr, stdout};

/// A directory with a settings file.
struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    fn new(text: impl AsRef<[u8]>) -> Self {
        let site = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        std::fs::write(site.path(), text).unwrap();
        site
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("handover.toml")
    }

    /// What a command with this file does. The words stand before the flag.
    fn output(&self, words: &str, variables: &[(&str, &str)]) -> Output {
        let mut command = handover(words.split_whitespace());
        command.arg("--settings").arg(self.path());
        finish(command.envs(variables.iter().copied()))
    }

    /// The settings that are printed, with `FILE` for the path.
    fn printed(&self, words: &str, variables: &[(&str, &str)]) -> String {
        let output = self.output(&format!("{words} --print-config"), variables);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        self.without_path(&stdout(&output))
    }

    /// The error, with `FILE` for the path.
    #[track_caller]
    fn refused(&self, words: &str, variables: &[(&str, &str)]) -> String {
        let output = self.output(words, variables);
        assert_eq!(output.status.code(), Some(64), "{}", stdout(&output));
        self.without_path(&stderr(&output))
    }

    fn without_path(&self, text: &str) -> String {
        text.replace(self.path().to_str().unwrap(), "FILE")
    }
}

/// The line of one setting, with single spaces.
#[track_caller]
fn line(printed: &str, key: &str) -> String {
    let mut lines = printed.lines();
    let line = lines.find(|line| line.trim_start_matches("# ").split(' ').next() == Some(key));
    assert!(line.is_some(), "{key} is not in {printed}");
    let line = line.unwrap_or_default();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

const RUN: &str = "run --socket none";

#[test]
fn a_flag_wins_over_a_variable_that_over_the_file_and_that_over_the_default() {
    let site = Site::new(
        "config-path = '/etc/envoy.yaml'\nmax-retries = 3\nwatch = ['/a,b', '/c']\ndrain-time = '20s'\n\
         no-repair = true\ntemplate = true\n",
    );
    let printed = |words: &str, variables: &[_]| site.printed(&format!("{RUN} {words}"), variables);
    let variables = [
        ("HANDOVER_MAX_RETRIES", "4"),
        ("HANDOVER_WATCH", "/d,/e"),
        ("HANDOVER_NO_REPAIR", "no"),
        ("HANDOVER_TEMPLATE", ""),
    ];
    let of_file = printed("", &[]);
    let of_variables = printed("", &variables);
    // The flag says what the default is, and wins all the same.
    let of_flags = printed("--max-retries 10 --watch /f,g --drain-time 45s", &variables);
    for (key, expected) in [
        (
            "max-retries",
            [
                "3 # FILE:2",
                "4 # variable HANDOVER_MAX_RETRIES",
                "10 # flag",
            ],
        ),
        (
            "watch",
            // A comma in the file or of a flag is one in a path, and a list replaces the other one.
            [
                r#"["/a,b", "/c"] # FILE:3"#,
                r#"["/d", "/e"] # variable HANDOVER_WATCH"#,
                r#"["/f,g"] # flag"#,
            ],
        ),
        (
            "drain-time",
            [r#""20s" # FILE:4"#, r#""20s" # FILE:4"#, r#""45s" # flag"#],
        ),
        // A variable switches off what the file switches on, and an empty one says nothing.
        (
            "no-repair",
            [
                "true # FILE:5",
                "false # variable HANDOVER_NO_REPAIR",
                "false # variable HANDOVER_NO_REPAIR",
            ],
        ),
        ("template", ["true # FILE:6"; 3]),
        ("max-epochs", ["2 # default"; 3]),
    ] {
        let expected = expected.map(|value| format!("{key} = {value}"));
        let found = [&of_file, &of_variables, &of_flags].map(|printed| line(printed, key));
        assert_eq!(found, expected);
    }
    assert_eq!(line(&of_file, "state-dir"), "# state-dir # not set");
}

#[test]
fn the_settings_are_printed_one_a_line_with_their_origins() {
    let site = Site::new("command = ['./server', '--name', 'the \"first\"']\nready-fd = 7\n");
    let printed = site.printed("exec --socket none --listen 127.0.0.1:80", &[]);
    insta::assert_snapshot!("print_config_exec", printed);
}

#[test]
fn what_is_printed_is_a_file_that_means_the_same() {
    let run = "run --config-path /e\u{301}/x --template --envoy-path /bin/true --base-id 77777 --drain-time 20s \
        --watch /a --watch /b --rescan-interval none --concurrency 2 --run-dir-group 0 --state-dir /s \
        --fallback last-known-good --hung-after 5s --no-repair --name web --socket none --service-node n \
        --termination-drain 9s --drain-exclude-listener web --drain-exclude-port 81 --drain-exclude-port 82 \
        --start-deadline none --probation 30s --verify-http http://127.0.0.1:1/?a,b --verify true \
        --max-error-rise 5% --exit-with-pid 1 -- --drain-strategy immediate";
    let exec = "exec --listen 127.0.0.1:1 --listen [::1]:2 --fd-name a --ready-fd --stop-signal QUIT \
        --socket none --wait-for-file /x --wait-for-file-timeout 5s -- sh -c";
    // A tab, a line end, a quote and a character that turns the text around.
    let odd = "a\t\n\"'\\#\u{202e}b";
    for words in [run, exec] {
        let print = ["--print-config"].into_iter();
        let words = words.split_whitespace();
        let (command, words) = (words.clone().take(1), words.skip(1));
        let output = output_of(command.clone().chain(print).chain(words).chain([odd]));
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let first = stdout(&output);
        assert!(!first.contains('\u{202e}'), "{first}");
        let site = Site::new(&first);
        // Without the variable that keeps a test from making a control socket.
        let command = command.collect::<String>();
        let second = site.printed(&command, &[("HANDOVER_SOCKET", "")]);
        let values = |text: &str| -> Vec<String> {
            let lines = text.lines().filter(|line| !line.starts_with("# "));
            lines
                .map(|line| line.rsplit_once("  # ").unwrap().0.trim().to_owned())
                .collect()
        };
        assert_eq!(values(&second), values(&first));
        assert!(!second.contains("# default"), "{second}");
    }
}

#[test]
fn each_fault_of_a_file_has_its_line_its_value_and_what_is_allowed() {
    let site = Site::new(
        "# The settings of the edge.\ndrain_time = '45s'\ndrain-time = 45\npre-drain-delay = '45'\nmax-epochs = 1\n\
         on-exit = 'x'\nrecord = false\nlisten = ['a']\nwatch = 'x'\nverify-tcp = ['a', 1]\ntemplate = 'yes'\n\
         max-retries = 99999999999999999999\nconfig-path = ''\nsettings = 'y'\nname = '''\na/b\n'''\n\
         \"a\\u001bb\" = 1\n[run]\nx = 1\n",
    );
    insta::assert_snapshot!("settings_faults", site.refused(RUN, &[]));
    let many: String = (0..1000).map(|n| format!("x{n} = 1\n")).collect();
    let refused = Site::new(many).refused(RUN, &[]);
    assert_eq!(refused.lines().count(), 21, "{refused}");
    assert!(
        refused.ends_with("the 980 keys after them were not judged\n"),
        "{refused}"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_the_remedy() {
    for (text, expected) in [
        (&b"a = 1\na = 2\n"[..], "error: FILE:2: duplicate key"),
        (b"name = 'x\n", "error: FILE:1: "),
        (
            b"name = 'x'\n\nwatch = ['\xff']\n",
            "error: FILE:3: the file is not UTF-8",
        ),
    ] {
        let refused = Site::new(text).refused(RUN, &[]);
        assert!(refused.starts_with(expected), "{refused}");
    }
    let large = vec![b'#'; (1 << 18) + 1];
    let refused = Site::new(large).refused(RUN, &[]);
    assert!(
        refused.starts_with("error: FILE is larger than 262144 bytes"),
        "{refused}"
    );
    let site = Site::new("");
    std::fs::remove_file(site.path()).unwrap();
    let refused = site.refused(RUN, &[]);
    assert!(
        refused.contains("settings file FILE: No such file"),
        "{refused}"
    );
    assert!(refused.contains("or leave both out"), "{refused}");
    // Neither a directory nor a pipe without a writer lets the start wait.
    std::fs::create_dir(site.path()).unwrap();
    assert!(
        site.refused(RUN, &[])
            .contains("FILE is not a regular file")
    );
    std::fs::remove_dir(site.path()).unwrap();
    let pipe = Command::new("mkfifo").arg(site.path()).status();
    assert!(pipe.unwrap().success());
    assert!(
        site.refused(RUN, &[])
            .contains("FILE is not a regular file")
    );
}

#[test]
fn an_empty_file_and_the_line_ends_and_the_mark_of_another_system_are_fine() {
    let run = "run --socket none --config-path x";
    let printed = Site::new("").printed(run, &[]);
    assert_eq!(line(&printed, "name"), "# name # not set");
    let printed = Site::new("\u{feff}# x\r\n\r\nname = 'web'\r\n").printed(run, &[]);
    assert_eq!(line(&printed, "name"), r#"name = "web" # FILE:3"#);
}

#[test]
fn a_rule_between_flags_holds_for_the_file_and_names_its_line() {
    let site = Site::new("command = ['true']\n\nnotify = true\n");
    let refused = site.refused("exec --socket none --ready-fd", &[]);
    assert!(
        refused.contains("'--notify' cannot be used with '--ready-fd"),
        "{refused}"
    );
    assert!(
        refused.ends_with("note: FILE:3 sets --notify\n"),
        "{refused}"
    );
    // What is needed and is nowhere is named as without a file.
    let refused = Site::new("").refused("exec --socket none", &[]);
    assert!(
        refused.contains("required arguments were not provided"),
        "{refused}"
    );
    // What goes only together is printed before it is refused.
    let site = Site::new("config-path = 'x'\nfallback = 'last-known-good'\n");
    let output = site.output("run --print-config", &[]);
    assert_eq!(output.status.code(), Some(64));
    assert!(
        stderr(&output).contains("needs --state-dir"),
        "{}",
        stderr(&output)
    );
    assert!(line(&stdout(&output), "fallback").contains("last-known-good"));
}

#[test]
fn a_file_says_what_exec_runs_and_how() {
    let site = Site::new("on-exit = 'stop'\ncommand = ['sh', '-c', 'exit 3']\n");
    assert_eq!(site.output("exec", &[]).status.code(), Some(3));
    // What is typed after `--` replaces all of it.
    let mut command = handover(["exec", "--settings"]);
    command.arg(site.path()).args(["--", "sh", "-c", "exit 4"]);
    assert_eq!(finish(&mut command).status.code(), Some(4));
    // The variable names the file too.
    let path = site.path();
    let variables = [("HANDOVER_SETTINGS", path.to_str().unwrap())];
    let output = finish(handover(["exec"]).envs(variables));
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    // Other commands do not read it.
    let output =
        finish(handover(["resolve", "127.0.0.1:80"]).env("HANDOVER_SETTINGS", "/nonexistent"));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn the_help_is_shown_beside_a_bad_file() {
    let site = Site::new("foo = 1\n");
    let path = site.path();
    let variables = [("HANDOVER_SETTINGS", path.to_str().unwrap())];
    for command in ["run", "exec", "doctor"] {
        let output = finish(handover([command, "--help"]).envs(variables));
        assert_eq!(output.status.code(), Some(64));
        assert!(stdout(&output).contains("Usage:"), "{command}");
        assert!(
            stderr(&output).contains("no setting \"foo\""),
            "{}",
            stderr(&output)
        );
    }
}

#[test]
fn variables_of_istio_count_as_variables_of_their_flags() {
    let site = Site::new(
        "config-path = 'x'\nmin-drain = '1s'\nconcurrency = 8\ntermination-drain = '99s'\n",
    );
    let min_drain = |words: &str, variables: &[_]| {
        let printed = site.printed(&format!("{RUN} {words}"), variables);
        line(&printed, "min-drain")
    };
    let minimum = ("MINIMUM_DRAIN_DURATION", "1m30s");
    let variable = r#"min-drain = "1m30s" # variable MINIMUM_DRAIN_DURATION"#;
    assert_eq!(min_drain("", &[minimum]), variable);
    let exits = |value| [minimum, ("EXIT_ON_ZERO_ACTIVE_CONNECTIONS", value)];
    assert_eq!(min_drain("", &exits("true")), variable);
    // Without the early end, a drain takes all its time, whoever sets that.
    let whole =
        |time: &str| format!(r#"min-drain = "{time}" # variable EXIT_ON_ZERO_ACTIVE_CONNECTIONS"#);
    assert_eq!(min_drain("", &exits("false")), whole("99s"));
    assert_eq!(
        min_drain("--termination-drain 7s", &exits("False")),
        whole("7s")
    );
    let termination = ("TERMINATION_DRAIN_DURATION_SECONDS", "30");
    let both = [termination, ("EXIT_ON_ZERO_ACTIVE_CONNECTIONS", "0")];
    assert_eq!(min_drain("", &both), whole("30s"));
    assert_eq!(
        min_drain("--min-drain 2s", &exits("0")),
        r#"min-drain = "2s" # flag"#
    );
    let own = [minimum, ("HANDOVER_MIN_DRAIN", "3s")];
    assert_eq!(
        min_drain("", &own),
        r#"min-drain = "3s" # variable HANDOVER_MIN_DRAIN"#
    );

    for (limit, expected) in [
        ("2", "concurrency = 2 # variable ISTIO_CPU_LIMIT"),
        ("0", "concurrency = 8 # FILE:3"),
        ("", "concurrency = 8 # FILE:3"),
    ] {
        let printed = site.printed(RUN, &[("ISTIO_CPU_LIMIT", limit)]);
        assert_eq!(line(&printed, "concurrency"), expected);
    }
    for (variable, value, remedy) in [
        ("MINIMUM_DRAIN_DURATION", "5", "--min-drain"),
        ("EXIT_ON_ZERO_ACTIVE_CONNECTIONS", "yes", "true or false"),
        ("ISTIO_CPU_LIMIT", "500m", "--concurrency"),
        (
            "TERMINATION_DRAIN_DURATION_SECONDS",
            "5s",
            "--termination-drain",
        ),
    ] {
        let refused = site.refused(RUN, &[(variable, value)]);
        assert!(
            refused.starts_with(&format!("error: {variable} is {value:?}")),
            "{refused}"
        );
        assert!(refused.contains(remedy), "{refused}");
    }
    // They are about Envoy.
    let printed = Site::new("command = ['x']").printed("exec", &[("MINIMUM_DRAIN_DURATION", "5")]);
    assert!(!printed.contains("MINIMUM_DRAIN"), "{printed}");
}

#[test]
fn a_report_finds_the_state_directory_of_the_file() {
    let state = tempfile::tempdir().unwrap();
    let locks = tempfile::tempdir().unwrap();
    let socket = locks.path().join("web.sock");
    let site = Site::new(format!(
        "state-dir = {:?}\nlive-after = '10ms'\n",
        state.path()
    ));
    let settings = site.path();
    let flags = [
        "--socket",
        socket.to_str().unwrap(),
        "--settings",
        settings.to_str().unwrap(),
    ];
    let mut running = exec_script(&flags, "exec sleep 600");
    running.says("epoch 0 is live");
    let archive = locks.path().join("report.tar.gz");
    let mut report = handover_client(["report", "--output"]);
    let output = finish(report.arg(&archive).arg("--socket").arg(&socket));
    running.signal(Signal::TERM);
    running.code();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let unpacked = Command::new("tar").arg("-xzOf").arg(&archive).output();
    let unpacked = String::from_utf8_lossy(&unpacked.unwrap().stdout).into_owned();
    let state_dir = format!(r#""state_dir": {:?}"#, state.path());
    assert!(unpacked.contains(&state_dir), "{unpacked}");
    assert!(unpacked.contains(r#""--settings""#), "{unpacked}");
    // The recording says that the file has set it.
    assert!(unpacked.contains("settings file"), "{unpacked}");
}
