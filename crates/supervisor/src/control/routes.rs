//! From a request to a question, and from its answer to a response.

use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Body;
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ask::{Answer, Ask};
use super::wire::{self, API, ApplyRequest, Code, EventsRequest, Failed, Refusal, UndrainRequest};
use crate::metrics::{Exposition, Format};

/// What can be asked, for those who ask for something else.
const PATHS: [(&str, Method); 10] = [
    (wire::STATUS, Method::GET),
    (wire::METRICS, Method::GET),
    (wire::RELOAD, Method::POST),
    (wire::DRAIN, Method::POST),
    (wire::UNDRAIN, Method::POST),
    (wire::STOP, Method::POST),
    (wire::WHO, Method::POST),
    (wire::WAIT, Method::POST),
    (wire::EVENTS, Method::POST),
    (wire::CONFIG, Method::PUT),
];

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// An answer of the supervisor.
    Ask(Ask),
    /// That the supervisor runs this configuration.
    Apply(Ask, Arc<[u8]>),
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
    let limit = match *path {
        wire::CONFIG => wire::MAX_CONFIGURATION,
        _ => wire::MAX_REQUEST,
    };
    if *path == wire::CONFIG {
        let ask = Ask::Apply(ApplyRequest::from_query(request.uri().query())?).check()?;
        let text = body(request.into_body(), limit).await?;
        if text.trim_ascii().is_empty() {
            let message = "the body is the configuration, and it is empty";
            return Err(Refusal::new(Code::BadRequest, message));
        }
        return Ok(Wanted::Apply(ask, Arc::from(&*text)));
    }
    let body = body(request.into_body(), limit).await?;
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

/// Reads a body of at most so many bytes. One that is announced to be larger is not read.
async fn body<B>(body: B, limit: usize) -> Result<Bytes, Refusal>
where
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let too_large = || {
        let message = format!("the body of this request has at most {limit} bytes");
        Refusal::new(Code::TooLarge, message)
    };
    if usize::try_from(body.size_hint().lower()).map_or(true, |size| size > limit) {
        return Err(too_large());
    }
    match Limited::new(body, limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
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
            Some((_, method)) if *method == Method::PUT => "PUT",
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
            for method in ["GET", "POST", "PUT"] {
                lines.push(asked(method, path, "").await);
            }
        }
        lines.push(asked("GET", "/v1/nothing", "").await);
        insta::assert_snapshot!(lines.join("\n"), @r#"
        GET /v1/status: Status
        POST /v1/status: MethodNotAllowed, allowed: Some("GET")
        PUT /v1/status: MethodNotAllowed, allowed: Some("GET")
        GET /v1/metrics: Metrics(OpenMetrics)
        POST /v1/metrics: MethodNotAllowed, allowed: Some("GET")
        PUT /v1/metrics: MethodNotAllowed, allowed: Some("GET")
        GET /v1/reload: MethodNotAllowed, allowed: Some("POST")
        POST /v1/reload: Reload(ReloadRequest { wait: false, now: false, cold: false, if_changed: false, through_probation: false, timeout_ms: None })
        PUT /v1/reload: MethodNotAllowed, allowed: Some("POST")
        GET /v1/drain: MethodNotAllowed, allowed: Some("POST")
        POST /v1/drain: Drain(DrainRequest { wait: false, timeout_ms: None })
        PUT /v1/drain: MethodNotAllowed, allowed: Some("POST")
        GET /v1/undrain: MethodNotAllowed, allowed: Some("POST")
        POST /v1/undrain: Undrain
        PUT /v1/undrain: MethodNotAllowed, allowed: Some("POST")
        GET /v1/stop: MethodNotAllowed, allowed: Some("POST")
        POST /v1/stop: Stop(StopRequest { now: false, wait: false, timeout_ms: None })
        PUT /v1/stop: MethodNotAllowed, allowed: Some("POST")
        GET /v1/who: MethodNotAllowed, allowed: Some("POST")
        POST /v1/who: Who(WhoRequest { epoch: None, sort: Age, limit: None, end: None })
        PUT /v1/who: MethodNotAllowed, allowed: Some("POST")
        GET /v1/wait: MethodNotAllowed, allowed: Some("POST")
        POST /v1/wait: Wait(WaitRequest { until: Ready, timeout_ms: None })
        PUT /v1/wait: MethodNotAllowed, allowed: Some("POST")
        GET /v1/events: MethodNotAllowed, allowed: Some("POST")
        POST /v1/events: Events(EventsRequest { after: None, wait: false, timeout_ms: None })
        PUT /v1/events: MethodNotAllowed, allowed: Some("POST")
        GET /v1/config: MethodNotAllowed, allowed: Some("PUT")
        POST /v1/config: MethodNotAllowed, allowed: Some("PUT")
        PUT /v1/config: BadRequest, allowed: None
        GET /v1/nothing: NotFound, allowed: None
        "#);
    }

    #[tokio::test]
    async fn a_configuration_is_the_body_and_the_rest_is_in_the_query() {
        let target = format!("{}?wait=true&timeout_ms=5", wire::CONFIG);
        let asked_for = |target: &str, body: &str| {
            let request = Request::builder().method("PUT").uri(target);
            let request = request.body(Full::new(Bytes::from(body.to_owned())));
            read(request.unwrap())
        };
        let Ok(Wanted::Apply(ask, text)) = asked_for(&target, "admin: {}\n").await else {
            panic!("it is not understood");
        };
        assert_eq!(&*text, b"admin: {}\n");
        assert_eq!(ask.to_string(), "apply");
        for (query, body) in [
            ("", " \n"),
            ("?through_probation=true", "a"),
            ("?timeout_ms=1", "a"),
            ("?wiat=true", "a"),
        ] {
            let refused = asked_for(&format!("{}{query}", wire::CONFIG), body).await;
            assert_eq!(refused.unwrap_err().code, Code::BadRequest, "{query}");
        }
    }

    /// A body that says how large it is. Nobody may read it.
    struct Announced(u64);

    impl Body for Announced {
        type Data = Bytes;
        type Error = std::io::Error;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            panic!("it is read");
        }

        fn size_hint(&self) -> hyper::body::SizeHint {
            hyper::body::SizeHint::with_exact(self.0)
        }
    }

    #[tokio::test]
    async fn a_configuration_that_is_announced_to_be_too_large_is_not_read() {
        let size = u64::try_from(wire::MAX_CONFIGURATION).unwrap() + 1;
        let request = Request::builder().method("PUT").uri(wire::CONFIG);
        let refused = read(request.body(Announced(size)).unwrap()).await;
        let refusal = refused.unwrap_err();
        assert_eq!(refusal.code, Code::TooLarge);
        assert!(refusal.message.contains("67108864 bytes"), "{refusal:?}");
    }

    #[tokio::test]
    async fn a_body_that_is_too_large_is_told_from_one_that_breaks_off() {
        let full = format!("{:1$}", "{}", wire::MAX_REQUEST);
        let fits = asked("POST", wire::STOP, full.clone()).await;
        assert!(fits.contains(": Stop("), "{fits}");
        let refused = asked("POST", wire::STOP, full + " ").await;
        assert!(refused.contains(": TooLarge,"), "{refused}");
        let refusal = body(BreaksOff, wire::MAX_REQUEST).await.unwrap_err();
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
