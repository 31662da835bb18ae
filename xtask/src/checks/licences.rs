//! Licences, bans, duplicate versions, sources and excused advisories are those of `deny.toml`, and no excuse
//! there outlives its cause. cargo-deny, which takes minutes to build, reads the same file in the workflow.

use anyhow::{Context as _, Result};
use cargo_metadata::Package;
use serde::Deserialize;

use super::Findings;
use crate::context::Context;

const FILE: &str = "deny.toml";

/// Where a package from outside may come from.
const SOURCE: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// What is read of `deny.toml`. A missing reason is an error of reading.
#[derive(Deserialize)]
struct Deny {
    graph: Graph,
    licenses: Licenses,
    bans: Bans,
    advisories: Advisories,
}

#[derive(Deserialize)]
struct Graph {
    targets: Vec<String>,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Entry>,
    skip: Vec<Entry>,
}

#[derive(Deserialize)]
struct Advisories {
    ignore: Vec<Entry>,
}

/// A crate, `name` or `name:1.2`, or the id of an advisory.
#[derive(Deserialize)]
struct Entry {
    #[serde(alias = "crate", alias = "id")]
    subject: String,
    reason: String,
}

impl Entry {
    /// Whether the entry is about a package, with `name:1.2` about the versions compatible with 1.2.
    fn is_about(&self, package: &Package) -> bool {
        let (name, requirement) = self.subject.split_once(':').unwrap_or((&self.subject, "*"));
        let requirement = requirement.parse::<cargo_metadata::semver::VersionReq>();
        package.name.as_str() == name
            && requirement.is_ok_and(|wanted| wanted.matches(&package.version))
    }
}

pub(super) fn check(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    let deny: Deny = context.toml(FILE)?;
    let all = built(context, &deny, "normal,build,dev")?;
    let allowed = deny.licenses.allow.iter();
    let allowed: Vec<_> = allowed
        .map(|name| spdx::Licensee::parse(name))
        .collect::<Result<_, _>>()
        .with_context(|| format!("{FILE}: [licenses] allow"))?;
    for package in &all {
        let who = format!("{} {}", package.name, package.version);
        findings
            .problems
            .extend(licence(package, &allowed).map(|problem| format!("{who} {problem}")));
        for ban in deny.bans.deny.iter().filter(|ban| ban.is_about(package)) {
            findings.problem(format!("{who} is banned: {}", ban.reason));
        }
        if package
            .source
            .as_ref()
            .is_some_and(|source| source.repr != SOURCE)
        {
            findings.problem(format!("{who} does not come from the public registry"));
        }
    }
    // Two versions weigh something only in what is built without the tests; cargo-deny counts so too.
    let shipped = built(context, &deny, "normal,build")?;
    duplicates(&deny.bans.skip, shipped, &mut findings);
    for ignored in &deny.advisories.ignore {
        let excused = ignored.reason.strip_prefix('`');
        let excused = excused.and_then(|rest| Some(rest.split_once('`')?.0));
        if !all.iter().any(|used| excused == Some(used.name.as_str())) {
            findings.problem(format!(
                "{FILE}: {} excuses {}: its reason must start with a `crate` that is used, or take it out",
                ignored.subject,
                excused.unwrap_or("no crate"),
            ));
        }
    }
    findings.left("advisories that are newer than deny.toml: the job `deny`");
    Ok(findings)
}

/// What is wrong with the licence of a package.
fn licence(package: &Package, allowed: &[spdx::Licensee]) -> Option<String> {
    let Some(text) = &package.license else {
        return Some("names no licence".to_owned());
    };
    match spdx::Expression::parse_mode(text, spdx::ParseMode::LAX) {
        Err(error) => Some(format!("has the licence `{text}`, which is none: {error}")),
        Ok(terms)
            if terms.evaluate(|term| allowed.iter().any(|licence| licence.satisfies(term))) =>
        {
            None
        }
        Ok(_) => Some(format!(
            "is under `{text}`, which [licenses] allow of {FILE} does not satisfy"
        )),
    }
}

/// The packages from outside that are built for the platforms in `[graph]`, by the kinds of dependencies that
/// `cargo tree` is told to follow.
fn built<'a>(context: &'a Context, deny: &Deny, kinds: &str) -> Result<Vec<&'a Package>> {
    let platforms = deny.graph.targets.iter();
    let platforms = platforms.flat_map(|platform| ["--target", platform]);
    let all = ["--workspace", "--all-features", "--edges", kinds];
    let tree = context.tree(all.into_iter().chain(platforms))?;
    let packages = context.metadata.packages.iter().filter(|package| {
        let key = (package.name.to_string(), package.version.to_string());
        package.source.is_some() && tree.contains(&key)
    });
    Ok(packages.collect())
}

/// One version of each crate, except for those in `[bans] skip`; and no entry there without need.
fn duplicates(skips: &[Entry], packages: Vec<&Package>, findings: &mut Findings) {
    let mut several = in_several_versions(packages);
    for skip in skips {
        if !several.iter().any(|package| skip.is_about(package)) {
            let subject = &skip.subject;
            findings.problem(format!(
                "{FILE}: `{subject}` is skipped without need: take it out"
            ));
        }
    }
    several.retain(|package| !skips.iter().any(|skip| skip.is_about(package)));
    for package in in_several_versions(several) {
        let (name, version) = (&package.name, &package.version);
        findings.problem(format!(
            "{name} {version} is not the only version: align them, or skip one in {FILE} with its reason"
        ));
    }
}

fn in_several_versions(mut packages: Vec<&Package>) -> Vec<&Package> {
    let names: Vec<_> = packages.iter().map(|package| &package.name).collect();
    packages.retain(|package| names.iter().filter(|name| **name == &package.name).count() > 1);
    packages
}
