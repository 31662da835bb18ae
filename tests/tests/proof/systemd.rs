//! The unit for Envoy as a real systemd runs it, with its hardening.

use std::fs;

use handover_test_support::envoy_bin::report_skip;
use handover_test_support::require_envoy;
use handover_test_support::supervisor::handover_bin;
use handover_test_support::systemd::{beside_a_user_manager, copies};

/// Answers with this text.
fn config(text: &str) -> String {
    format!(
        "admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: 9901 }} }} }}
static_resources:
  listeners:
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: 8080 }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
          route_config:
            virtual_hosts:
            - name: all
              domains: [\"*\"]
              routes:
              - match: {{ prefix: / }}
                direct_response: {{ status: 200, body: {{ inline_string: \"{text}\" }} }}
"
    )
}

const STEPS: &str = r#"
get() { python3 -c 'import urllib.request as r; print(r.urlopen("http://127.0.0.1:8080/", timeout=20).read().decode())'; }
unit=handover-envoy.service
config=/run/config/systemd/user
systemctl --user start $unit; echo "start: $?"
echo "answer: $(get)"
echo "status: $(show $unit StatusText)"
cp $config/second.yaml $config/next.yaml && mv $config/next.yaml $config/envoy.yaml
until_shown $unit StatusText "epoch 1 serves"
echo "answer: $(get)"
systemctl --user reload $unit; echo "reload: $?"
until_shown $unit StatusText "epoch 2 serves"
echo "answer: $(get)"
echo "broken" > $config/next.yaml && mv $config/next.yaml $config/envoy.yaml
until_shown $unit StatusText "epoch 2 serves another configuration than the desired one"
until_shown $unit ActiveState active
echo "answer: $(get)"
echo "restarts: $(show $unit NRestarts)"
"$config/handover" who --lock-dir "$XDG_RUNTIME_DIR/handover" >/dev/null; echo "who: $?"
systemctl --user stop $unit; echo "stop: $? $(show $unit Result)"
cat /run/manager.log | grep -i handover | head -50
"#;

#[test]
fn the_unit_for_envoy_serves_reloads_and_drains_under_a_real_systemd() {
    let envoy = require_envoy!();
    let handover = handover_bin();
    let directory = "/run/config/systemd/user";
    let dir = copies(&[
        ("/usr/local/bin/handover", &format!("{directory}/handover")),
        ("/usr/local/bin/envoy", &format!("{directory}/envoy")),
        ("/etc/envoy/envoy.yaml", &format!("{directory}/envoy.yaml")),
        // There is no such user here.
        ("User=envoy\nGroup=envoy\n", ""),
    ]);
    // Where they are, the hardening may hide them: below `/tmp`, for example.
    for (name, binary) in [("handover", &handover), ("envoy", &envoy)] {
        fs::copy(binary, dir.path().join(name)).expect("a program can be copied");
    }
    fs::write(dir.path().join("envoy.yaml"), config("one")).expect("a file can be written");
    fs::write(dir.path().join("second.yaml"), config("two")).expect("a file can be written");
    let said = match beside_a_user_manager(dir.path(), STEPS) {
        Ok(said) => said,
        Err(why) => {
            let test =
                "proof::systemd::the_unit_for_envoy_serves_reloads_and_drains_under_a_real_systemd";
            return report_skip(test, &why);
        }
    };
    for line in [
        "start: 0",
        "answer: one",
        "status: epoch 0 serves",
        "answer: two",
        "reload: 0",
        "restarts: 0",
        "who: 0",
        "stop: 0 success",
    ] {
        assert!(
            said.lines().any(|found| found == line),
            "{line} in:\n{said}"
        );
    }
    let answers = said.lines().filter(|line| *line == "answer: two");
    assert_eq!(answers.count(), 3, "{said}");
}
