//! Whose behaviour a fact is about: a program, by its path.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use handover_test_support::any_envoy::TIME_SCALE;
use handover_test_support::bare_envoy::BareEnvoy;
use handover_test_support::envoy_bin::{envoy_or_skip, envoys};
use handover_test_support::fake_envoy::fake_envoy_or_skip;

/// The variable with the fake's own settings.
const SETTINGS: &str = "HANDOVER_FAKE_ENVOY";

/// What kind of program it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Real,
    Fake,
}

/// A program that behaves like Envoy, or claims to.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) binary: PathBuf,
    pub(crate) kind: Kind,
    /// Such as `1.40.0`.
    pub(crate) version: String,
    /// One second of Envoy's own timers takes this many seconds.
    pub(crate) time_scale: f64,
}

impl Subject {
    fn real(binary: PathBuf) -> Self {
        let version = version(&binary);
        Self {
            binary,
            kind: Kind::Real,
            version,
            time_scale: 1.0,
        }
    }

    fn fake(binary: PathBuf) -> Self {
        Self {
            version: version(&binary),
            binary,
            kind: Kind::Fake,
            time_scale: TIME_SCALE,
        }
    }

    /// Claims a place for the epochs of this program.
    pub(crate) fn host(&self) -> BareEnvoy {
        let host = BareEnvoy::new(&self.binary);
        match self.kind {
            Kind::Real => host,
            Kind::Fake => {
                let scale = self.time_scale;
                host.env(SETTINGS, &format!("--fake-time-scale {scale}"))
            }
        }
    }

    /// How long this many of Envoy's own seconds take.
    pub(crate) fn seconds(&self, seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds * self.time_scale)
    }

    /// Whether its version is this one or newer.
    pub(crate) fn is_since(&self, major: u32, minor: u32) -> bool {
        let mut numbers = self.version.split('.').map(str::parse::<u32>);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(own)), Some(Ok(own_minor))) => (own, own_minor) >= (major, minor),
            _ => panic!(
                "{} has the version {:?}",
                self.binary.display(),
                self.version
            ),
        }
    }
}

/// Tries a fact on the real Envoy, and in soak on each version, one after the other.
pub(crate) fn on_real(test: &str, fact: fn(&Subject)) {
    let mut binaries = envoys();
    if binaries.is_empty() {
        binaries.extend(envoy_or_skip(test));
    }
    for binary in binaries {
        try_fact(test, &Subject::real(binary), fact);
    }
}

/// Tries a fact on the fake.
pub(crate) fn on_fake(test: &str, fact: fn(&Subject)) {
    if let Some(binary) = fake_envoy_or_skip(test) {
        try_fact(test, &Subject::fake(binary), fact);
    }
}

fn try_fact(test: &str, subject: &Subject, fact: fn(&Subject)) {
    // A failure is below the line that names the version.
    println!("{test} on {:?} {}", subject.kind, subject.version);
    fact(subject);
}

/// What the program says to `--version`.
fn version(binary: &Path) -> String {
    let output = Command::new(binary).arg("--version").output();
    let said = match output {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(error) => panic!("{} does not run: {error}", binary.display()),
    };
    // PATH  version: REVISION/1.40.0/Clean/RELEASE/BoringSSL
    let version = said.rsplit_once("version: ");
    let version = version.and_then(|(_, version)| version.split('/').nth(1));
    let version = version.unwrap_or_else(|| panic!("{} says {said:?}", binary.display()));
    version.to_owned()
}
