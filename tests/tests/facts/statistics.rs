//! Facts 12 to 14: what the admin endpoint tells of itself and of the parent, and what it may not tell.

use handover_test_support::bare_envoy::{BareEnvoy, Epoch, LIMIT};
use handover_test_support::kept_connection::KeptConnection;
use handover_test_support::limit::eventually;

use crate::subject::Subject;
use crate::world::listener_stat;

const ACTIVE: &str = "downstream_cx_active";
const TOTAL: &str = "downstream_cx_total";

/// The gauges and the counters of the parent come into those of its child, every five seconds.
pub(crate) fn a_childs_statistics_contain_its_parents(subject: &Subject) {
    let (host, _epochs, mut of_parent) = connected_to_the_parent(subject, &[]);
    let what = "the parent's connection among the child's";
    eventually(LIMIT, what, || {
        (listener_stat(&host, ACTIVE) == Some(1)).then_some(())
    });
    // The child has taken no connection by itself.
    assert_eq!(listener_stat(&host, TOTAL), Some(1));
    assert_eq!(host.admin().stat("server.parent_connections"), Some(1));
    assert!(of_parent.get("/").is_ok(), "it is there all the time");
    drop(of_parent);
    let what = "the end of the parent's connection among the child's";
    eventually(LIMIT, what, || {
        (listener_stat(&host, ACTIVE) == Some(0)).then_some(())
    });
}

/// A flag keeps them apart; then each counter begins at zero.
pub(crate) fn a_flag_keeps_the_parents_statistics_out(subject: &Subject) {
    let words = ["--skip-hot-restart-parent-stats"];
    let (host, _epochs, mut of_parent) = connected_to_the_parent(subject, &words);
    // The second merge would be due.
    std::thread::sleep(subject.seconds(5.5));
    assert_eq!(listener_stat(&host, ACTIVE), Some(0));
    assert_eq!(listener_stat(&host, TOTAL), Some(0));
    assert!(of_parent.get("/").is_ok());
}

/// A connection that the parent holds, while the child is live.
fn connected_to_the_parent(
    subject: &Subject,
    words: &[&str],
) -> (BareEnvoy, [Epoch; 2], KeptConnection) {
    let host = subject
        .host()
        .with_flag("--parent-shutdown-time-s", "100")
        .with_flag("--drain-time-s", "90");
    let parent = host.live(0);
    let mut connection = KeptConnection::open(host.web(), LIMIT).expect("it listens");
    assert!(connection.get("/").is_ok());
    let child = host.start_with(1, &host.config("v1"), words);
    host.wait_live_of(1, &child);
    (host, [parent, child], connection)
}

/// A matcher may drop any statistic, also those by which connections could be counted.
pub(crate) fn a_matcher_drops_the_gauges_of_the_listener(subject: &Subject) {
    let host = subject.host();
    let _epoch_0 = host.live_with(0, &host.config("v0").append(WITHOUT_LISTENERS));
    assert_eq!(host.served_by().ok().as_deref(), Some("v0"));
    let stats = host.ask("/stats").expect("it answers").text();
    assert!(stats.contains("\nserver.live: 1\n"), "{stats}");
    assert!(!stats.contains("listener.127.0.0.1"), "{stats}");
}

const WITHOUT_LISTENERS: &str = "stats_config:
  stats_matcher:
    exclusion_list:
      patterns:
      - prefix: \"listener.\"
";

/// A listener is called in the statistics as its configuration says, be it by the name of the admin endpoint.
pub(crate) fn a_listener_has_a_name_of_its_choice_in_the_statistics(subject: &Subject) {
    let host = subject.host();
    let _epoch_0 = host.live_with(0, &host.config("v0").stat_prefix("admin_like"));
    let mut connection = KeptConnection::open(host.web(), LIMIT).expect("it listens");
    assert!(connection.get("/").is_ok());
    assert_eq!(listener_stat(&host, ACTIVE), None);
    let gauge = host
        .admin()
        .stat("listener.admin_like.downstream_cx_active");
    assert_eq!(gauge, Some(1));
}

/// The admin endpoint may be narrowed to some paths. It refuses all others by 403. Before 1.37 the field is unknown.
pub(crate) fn the_admin_endpoint_may_be_narrowed(subject: &Subject) {
    let host = subject.host();
    let config = host.config("v0").allow_path("/ready").allow_path("/stats");
    let mut epoch_0 = host.start(0, &config);
    if !subject.is_since(1, 37) {
        epoch_0.wait().assert_exit(1, "'allow_paths'");
        return;
    }
    host.wait_served_by("v0");
    let status = |path| host.ask(path).map(|answer| answer.status).ok();
    assert_eq!(status("/ready"), Some(200));
    assert_eq!(status("/stats"), Some(200));
    assert_eq!(status("/server_info"), Some(403));
    let order = host.order("/quitquitquit").map(|answer| answer.status);
    assert_eq!(order.ok(), Some(403));
}
