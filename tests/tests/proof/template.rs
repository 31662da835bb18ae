//! Configurations that are rendered from a template.

use std::fs;
use std::process::Command;
use std::time::Duration;

use handover_netutil::private_ips;
use handover_test_support::envoy_admin::EnvoyAdmin;
use handover_test_support::envoy_bin::report_skip;
use handover_test_support::envoy_config::{Break, replace_file};
use handover_test_support::limit::eventually;
use handover_test_support::ports::Port;
use handover_test_support::require_any_envoy;
use handover_test_support::supervisor::{Signal, Supervisor};

use crate::world::{LIMIT, Site};

/// By these words a program runs where no interface but the loopback one has an address.
const ALONE: [&str; 5] = [
    "--net",
    "sh",
    "-c",
    "ip link set lo up && exec \"$@\"",
    "sh",
];

/// Whether this machine lets us do that. Where it does not, it is told.
fn may_be_alone(test: &str) -> bool {
    let tried = Command::new("unshare").args(ALONE).arg("true").status();
    let may = tried.is_ok_and(|status| status.success());
    if !may {
        let test = format!("proof::template::{test}");
        report_skip(&test, "no network namespace can be made");
    }
    may
}

/// Writes the configuration with an expression in place of its name, which the responses tell.
fn write(site: &Site, expression: &str) {
    let text = site.config("NAME").render().replace("NAME", expression);
    replace_file(&site.file(), text.as_bytes());
}

/// Waits until responses tell this.
fn serves(site: &Site, name: &str) {
    let mut last = None;
    eventually(
        LIMIT,
        &format!("a response of {name}, not {last:?}"),
        || {
            let answer = handover_test_support::http::get(site.listener.addr(), "/", LIMIT).ok()?;
            last = answer.header("x-config").map(str::to_owned);
            (last.as_deref() == Some(name)).then_some(())
        },
    );
}

fn start(site: &Site, envoy: &std::path::Path, more: &[&str]) -> Supervisor {
    let flags = ["--template", "--service-node", "front-1"];
    let launch = site.launch(envoy).args(flags).args(more);
    launch.env("GREETING", "hello").start()
}

fn end(site: &Site, mut supervisor: Supervisor) {
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0));
    site.assert_nothing_left();
}

#[tokio::test]
async fn a_template_is_rendered_for_each_epoch_and_changes_only_with_the_file() {
    let envoy = require_any_envoy!();
    let site = Site::new();
    write(
        &site,
        "{{ node_id }} {{ env.GREETING }} {{ private_ips | join(',') }} {{ epoch }}",
    );
    let addresses = private_ips(Some(Duration::ZERO)).await.addresses;
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let addresses = addresses.join(",");
    let supervisor = start(&site, &envoy, &["--log-level", "debug"]);
    serves(&site, &format!("front-1 hello {addresses} 0"));

    // The number of the epoch is no change: only what is asked for is.
    supervisor.signal(Signal::HUP);
    site.admin().wait_live(1, LIMIT);
    serves(&site, &format!("front-1 hello {addresses} 1"));
    let kept = fs::read_to_string(site.dir.path().join("run/envoy-rev1.yaml"));
    assert!(kept.expect("the epoch runs").contains(" 1\""));
    write(&site, "{{ env.GREETING }} {{ epoch }}");
    site.admin().wait_live(2, LIMIT);
    serves(&site, "hello 2");
    assert_eq!(supervisor.count_lines("starting epoch"), 3);
    end(&site, supervisor);
}

#[tokio::test]
async fn a_template_that_cannot_be_rendered_keeps_what_serves() {
    let envoy = require_any_envoy!();
    let site = Site::new();
    write(&site, "v0");
    let supervisor = start(&site, &envoy, &[]);
    serves(&site, "v0");
    let file = site.file();
    let file = file.to_str().expect("the path is text");
    for (expression, reason) in [
        ("{{ nothing }}", "nothing is not known"),
        ("{{ env.NO_SUCH }}", "NO_SUCH is not set"),
        (
            "{{ resolve('nowhere.invalid:1') }}",
            "cannot resolve \"nowhere.invalid:1\"",
        ),
        ("{{ 1", "not the syntax of a template"),
    ] {
        write(&site, expression);
        let line = supervisor.wait_for_line(reason, LIMIT).text;
        assert!(line.contains("serves on"), "{line}");
        assert!(line.contains(&format!("{file}, line ")), "{line}");
    }
    serves(&site, "v0");
    assert_eq!(supervisor.count_lines("starting epoch"), 1);

    // What only the next epoch cannot have costs no epoch either.
    write(&site, "{% if epoch == 1 %}{{ nothing }}{% endif %}");
    let line = supervisor.wait_for_line("cannot be rendered for epoch 1", LIMIT);
    assert!(line.text.contains("nothing is not known"), "{}", line.text);
    // Nor does what is rendered and rejected.
    let broken = site.config("v0").broken(Break::UnknownField).render();
    replace_file(&site.file(), broken.as_bytes());
    supervisor.wait_for_line("no such field", LIMIT);
    serves(&site, "v0");
    write(&site, "{{ 'v' ~ 1 }}");
    site.admin().wait_live(1, LIMIT);
    serves(&site, "v1");
    end(&site, supervisor);
}

#[tokio::test]
async fn each_epoch_is_asked_at_the_admin_address_that_it_was_rendered_with() {
    let envoy = require_any_envoy!();
    let site = Site::new();
    let other = Port::free();
    let text = site.config("v0").render().replace(
        &format!("port_value: {} }}", site.admin.number()),
        &format!(
            "port_value: {{{{ [{}, {}][epoch % 2] }}}} }}",
            site.admin.number(),
            other.number()
        ),
    );
    assert!(text.contains("epoch % 2"), "{text}");
    replace_file(&site.file(), text.as_bytes());
    let supervisor = start(&site, &envoy, &[]);
    supervisor.wait_for_line("epoch 0 is live", LIMIT);
    supervisor.signal(Signal::HUP);
    supervisor.wait_for_line("epoch 1 is live", LIMIT);
    EnvoyAdmin::on(other.number()).wait_live(1, LIMIT);
    // The stop goes through the endpoint of the newest epoch too.
    end(&site, supervisor);
}

#[tokio::test]
async fn what_was_rendered_is_validated_and_kept_as_the_last_known_good_one() {
    let envoy = require_any_envoy!();
    let site = Site::new();
    let state = site.dir.path().join("state");
    let flags = [
        "--state-dir",
        state.to_str().expect("the path is text"),
        "--fallback",
        "last-known-good",
    ];
    write(&site, "{{ env.GREETING }}");
    let supervisor = start(&site, &envoy, &flags);
    serves(&site, "hello");
    let kept = state.join("last-known-good");
    eventually(LIMIT, "the last known good configuration", || {
        kept.exists().then_some(())
    });
    end(&site, supervisor);
    let kept = fs::read_to_string(kept).expect("it can be read");
    assert!(kept.contains("\"hello\"") && !kept.contains("GREETING"));

    // One that cannot be rendered, and one that only turns bad by being rendered.
    let good = site.config("v0").render();
    for (text, reason) in [
        ("# {{ nothing }}", "nothing is not known"),
        (
            &*format!("{good}# {{{{ '\\nno_such_field: true' }}}}\n"),
            "no such field",
        ),
    ] {
        replace_file(&site.file(), text.as_bytes());
        let supervisor = start(&site, &envoy, &flags);
        let line = supervisor.wait_for_line("falls back", LIMIT);
        assert!(line.text.contains(reason), "{}", line.text);
        serves(&site, "hello");
        end(&site, supervisor);
    }
}

#[tokio::test]
async fn while_a_template_waits_for_an_address_a_signal_to_end_is_answered() {
    let envoy = require_any_envoy!();
    if !may_be_alone("while_a_template_waits_for_an_address_a_signal_to_end_is_answered") {
        return;
    }
    // It is told once the wait is over, so it is not where the end came first.
    let after_the_wait = "so `private_ips` is empty";
    for serving in [false, true] {
        let site = Site::new();
        let waiting = "{{ private_ips | join(',') }}";
        write(&site, if serving { "v0" } else { waiting });
        let launch = site.launch(&envoy).arg("--template").by("unshare", &ALONE);
        let mut supervisor = launch.start();
        if serving {
            supervisor.wait_for_line("epoch 0 is live", LIMIT);
            write(&site, waiting);
            supervisor.wait_for_line("has changed", LIMIT);
        } else {
            supervisor.wait_for_line("Envoy has the base id", LIMIT);
        }
        supervisor.signal(Signal::TERM);
        assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0));
        assert_eq!(supervisor.count_lines(after_the_wait), 0);
        site.assert_nothing_left();
    }
}

#[tokio::test]
async fn a_node_without_an_address_has_an_empty_list_of_them() {
    let envoy = require_any_envoy!();
    if !may_be_alone("a_node_without_an_address_has_an_empty_list_of_them") {
        return;
    }
    let site = Site::new();
    write(
        &site,
        "{{ private_ips | length }}{% if not private_ips %} none{% endif %}",
    );
    let launch = site.launch(&envoy).arg("--template").by("unshare", &ALONE);
    let supervisor = launch.start();
    supervisor.wait_for_line("so `private_ips` is empty", LIMIT);
    supervisor.wait_for_line("epoch 0 is live", LIMIT);
    let kept = fs::read_to_string(site.dir.path().join("run/envoy-rev0.yaml"));
    assert!(kept.expect("the epoch runs").contains("\"0 none\""));
    end(&site, supervisor);
}
