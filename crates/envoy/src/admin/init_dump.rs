//! What `/init_dump` says: for whom an epoch waits.

use serde::Deserialize;

use crate::gate;
use crate::text::one_line;

/// The start of the names of listeners in the answer. The end is a space and a number.
const OF_LISTENER: &str = "init manager Listener-local-init-manager ";

#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    unready_targets_dumps: Vec<Dump>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Dump {
    name: String,
    target_names: Vec<String>,
}

/// For whom an epoch waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Targets {
    /// Whether it waits for its gate.
    pub(crate) gate: bool,
    /// The names of all others.
    pub(crate) others: Vec<String>,
}

/// Reads the names of the targets that are not ready, each once, in the order of the answer.
pub(super) fn parse(body: &[u8]) -> Result<Targets, String> {
    let dumps = read(body)?.into_iter();
    let (gate, others): (Vec<_>, Vec<_>) = dumps
        .flat_map(|dump| dump.target_names)
        .partition(|target| gate::is_waited_for_as(target));
    Ok(Targets {
        gate: !gate.is_empty(),
        others: each_once(others.into_iter()),
    })
}

/// Reads the listeners that are warming, each with the targets that it waits for, for people.
pub(super) fn warming(body: &[u8]) -> Result<Vec<String>, String> {
    let dumps = read(body)?.into_iter();
    let dumps = dumps.filter(|dump| !gate::is_waited_for_as(&dump.name));
    Ok(each_once(dumps.map(|dump| {
        let name = match dump.name.strip_prefix(OF_LISTENER) {
            Some(name) => {
                let name = name.rsplit_once(' ').map_or(name, |(name, _)| name);
                format!("listener {name}")
            }
            None => dump.name,
        };
        match dump.target_names.is_empty() {
            true => name,
            false => format!("{name} ({})", dump.target_names.join(", ")),
        }
    })))
}

fn read(body: &[u8]) -> Result<Vec<Dump>, String> {
    let answer: Answer =
        serde_json::from_slice(body).map_err(|error| one_line(&error.to_string()))?;
    Ok(answer.unready_targets_dumps)
}

fn each_once(all: impl Iterator<Item = String>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in all {
        let name = one_line(&name);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_target_is_named_once() {
        let body = br#"{"unready_targets_dumps": [
            {"name": "init manager Listener-local-init-manager web 1", "target_names": ["shared target SdsApi cert"]},
            {"name": "init manager Listener-local-init-manager web 2", "target_names": ["shared target SdsApi cert", "x"]}]}"#;
        let others = ["shared target SdsApi cert", "x"].map(str::to_owned).into();
        let gate = false;
        assert_eq!(parse(body).unwrap(), Targets { gate, others });
        // Listeners and clusters that are fetched are not in it.
        assert_eq!(parse(b"{}").unwrap(), Targets::default());
    }

    #[test]
    fn the_gate_is_told_apart_from_what_else_is_waited_for() {
        let body = br#"{"unready_targets_dumps": [
            {"name": "init manager Listener-local-init-manager handover_gate 1",
             "target_names": ["shared target RdsRouteConfigSubscription RDS init handover_gate"]},
            {"name": "init manager Listener-local-init-manager web 2", "target_names": ["x"]}]}"#;
        let others = vec!["x".to_owned()];
        let gate = true;
        assert_eq!(parse(body).unwrap(), Targets { gate, others });
        assert_eq!(warming(body).unwrap(), ["listener web (x)"]);
    }

    #[test]
    fn a_warming_listener_is_named_with_what_it_waits_for() {
        let body = br#"{"unready_targets_dumps": [
            {"name": "init manager Listener-local-init-manager a b 17", "target_names": ["SdsApi cert", "x"]},
            {"name": "init manager Listener-local-init-manager", "target_names": []},
            {"name": "init manager Server", "target_names": ["y"]}]}"#;
        assert_eq!(
            warming(body).unwrap(),
            [
                "listener a b (SdsApi cert, x)",
                "init manager Listener-local-init-manager",
                "init manager Server (y)",
            ]
        );
    }

    #[test]
    fn strange_answers_are_refused() {
        for body in ["", "null", "[1]", r#"{"unready_targets_dumps": 1}"#] {
            assert!(parse(body.as_bytes()).is_err(), "{body}");
        }
    }
}
