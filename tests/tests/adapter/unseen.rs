//! A new epoch that serves and cannot be seen live. It has taken the listeners over, so when it is
//! ended nobody listens, unless the old configuration is started again.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use handover_core::retry::Retry;
use handover_core::{Event, Policy};
use handover_test_support::limit::within;
use handover_test_support::require_any_envoy;

use crate::world::{LIMIT, Setup, World};

/// The text of a configuration with this name and another admin block.
pub(crate) fn with_admin(world: &World, name: &str, admin: &str) -> String {
    let path = world.write(name, None);
    let text = std::fs::read_to_string(path).expect("it was written");
    let (_, rest) = text
        .split_once("static_resources:")
        .expect("it has listeners");
    format!("{admin}\nstatic_resources:{rest}")
}

/// Asks for this text, which must be given up, and returns why.
pub(crate) async fn is_given_up(world: &World, text: &str) -> String {
    let applied = world.handle.apply_and_wait(world.config_of(text));
    let error = within(LIMIT, "the configuration to be given up", applied).await;
    error.expect_err("it cannot be seen live").to_string()
}

/// Waits until the old configuration serves as another epoch.
pub(crate) async fn serves_again(world: &mut World) {
    world.next_success().await;
    world.served_by("v0").await;
    let events = world.events();
    let stopped = |event: &Event| matches!(event, Event::StoppedServing { .. });
    assert!(events.iter().any(stopped), "{events:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_in_another_directory_is_told_and_the_old_configuration_serves_again() {
    let envoy = require_any_envoy!();
    let elsewhere = tempfile::Builder::new()
        .prefix("handover-")
        .tempdir()
        .expect("a directory");
    let script = elsewhere.path().join("envoy");
    let text = format!(
        "#!/bin/sh\ncd '{}' && exec '{}' \"$@\"\n",
        elsewhere.path().display(),
        envoy.path().display()
    );
    std::fs::write(&script, text).expect("a script");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("its mode");
    let setup = Setup::brisk();
    let setup = Setup {
        policy: Policy {
            start_deadline: Some(Duration::from_secs(3)),
            // The clients go on asking, so it never drains.
            abort_grace: Duration::from_secs(1),
            // Each attempt costs the old configuration its listeners, and none costs it its retry.
            retry: Retry::new(1, Duration::from_millis(50)),
            ..setup.policy
        },
        // The new one, which nobody sees, must not end the old one before.
        parent_shutdown_time: Duration::from_secs(12),
        ..setup
    };
    let mut world = World::with(&envoy.at(&script), setup).await;
    world.events();
    let text = with_admin(
        &world,
        "v1",
        "admin: { address: { pipe: { path: admin.sock } } }",
    );
    let why = is_given_up(&world, &text).await;
    let directory = elsewhere.path().display().to_string();
    for told in [
        "unix:admin.sock",
        "not live by its start deadline",
        "give admin.address an absolute path",
        &directory,
    ] {
        assert!(why.contains(told), "{why}");
    }
    serves_again(&mut world).await;
    let (_, _) = world.end().await;
}
