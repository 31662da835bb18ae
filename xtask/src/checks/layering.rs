//! The layers of the design: which member may know which, and what a crate's whole tree of
//! dependencies must never contain.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};

use super::Findings;
use crate::context::Context;
use crate::process;

/// Which members each member may depend on. Arrows point down only.
const EDGES: &[(&str, &[&str])] = &[
    ("handover-retry", &[]),
    ("handover-netutil", &[]),
    ("handover-files", &[]),
    ("handover-runtime", &[]),
    ("handover-process", &["handover-runtime"]),
    ("handover-watch", &["handover-files", "handover-runtime"]),
    ("handover-core", &["handover-retry"]),
    ("handover-core-testing", &["handover-core"]),
    ("handover-tokio", &["handover-core", "handover-retry"]),
    ("handover-supervisor", &["handover-core"]),
    (
        "handover-envoy",
        &[
            "handover-files",
            "handover-process",
            "handover-runtime",
            "handover-tokio",
            "handover-core",
            "handover-retry",
            "handover-netutil",
        ],
    ),
    (
        "handover",
        &[
            "handover-test-support",
            "handover-envoy",
            "handover-files",
            "handover-process",
            "handover-runtime",
            "handover-watch",
            "handover-tokio",
            "handover-core",
            "handover-core-testing",
            "handover-retry",
            "handover-netutil",
        ],
    ),
    ("handover-test-support", &[]),
    (
        "handover-tests",
        &[
            "handover-test-support",
            "handover-envoy",
            "handover-files",
            "handover-process",
            "handover-runtime",
            "handover-watch",
            "handover-tokio",
            "handover-core",
            "handover-retry",
            "handover-netutil",
        ],
    ),
    ("xtask", &[]),
];

/// A set of a crate's features, as Cargo's flags select it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Features {
    None,
    Default,
    All,
}

impl Features {
    const EACH: [Self; 3] = [Self::None, Self::Default, Self::All];

    const fn flag(self) -> Option<&'static str> {
        match self {
            Self::None => Some("--no-default-features"),
            Self::Default => None,
            Self::All => Some("--all-features"),
        }
    }
}

/// What a tree may or must not contain besides the crate itself.
enum Rule {
    /// Nothing but these.
    Only(&'static [&'static str]),
    /// Anything but these.
    Never(&'static [&'static str]),
}

/// One promise: a crate, the feature sets that it is about, the rule, the reason.
struct Promise {
    of: &'static str,
    with: &'static [Features],
    rule: Rule,
    because: &'static str,
}

const PROMISES: &[Promise] = &[
    Promise {
        of: "handover-core",
        with: &Features::EACH,
        rule: Rule::Only(&["handover-retry"]),
        because: "the state machine runs anywhere: no runtime, no OS, nothing from outside the workspace",
    },
    Promise {
        of: "handover-core-testing",
        with: &Features::EACH,
        rule: Rule::Only(&["handover-core", "handover-retry"]),
        because: "a judge needs nothing but what it judges, and `handover simulate` ships it",
    },
    Promise {
        of: "handover-retry",
        with: &[Features::None, Features::Default],
        rule: Rule::Only(&[]),
        because: "a policy is plain data; the unmaintained `backoff` comes only by its feature",
    },
    Promise {
        of: "handover-retry",
        with: &[Features::All],
        rule: Rule::Never(&[
            "tokio",
            "async-trait",
            "rustix",
            "serde",
            "anyhow",
            "clap",
            "tracing",
        ]),
        because: "implementing a trait of `backoff` needs no runtime",
    },
    Promise {
        of: "handover-netutil",
        with: &Features::EACH,
        rule: Rule::Never(&[
            "handover-retry",
            "handover-core",
            "handover-tokio",
            "handover-envoy",
            "backoff",
            "hyper",
            "clap",
            "anyhow",
        ]),
        because: "address helpers are picked alone",
    },
    Promise {
        of: "handover-tokio",
        with: &Features::EACH,
        rule: Rule::Never(&[
            "handover-envoy",
            "handover-netutil",
            "handover-process",
            "handover-watch",
            "backoff",
            "hyper",
            "clap",
            "anyhow",
        ]),
        because: "the driver knows no proxy, no child, no protocol and no command line",
    },
    Promise {
        of: "handover-process",
        with: &Features::EACH,
        rule: Rule::Never(&[
            "handover-core",
            "handover-tokio",
            "handover-envoy",
            "handover-watch",
            "hyper",
            "clap",
            "anyhow",
        ]),
        because: "children are started by supervisors of any kind",
    },
    Promise {
        of: "handover-watch",
        with: &Features::EACH,
        rule: Rule::Never(&[
            "handover-core",
            "handover-tokio",
            "handover-envoy",
            "handover-process",
            "hyper",
            "clap",
            "anyhow",
        ]),
        because: "files are watched by programs of any kind",
    },
    Promise {
        of: "handover-runtime",
        with: &Features::EACH,
        rule: Rule::Never(&["hyper", "clap", "anyhow"]),
        because: "it adds to tokio alone",
    },
    Promise {
        of: "handover-files",
        with: &Features::EACH,
        rule: Rule::Never(&["tokio", "async-trait", "hyper", "clap", "anyhow"]),
        because: "files need no runtime",
    },
    Promise {
        of: "handover-envoy",
        with: &Features::EACH,
        rule: Rule::Never(&["clap", "anyhow", "tracing-subscriber"]),
        because: "a library has typed errors, and its user decides on flags and logs",
    },
    Promise {
        of: "handover",
        with: &Features::EACH,
        rule: Rule::Never(&["insta", "proptest", "stateright", "cargo_metadata"]),
        because: "what only tests and xtask need stays out of the binary",
    },
];

pub(super) fn check(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    edges(context, &mut findings);
    for promise in PROMISES {
        for features in promise.with {
            let tree = tree(context, promise.of, *features)?;
            let bad: Vec<&str> = tree
                .iter()
                .map(String::as_str)
                .filter(|name| match promise.rule {
                    Rule::Only(allowed) => !allowed.contains(name),
                    Rule::Never(banned) => banned.contains(name),
                })
                .collect();
            if !bad.is_empty() {
                findings.problem(format!(
                    "{} {} contains {}, but {}; `cargo tree -e normal -p {} -i {}` shows the way",
                    promise.of,
                    features.flag().unwrap_or("with its default features"),
                    bad.join(", "),
                    promise.because,
                    promise.of,
                    bad.first().unwrap_or(&""),
                ));
            }
        }
    }
    Ok(findings)
}

/// The direct dependencies between members, those for tests included.
fn edges(context: &Context, findings: &mut Findings) {
    let members: Vec<&str> = context
        .members()
        .iter()
        .map(|member| member.name.as_str())
        .collect();
    for member in context.members() {
        let name = member.name.as_str();
        let Some((_, allowed)) = EDGES.iter().find(|(of, _)| *of == name) else {
            findings.problem(format!(
                "{name} has no place in the layers: give it one in this check's list"
            ));
            continue;
        };
        for dependency in &member.dependencies {
            let to = dependency.name.as_str();
            if members.contains(&to) && !allowed.contains(&to) {
                findings.problem(format!(
                    "{name} must not depend on {to}: arrows point down only"
                ));
            }
        }
    }
}

/// The names of all packages that `package` is built from, on any platform, without itself.
fn tree(context: &Context, package: &str, features: Features) -> Result<BTreeSet<String>> {
    // What a macro needs while it runs is not part of what it is used in.
    let edges = "normal,build,no-proc-macro";
    let mut command = context.cargo(["tree", "--package", package, "--edges", edges]);
    command
        .args(["--target", "all", "--prefix", "none", "--format", "{p}"])
        .args(features.flag());
    let text = process::capture(command)?;
    let mut names: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect();
    names.remove("");
    names
        .take(package)
        .with_context(|| format!("`cargo tree` did not name {package}"))?;
    Ok(names)
}
