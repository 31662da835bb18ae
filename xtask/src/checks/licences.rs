//! Licences, bans, duplicates and excused advisories, by the lists of `deny.toml`: cargo-deny, where it
//! is installed, reads the same file, so that there is one list of each.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use cargo_metadata::{CargoOpt, DependencyKind, MetadataCommand, NodeDep, Package, PackageId};
use toml::{Table, Value};

use super::Findings;
use crate::context::Context;
use crate::process;
use crate::text::spdx;

const FILE: &str = "deny.toml";

pub(super) fn check(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    let deny = context.toml(FILE)?;
    let external = external(context, &deny)?;
    for package in &external.all {
        licence(&deny, package, &mut findings)?;
        banned(&deny, package, &mut findings);
    }
    duplicates(&deny, &external, &mut findings)?;
    advisories(&deny, &external.all, &mut findings)?;
    if context.has_subcommand("deny") {
        findings
            .problems
            .extend(process::passes(context.cargo(["deny", "check"]))?);
    } else {
        findings.note("cargo-deny is not installed: new advisories are left to the job `deny` of the workflow");
    }
    if !context.has_subcommand("semver-checks") {
        findings
            .note("cargo-semver-checks is not installed: left to the job `semver` of the workflow");
    }
    Ok(findings)
}

/// The packages from outside the workspace.
struct External {
    /// All of them, those for tests too.
    all: Vec<Package>,
    /// Those that are in what the members build without their tests. Only among them two versions of one
    /// crate weigh anything; cargo-deny sees it so too.
    shipped: BTreeSet<PackageId>,
}

/// Resolves the dependencies for the platforms in `[graph]`.
fn external(context: &Context, deny: &Table) -> Result<External> {
    let mut all = BTreeMap::new();
    let mut shipped = BTreeSet::new();
    for target in strings(deny, "graph", "targets")? {
        let metadata = MetadataCommand::new()
            .current_dir(&context.root)
            .features(CargoOpt::AllFeatures)
            .other_options(vec!["--filter-platform".to_owned(), target.clone()])
            .exec()
            .with_context(|| format!("resolving the dependencies for {target}"))?;
        let resolve = metadata
            .resolve
            .as_ref()
            .context("`cargo metadata` resolved nothing")?;
        let nodes: BTreeMap<_, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
        let mut waiting = metadata.workspace_members.clone();
        while let Some(id) = waiting.pop() {
            if let Some(node) = nodes.get(&id)
                && shipped.insert(id)
            {
                let built = node
                    .deps
                    .iter()
                    .filter(|dependency| !only_for_tests(dependency));
                waiting.extend(built.map(|dependency| dependency.pkg.clone()));
            }
        }
        let outside = metadata
            .packages
            .iter()
            .filter(|package| package.source.is_some());
        all.extend(
            outside
                .filter(|package| nodes.contains_key(&package.id))
                .map(|p| (p.id.clone(), p.clone())),
        );
    }
    Ok(External {
        all: all.into_values().collect(),
        shipped,
    })
}

fn only_for_tests(dependency: &NodeDep) -> bool {
    dependency
        .dep_kinds
        .iter()
        .all(|kind| kind.kind == DependencyKind::Development)
}

fn licence(deny: &Table, package: &Package, findings: &mut Findings) -> Result<()> {
    let allowed = strings(deny, "licenses", "allow")?;
    let excepted: Vec<&str> = entries(deny, "licenses", "exceptions")
        .iter()
        .filter(|entry| key(entry, "crate") == Some(package.name.as_str()))
        .filter_map(|entry| entry.get("allow")?.as_array())
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let accepts = |id: &str| allowed.iter().any(|allowed| allowed == id) || excepted.contains(&id);
    let who = format!("{} {}", package.name, package.version);
    match &package.license {
        None => findings.problem(format!("{who} names no licence")),
        Some(expression) => match spdx::satisfied(expression, &accepts) {
            Ok(true) => {}
            Ok(false) => findings.problem(format!(
                "{who} is under `{expression}`, which [licenses] allow of {FILE} does not satisfy"
            )),
            Err(error) => findings.problem(format!("{who}: {error}")),
        },
    }
    Ok(())
}

fn banned(deny: &Table, package: &Package, findings: &mut Findings) {
    for ban in entries(deny, "bans", "deny") {
        if matches(package, key(ban, "crate").unwrap_or_default()) {
            let reason = key(ban, "reason").unwrap_or("no reason is given");
            findings.problem(format!(
                "{} {} is banned: {reason}",
                package.name, package.version
            ));
        }
    }
}

/// One version of each crate, except for those in `[bans] skip`; and no entry there without need.
fn duplicates(deny: &Table, external: &External, findings: &mut Findings) -> Result<()> {
    let packages: Vec<&Package> = external
        .all
        .iter()
        .filter(|package| external.shipped.contains(&package.id))
        .collect();
    let setting = deny
        .get("bans")
        .and_then(|bans| bans.get("multiple-versions"))
        .and_then(Value::as_str);
    if setting != Some("deny") {
        findings.problem(format!("{FILE}: [bans] multiple-versions is not \"deny\""));
    }
    let skips = entries(deny, "bans", "skip");
    for skip in skips {
        let spec = key(skip, "crate")
            .with_context(|| format!("{FILE}: an entry of skip without `crate`"))?;
        if key(skip, "reason").is_none_or(str::is_empty) {
            findings.problem(format!("{FILE}: `{spec}` is skipped without a reason"));
        }
        let name = spec.split([':', '@']).next().unwrap_or(spec);
        let versions = packages
            .iter()
            .filter(|package| package.name.as_str() == name)
            .count();
        if versions < 2 || !packages.iter().any(|package| matches(package, spec)) {
            findings.problem(format!(
                "{FILE}: `{spec}` is skipped without need: take it out"
            ));
        }
    }
    let mut versions: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for package in &packages {
        if !skips
            .iter()
            .any(|skip| matches(package, key(skip, "crate").unwrap_or_default()))
        {
            versions
                .entry(package.name.as_str())
                .or_default()
                .push(package.version.to_string());
        }
    }
    for (name, versions) in versions.iter().filter(|(_, versions)| versions.len() > 1) {
        findings.problem(format!(
            "{name} is there in the versions {}: align them, or skip one in {FILE} with its reason",
            versions.join(" and ")
        ));
    }
    Ok(())
}

/// Each excused advisory names its crate, first in its reason, and that crate is still there.
fn advisories(deny: &Table, packages: &[Package], findings: &mut Findings) -> Result<()> {
    for ignored in entries(deny, "advisories", "ignore") {
        let id = key(ignored, "id")
            .with_context(|| format!("{FILE}: an ignored advisory without `id`"))?;
        let reason = key(ignored, "reason").unwrap_or_default();
        let Some((name, _)) = reason
            .strip_prefix('`')
            .and_then(|rest| rest.split_once('`'))
        else {
            findings.problem(format!(
                "{FILE}: the reason of {id} does not start with its `crate`"
            ));
            continue;
        };
        if !packages.iter().any(|package| package.name.as_str() == name) {
            findings.problem(format!(
                "{FILE}: {id} excuses `{name}`, which is not used: take it out"
            ));
        }
    }
    Ok(())
}

/// Whether a package is meant by `name`, or `name:1.2` for the versions compatible with 1.2.
fn matches(package: &Package, spec: &str) -> bool {
    let (name, requirement) = spec.split_once(':').unwrap_or((spec, "*"));
    let requirement = requirement.parse::<cargo_metadata::semver::VersionReq>();
    package.name.as_str() == name
        && requirement.is_ok_and(|wanted| wanted.matches(&package.version))
}

fn entries<'a>(deny: &'a Table, section: &str, list: &str) -> &'a [Value] {
    deny.get(section)
        .and_then(|section| section.get(list))
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

fn strings(deny: &Table, section: &str, list: &str) -> Result<Vec<String>> {
    entries(deny, section, list)
        .iter()
        .map(|entry| entry.as_str().map(str::to_owned))
        .collect::<Option<Vec<_>>>()
        .filter(|list| !list.is_empty())
        .with_context(|| format!("{FILE}: [{section}] {list} is not a list of strings"))
}

fn key<'a>(entry: &'a Value, name: &str) -> Option<&'a str> {
    entry.get(name).and_then(Value::as_str)
}
