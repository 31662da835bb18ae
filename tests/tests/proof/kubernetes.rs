//! What is shipped in `deploy/kubernetes`: each manifest is understood by the types of Kubernetes, its times add
//! up, and the command line of its Envoy does on this host what the page promises.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use handover_test_support::http;
use handover_test_support::limit::eventually;
use handover_test_support::load::{Load, Mix};
use handover_test_support::ports::Port;
use handover_test_support::require_envoy;
use handover_test_support::supervisor::{Launch, Signal, handover_bin};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, PodSpec, Probe, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use crate::world::{LIMIT, Site};

/// What is left when each step of the end has taken all of its time.
const SPARE: u64 = 5;

/// `--abort-grace` by default, in seconds.
const ABORT_GRACE: u64 = 5;

/// The codes that no other start mends, from the table of exit codes.
const PERMANENT: [i32; 5] = [64, 65, 77, 126, 127];

const FILES: [&str; 5] = ["deployment", "daemonset", "sidecar", "job", "pod"];

/// What one file holds.
#[derive(Default)]
struct Manifest {
    maps: Vec<ConfigMap>,
    pods: Vec<PodSpec>,
    jobs: Vec<Job>,
    services: Vec<Service>,
    budgets: Vec<PodDisruptionBudget>,
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kubernetes")
}

fn read(name: &str) -> Manifest {
    let path = directory().join(format!("{name}.yaml"));
    let text = std::fs::read_to_string(&path).expect("the manifest");
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut manifest = Manifest::default();
    for document in documents {
        let kind = document.get("kind").and_then(Value::as_str);
        match kind.expect("a kind") {
            "ConfigMap" => manifest.maps.push(typed(&document)),
            "Service" => manifest.services.push(typed(&document)),
            "PodDisruptionBudget" => manifest.budgets.push(typed(&document)),
            "Deployment" => {
                let deployment: Deployment = typed(&document);
                let template = deployment.spec.expect("a spec").template;
                manifest.pods.extend(template.spec);
            }
            "DaemonSet" => {
                let daemons: DaemonSet = typed(&document);
                let template = daemons.spec.expect("a spec").template;
                manifest.pods.extend(template.spec);
            }
            "Job" => {
                let job: Job = typed(&document);
                manifest.jobs.push(job.clone());
                let template = job.spec.expect("a spec").template;
                manifest.pods.extend(template.spec);
            }
            "Pod" => {
                let pod: Pod = typed(&document);
                manifest.pods.extend(pod.spec);
            }
            other => panic!("{name}: nothing knows a {other}"),
        }
    }
    manifest
}

/// Reads a document into the type of its kind. A field that the type does not know would be dropped in silence, as
/// by a server that does not know it.
fn typed<T: serde::de::DeserializeOwned + serde::Serialize>(document: &Value) -> T {
    let read: T = serde_json::from_value(document.clone()).expect("the type of its kind");
    let kept = serde_json::to_value(&read).expect("a value");
    let mut lost = Vec::new();
    compare(document, &kept, String::new(), &mut lost);
    assert_eq!(lost, [""; 0], "unknown fields of {}", document["kind"]);
    read
}

fn compare(written: &Value, kept: &Value, at: String, lost: &mut Vec<String>) {
    match (written, kept) {
        (Value::Object(written), Value::Object(kept)) => {
            for (key, value) in written {
                let at = format!("{at}.{key}");
                match kept.get(key) {
                    Some(kept) => compare(value, kept, at, lost),
                    // What is empty is the same as what is not there.
                    None if value.as_object().is_some_and(serde_json::Map::is_empty) => {}
                    None => lost.push(at),
                }
            }
        }
        (Value::Array(written), Value::Array(kept)) if written.len() == kept.len() => {
            for (index, (value, kept)) in written.iter().zip(kept).enumerate() {
                compare(value, kept, format!("{at}[{index}]"), lost);
            }
        }
        (written, kept) if written == kept => {}
        (_, _) => lost.push(at),
    }
}

fn containers(pod: &PodSpec) -> impl Iterator<Item = &Container> {
    let first = pod.init_containers.iter().flatten();
    first.chain(&pod.containers)
}

/// The container in which Handover keeps an Envoy running.
fn supervised(pod: &PodSpec) -> &Container {
    let mut found = containers(pod).filter(|it| words(it).any(|word| word == "run"));
    let one = found.next().expect("one runs Envoy");
    assert!(found.next().is_none(), "only one runs Envoy");
    one
}

fn words(container: &Container) -> impl Iterator<Item = &str> {
    let command = container.command.iter().flatten();
    command
        .chain(container.args.iter().flatten())
        .map(String::as_str)
}

fn flag<'a>(container: &'a Container, name: &str) -> Option<&'a str> {
    words(container).find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

fn seconds(text: &str) -> u64 {
    let number = text.strip_suffix('s').expect("whole seconds");
    number.parse().expect("whole seconds")
}

/// The command of the hook before TERM.
fn hook(container: &Container) -> Option<Vec<String>> {
    let hook = container.lifecycle.as_ref()?.pre_stop.as_ref()?;
    hook.exec.as_ref()?.command.clone()
}

fn hook_seconds(container: &Container) -> u64 {
    let hook = hook(container).unwrap_or_default();
    let limit = hook.iter().find_map(|word| word.strip_prefix("--timeout="));
    assert_eq!(limit.is_some(), !hook.is_empty(), "a hook has a limit");
    limit.map_or(0, seconds)
}

/// Calls `judge` with each pod that is shipped.
fn each_pod(mut judge: impl FnMut(&str, &PodSpec)) {
    for name in FILES {
        let manifest = read(name);
        assert_eq!(manifest.pods.len(), 1, "{name}");
        for pod in &manifest.pods {
            judge(name, pod);
        }
    }
}

#[test]
fn a_field_that_kubernetes_does_not_know_is_found() {
    let mut document = serde_json::json!({
        "kind": "Service", "metadata": {"name": "x"}, "spec": {"ports": [{"port": 80}]},
    });
    let _service: Service = typed(&document);
    document["spec"]["ports"][0]["targetport"] = Value::from(8080);
    let lost = std::panic::catch_unwind(|| typed::<Service>(&document));
    lost.map(drop).expect_err("it is `targetPort`");
}

#[test]
fn the_steps_of_an_end_fit_into_the_grace_period() {
    each_pod(|name, pod| {
        let grace = pod
            .termination_grace_period_seconds
            .expect("a grace period");
        let grace = u64::try_from(grace).expect("a time");
        let envoy = supervised(pod);
        let is_sidecar = words(envoy).any(|word| word == "--native-sidecar");
        let drain = flag(envoy, "--termination-drain").map_or(0, seconds);
        assert_eq!(drain == 0, is_sidecar, "{name}: TERM drains, or does not");
        let before = flag(envoy, "--pre-drain-delay").map_or(0, seconds);
        assert!(
            before < drain || drain == 0,
            "{name}: no time is left to drain"
        );
        let ends = hook_seconds(envoy) + drain + ABORT_GRACE + SPARE;
        assert!(ends <= grace, "{name}: {ends} s of {grace} s");
        // What doctor is told is true.
        let variables = envoy.env.iter().flatten();
        let told: BTreeMap<_, _> = variables
            .map(|it| (it.name.as_str(), it.value.as_deref()))
            .collect();
        if let Some(told) = told.get("TERMINATION_GRACE_PERIOD_SECONDS") {
            assert_eq!(*told, Some(grace.to_string().as_str()), "{name}");
        }
    });
}

/// With the paths of a pod replaced by those of a directory here.
struct Here {
    directory: PathBuf,
    status: u16,
}

impl Here {
    fn word(&self, word: &str, envoy: &Path) -> String {
        let to = |path: &str| self.directory.join(path).display().to_string();
        let word = word
            .replace("/etc/envoy", &to("config"))
            .replace("/run/handover", &to("volume"))
            .replace("/var/lib/handover", &to("state"))
            .replace("/shared", &to("shared"))
            .replace("/dev/termination-log", &to("termination-log"))
            .replace("/usr/local/bin/envoy", &envoy.display().to_string());
        match word.strip_prefix("--status-address=") {
            Some(_) => format!("--status-address=127.0.0.1:{}", self.status),
            None => word,
        }
    }

    fn words(&self, container: &Container, envoy: &Path) -> Vec<String> {
        // The first word is the program.
        let words = words(container).skip(1);
        words.map(|word| self.word(word, envoy)).collect()
    }
}

#[test]
fn each_command_line_is_understood_and_its_doctor_is_content_with_the_times() {
    let directory = tempfile::Builder::new().prefix("handover-").tempdir();
    let directory = directory.expect("a directory");
    let here = Here {
        directory: directory.path().to_owned(),
        status: 1,
    };
    std::fs::create_dir_all(here.directory.join("config")).expect("a directory");
    let map = read("deployment").maps.remove(0);
    let config = map.data.expect("a configuration")["envoy.yaml"].clone();
    std::fs::write(here.directory.join("config/envoy.yaml"), config).expect("a file");
    each_pod(|name, pod| {
        let grace = pod
            .termination_grace_period_seconds
            .expect("a grace period");
        let words = here.words(supervised(pod), "/bin/true".as_ref());
        let mut doctor = Command::new(handover_bin());
        doctor
            .arg("doctor")
            .args(&words[1..])
            .args(["--all", "--json"]);
        doctor.env("TERMINATION_GRACE_PERIOD_SECONDS", grace.to_string());
        let output = doctor.output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        let findings: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{name}: {error}: {said}"));
        let checks = [
            "grace-period",
            "drain-times",
            "configuration",
            "envoy-binary",
        ];
        let all = findings["findings"].as_array().expect("a list").iter();
        let judged: Vec<_> = all
            .filter(|it| checks.iter().any(|check| it["name"] == **check))
            .collect();
        assert_eq!(judged.len(), checks.len(), "{name}: {findings:#}");
        for finding in judged {
            assert_eq!(finding["severity"], "information", "{name}: {finding:#}");
        }
    });
}

#[test]
fn probes_ask_for_what_the_status_server_answers() {
    let probes = |container: &Container| {
        let all = [
            container.startup_probe.clone(),
            container.readiness_probe.clone(),
            container.liveness_probe.clone(),
        ];
        all.into_iter().flatten().collect::<Vec<Probe>>()
    };
    each_pod(|name, pod| {
        let envoy = supervised(pod);
        let address = flag(envoy, "--status-address").expect("a status server");
        let (host, port) = address.rsplit_once(':').expect("a port");
        let named = envoy.ports.iter().flatten();
        let named = named.filter_map(|port| Some((port.name.clone()?, port.container_port)));
        let named: BTreeMap<String, i32> = named.collect();
        let probes = probes(envoy);
        assert_ne!(probes.len(), 0, "{name}");
        for probe in &probes {
            let ask = probe.http_get.as_ref().expect("by HTTP");
            let asked = match &ask.port {
                IntOrString::Int(number) => *number,
                IntOrString::String(port) => named[port],
            };
            assert_eq!(asked.to_string(), port, "{name}");
            // Where the server listens at one address, the kubelet asks there.
            assert_eq!(ask.host.as_deref().unwrap_or_default(), host, "{name}");
            let path = ask.path.as_deref().expect("a path");
            assert!(
                ["/healthz/ready", "/healthz/live"].contains(&path),
                "{name}"
            );
        }
        // The server answers for a loop that hangs after five seconds, and a restart ends every epoch.
        let live = envoy.liveness_probe.as_ref().expect("a liveness probe");
        assert!(live.timeout_seconds > Some(5), "{name}");
        assert!(live.failure_threshold >= Some(10), "{name}");
    });
}

/// Kubernetes starts a container again, or not, by our exit codes.
#[test]
fn the_exit_codes_of_the_static_pod_are_those_of_the_table() {
    let manifest = read("pod");
    let envoy = supervised(&manifest.pods[0]);
    assert_eq!(envoy.restart_policy.as_deref(), Some("Never"));
    let rule = &envoy.restart_policy_rules.as_ref().expect("rules")[0];
    assert_eq!(rule.action, "Restart");
    let mended = rule.exit_codes.as_ref().expect("codes");
    assert_eq!(mended.operator, "In");
    let mended = mended.values.clone().expect("codes");
    assert!(!mended.contains(&0), "what is done is not started again");
    assert!(mended.iter().all(|code| !PERMANENT.contains(code)));
    // Each code of the table that tells of a failure of `run` is in one of the two.
    let page = std::fs::read_to_string(directory().join("../../docs/commands.md"));
    let page = page.expect("the page");
    let table = page.split_once("## Exit codes").expect("a table").1;
    let rows = table.lines().filter_map(|line| line.strip_prefix("| "));
    let codes: Vec<i32> = rows
        .filter_map(|row| row.split_once(" |")?.0.parse().ok())
        .filter(|code| ![0, 1, 2].contains(code))
        .collect();
    assert!(codes.len() >= 9, "{codes:?}");
    for code in codes {
        let is_known = mended.contains(&code) || PERMANENT.contains(&code);
        assert!(is_known, "nothing is said of {code}");
    }
}

/// What runs beside something else ends after it, and Kubernetes sees to that. The application is not told to end
/// while Envoy still sends it requests.
#[test]
fn a_sidecar_ends_after_what_it_serves() {
    for name in ["sidecar", "job"] {
        let manifest = read(name);
        let pod = &manifest.pods[0];
        let first = pod.init_containers.iter().flatten();
        let envoy = first.clone().find(|it| it.name == "envoy");
        let envoy = envoy.expect("a sidecar is an init container");
        assert_eq!(envoy.restart_policy.as_deref(), Some("Always"), "{name}");
        assert!(envoy.startup_probe.is_some(), "{name}");
        for other in &pod.containers {
            let hook = other.lifecycle.as_ref().and_then(|it| it.pre_stop.as_ref());
            let sleep = hook
                .and_then(|hook| hook.sleep.as_ref())
                .map(|it| it.seconds);
            let sleep = sleep.unwrap_or_default().unsigned_abs();
            assert_eq!(sleep, hook_seconds(envoy), "{name}: {}", other.name);
        }
        for job in &manifest.jobs {
            let job = job.spec.as_ref().expect("a spec");
            assert!(
                job.active_deadline_seconds.is_some(),
                "a job without an end"
            );
        }
    }
}

#[test]
fn nothing_may_do_more_than_it_must() {
    each_pod(|name, pod| {
        assert_eq!(pod.automount_service_account_token, Some(false), "{name}");
        let mounts_of = |container: &Container| {
            let mounts = container.volume_mounts.iter().flatten();
            let mounts = mounts.map(|it| (it.mount_path.clone(), it.sub_path.is_some()));
            mounts.collect::<BTreeMap<_, _>>()
        };
        for container in containers(pod) {
            let context = container.security_context.as_ref().expect("a context");
            assert_eq!(context.allow_privilege_escalation, Some(false), "{name}");
            assert_eq!(context.read_only_root_filesystem, Some(true), "{name}");
            let capabilities = context.capabilities.as_ref().expect("capabilities");
            assert_eq!(
                capabilities.drop.as_deref(),
                Some(["ALL".to_owned()].as_slice())
            );
        }
        // What is written goes to a volume, and a file that is mounted alone is never seen to change.
        let envoy = supervised(pod);
        let mounts = mounts_of(envoy);
        for flag_name in ["--config-path", "--run-dir", "--state-dir"] {
            let path = flag(envoy, flag_name).unwrap_or_else(|| panic!("{name}: {flag_name}"));
            let mount = mounts
                .iter()
                .find(|(mount, _)| path.starts_with(mount.as_str()));
            let (_, is_sub_path) =
                mount.unwrap_or_else(|| panic!("{name}: {path} is on no volume"));
            assert!(!is_sub_path, "{name}: {path}");
        }
        let volumes: Vec<_> = pod.volumes.iter().flatten().map(|it| &it.name).collect();
        for container in containers(pod) {
            for mount in container.volume_mounts.iter().flatten() {
                assert!(volumes.contains(&&mount.name), "{name}: {}", mount.name);
            }
        }
    });
}

/// A change of the ConfigMap, and the end of the pod: the hook first, then TERM.
#[test]
fn the_deployment_serves_follows_its_configmap_and_ends_within_its_grace_period() {
    let envoy = require_envoy!();
    let site = Site::new();
    let status = Port::free();
    let here = Here {
        directory: site.dir.path().to_owned(),
        status: status.number(),
    };
    let manifest = read("deployment");
    let pod = &manifest.pods[0];
    let container = supervised(pod);
    let config = manifest.maps[0].data.as_ref().expect("a configuration")["envoy.yaml"]
        .replace("9901", &site.admin.number().to_string())
        .replace("0.0.0.0", "127.0.0.1")
        .replace("8080", &site.listener.number().to_string());
    let volume = ConfigVolume::new(here.directory.join("config"), &config);
    // With a control socket, as in the pod.
    let mut supervisor = Launch::program(handover_bin())
        .args(here.words(container, &envoy))
        .args([
            "--concurrency",
            "2",
            "--base-id",
            &site.base_id().to_string(),
        ])
        .env("HANDOVER_LOCK_DIR", here.directory.join("volume"))
        .start();
    let ready = container.readiness_probe.as_ref().expect("a probe");
    let path = ready.http_get.as_ref().and_then(|ask| ask.path.clone());
    let path = path.expect("a path");
    let is_ready = || {
        let answer = http::get(status.addr(), &path, LIMIT);
        answer.is_ok_and(|answer| answer.status == 200)
    };
    supervisor.wait_for_line("epoch 0 is live", LIMIT);
    eventually(LIMIT, "the pod is ready", || is_ready().then_some(()));
    let load = Load::start(site.listener.addr(), Mix::default());
    volume.change(&config.replace("hello", "hello again"));
    supervisor.wait_for_line("epoch 1 is live", LIMIT);
    assert!(is_ready());
    assert_eq!(body(site.listener.addr()), "hello again");
    let health = || http::get(site.listener.addr(), "/healthz", LIMIT).expect("an answer");
    assert_eq!(health().status, 200);

    let hook = hook(container).expect("a hook");
    let mut command = Command::new(handover_bin());
    command
        .args(&hook[1..])
        .env("HANDOVER_LOCK_DIR", here.directory.join("volume"));
    let began = Instant::now();
    let mut hook = command.spawn().expect("it runs");
    eventually(LIMIT, "health checks fail", || {
        (health().status == 503).then_some(())
    });
    // New clients are served all the same.
    assert_eq!(body(site.listener.addr()), "hello again");
    load.stop_blocking().assert_no_loss();
    let code = hook.wait().expect("its end").code();
    assert!(code == Some(0) || code == Some(75), "{code:?}");
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.wait_exit(LIMIT).code(), Some(0));
    let grace = pod
        .termination_grace_period_seconds
        .expect("a grace period");
    let grace = Duration::from_secs(grace.unsigned_abs());
    assert!(began.elapsed() < grace, "{:?}", began.elapsed());
    site.assert_nothing_left();
}

fn body(address: SocketAddr) -> String {
    http::get(address, "/", LIMIT).expect("an answer").text()
}

/// A volume of a ConfigMap, as the kubelet writes it: the files are links through `..data`, which is replaced.
struct ConfigVolume(PathBuf);

impl ConfigVolume {
    fn new(directory: PathBuf, config: &str) -> Self {
        std::fs::create_dir_all(&directory).expect("a directory");
        let volume = Self(directory);
        volume.change(config);
        let link = volume.0.join("envoy.yaml");
        std::os::unix::fs::symlink("..data/envoy.yaml", link).expect("a link");
        volume
    }

    fn change(&self, config: &str) {
        let version = tempfile::Builder::new().prefix("..").tempdir_in(&self.0);
        let version = version.expect("a directory").keep();
        std::fs::write(version.join("envoy.yaml"), config).expect("a file");
        let link = self.0.join("..data_tmp");
        std::os::unix::fs::symlink(&version, &link).expect("a link");
        std::fs::rename(link, self.0.join("..data")).expect("a new version");
    }
}
