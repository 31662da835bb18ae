//! The demonstration with a real Envoy in place of the demo server.

use handover_test_support::log::Stream;
use handover_test_support::require_envoy;
use handover_test_support::supervisor::Launch;

use crate::world::LIMIT;

#[test]
fn the_demo_is_the_same_on_a_real_envoy() {
    let envoy = require_envoy!();
    // Each hand-over takes a second or more, so two are enough here.
    let launch = Launch::handover().args(["demo", "--no-progress", "--hand-overs", "2"]);
    let mut running = launch.arg("--envoy").arg(envoy).start();
    let status = running.wait_exit(LIMIT);
    assert_eq!(status.code(), Some(0), "{}", running.log());
    let printed = running.log().text_of(Stream::Stdout);
    for text in [
        "hand-overs 2,",
        "configurations given up 1\n",
        "no such field: 'no_such_field'",
    ] {
        assert!(printed.contains(text), "{text}: {printed}");
    }
    assert!(printed.ends_with("no request was lost\n"), "{printed}");
    let all = printed.lines().find_map(|line| line.strip_prefix("  all "));
    let mut columns = all.expect("a line for all clients").split_whitespace();
    let requests = columns.next().map(|number| number.replace(',', "").parse());
    let requests: u32 = requests.expect("a column").expect("a number");
    assert!(requests > 100, "{printed}");
    assert_eq!(columns.next(), Some("0"), "{printed}");
}
