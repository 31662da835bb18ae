//! Each member stands alone: it compiles by itself, without a warning, a library with each combination
//! of its features. One invocation for each, so that no other member switches on what it forgot to ask for.

use anyhow::Result;

use super::Findings;
use crate::context::Context;
use crate::process;

/// Up to this many features, every combination is tried; above it each alone, none, and all.
const POWERSET_UP_TO: usize = 4;

pub(super) fn check(context: &Context) -> Result<Findings> {
    let mut findings = Findings::default();
    let libraries: Vec<_> = context
        .libraries()
        .iter()
        .map(|library| &library.id)
        .collect();
    let mut runs = 0_usize;
    for package in context.members() {
        let is_library = libraries.contains(&&package.id);
        let names = package.features.keys().map(String::as_str);
        // `default` is a choice of others.
        let features: Vec<&str> = names
            .filter(|name| is_library && *name != "default")
            .collect();
        for set in combinations(&features) {
            let mut clippy =
                context.cargo(["clippy", "--quiet", "--package", package.name.as_str()]);
            if is_library {
                clippy.args([
                    "--lib",
                    "--no-default-features",
                    "--features",
                    &set.join(","),
                ]);
            }
            clippy.args(["--", "-D", "warnings"]);
            findings.problems.extend(process::passes(clippy)?);
            runs += 1;
        }
    }
    findings.note(format!("{runs} combinations"));
    findings.left("combinations of features without dependencies of the tests: the job `hack`");
    Ok(findings)
}

fn combinations<'a>(features: &[&'a str]) -> Vec<Vec<&'a str>> {
    if features.len() > POWERSET_UP_TO {
        let alone = features.iter().map(|feature| vec![*feature]);
        return [vec![], features.to_vec()]
            .into_iter()
            .chain(alone)
            .collect();
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
    fn few_features_are_tried_in_every_combination_many_one_by_one() {
        assert_eq!(combinations(&[]), [Vec::<&str>::new()]);
        let all = [vec![], vec!["a"], vec!["b"], vec!["a", "b"]];
        assert_eq!(combinations(&["a", "b"]), all);
        let lengths = combinations(&["a", "b", "c", "d", "e"]);
        assert_eq!(
            lengths.iter().map(Vec::len).collect::<Vec<_>>(),
            [0, 5, 1, 1, 1, 1, 1]
        );
    }
}
