//! Epochs that have to prove themselves after they are live.

use handover_test_support::ports::Port;

use crate::client::get;
use crate::control::Place;
use crate::support::{eventually, exec_server, output_of, replace, stderr};

/// The first epoch proves itself in this time. A failure of a later one shows in its first look.
const QUICK: [&str; 4] = ["--probation", "3s", "--verify-failures", "1"];

fn with<'a>(flags: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    flags.iter().chain(more).copied().collect()
}

#[test]
fn a_verify_command_that_fails_leads_back_to_what_served_before() {
    let place = Place::new();
    let check = "echo checks epoch $HANDOVER_EPOCH; test $HANDOVER_EPOCH != 1";
    let flags = with(&QUICK, &["--verify", check, "--verify-timeout", "60s"]);
    let (handover, config) = place.server("web", &flags);
    let address = handover.address();
    assert_eq!(place.status()["probation"]["epoch"], 0);
    handover.says("epoch 0 has passed its probation");

    replace(&config, "two");
    let line = handover.says("epoch 1 makes room for what served before: it was found unfit: ");
    let evidence = "has failed: exited with code 1: checks epoch 1";
    assert!(line.contains("--verify `echo checks epoch"), "{line}");
    assert!(line.contains(evidence), "{line}");
    eventually("the next epoch", || {
        (get(address, "/").ok()?.epoch == 2).then_some(())
    });
    let status = eventually("the end of the unfit epoch", || {
        let status = place.status();
        (status["epochs"].as_array()?.len() == 1).then_some(status)
    });
    assert_eq!(status["unfit"]["epoch"], 1, "{status}");
    let told = status["unfit"]["evidence"].as_str().unwrap();
    assert!(told.ends_with(evidence), "{told}");
    assert_eq!(status["degraded"], true, "{status}");
    assert_eq!(status["current_is_desired"], false, "{status}");
    let table = place.ask(&["status"]);
    assert!(
        table.stdout.contains("\nunfit        epoch 1: --verify `"),
        "{table:?}"
    );
}

#[test]
fn a_reload_through_the_probation_tells_how_it_has_ended() {
    let place = Place::new();
    let check = "test $HANDOVER_EPOCH != 2";
    let flags = with(&QUICK, &["--verify", check, "--verify-timeout", "60s"]);
    let (handover, _) = place.server("web", &flags);
    handover.says("epoch 0 has passed its probation");
    let through = ["reload", "--wait", "--through-probation"];
    place.ask(&through).is(0, "epoch 1 is live");
    assert_eq!(handover.stderr.count("epoch 1 has passed its probation"), 1);
    let refused = place.ask(&through);
    refused.is(65, "the configuration was given up after epoch 2: ");
    refused.is(
        65,
        "--verify `test $HANDOVER_EPOCH != 2` has failed: exited with code 1",
    );
}

#[test]
fn a_reload_waits_for_live_only_unless_asked_for_more() {
    let place = Place::new();
    let (_handover, _) = place.server("web", &["--probation", "1h"]);
    place.ask(&["reload", "--wait"]).is(0, "epoch 1 is live");
    assert_eq!(place.status()["probation"]["epoch"], 1);
    let table = place.ask(&["status"]);
    assert!(
        table
            .stdout
            .contains("\non probation epoch 1, for another 59m "),
        "{table:?}"
    );
    let late = ["reload", "--wait", "--through-probation", "--timeout", "1s"];
    // The next epoch may need longer than that to be live.
    let late = place.ask(&late);
    assert_eq!(late.code, 75, "{late:?}");
}

#[test]
fn a_verify_command_that_hangs_has_failed_after_its_time() {
    let place = Place::new();
    let pid = place.path("pid");
    let check = format!(
        "test $HANDOVER_EPOCH = 0 && exit 0; echo $$ > {}; echo waits; sleep 600",
        pid.display()
    );
    let flags = [
        "--probation",
        "12s",
        "--verify-failures",
        "1",
        "--verify-timeout",
        "5s",
        "--verify",
        &check,
    ];
    let (handover, config) = place.server("web", &flags);
    handover.says("epoch 0 has passed its probation");
    replace(&config, "two");
    let line = handover.says("epoch 1 makes room for what served before: it was found unfit: ");
    assert!(
        line.contains("has failed: not done within 5s: waits"),
        "{line}"
    );
    let pid = std::fs::read_to_string(pid).unwrap();
    let stat = format!("/proc/{}/stat", pid.trim());
    eventually("the end of the command", || {
        let stat = std::fs::read_to_string(&stat);
        stat.map_or(Some(()), |stat| stat.contains(") Z ").then_some(()))
    });
}

#[test]
fn a_first_epoch_that_is_unfit_is_reported_and_serves_on() {
    let check = "echo never >&2; exit 1";
    let flags = [
        "--probation",
        "1h",
        "--verify-failures",
        "2",
        "--verify",
        check,
    ];
    let handover = exec_server(&flags, &[]);
    let address = handover.address();
    let line = handover.says("epoch 0 serves on, because nothing is known to go back to: ");
    assert!(
        line.contains("has failed 2 times in a row: exited with code 1: never"),
        "{line}"
    );
    assert_eq!(get(address, "/").unwrap().epoch, 0);
    assert_eq!(handover.stderr.count("starting epoch"), 1);
}

#[test]
fn a_command_that_cannot_be_run_proves_nothing_and_is_told_once() {
    let flags = ["--verify", "there-is-no-such-command", "--probation", "3s"];
    let handover = exec_server(&flags, &[]);
    let line = handover.says("could not be tried, so it proves nothing: ");
    assert!(line.contains("there-is-no-such-command"), "{line}");
    handover.says("epoch 0 has passed its probation");
    assert_eq!(handover.stderr.count("could not be tried"), 1);
}

#[test]
fn a_probe_that_is_refused_is_evidence() {
    // Nobody listens there, and no other test takes it.
    let port = Port::free();
    let closed = port.addr().to_string();
    let url = format!("http://{closed}/health");
    for flags in [
        ["--verify-tcp", closed.as_str()],
        ["--verify-http", url.as_str()],
    ] {
        let flags = with(&QUICK, &flags);
        let handover = exec_server(&flags, &[]);
        let line = handover.says("epoch 0 serves on, because nothing is known to go back to: ");
        assert!(line.contains(&flags[4..].join(" ")), "{line}");
        assert!(
            line.contains(&format!("could not connect to {closed}")),
            "{line}"
        );
    }
}

#[test]
fn what_answers_passes() {
    let server = exec_server(&["--probation", "0"], &[]);
    server.says("epoch 0 is live");
    let address = server.address().to_string();
    let url = format!("http://{address}/");
    let flags = [
        "--probation",
        "2s",
        "--verify-timeout",
        "60s",
        "--verify-tcp",
        &address,
        "--verify-http",
        &url,
    ];
    let handover = exec_server(&flags, &[]);
    handover.says("epoch 0 has passed its probation");
    assert_eq!(handover.stderr.count("unfit"), 0);
    // Without a probation there is none to pass.
    assert_eq!(server.stderr.count("probation"), 0);
}

#[test]
fn what_cannot_be_verified_is_refused() {
    let refused = |flags: &[&str]| {
        let words = ["exec"].into_iter().chain(flags.iter().copied());
        let output = output_of(words.chain(["--", "true"]));
        assert_eq!(output.status.code(), Some(64), "{output:?}");
        stderr(&output)
    };
    let https = refused(&["--verify-http", "https://localhost:1/"]);
    let remedy = "https is not supported; use --verify 'curl -fsS https://localhost:1/'";
    assert!(https.contains(remedy), "{https}");
    let url = refused(&["--verify-http", "localhost:1/"]);
    assert!(url.contains("write http://HOST:PORT/PATH"), "{url}");
    let path = refused(&["--verify-http", "http://127.0.0.1:1/a b"]);
    assert!(path.contains("has no spaces"), "{path}");
    let off = refused(&["--probation", "0", "--verify", "true"]);
    assert!(off.contains("--verify needs a probation"), "{off}");
    let none = refused(&["--verify", " "]);
    assert!(none.contains("--verify needs a command"), "{none}");
    let time = refused(&["--verify-timeout", "0s"]);
    assert!(time.contains("nothing can be seen in no time"), "{time}");
    for bad in ["5", "101%"] {
        let words = ["run", "--config-path", "/dev/null", "--max-error-rise", bad];
        let output = output_of(words);
        assert_eq!(output.status.code(), Some(64));
        let said = stderr(&output);
        assert!(
            said.contains("write a number up to 100 with a percent sign"),
            "{said}"
        );
    }
    let words = ["run", "--config-path", "/dev/null", "--probation=0"];
    let output = output_of(words.into_iter().chain(["--max-error-rise", "5%"]));
    assert!(
        stderr(&output).contains("--max-error-rise needs a probation"),
        "{output:?}"
    );
}
