//! Bytes that go on and on: TCP, Unix sockets, WebSocket, long answers of HTTP/1.1 and HTTP/2.

use handover_test_support::backend::Backend;
use handover_test_support::ports::Port;
use handover_test_support::require_envoy;

use crate::clients::Habit;
use crate::config::{pipe, route, socket};
use crate::http2;
use crate::wires::{answer, echo, echo_backend, requests, tcp, unix, web_socket};
use crate::world::{Plan, Site, measure, versions};

#[test]
fn streams_live_until_the_parent_shutdown_time_and_hold_a_stop() {
    for envoy in versions(require_envoy!()) {
        let site = Site::new();
        let (backend, echoes) = (Backend::start(), echo_backend());
        let (bytes, http) = (Port::free(), Port::free());
        let path = site.dir.path().join("bytes.sock");
        let path = path.to_str().expect("it is text");
        let name = format!("@handover-test-{}", site.base_id());
        let routes = [route("/socket", "echo"), route("/", "backend")];
        let routes: Vec<&str> = routes.iter().map(String::as_str).collect();
        site.write(
            &site
                .bootstrap()
                .bytes("bytes", &socket(bytes.number()), "echo")
                .bytes("path", &pipe(path), "echo")
                .bytes("abstract", &pipe(&name), "echo")
                .http("http", &socket(http.number()), &routes)
                .cluster("echo", echoes)
                .cluster("backend", backend.addr()),
        );
        let keep = Habit::Keep(2);
        let http_requests = || tcp(http.addr());
        let kept = [
            Plan::new("TCP", keep, echo(tcp(bytes.addr()))),
            Plan::new("Unix socket", keep, echo(unix(path.as_ref()))),
            Plan::new("abstract socket", keep, echo(unix(name.as_ref()))),
            Plan::new("WebSocket", keep, web_socket(http_requests())),
            Plan::new(
                "HTTP/1.1, long answer",
                keep,
                answer(http_requests(), "/stream?ms=60000"),
            ),
            Plan::new("HTTP/2, long answer", keep, http2::answer(http.addr())),
        ];
        let each = Habit::Each;
        let new = [
            Plan::new("TCP, new", each, echo(tcp(bytes.addr()))),
            Plan::new("Unix socket, new", each, echo(unix(path.as_ref()))),
            Plan::new("abstract socket, new", each, echo(unix(name.as_ref()))),
            Plan::new("WebSocket, new", each, web_socket(http_requests())),
            Plan::new("HTTP/1.1, new", each, requests(http_requests(), "/")),
            Plan::new("HTTP/2, new", each, http2::requests(http.addr())),
        ];
        let kept_names = kept.each_ref().map(|plan| plan.name);
        let new_names = new.each_ref().map(|plan| plan.name);
        let plans: Vec<Plan> = kept.into_iter().chain(new).collect();
        let seen = measure(&site, &envoy, &plans);
        seen.print();
        for name in kept_names {
            seen.assert_kept_until_parent_shutdown(name);
        }
        for name in new_names {
            seen.assert_hand_over_loses_nothing(name);
            seen.assert_stop_only_refuses(name);
        }
        let listeners = [
            format!("127.0.0.1_{}", bytes.number()),
            format!("127.0.0.1_{}", http.number()),
            path.to_owned(),
            name.clone(),
        ];
        for listener in listeners {
            seen.assert_stop_was_held_by(&listener);
        }
    }
}
