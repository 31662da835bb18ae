//! Giving a configuration.

use serde::{Deserialize, Serialize};

use super::{Code, Refusal};

/// The query of `PUT /v1/config`. The body is the configuration itself, as YAML or JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ApplyRequest {
    /// Answer only once the configuration is live and kept, or known not to go live.
    pub wait: bool,
    /// With `wait`: answer only once the probation of the configuration is over.
    pub through_probation: bool,
    /// With `wait`: for how long at most.
    pub timeout_ms: Option<u64>,
}

impl ApplyRequest {
    /// Returns the path to ask by, with the query.
    #[must_use]
    pub fn target(&self) -> String {
        let mut target = format!("{}?wait={}", super::CONFIG, self.wait);
        if self.through_probation {
            target.push_str("&through_probation=true");
        }
        if let Some(limit) = self.timeout_ms {
            target.push_str(&format!("&timeout_ms={limit}"));
        }
        target
    }

    /// Reads the query. Without one, nothing is waited for.
    ///
    /// # Errors
    ///
    /// A [`Code::BadRequest`] that names what is not understood.
    pub fn from_query(query: Option<&str>) -> Result<Self, Refusal> {
        let mut request = Self::default();
        let parts = query.unwrap_or_default().split('&');
        for part in parts.filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            match name {
                "wait" => request.wait = flag(part, value)?,
                "through_probation" => request.through_probation = flag(part, value)?,
                "timeout_ms" => {
                    let limit = value.parse();
                    let limit = limit.map_err(|_| bad(part, "write a whole number of ms"))?;
                    request.timeout_ms = Some(limit);
                }
                _ => {
                    let known = "`wait`, `through_probation` and `timeout_ms` are known";
                    return Err(bad(part, known));
                }
            }
        }
        Ok(request)
    }
}

fn flag(part: &str, value: &str) -> Result<bool, Refusal> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(bad(part, "write `true` or `false`")),
    }
}

fn bad(part: &str, remedy: &str) -> Refusal {
    let message = format!("`{part}` in the query is not understood: {remedy}");
    Refusal::new(Code::BadRequest, message)
}

/// The answer to `PUT /v1/config`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The version of this interface, [`API`](super::API).
    pub api: u32,
    /// What became of it.
    pub result: ApplyResult,
    /// With `wait`: the epoch that is live.
    pub epoch: Option<u32>,
    /// With `wait`: whether the configuration is kept, so that a restart runs it. One on probation is kept when
    /// that is over.
    pub kept: Option<bool>,
}

/// What became of a configuration that was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApplyResult {
    /// It was accepted, and its epoch is on its way.
    Asked,
    /// It was desired already, and no epoch was started for it.
    Unchanged,
    /// With `wait`: it is live, with an epoch that was started for it.
    Live,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_by_the_query_is_read_back() {
        for (wait, through_probation, timeout_ms) in [
            (false, false, None),
            (true, true, Some(7)),
            (true, false, Some(0)),
        ] {
            let request = ApplyRequest {
                wait,
                through_probation,
                timeout_ms,
            };
            let target = request.target();
            let (path, query) = target.split_once('?').unwrap();
            assert_eq!(path, super::super::CONFIG);
            assert_eq!(ApplyRequest::from_query(Some(query)), Ok(request));
        }
        for nothing in [None, Some(""), Some("&")] {
            let read = ApplyRequest::from_query(nothing);
            assert_eq!(read, Ok(ApplyRequest::default()), "{nothing:?}");
        }
    }

    #[test]
    fn what_is_not_understood_is_named_with_a_remedy() {
        let told = |query| ApplyRequest::from_query(Some(query)).unwrap_err().message;
        let told = ["wiat=true", "wait", "wait=1", "timeout_ms=-1"].map(told);
        insta::assert_snapshot!(told.join("\n"), @r"
        `wiat=true` in the query is not understood: `wait`, `through_probation` and `timeout_ms` are known
        `wait` in the query is not understood: write `true` or `false`
        `wait=1` in the query is not understood: write `true` or `false`
        `timeout_ms=-1` in the query is not understood: write a whole number of ms
        ");
    }
}
