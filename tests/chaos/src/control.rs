//! Requests on the control socket. Each must be answered, whatever happens meanwhile.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use handover_test_support::http::ResponseReader;
use serde_json::Value;

use crate::step::Ask;

/// How long a request waits that is answered at its end. Below [`LIMIT`], so that the supervisor answers.
const PATIENCE_MS: u32 = 8_000;

/// How long an answer may take: as long as a request waits, and a stop of the supervisor.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// The error codes of `docs/control.md` that a request of ours may be answered with.
const REFUSALS: [&str; 7] = [
    "not_supported",
    "ending",
    "replaced",
    "rejected",
    "failed",
    "busy",
    "timed_out",
];

/// Sends a request, and returns the answer in JSON.
///
/// # Errors
///
/// When there is no complete answer in time.
pub(crate) fn call(socket: &Path, method: &str, path: &str, body: &str) -> io::Result<Value> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_write_timeout(Some(LIMIT))?;
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: handover\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes())?;
    let end = Instant::now() + LIMIT;
    let mut reader = ResponseReader::default();
    let mut buffer = [0; 16 * 1024];
    let broken = |what: &dyn std::fmt::Debug| io::Error::other(format!("{what:?}"));
    let response = loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let count = match stream.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            other => other?,
        };
        if count == 0 {
            break reader.end_of_input().map_err(|error| broken(&error))?;
        }
        let bytes = buffer.get(..count).unwrap_or_default();
        if let Some(response) = reader.push(bytes).map_err(|error| broken(&error))? {
            break response;
        }
    };
    serde_json::from_slice(&response.body).map_err(io::Error::other)
}

/// Sends what is asked for, and returns what is wrong with the answer, if anything.
pub(crate) fn ask(socket: &Path, ask: Ask) -> Option<String> {
    let wait = format!("\"wait\": true, \"timeout_ms\": {PATIENCE_MS}");
    let (method, path, body) = match ask {
        Ask::Status => ("GET", "/v1/status", String::new()),
        Ask::Who => ("POST", "/v1/who", "{}".to_owned()),
        Ask::Reload => ("POST", "/v1/reload", "{}".to_owned()),
        Ask::ReloadWait => ("POST", "/v1/reload", format!("{{{wait}}}")),
        Ask::ReloadNow => ("POST", "/v1/reload", "{\"now\": true}".to_owned()),
        Ask::ReloadCold => ("POST", "/v1/reload", format!("{{\"cold\": true, {wait}}}")),
        Ask::Drain => ("POST", "/v1/drain", "{}".to_owned()),
        Ask::Undrain => ("POST", "/v1/undrain", "{}".to_owned()),
    };
    let answer = call(socket, method, path, &body);
    let problem = match &answer {
        Ok(answer) => judge(answer)?,
        Err(error) => error.to_string(),
    };
    Some(format!(
        "{method} {path} {body} was not answered as it must be: {problem}"
    ))
}

/// Returns what is wrong with an answer.
fn judge(answer: &Value) -> Option<String> {
    if answer.get("api") != Some(&Value::from(1)) && answer.get("version").is_none() {
        return Some(format!("{answer} has no version of the interface"));
    }
    let error = answer.get("error")?;
    let code = error
        .get("code")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let message = error
        .get("message")
        .and_then(Value::as_str)
        .unwrap_or_default();
    (!REFUSALS.contains(&code) || message.is_empty())
        .then(|| format!("the error {error} was not expected"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_with_its_reason_is_an_answer_and_a_bug_is_none() {
        let judged = |text: &str| judge(&serde_json::from_str(text).unwrap());
        assert_eq!(judged(r#"{"api": 1, "result": "asked"}"#), None);
        assert_eq!(
            judged(r#"{"api": 1, "error": {"code": "rejected", "message": "no YAML"}}"#),
            None
        );
        for bad in [
            r#"{"result": "asked"}"#,
            r#"{"api": 1, "error": {"code": "bad_request", "message": "what"}}"#,
            r#"{"api": 1, "error": {"code": "rejected", "message": ""}}"#,
        ] {
            assert!(judged(bad).is_some(), "{bad}");
        }
    }
}
