//! Proxies that bring their own configuration.

use handover_test_support::require_server;

use crate::clients::End;
use crate::servers::world::{Server, measure};

/// Where nginx keeps bodies, in a directory that the package would have made.
const NGINX: &[(&str, &str)] = &[(
    "http {",
    "http {\n client_body_temp_path a; proxy_temp_path b; fastcgi_temp_path c; uwsgi_temp_path d; \
     scgi_temp_path e;",
)];

#[test]
fn nginx_takes_over_its_sockets() {
    let servers = require_server!("nginx");
    let seen = measure(
        &servers,
        &Server {
            heading: "nginx",
            files_of: "nginx",
            changed: "nginx.conf",
            adapted: NGINX,
            http2: Some(8081),
            has_web_sockets: true,
        },
    );
    seen.assert_only_races();
    seen.assert_http2_is_told();
    seen.assert_sockets_end(&[End::Closed, End::Reset]);
}

#[test]
fn haproxy_takes_over_its_sockets() {
    let servers = require_server!("haproxy");
    let seen = measure(
        &servers,
        &Server {
            heading: "HAProxy",
            files_of: "HAProxy",
            changed: "haproxy.cfg",
            adapted: &[],
            http2: Some(8080),
            has_web_sockets: true,
        },
    );
    seen.assert_nothing_lost();
    seen.assert_http2_is_told();
    seen.assert_sockets_end(&[End::Closed, End::Reset]);
}

#[test]
fn caddy_takes_over_its_sockets() {
    let servers = require_server!("caddy");
    let seen = measure(
        &servers,
        &Server {
            heading: "Caddy",
            files_of: "Caddy",
            changed: "Caddyfile",
            adapted: &[],
            http2: Some(8080),
            has_web_sockets: true,
        },
    );
    seen.assert_only_closed_before_the_answer();
    seen.assert_http2_is_told();
    seen.assert_sockets_end(&[End::Announced("a close frame")]);
}
