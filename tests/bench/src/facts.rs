//! The machine and the programs that the figures depend on.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::figures::Fact;
use crate::subjects::{RESTARTER_VARIABLE, installed};

/// What can be read before the run. What cannot be read is unknown.
pub(crate) fn before(handover: &Path, built: &str, envoy: Option<&Path>) -> Vec<Fact> {
    let size = fs_err::metadata(handover).map(|data| data.len());
    let size = size.map_or_else(
        |_| "unknown size".to_owned(),
        |size| format!("{}.{} MB", size / 1_000_000, size % 1_000_000 / 100_000),
    );
    let version = asked(Command::new(handover).arg("--version"));
    let mut facts = vec![
        fact("processors", Some(processors())),
        fact("memory", memory()),
        fact("kernel", read("/proc/sys/kernel/osrelease")),
        load("load average before the run"),
        fact(
            "handover",
            version.map(|version| format!("{version}, {built}, {size}")),
        ),
        fact("Envoy", envoy.map(version_of_envoy)),
    ];
    for (name, program, package) in [
        ("runit", "runsv", "runit"),
        ("s6", "s6-supervise", "s6"),
        ("supervisord", "supervisord", "supervisor"),
    ] {
        let version = match installed(program, package) {
            Ok(_) => version_of_package(package),
            Err(_) => Some("not installed".to_owned()),
        };
        facts.push(fact(name, version));
    }
    let restarter =
        std::env::var_os(RESTARTER_VARIABLE).is_some() || installed("hot-restarter.py", "").is_ok();
    let restarter = if restarter {
        asked(Command::new("python3").arg("--version")).map(|python| format!("with {python}"))
    } else {
        Some("not installed".to_owned())
    };
    facts.push(fact("hot-restarter.py", restarter));
    facts
}

/// The load average of the last minute, five and fifteen minutes.
pub(crate) fn load(name: &str) -> Fact {
    let text = read("/proc/loadavg");
    let first = text.map(|text| text.split(' ').take(3).collect::<Vec<_>>().join(", "));
    fact(name, first)
}

fn fact(name: &str, value: Option<String>) -> Fact {
    Fact {
        name: name.to_owned(),
        value: value.unwrap_or_else(|| "unknown".to_owned()),
    }
}

fn read(path: &str) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
}

/// The rest of the first line of a file that begins so.
fn first_of(path: &str, name: &str) -> Option<String> {
    let text = read(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim_start_matches([' ', '\t', ':']).trim().to_owned())
}

fn processors() -> String {
    let count = std::thread::available_parallelism();
    let count = count.map_or_else(|_| "unknown number".to_owned(), |count| count.to_string());
    match first_of("/proc/cpuinfo", "model name") {
        Some(model) => format!("{count}, {model}"),
        None => count,
    }
}

/// The first line that a program prints.
fn asked(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().find(|line| !line.trim().is_empty())?;
    output.status.success().then(|| line.trim().to_owned())
}

fn memory() -> Option<String> {
    let line = first_of("/proc/meminfo", "MemTotal:")?;
    let kilobytes: f64 = line.strip_suffix(" kB")?.parse().ok()?;
    Some(format!("{:.1} GB", kilobytes * 1024.0 / 1e9))
}

fn version_of_envoy(envoy: &Path) -> String {
    let line = asked(Command::new(envoy).arg("--version")).unwrap_or_default();
    // Its path, the source revision, the version, and how it was built.
    let (_, version) = line.split_once("version: ").unwrap_or_default();
    version.split('/').nth(1).unwrap_or("unknown").to_owned()
}

/// The version of an installed package of Debian: runsv and s6-supervise print none themselves.
fn version_of_package(package: &str) -> Option<String> {
    let format = "--showformat=${Version}";
    asked(Command::new("dpkg-query").args(["--show", format, package]))
}
