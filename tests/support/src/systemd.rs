//! A systemd of the test's own: a user manager in namespaces of its own, which end with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::process_tag::ProcessTag;
use crate::supervisor::Supervisor;

/// How long all steps may take. It is reached only when something is broken.
const LIMIT: Duration = Duration::from_secs(150);

/// Where the manager is on Debian and on others.
const MANAGERS: [&str; 2] = ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"];

/// What a user manager in namespaces cannot set up. Everything else of a unit stays as it is.
const NOT_FOR_USERS: [&str; 4] = [
    "DynamicUser=yes\n",
    "ProtectHome=yes\n",
    "ProtectKernelLogs=yes\n",
    "ProtectKernelTunables=yes\n",
];

/// Before the steps: private directories, a network of its own, and a manager that has started.
const PRELUDE: &str = r#"
set -eu
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system /run/user/0 /run/config/systemd/user
chmod 700 /run/user/0
cp -r "$UNITS"/. /run/config/systemd/user/
export XDG_RUNTIME_DIR=/run/user/0 HOME=/run XDG_CONFIG_HOME=/run/config XDG_STATE_HOME=/run/state
ip link set lo up
env -i PATH="$PATH" HOME="$HOME" XDG_RUNTIME_DIR="$XDG_RUNTIME_DIR" XDG_CONFIG_HOME="$XDG_CONFIG_HOME" \
    XDG_STATE_HOME="$XDG_STATE_HOME" "$MANAGER" --user --log-target=console >/run/manager.log 2>&1 &
waited=0
until state=$(systemctl --user is-system-running 2>/dev/null) || [ "$state" = degraded ]; do
    waited=$((waited + 1))
    if [ "$waited" -gt 100 ]; then cat /run/manager.log; echo NO MANAGER; exit 0; fi
    sleep 0.1
done
set +e
show() { systemctl --user show "$1" --property="$2" --value; }
until_shown() {
    waited=0
    until [ "$(show "$1" "$2")" = "$3" ]; do
        waited=$((waited + 1))
        if [ "$waited" -gt 600 ]; then echo "$1 $2 is $(show "$1" "$2"), not $3"; cat /run/manager.log; exit 1; fi
        sleep 0.1
    done
}
echo MANAGER STARTED
"#;

/// Runs the steps, a shell script, beside a user manager of systemd that knows the units of this
/// directory, without what a user manager cannot set up. Returns what the steps have printed, or why there is no manager. `show UNIT PROPERTY` and
/// `until_shown UNIT PROPERTY VALUE` are functions for the steps.
///
/// The network is a private loopback, and `/run` is empty at the start.
///
/// # Errors
///
/// Why a manager cannot be started here.
///
/// # Panics
///
/// When the steps fail, or take too long.
pub fn beside_a_user_manager(units: &Path, steps: &str) -> Result<String, String> {
    for path in units_of(units) {
        let mut text = fs::read_to_string(&path).expect("a unit can be read");
        for line in NOT_FOR_USERS {
            text = text.replace(line, "");
        }
        fs::write(&path, text).expect("a unit can be written");
    }
    let manager = MANAGERS.iter().find(|path| Path::new(path).is_file());
    let manager = manager.ok_or("systemd is not installed")?;
    let namespaces = [
        "--mount",
        "--pid",
        "--cgroup",
        "--net",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ];
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(namespaces).arg("--");
        command
    };
    let probe = "mount -t tmpfs tmpfs /run && ip link set lo up && command -v systemctl python3";
    let probed = unshare()
        .args(["sh", "-c", probe])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("unshare: {error}"))?;
    if !probed.status.success() {
        let said = String::from_utf8_lossy(&probed.stderr);
        let said = said.lines().next().unwrap_or("a command is missing");
        return Err(format!("no namespaces for a user manager: {said}"));
    }
    let mut command = unshare();
    command
        .args(["sh", "-c", &format!("{PRELUDE}\n{steps}\necho STEPS DONE")])
        .env("UNITS", units)
        .env("MANAGER", manager)
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null());
    let mut running = Supervisor::start(&mut command, ProcessTag::new());
    let status = running.wait_exit(LIMIT);
    let lines = running.log().lines().into_iter();
    let said: Vec<String> = lines.map(|line| line.text).collect();
    let said = said.join("\n");
    if said.contains("NO MANAGER") {
        let last = said.lines().rev().nth(1).unwrap_or_default();
        return Err(format!("the user manager does not start: {last}"));
    }
    assert!(
        status.success() && said.contains("STEPS DONE"),
        "{status}: {said}"
    );
    Ok(said)
}

fn units_of(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("the units are there");
    let paths = entries.map(|entry| entry.expect("the units are listed").path());
    let is_unit = |path: &PathBuf| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        matches!(extension, Some("service" | "socket"))
    };
    paths.filter(is_unit).collect()
}

/// The first version with `Type=notify-reload`.
const NOTIFY_RELOAD: u32 = 253;

/// Returns a directory with the units of `deploy/systemd`, with parts of them replaced. For an old systemd
/// they have the drop-in that it needs.
///
/// # Panics
///
/// When files cannot be read or written.
#[must_use]
pub fn copies(replace: &[(&str, &str)]) -> tempfile::TempDir {
    let deploy = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../deploy/systemd");
    let old = version().is_some_and(|version| version < NOTIFY_RELOAD);
    let drop_in = fs::read_to_string(deploy.join("before-253.conf"));
    let drop_in = drop_in.expect("the drop-in is there");
    let dir = tempfile::tempdir().expect("a directory for the units");
    for path in units_of(&deploy) {
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_default();
        let mut text = fs::read_to_string(&path).expect("a unit can be read");
        if old && name.ends_with(".service") {
            text = text.replace("Type=notify-reload\n", "");
            let folder = dir.path().join(format!("{name}.d"));
            fs::create_dir(&folder).expect("a directory for the drop-in");
            fs::write(folder.join("before-253.conf"), &drop_in).expect("the drop-in is copied");
        }
        for (from, to) in replace {
            text = text.replace(from, to);
        }
        fs::write(dir.path().join(name), text).expect("a unit is copied");
    }
    dir
}

fn version() -> Option<u32> {
    let output = Command::new("systemctl").arg("--version").output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    said.split_whitespace().nth(1)?.parse().ok()
}
