//! Requests on connections that are kept, whose end a server announces: HTTP/1.1 and HTTP/2.

use handover_test_support::backend::Backend;
use handover_test_support::ports::Port;
use handover_test_support::require_envoy;

use crate::clients::Habit;
use crate::config::{route, socket};
use crate::http2;
use crate::wires::{requests, tcp};
use crate::world::{Plan, Site, measure, versions};

#[test]
fn requests_on_kept_connections_are_asked_to_go_and_none_is_lost() {
    for envoy in versions(require_envoy!()) {
        let (site, backend, port) = (Site::new(), Backend::start(), Port::free());
        site.write(
            &site
                .bootstrap()
                .http("http", &socket(port.number()), &[&route("/", "backend")])
                .cluster("backend", backend.addr()),
        );
        let (one, two) = ("HTTP/1.1 requests", "HTTP/2 requests");
        let plans = [
            Plan::new(one, Habit::Renew, requests(tcp(port.addr()), "/")),
            Plan::new(two, Habit::Renew, http2::requests(port.addr())),
        ];
        let seen = measure(&site, &envoy, &plans);
        seen.print();
        for name in [one, two] {
            seen.assert_hand_over_loses_nothing(name);
            seen.assert_stop_only_refuses(name);
            let noted = seen.of(name).remove(0);
            // Those of the old epoch in the hand-over, and those of the new one in the stop.
            let asked = |from, to| noted.ends(from, to).len();
            assert!(
                asked(seen.asked, seen.stop) >= 2,
                "{name}: {:?}",
                seen.version
            );
            assert!(
                asked(seen.stop, seen.stopped) >= 2,
                "{name}: {:?}",
                seen.version
            );
        }
        // No client holds a stop that goes when it is asked to.
        assert_eq!(seen.code, Some(0));
    }
}
