//! What `run` and `validate` find wrong before they ask an Envoy. Those with a real one are in the integration
//! tests of the workspace.

use std::path::PathBuf;

use handover_test_support::envoy_config::EnvoyConfig;
use handover_test_support::ports::Port;

use crate::support::{output_of, replace, stderr};

/// A good configuration, in a directory of its own.
struct Config {
    dir: tempfile::TempDir,
    content: String,
    _ports: [Port; 2],
}

impl Config {
    fn new() -> Self {
        let ports = [Port::free(), Port::free()];
        let [admin, listener] = &ports;
        let config = EnvoyConfig::new("one", admin.number(), listener.number());
        let config = Self {
            dir: tempfile::tempdir().unwrap(),
            content: config.render(),
            _ports: ports,
        };
        config.write(&config.content);
        config
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("envoy.yaml")
    }

    fn write(&self, content: &str) {
        replace(&self.path(), content);
    }
}

#[test]
fn a_configuration_that_cannot_be_used_is_named_before_anything_starts() {
    let config = Config::new();
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
    config.write(&config.content.replacen("admin:", narrow, 1));
    refused("add `- exact: /server_info` to admin.allow_paths");
    config.write("");
    refused("empty");
    std::fs::remove_file(&path).unwrap();
    refused("does not exist");
    std::fs::create_dir(&path).unwrap();
    refused("directory");
}

#[test]
fn an_envoy_that_is_not_there_is_named() {
    let config = Config::new();
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
