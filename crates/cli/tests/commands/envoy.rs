//! `run` and `validate`. What needs a real Envoy is skipped where the environment names none.

use std::path::{Path, PathBuf};

use handover_test_support::ports::Port;
use rustix::process::Signal;

use crate::shortages::Stranger;
use crate::support::{Running, eventually, handover, output_of, replace, skipped, stderr, stdout};

/// The real Envoy for this test, if there is one; where one is required, there must be.
pub(crate) fn binary(test: &str) -> Option<String> {
    let named = std::env::var("ENVOY_BIN").ok();
    let required = std::env::var_os("HANDOVER_REQUIRE_ENVOY").is_some_and(|value| value == "1");
    assert!(
        named.is_some() || !required,
        "{test}: ENVOY_BIN names no Envoy, and one is required"
    );
    if named.is_none() {
        skipped(test, "ENVOY_BIN names no Envoy");
    }
    named
}

/// A configuration that answers with a text, in a directory of its own.
struct Config {
    dir: tempfile::TempDir,
    admin: Port,
    port: Port,
}

impl Config {
    fn new(text: &str) -> Self {
        let config = Self {
            dir: tempfile::tempdir().unwrap(),
            admin: Port::free(),
            port: Port::free(),
        };
        config.write(&config.content(text));
        config
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("envoy.yaml")
    }

    fn write(&self, content: &str) {
        replace(&self.path(), content);
    }

    fn content(&self, text: &str) -> String {
        let (admin, port) = (self.admin.number(), self.port.number());
        format!(
            r#"admin:
  address: {{ socket_address: {{ address: 127.0.0.1, port_value: {admin} }} }}
static_resources:
  listeners:
  - name: web
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: web
          route_config:
            response_headers_to_add:
            - header: {{ key: x-epoch, value: "%ENVIRONMENT(RESTART_EPOCH)%" }}
            virtual_hosts:
            - name: web
              domains: ["*"]
              routes:
              - match: {{ prefix: / }}
                direct_response: {{ status: 200, body: {{ inline_string: "{text}" }} }}
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
"#
        )
    }

    fn run(&self, envoy: &str) -> Running {
        Running::start(&mut handover(self.words(envoy)))
    }

    fn words(&self, envoy: &str) -> Vec<String> {
        let path = self.path();
        let words = [
            "run",
            "--config-path",
            path.to_str().unwrap(),
            "--envoy-path",
            envoy,
        ];
        let times = [
            "--drain-time",
            "1s",
            "--parent-shutdown-time",
            "2s",
            "--concurrency",
            "1",
        ];
        words.into_iter().chain(times).map(str::to_owned).collect()
    }

    /// Waits until the text is served.
    fn serves(&self, text: &str) -> u32 {
        let address = self.port.addr();
        eventually(text, || {
            let answer = crate::client::get(address, "/").ok()?;
            (answer.body == text).then_some(answer.epoch)
        })
    }
}

fn validate(envoy: &str, path: &Path) -> (Option<i32>, String, String) {
    let path = path.to_str().unwrap();
    let output = output_of(["validate", "--config-path", path, "--envoy-path", envoy]);
    (output.status.code(), stdout(&output), stderr(&output))
}

#[test]
fn a_changed_configuration_takes_over_and_a_rejected_one_does_not() {
    let Some(envoy) =
        binary("envoy::a_changed_configuration_takes_over_and_a_rejected_one_does_not")
    else {
        return;
    };
    let config = Config::new("one");
    let mut running = config.run(&envoy);
    running.says("epoch 0 is live");
    assert_eq!(config.serves("one"), 0);
    running.says("[epoch 0] ");

    config.write(&config.content("two"));
    running.says("epoch 1 is live");
    assert_eq!(config.serves("two"), 1);

    config.write(&format!("{}no_such_field: 1\n", config.content("three")));
    let failed = running.says("epoch 2 failed");
    assert!(failed.contains("envoy.yaml: "), "{failed}");
    assert!(
        failed.contains("no such field: 'no_such_field'"),
        "{failed}"
    );
    config.write("");
    running.says("keeps serving what it has");
    assert_eq!(config.serves("two"), 1);

    running.signal(Signal::HUP);
    running.signal(Signal::TERM);
    assert_eq!(running.code(), 0, "{:#?}", running.stderr.all());
}

#[test]
fn what_envoy_rejects_at_the_start_ends_with_its_reason() {
    let Some(envoy) = binary("envoy::what_envoy_rejects_at_the_start_ends_with_its_reason") else {
        return;
    };
    let config = Config::new("one");
    config.write(&format!("{}no_such_field: 1\n", config.content("one")));
    let mut running = config.run(&envoy);
    assert_eq!(running.code(), 65, "{:#?}", running.stderr.all());
    let all = running.stderr.all();
    let last = all.last().unwrap();
    assert!(
        last.contains("gave up on ") && last.contains("envoy.yaml"),
        "{last}"
    );
    assert!(last.contains("no such field: 'no_such_field'"), "{last}");
}

#[test]
fn what_envoy_does_not_understand_after_the_dashes_is_a_usage_error() {
    let Some(envoy) =
        binary("envoy::what_envoy_does_not_understand_after_the_dashes_is_a_usage_error")
    else {
        return;
    };
    let config = Config::new("one");
    // The usage that Envoy prints below its reason is the longer the longer its path is.
    let deep = config.dir.path().join("deep/".repeat(60));
    std::fs::create_dir_all(&deep).unwrap();
    let far = deep.join("envoy");
    std::os::unix::fs::symlink(&envoy, &far).unwrap();
    let path = config.path();
    for envoy in [envoy.as_str(), far.to_str().unwrap()] {
        let words = [
            "run",
            "--config-path",
            path.to_str().unwrap(),
            "--envoy-path",
            envoy,
        ];
        let output = output_of(words.into_iter().chain(["--", "--no-such-flag"]));
        assert_eq!(output.status.code(), Some(64), "{}", stderr(&output));
        let said = stderr(&output);
        assert!(said.contains("Argument: --no-such-flag"), "{said}");
    }
}

#[test]
fn hup_restarts_envoy_hot_although_nothing_has_changed() {
    let Some(envoy) = binary("envoy::hup_restarts_envoy_hot_although_nothing_has_changed") else {
        return;
    };
    let config = Config::new("one");
    let mut running = config.run(&envoy);
    running.says("epoch 0 is live");
    running.signal(Signal::HUP);
    running.says("epoch 1 is live");
    assert_eq!(config.serves("one"), 1);
    running.signal(Signal::TERM);
    assert_eq!(running.code(), 0, "{:#?}", running.stderr.all());
}

#[test]
fn a_good_configuration_is_valid_and_a_bad_one_is_told_in_one_line() {
    let Some(envoy) =
        binary("envoy::a_good_configuration_is_valid_and_a_bad_one_is_told_in_one_line")
    else {
        return;
    };
    let config = Config::new("one");
    let (code, stdout, stderr) = validate(&envoy, &config.path());
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(stdout.ends_with("envoy.yaml: valid\n"), "{stdout}");

    config.write(&format!("{}no_such_field: 1\n", config.content("one")));
    let (code, stdout, stderr) = validate(&envoy, &config.path());
    assert_eq!((code, stdout.as_str()), (Some(65), ""), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(
        stderr.contains("no such field: 'no_such_field'"),
        "{stderr}"
    );
}

#[test]
fn a_configuration_that_cannot_be_used_is_named_before_anything_starts() {
    let config = Config::new("one");
    let path = config.path();
    let refused = |reason: &str| {
        let words = [
            "run",
            "--config-path",
            path.to_str().unwrap(),
            "--envoy-path",
            "/bin/true",
        ];
        let output = output_of(words);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(65), "{said}");
        let last = said.lines().last().unwrap();
        assert!(
            last.contains("envoy.yaml") && last.contains(reason),
            "{said}"
        );
    };
    config.write("static_resources: {}");
    refused("admin");
    let narrow = "admin:\n  allow_paths: [{ exact: /ready }, { prefix: /stats }]";
    config.write(&config.content("one").replacen("admin:", narrow, 1));
    refused("add `- exact: /server_info` to admin.allow_paths");
    config.write("");
    refused("empty");
    std::fs::remove_file(&path).unwrap();
    refused("does not exist");
    std::fs::create_dir(&path).unwrap();
    refused("directory");
}

#[test]
fn an_admin_endpoint_that_refuses_what_is_asked_there_is_told_by_validate() {
    let Some(envoy) =
        binary("envoy::an_admin_endpoint_that_refuses_what_is_asked_there_is_told_by_validate")
    else {
        return;
    };
    let config = Config::new("one");
    let with = |paths: &str| {
        let narrow = format!("admin:\n  allow_paths: [{paths}]");
        config.write(&config.content("one").replacen("admin:", &narrow, 1));
        validate(&envoy, &config.path())
    };
    let (code, stdout, stderr) = with("{ exact: /ready }");
    assert_eq!((code, stdout.as_str()), (Some(65), ""), "{stderr}");
    assert!(stderr.contains("refuses /server_info"), "{stderr}");
    // What only makes a drain worse is a warning.
    let (code, stdout, stderr) = with("{ exact: /server_info }, { exact: /stats }");
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.ends_with("envoy.yaml: valid\n"), "{stdout}");
    assert!(
        stderr.contains("without /stats a stop counts connections from outside"),
        "{stderr}"
    );
}

#[test]
fn an_envoy_that_is_not_there_is_named() {
    let config = Config::new("one");
    let path = config.path();
    let plain = config.dir.path().join("plain");
    std::fs::write(&plain, "text").unwrap();
    for command in ["run", "validate"] {
        for (envoy, code) in [
            ("no-such-envoy", 127),
            ("/nonexistent/envoy", 127),
            (plain.to_str().unwrap(), 126),
        ] {
            let words = [
                command,
                "--config-path",
                path.to_str().unwrap(),
                "--envoy-path",
                envoy,
            ];
            let output = output_of(words);
            let said = stderr(&output);
            assert_eq!(output.status.code(), Some(code), "{said}");
            assert!(said.contains(envoy), "{said}");
        }
    }
}

#[test]
fn with_no_process_left_the_running_envoy_serves_on_and_the_change_follows() {
    let test = "envoy::with_no_process_left_the_running_envoy_serves_on_and_the_change_follows";
    let Some(envoy) = binary(test) else {
        return;
    };
    let Some(stranger) = Stranger::new(test) else {
        return;
    };
    let config = Config::new("one");
    let open = |mode| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(config.dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    open(0o755);
    // A user without a directory in /run and /tmp gets one here.
    let directory = tempfile::tempdir().unwrap();
    let user = Some(stranger.user);
    std::os::unix::fs::chown(directory.path(), user, user).unwrap();
    let own = directory.path().to_str().unwrap();
    let mut words = vec![env!("CARGO_BIN_EXE_handover").to_owned()];
    words.extend(config.words(&envoy));
    words.extend(["--lock-dir", own, "--max-retries", "1"].map(str::to_owned));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut running = Running::start(stranger.run(&words).env("TMPDIR", own));
    config.serves("one");
    stranger.limit(&running, "--nproc=1:");
    config.write(&config.content("two"));
    running.says("RLIMIT_NPROC");
    running.says("is tried again later");
    config.serves("one");
    stranger.limit(&running, "--nproc=4096:");
    config.serves("two");
    assert_eq!(running.stderr.count("panicked"), 0);
    running.signal(Signal::TERM);
    assert_eq!(running.code(), 0);
}
