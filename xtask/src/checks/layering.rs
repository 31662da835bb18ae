//! The layers of the design, which `xtask/layers.toml` holds: which member may know which, and what a crate's
//! whole tree of dependencies must never contain.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use cargo_metadata::DependencyKind;
use serde::Deserialize;

use super::Findings;
use crate::context::Context;

const FILE: &str = "xtask/layers.toml";

/// The place of a member.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Layer {
    uses: Vec<String>,
    #[serde(default)]
    promises: Vec<Promise>,
}

/// What a tree may or must not contain, for which features, and why.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Promise {
    #[serde(default = "Features::each")]
    with: Vec<Features>,
    only: Option<Vec<String>>,
    #[serde(default)]
    never: Vec<String>,
    because: String,
}

/// A set of a crate's features, as Cargo's flags select it.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Features {
    None,
    Default,
    All,
}

impl Features {
    fn each() -> Vec<Self> {
        vec![Self::None, Self::Default, Self::All]
    }

    const fn flag(self) -> Option<&'static str> {
        match self {
            Self::None => Some("--no-default-features"),
            Self::Default => None,
            Self::All => Some("--all-features"),
        }
    }
}

impl Promise {
    fn is_kept_by(&self, name: &String) -> bool {
        !self.never.contains(name) && self.only.as_ref().is_none_or(|only| only.contains(name))
    }
}

pub(super) fn check(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    let layers: BTreeMap<String, Layer> = context.toml(FILE)?;
    edges(context, &layers, &mut findings);
    for (of, layer) in &layers {
        for promise in &layer.promises {
            let says_something = promise.only.is_some() || !promise.never.is_empty();
            ensure!(
                says_something,
                "{FILE}: a promise of {of} has neither `only` nor `never`"
            );
            for features in &promise.with {
                tree(context, of, *features, promise, &mut findings)?;
            }
        }
    }
    Ok(findings)
}

/// The direct dependencies between members, those for tests included.
fn edges(context: &Context, layers: &BTreeMap<String, Layer>, findings: &mut Findings) {
    let members = context.members();
    for member in &members {
        let Some(layer) = layers.get(member.name.as_str()) else {
            findings.problem(format!("{FILE}: {} has no place in it", member.name));
            continue;
        };
        for dependency in &member.dependencies {
            let to = &dependency.name;
            // A crate's own tests may ask for one of its features by depending on the crate itself.
            let itself = *to == *member.name && dependency.kind == DependencyKind::Development;
            let is_member = members.iter().any(|member| *member.name == *to);
            if is_member && !layer.uses.contains(to) && !itself {
                let name = &member.name;
                findings.problem(format!(
                    "{name} must not depend on {to}: arrows point down only"
                ));
            }
        }
    }
}

/// What is wrong with all that a package is built from, on any platform.
fn tree(
    context: &Context,
    of: &String,
    features: Features,
    promise: &Promise,
    findings: &mut Findings,
) -> Result<()> {
    // What a macro needs while it runs is not part of what it is used in.
    let edges = "normal,build,no-proc-macro";
    let arguments = ["--package", of, "--edges", edges, "--target", "all"];
    let tree = context.tree(arguments.into_iter().chain(features.flag()))?;
    let names: BTreeSet<&String> = tree.iter().map(|(name, _)| name).collect();
    ensure!(names.contains(of), "`cargo tree` did not name {of}");
    let bad = names
        .into_iter()
        .filter(|name| *name != of && !promise.is_kept_by(name));
    let bad: Vec<&str> = bad.map(String::as_str).collect();
    if let Some(first) = bad.first() {
        findings.problem(format!(
            "{of} {} contains {}, but {}; `cargo tree -e normal -p {of} -i {first}` shows the way",
            features.flag().unwrap_or("with its default features"),
            bad.join(", "),
            promise.because,
        ));
    }
    Ok(())
}
