//! The binaries that are released: the whole program, and the one without what only Envoy and a terminal need.

/// A binary with a choice of features of the crate `handover`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// `exec` and the commands for a running instance: for any server but Envoy.
    Exec,
    /// Every command.
    Whole,
}

impl Variant {
    /// How the names of its files begin.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Exec => "handover-exec",
            Self::Whole => "handover",
        }
    }

    /// How Cargo is told its features. No released binary has the fake Envoy in it.
    pub(crate) const fn features(self) -> &'static [&'static str] {
        match self {
            Self::Exec => &["--no-default-features"],
            Self::Whole => &["--no-default-features", "--features", "envoy,tools"],
        }
    }

    /// The most bytes that it may have as it is released. What it is made of is in docs/size.md.
    pub(super) const fn most_bytes(self) -> u64 {
        match self {
            Self::Exec => 4_050_000,
            Self::Whole => 7_960_000,
        }
    }

    /// The commands that the other one has alone.
    pub(super) const fn lacks(self) -> &'static [&'static str] {
        match self {
            Self::Exec => &[
                "run",
                "apply",
                "validate",
                "doctor",
                "demo",
                "simulate",
                "completions",
                "man",
                "schema",
            ],
            Self::Whole => &[],
        }
    }

    /// Whether a unit of `deploy/systemd` starts a command that it has.
    pub(super) fn has_unit(self, file: &str) -> bool {
        self == Self::Whole || !file.contains("envoy")
    }
}
