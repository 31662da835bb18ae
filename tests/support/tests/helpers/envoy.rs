use std::net::TcpListener;
use std::path::Path;

use handover_test_support::backend::Backend;
use handover_test_support::envoy_admin::EnvoyAdmin;
use handover_test_support::envoy_config::{Break, EnvoyConfig};
use handover_test_support::http;
use handover_test_support::leftovers::Leftovers;
use handover_test_support::limit::eventually;
use handover_test_support::load::{Load, Mix};
use handover_test_support::ports::{BaseId, Port};
use handover_test_support::require_envoy;
use handover_test_support::supervisor::{Launch, Signal};

use crate::LONG;

#[tokio::test]
async fn a_real_envoy_serves_the_configuration_and_leaves_only_its_shared_memory() {
    let envoy = require_envoy!();
    let backend = Backend::start();
    let world = World::new();
    let second = Port::free();
    let config = world
        .config("one")
        .backend(backend.addr())
        .also_listen(second.number());
    let guard = Leftovers::watch()
        .base_id(world.base_id.number())
        .listener(world.listener.addr())
        .listener(second.addr());
    config.write_to(&world.file());
    let mut envoy = world.envoy(&envoy).tag(guard.tag()).start();
    EnvoyAdmin::on(world.admin.number()).wait_live(0, LONG);

    let load = Load::start(world.listener.addr(), Mix::default());
    eventually(LONG, "answers by the configuration", || {
        (load.progress().ok_from("one") >= 100).then_some(())
    });
    let report = load.stop().await;
    report.assert_no_loss();
    assert_eq!(report.ok_from("one"), report.requests);
    assert_eq!(backend.requests(), report.requests);
    let response = http::get(second.addr(), "/slow?ms=1", LONG).unwrap();
    assert_eq!(
        (response.status, response.header("x-config")),
        (200, Some("one"))
    );
    assert_eq!(
        EnvoyAdmin::on(world.admin.number()).stat("server.live"),
        Some(1)
    );

    envoy.signal(Signal::TERM);
    assert!(envoy.wait_exit(LONG).success());
    let left = guard.list();
    assert_eq!(
        left,
        [format!(
            "shared memory {}",
            world.base_id.shared_memory().display()
        )]
    );
    drop(world);
    guard.assert_nothing_left(LONG);
}

#[test]
fn a_direct_response_carries_the_name() {
    let envoy = require_envoy!();
    let world = World::new();
    world
        .config("no upstream")
        .reuse_port(false)
        .write_to(&world.file());
    let envoy = world.envoy(&envoy).start();
    EnvoyAdmin::on(world.admin.number()).wait_live(0, LONG);
    let response = http::get(world.listener.addr(), "/", LONG).unwrap();
    assert_eq!(response.header("x-config"), Some("no upstream"));
    assert_eq!(response.text(), "no upstream");
    assert!(envoy.is_running());
}

#[test]
fn validation_accepts_a_sound_configuration_and_names_each_visible_fault() {
    let envoy = require_envoy!();
    let world = World::new();
    let sound = world
        .config("sound")
        .backend(([127, 0, 0, 1], 1).into())
        .reuse_port(true);
    sound.write_to(&world.file());
    validate(&envoy, &world.file()).unwrap();

    let faults = [
        (Break::YamlError, "end of sequence flow not found"),
        (Break::UnknownField, "no_such_field"),
        (Break::MissingCertificate, "/nonexistent/key.pem"),
    ];
    for (fault, message) in faults {
        sound.clone().broken(fault).write_to(&world.file());
        let error = validate(&envoy, &world.file()).unwrap_err();
        assert!(error.contains(message), "{fault:?}: {error}");
    }
}

#[test]
fn a_taken_port_ends_an_envoy_that_validation_accepts() {
    let envoy = require_envoy!();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for fault in [Break::PortConflict(port), Break::AdminPortTaken(port)] {
        let world = World::new();
        world.config("taken").broken(fault).write_to(&world.file());
        validate(&envoy, &world.file()).unwrap();
        let mut envoy = world.envoy(&envoy).start();
        assert_eq!(
            envoy.wait_exit(LONG).code(),
            Some(1),
            "{fault:?}\n{}",
            envoy.log()
        );
        let text = envoy.log().to_string();
        assert!(text.contains("Address already in use"), "{fault:?}\n{text}");
    }
}

/// What one Envoy needs for itself.
struct World {
    directory: tempfile::TempDir,
    base_id: BaseId,
    admin: Port,
    listener: Port,
}

impl World {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            base_id: BaseId::free(),
            admin: Port::free(),
            listener: Port::free(),
        }
    }

    fn file(&self) -> std::path::PathBuf {
        self.directory.path().join("envoy.yaml")
    }

    fn config(&self, name: &str) -> EnvoyConfig {
        EnvoyConfig::new(name, self.admin.number(), self.listener.number())
    }

    fn envoy(&self, envoy: &Path) -> Launch {
        let base_id = self.base_id.number().to_string();
        Launch::program(envoy)
            .args(["--base-id", &base_id, "--concurrency", "2"])
            .arg("-c")
            .arg(self.file())
    }
}

fn validate(envoy: &Path, config: &Path) -> Result<(), String> {
    let launch = Launch::program(envoy)
        .args(["--mode", "validate", "-c"])
        .arg(config);
    let mut envoy = launch.start();
    match envoy.wait_exit(LONG).success() {
        true => Ok(()),
        false => Err(envoy.log().to_string()),
    }
}
