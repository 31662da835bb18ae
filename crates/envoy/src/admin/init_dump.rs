//! What `/init_dump` says: for whom an epoch waits.

use serde::Deserialize;

use crate::text::one_line;

/// Reads the names of the targets that are not ready, each once, in the order of the answer.
pub(super) fn parse(body: &[u8]) -> Result<Vec<String>, String> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Answer {
        unready_targets_dumps: Vec<Dump>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Dump {
        target_names: Vec<String>,
    }
    let answer: Answer =
        serde_json::from_slice(body).map_err(|error| one_line(&error.to_string()))?;
    let mut names: Vec<String> = Vec::new();
    for name in answer
        .unready_targets_dumps
        .into_iter()
        .flat_map(|dump| dump.target_names)
    {
        let name = one_line(&name);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
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
    fn strange_answers_are_refused() {
        for body in ["", "null", "[1]", r#"{"unready_targets_dumps": 1}"#] {
            assert!(parse(body.as_bytes()).is_err(), "{body}");
        }
    }
}
