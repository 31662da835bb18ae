//! From a request to a question, and from its answer to a response.

use std::error::Error;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Body;
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ask::{Answer, Ask};
use super::wire::{self, API, Code, EventsRequest, Failed, Refusal, UndrainRequest};
use crate::metrics::{Exposition, Format};

/// What can be asked, for those who ask for something else.
const PATHS: [(&str, Method); 9] = [
    (wire::STATUS, Method::GET),
    (wire::METRICS, Method::GET),
    (wire::RELOAD, Method::POST),
    (wire::DRAIN, Method::POST),
    (wire::UNDRAIN, Method::POST),
    (wire::STOP, Method::POST),
    (wire::WHO, Method::POST),
    (wire::WAIT, Method::POST),
    (wire::EVENTS, Method::POST),
];

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// An answer of the supervisor.
    Ask(Ask),
    /// The metrics, which are there without it.
    Metrics(Format),
    /// What has happened, which is there without it as well.
    Events(EventsRequest),
}

/// Reads what a request asks for.
pub(super) async fn read<B>(request: Request<B>) -> Result<Wanted, Refusal>
where
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let path = request.uri().path();
    let Some((path, method)) = PATHS.iter().find(|(known, _)| *known == path) else {
        return Err(unknown(path));
    };
    if request.method() != method {
        let message = format!("{path} takes {method}, not {}", request.method());
        return Err(Refusal::new(Code::MethodNotAllowed, message));
    }
    let accept = request.headers().get(ACCEPT);
    let format = Format::accepted(accept.and_then(|accept| accept.to_str().ok()));
    let body = body(request.into_body()).await?;
    let ask = match *path {
        wire::METRICS => return Ok(Wanted::Metrics(format)),
        wire::STATUS => Ask::Status,
        wire::RELOAD => Ask::Reload(parse(&body)?),
        wire::DRAIN => Ask::Drain(parse(&body)?),
        wire::UNDRAIN => {
            let UndrainRequest {} = parse(&body)?;
            Ask::Undrain
        }
        wire::WHO => Ask::Who(parse(&body)?),
        wire::WAIT => Ask::Wait(parse(&body)?),
        wire::EVENTS => {
            let request: EventsRequest = parse(&body)?;
            if request.timeout_ms.is_some() && !request.wait {
                let message = "`timeout_ms` goes with `wait` only";
                return Err(Refusal::new(Code::BadRequest, message));
            }
            return Ok(Wanted::Events(request));
        }
        _ => Ask::Stop(parse(&body)?),
    };
    ask.check().map(Wanted::Ask)
}

fn unknown(path: &str) -> Refusal {
    let version = path.strip_prefix("/v").and_then(|rest| {
        let (version, _) = rest.split_once('/')?;
        version.parse::<u32>().ok()
    });
    match version {
        Some(version) if version != API => Refusal::new(
            Code::UnknownVersion,
            format!("version {version} of this interface is not known here, only version {API}"),
        ),
        _ => {
            let known = PATHS.map(|(path, method)| format!("{method} {path}"));
            Refusal::new(
                Code::NotFound,
                format!("there is no such path here; there are {}", known.join(", ")),
            )
        }
    }
}

async fn body<B>(body: B) -> Result<Bytes, Refusal>
where
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    match Limited::new(body, wire::MAX_REQUEST).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Refusal::new(
            Code::TooLarge,
            format!("a request has at most {} bytes", wire::MAX_REQUEST),
        )),
        Err(error) => Err(Refusal::new(
            Code::BadRequest,
            format!("the body cannot be read: {error}"),
        )),
    }
}

/// No body is as good as one without fields.
fn parse<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, Refusal> {
    match body.trim_ascii().first() {
        None => return Ok(T::default()),
        Some(b'{') => {}
        // A list would be taken for the fields in their order.
        Some(_) => {
            let message = "the body is not understood: it is no JSON object";
            return Err(Refusal::new(Code::BadRequest, message));
        }
    }
    serde_json::from_slice(body).map_err(|error| {
        Refusal::new(
            Code::BadRequest,
            format!("the body is not understood: {error}"),
        )
    })
}

/// Writes metrics.
pub(super) fn exposition(exposition: Exposition) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(exposition.body)));
    let content_type = HeaderValue::from_static(exposition.content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// Writes an answer of the supervisor.
pub(super) fn respond(answer: &Answer) -> Response<Full<Bytes>> {
    respond_with(answer.as_ref())
}

/// Writes an answer.
pub(super) fn respond_with(answer: Result<&impl Serialize, &Refusal>) -> Response<Full<Bytes>> {
    let (status, body) = match answer {
        Ok(reply) => (200, serde_json::to_vec_pretty(reply)),
        Err(refusal) => {
            let failed = Failed {
                api: API,
                error: Refusal::clone(refusal),
            };
            (refusal.code.status(), serde_json::to_vec_pretty(&failed))
        }
    };
    // What is written has no maps with strange keys, so it can always be written.
    let mut body = body.unwrap_or_default();
    body.push(b'\n');
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Err(refusal) = answer
        && refusal.code == Code::MethodNotAllowed
    {
        let mut paths = PATHS.iter();
        let asked = paths.find(|(path, _)| refusal.message.starts_with(path));
        let allowed = match asked {
            Some((_, method)) if *method == Method::GET => "GET",
            _ => "POST",
        };
        headers.insert(ALLOW, HeaderValue::from_static(allowed));
    }
    response
}

#[cfg(test)]
mod any_request;

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use hyper::body::Frame;

    use super::*;

    #[test]
    fn another_version_is_told_from_another_path() {
        assert_eq!(unknown("/v2/status").code, Code::UnknownVersion);
        for path in ["/", "/status", "/v1/", "/v1/nothing", "/vx/status", "*"] {
            let refusal = unknown(path);
            assert_eq!(refusal.code, Code::NotFound, "{path}");
            assert!(refusal.message.contains("POST /v1/stop"), "{path}");
        }
    }

    #[test]
    fn a_body_is_an_object_with_known_fields_or_nothing() {
        let parse = parse::<wire::DrainRequest>;
        assert_eq!(parse(b" \n").unwrap(), wire::DrainRequest::default());
        assert!(parse(b"{\"wait\": true}").unwrap().wait);
        for bad in [
            &b"{"[..],
            b"[]",
            b"{\"wait\": 1}",
            b"{\"wiat\": true}",
            b"\xff",
        ] {
            assert_eq!(parse(bad).unwrap_err().code, Code::BadRequest);
        }
    }

    /// The body of a client that goes while it sends.
    struct BreaksOff;

    impl Body for BreaksOff {
        type Data = Bytes;
        type Error = std::io::Error;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            Poll::Ready(Some(Err(std::io::ErrorKind::ConnectionReset.into())))
        }
    }

    /// What is asked, or the status of the refusal and the methods that it names.
    async fn asked(method: &str, path: &str, body: impl Into<Bytes>) -> String {
        let request = Request::builder().method(method).uri(path);
        let request = request.body(Full::new(body.into())).unwrap();
        let refusal = match read(request).await {
            Ok(Wanted::Ask(ask)) => return format!("{method} {path}: {ask:?}"),
            Ok(other) => return format!("{method} {path}: {other:?}"),
            Err(refusal) => refusal,
        };
        let code = refusal.code;
        let response = respond(&Err(refusal));
        assert_eq!(response.status(), code.status());
        let allowed = response.headers().get(ALLOW);
        format!("{method} {path}: {code:?}, allowed: {allowed:?}")
    }

    #[tokio::test]
    async fn each_path_is_asked_by_its_method() {
        let mut lines = Vec::new();
        for (path, _) in PATHS {
            for method in ["GET", "POST"] {
                lines.push(asked(method, path, "").await);
            }
        }
        lines.push(asked("GET", "/v1/nothing", "").await);
        insta::assert_snapshot!(lines.join("\n"), @r#"
        GET /v1/status: Status
        POST /v1/status: MethodNotAllowed, allowed: Some("GET")
        GET /v1/metrics: Metrics(OpenMetrics)
        POST /v1/metrics: MethodNotAllowed, allowed: Some("GET")
        GET /v1/reload: MethodNotAllowed, allowed: Some("POST")
        POST /v1/reload: Reload(ReloadRequest { wait: false, now: false, cold: false, if_changed: false, through_probation: false, timeout_ms: None })
        GET /v1/drain: MethodNotAllowed, allowed: Some("POST")
        POST /v1/drain: Drain(DrainRequest { wait: false, timeout_ms: None })
        GET /v1/undrain: MethodNotAllowed, allowed: Some("POST")
        POST /v1/undrain: Undrain
        GET /v1/stop: MethodNotAllowed, allowed: Some("POST")
        POST /v1/stop: Stop(StopRequest { now: false, wait: false, timeout_ms: None })
        GET /v1/who: MethodNotAllowed, allowed: Some("POST")
        POST /v1/who: Who(WhoRequest { epoch: None, sort: Age, limit: None, end: None })
        GET /v1/wait: MethodNotAllowed, allowed: Some("POST")
        POST /v1/wait: Wait(WaitRequest { until: Ready, timeout_ms: None })
        GET /v1/events: MethodNotAllowed, allowed: Some("POST")
        POST /v1/events: Events(EventsRequest { after: None, wait: false, timeout_ms: None })
        GET /v1/nothing: NotFound, allowed: None
        "#);
    }

    #[tokio::test]
    async fn a_body_that_is_too_large_is_told_from_one_that_breaks_off() {
        let full = format!("{:1$}", "{}", wire::MAX_REQUEST);
        let fits = asked("POST", wire::STOP, full.clone()).await;
        assert!(fits.contains(": Stop("), "{fits}");
        let refused = asked("POST", wire::STOP, full + " ").await;
        assert!(refused.contains(": TooLarge,"), "{refused}");
        let refusal = body(BreaksOff).await.unwrap_err();
        assert_eq!(refusal.code, Code::BadRequest);
    }

    #[tokio::test]
    async fn a_time_limit_for_events_goes_with_a_wait_for_them() {
        let limit = r#"{"timeout_ms": 5}"#;
        let refused = asked("POST", wire::EVENTS, limit).await;
        assert!(refused.contains(": BadRequest,"), "{refused}");
        for body in [r#"{"wait": true, "timeout_ms": 5}"#, r#"{"wait": true}"#] {
            let taken = asked("POST", wire::EVENTS, body).await;
            assert!(taken.contains(": Events(EventsRequest {"), "{taken}");
        }
    }

    #[tokio::test]
    async fn metrics_are_written_with_their_type() {
        let response = exposition(Exposition {
            body: "a 1\n".to_owned(),
            content_type: "text/plain",
        });
        assert_eq!(response.headers()[CONTENT_TYPE], "text/plain");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "a 1\n");
    }
}
