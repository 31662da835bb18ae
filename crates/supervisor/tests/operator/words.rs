//! What clients read when an ask was not granted.

use std::time::Duration;

use handover_core::Epoch;
use handover_supervisor::operator::{Condition, Refusal, Report, WaitedFor};

#[test]
fn each_refusal_is_told_in_words() {
    let report = || Report::new("no such cluster");
    let given_up = |report| Refusal::GivenUp {
        epoch: Epoch::new(3),
        report,
    };
    let timed_out = |waited_for| Refusal::TimedOut {
        limit: Duration::from_millis(1_500),
        waited_for,
    };
    let refusals = [
        Refusal::NotSupported(report()),
        Refusal::Ending,
        Refusal::NotRead(report()),
        given_up(Some(report())),
        given_up(None),
        Refusal::Replaced,
        Refusal::NotRestarted,
        Refusal::NotTaken,
        Refusal::NotKept(report()),
        Refusal::Failed(report()),
        Refusal::ClientsUnknown(vec!["a pipe of epoch 0".to_owned()]),
        timed_out(WaitedFor::Read),
        timed_out(WaitedFor::Live),
        timed_out(WaitedFor::Keep),
        timed_out(WaitedFor::Proxy),
        timed_out(WaitedFor::Clients),
        timed_out(WaitedFor::End),
        timed_out(WaitedFor::Condition(Condition::Ready)),
        timed_out(WaitedFor::Condition(Condition::Live)),
        timed_out(WaitedFor::Condition(Condition::Current)),
    ];
    let lines = refusals.map(|refusal| refusal.to_string()).join("\n");
    insta::assert_snapshot!(lines, @r"
    no such cluster
    everything is ending
    no such cluster
    the configuration was given up after epoch 3: no such cluster
    the configuration was given up after epoch 3
    another configuration was asked for before this one was live
    the proxy ended cleanly and is not restarted
    no configuration is taken from clients
    the configuration is live, but could not be kept: no such cluster
    no such cluster
    it cannot be seen whether clients are connected
    the files were still being read after 1.5s
    the configuration was not live after 1.5s
    the configuration was live and not kept after 1.5s
    the proxy had not answered after 1.5s
    clients were still connected after 1.5s
    something was still running after 1.5s
    no epoch was ready after 1.5s
    no epoch was live after 1.5s
    the desired configuration did not serve after 1.5s
    ");
}
