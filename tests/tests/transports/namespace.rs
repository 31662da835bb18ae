//! Listeners in another network namespace than Envoy (`network_namespace_filepath`).

use std::path::{Path, PathBuf};

use handover_test_support::envoy_bin::report_skip;
use handover_test_support::limit::poll;
use handover_test_support::ports::Port;
use handover_test_support::require_envoy;
use handover_test_support::supervisor::{Launch, Supervisor};

use crate::clients::Habit;
use crate::config::Bootstrap;
use crate::wires::{echo, echo_backend, tcp_within};
use crate::world::{LIMIT, Plan, Site, measure, versions};

/// A network namespace with a loopback interface. It lasts as long as its process.
pub(crate) struct Namespace(Supervisor);

impl Namespace {
    /// None where the rights for it are missing.
    pub(crate) fn new(test: &str) -> Option<Self> {
        let script = "ip link set lo up && echo up && exec sleep 600";
        let process = Launch::program("unshare")
            .args(["--net", "sh", "-c", script])
            .start();
        let is_up = || process.log().lines().iter().any(|line| line.text == "up");
        let settled = poll(LIMIT, || (is_up() || !process.is_running()).then(is_up));
        if settled == Some(true) {
            return Some(Self(process));
        }
        report_skip(
            test,
            "no network namespace can be made (it needs root, unshare and ip)",
        );
        None
    }

    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.0.pid()).into()
    }
}

/// A bootstrap with a listener in the namespace that this file stands for.
pub(crate) fn bootstrap(site: &Site, port: &Port, namespace: &Path) -> Bootstrap {
    let address = format!(
        "socket_address: {{ address: 127.0.0.1, port_value: {}, network_namespace_filepath: \"{}\" }}",
        port.number(),
        namespace.display()
    );
    let plain = site.bootstrap().cluster("echo", echo_backend());
    plain.bytes("elsewhere", &address, "echo")
}

#[test]
fn listeners_in_another_network_namespace_are_handed_over() {
    let test = "namespace::listeners_in_another_network_namespace_are_handed_over";
    for envoy in versions(require_envoy!()) {
        let Some(namespace) = Namespace::new(test) else {
            return;
        };
        let (site, port) = (Site::new(), Port::free());
        site.write(&bootstrap(&site, &port, &namespace.path()));
        let to = || echo(tcp_within(namespace.path(), port.addr()));
        let (kept, new) = ("other namespace", "other namespace, new");
        let plans = [
            Plan::new(kept, Habit::Keep(2), to()),
            Plan::new(new, Habit::Each, to()),
        ];
        let seen = measure(&site, &envoy, &plans);
        seen.print();
        seen.assert_kept_until_parent_shutdown(kept);
        // Older ones bind a socket of their own there (envoyproxy/envoy#43653), and what waits at that
        // of the old epoch is reset.
        if seen.version >= (1, 38, 0) {
            seen.assert_hand_over_loses_nothing(new);
        }
        seen.assert_stop_was_held_by(&format!("127.0.0.1_{}", port.number()));
        seen.assert_stop_only_refuses(new);
    }
}
