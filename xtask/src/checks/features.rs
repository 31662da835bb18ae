//! Each member stands alone: it compiles by itself, without a warning, a library with each combination
//! of its features. One invocation for each, so that no other member switches on what it forgot to ask
//! for.

use anyhow::Result;
use cargo_metadata::Package;

use super::Findings;
use crate::context::Context;
use crate::process;

/// Up to this many features, every combination is tried; above it each alone, none, and all.
const POWERSET_UP_TO: usize = 4;

pub(super) fn check(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut runs = 0_usize;
    for package in context.members() {
        let is_library = context
            .libraries()
            .iter()
            .any(|library| library.id == package.id);
        let sets = if is_library {
            combinations(&own_features(package))
        } else {
            vec![Vec::new()]
        };
        for features in sets {
            let mut clippy =
                context.cargo(["clippy", "--quiet", "--package", package.name.as_str()]);
            if is_library {
                clippy.args(["--lib", "--no-default-features"]);
            }
            if !features.is_empty() {
                clippy.args(["--features", &features.join(",")]);
            }
            clippy.args(["--", "-D", "warnings"]);
            findings.problems.extend(process::passes(clippy)?);
            runs += 1;
        }
    }
    findings.note(format!("{runs} combinations"));
    Ok(findings)
}

/// The features that a user chooses between: `default` is a choice of others.
fn own_features(package: &Package) -> Vec<&str> {
    package
        .features
        .keys()
        .map(String::as_str)
        .filter(|name| *name != "default")
        .collect()
}

fn combinations<'a>(features: &[&'a str]) -> Vec<Vec<&'a str>> {
    if features.len() > POWERSET_UP_TO {
        let mut sets = vec![Vec::new()];
        sets.extend(features.iter().map(|feature| vec![*feature]));
        sets.push(features.to_vec());
        return sets;
    }
    features.iter().fold(vec![Vec::new()], |sets, feature| {
        let with = sets
            .iter()
            .map(|set| [set.as_slice(), &[*feature]].concat());
        sets.iter().cloned().chain(with).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_features_are_tried_in_every_combination() {
        assert_eq!(combinations(&[]), [Vec::<&str>::new()]);
        assert_eq!(
            combinations(&["a", "b"]),
            [vec![], vec!["a"], vec!["b"], vec!["a", "b"]]
        );
        assert_eq!(combinations(&["a", "b", "c", "d"]).len(), 16);
    }

    #[test]
    fn many_features_are_tried_one_by_one_none_and_all() {
        let sets = combinations(&["a", "b", "c", "d", "e"]);
        assert_eq!(
            sets.iter().map(Vec::len).collect::<Vec<_>>(),
            [0, 1, 1, 1, 1, 1, 5]
        );
    }
}
