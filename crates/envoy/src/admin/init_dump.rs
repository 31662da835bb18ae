//! What `/init_dump` says: for whom an epoch waits.

use serde::Deserialize;

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

/// Reads the names of the targets that are not ready, each once, in the order of the answer.
pub(super) fn parse(body: &[u8]) -> Result<Vec<String>, String> {
    let dumps = read(body)?.into_iter();
    Ok(each_once(dumps.flat_map(|dump| dump.target_names)))
}

/// Reads the listeners that are warming, each with the targets that it waits for, for people.
pub(super) fn warming(body: &[u8]) -> Result<Vec<String>, String> {
    let dumps = read(body)?.into_iter();
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
        assert_eq!(parse(body).unwrap(), ["shared target SdsApi cert", "x"]);
        // Listeners and clusters that are fetched are not in it.
        assert_eq!(parse(b"{}").unwrap(), [""; 0]);
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
