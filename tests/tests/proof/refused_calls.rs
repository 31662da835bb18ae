//! Calls of the system that a container refuses because it does not know them.

use handover_test_support::limit::eventually;
use handover_test_support::refused_calls::NEWER;
use handover_test_support::require_any_envoy;
use rustix::io::Errno;
use rustix::process::{Pid, kill_process};

use handover_test_support::supervisor::Signal;

use crate::world::{LIMIT, Site};

/// `EPERM` is what Docker answered before 20.10.10 to a call that its libseccomp had not heard of.
#[test]
fn a_container_that_knows_no_newer_calls_costs_nothing() {
    let envoy = require_any_envoy!();
    for errno in [Errno::PERM, Errno::NOSYS] {
        let site = Site::new();
        let serves = |name: &str| {
            eventually(LIMIT, name, || {
                let answer = handover_test_support::http::get(site.listener.addr(), "/", LIMIT);
                (answer.ok()?.header("x-config") == Some(name)).then_some(())
            });
        };
        site.write("v0");
        let errno = u16::try_from(errno.raw_os_error()).expect("it is small");
        let launch = site.launch(&envoy).refuse(&NEWER, errno);
        let mut supervisor = launch.start();
        serves("v0");
        site.write("v1");
        serves("v1");
        supervisor.wait_for_line("epoch 0 ended", LIMIT);
        let killed = supervisor.children();
        for pid in &killed {
            let pid = i32::try_from(*pid).ok().and_then(Pid::from_raw);
            kill_process(pid.expect("a process id"), Signal::KILL).expect("it runs");
        }
        eventually(LIMIT, "another Envoy", || {
            let now = supervisor.children();
            (now.len() == 1 && now != killed).then_some(())
        });
        serves("v1");
        supervisor.signal(Signal::TERM);
        let status = supervisor.wait_exit(LIMIT);
        assert_eq!(status.code(), Some(0), "{}", supervisor.log());
        site.assert_nothing_left();
    }
}
