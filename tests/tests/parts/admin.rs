//! The calls, on an Envoy that answers.

use handover_envoy::admin::{AdminAddress, AdminClient, LivePoll, ServerState};
use handover_envoy::connections::{LocalAddress, accepted};
use handover_envoy::hot_restart::{BaseIdChoice, BaseIdError, HostPaths, OwnedBaseId};
use handover_envoy::version::{EnvoyVersion, hot_restart_version, version};
use handover_test_support::require_envoy;

use crate::support::Host;

#[tokio::test]
async fn every_call_is_understood() {
    let binary = require_envoy!();
    let host = Host::new(binary);
    let mut child = host.start_live(0).await;
    let admin = host.client();

    let info = admin.server_info().await.unwrap();
    assert_eq!((info.state, info.restart_epoch), (ServerState::Live, 0));
    assert_eq!(
        EnvoyVersion::parse(&info.version),
        Some(version(&host.binary).await.unwrap())
    );
    assert_eq!(
        info.hot_restart_version,
        hot_restart_version(&host.binary).await.unwrap().as_str()
    );

    let uptime = admin.stats("^server.(live|concurrency)$").await.unwrap();
    let expected = [("server.concurrency", 2), ("server.live", 1)];
    assert_eq!(
        uptime,
        expected.map(|(name, value)| (name.to_owned(), value))
    );
    // The largest page that Envoy has by itself.
    assert!(admin.stats("").await.unwrap().len() > 100);

    admin.healthcheck_fail().await.unwrap();
    let ready = admin.ready().await.unwrap();
    assert_eq!((ready.serving, &*ready.state), (false, "DRAINING"));
    assert_eq!(
        admin.server_info().await.unwrap().state,
        ServerState::Draining
    );
    admin.healthcheck_ok().await.unwrap();
    assert!(admin.ready().await.unwrap().serving);
    admin.reopen_logs().await.unwrap();
    admin.quit().await.unwrap();
    assert!(child.wait().success());
    assert!(admin.ready().await.unwrap_err().is_nobody_there());
}

#[tokio::test]
async fn unix_sockets_are_reached_by_path_and_by_abstract_name() {
    let binary = require_envoy!();
    let host = Host::new(binary);
    let path = host.run.path().join("admin.sock");
    let name = format!("@handover-test-{}", std::process::id());
    for address in [path.to_str().unwrap(), &name] {
        host.write(
            0,
            &format!("admin: {{address: {{pipe: {{path: \"{address}\"}}}}}}\n"),
        );
        let _child = host.start(0);
        let admin = AdminClient::new(AdminAddress::Unix(address.into()));
        let poll = LivePoll {
            limit: Some(crate::support::LIMIT),
            ..LivePoll::default()
        };
        admin.wait_live(0, &poll).await.unwrap();
    }
}

#[tokio::test]
async fn live_means_the_new_epoch_and_not_the_old_one() {
    let binary = require_envoy!();
    let host = Host::new(binary);
    let mut old = host.start_live(0).await;
    let old_ports = handover_envoy::connections::listening_ports(old.pid()).unwrap();
    assert!(old_ports.contains(&host.web.port()) && old_ports.contains(&host.admin.port()));

    // A client that stays connected to the old epoch.
    let web = LocalAddress::Tcp(host.web);
    let idle = std::net::TcpStream::connect(host.web).unwrap();
    let _new = host.start_live(1).await;
    assert_eq!(host.client().server_info().await.unwrap().restart_epoch, 1);
    let held = accepted(old.pid(), &[web.clone()].into()).unwrap();
    assert_eq!(held, [(web, 1)].into());
    drop(idle);
    assert!(old.wait().success());
}

#[tokio::test]
async fn the_base_id_of_another_agent_is_refused_with_its_pid() {
    let binary = require_envoy!();
    let host = Host::new(binary);
    let _child = host.start_live(0).await;
    // Another agent, which does not share our locks.
    let dir = tempfile::Builder::new()
        .prefix("handover-")
        .tempdir()
        .unwrap();
    let paths = HostPaths::with_locks(dir.path());
    let id = host.base_id.id();
    let error = OwnedBaseId::claim(BaseIdChoice::Explicit(id), "other", &paths).unwrap_err();
    // The network namespace tells of the agent itself, before of its Envoy.
    let agent = format!("pid {}", std::process::id());
    assert!(
        matches!(&error, BaseIdError::Owned { owner, .. } if owner.contains(&agent)),
        "{error}"
    );
    assert!(host.base_id.remove_stale_shared_memory().is_err());
    let other = OwnedBaseId::claim(BaseIdChoice::Auto, "other", &paths).unwrap();
    assert_ne!(other.id(), id);
}
