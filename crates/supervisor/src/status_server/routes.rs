//! From a request to an endpoint, and from what is known to a response. Nothing here waits.

use std::net::IpAddr;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS,
};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};

use super::compat::{self, Call, Denied};
use super::public::PublicStatus;
use crate::events::EventBody;
use crate::metrics::Exposition;
use crate::operator::Verdict;

/// A whole answer, or events as they come.
pub(super) type Answer = Response<Either<Full<Bytes>, EventBody>>;

/// What can be read, and called where that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Index,
    Ready,
    Live,
    Current,
    Status,
    Events,
    Metrics,
    Statistics,
    Call(Call),
}

/// Each endpoint, its path, and what it is.
const ENDPOINTS: [(Endpoint, &str, &str); 8] = [
    (Endpoint::Index, "/", "this list; a page for browsers"),
    (
        Endpoint::Ready,
        "/healthz/ready",
        "200 while an epoch serves",
    ),
    (
        Endpoint::Live,
        "/healthz/live",
        "200 while the supervisor's loop turns",
    ),
    (
        Endpoint::Current,
        "/healthz/current",
        "200 while what serves is what is desired",
    ),
    (Endpoint::Status, "/status", "the status as JSON"),
    (
        Endpoint::Events,
        "/events",
        "what happens, as server-sent events",
    ),
    (Endpoint::Metrics, "/metrics", "OpenMetrics, for Prometheus"),
    (
        Endpoint::Statistics,
        "/stats/prometheus",
        "the statistics of all epochs",
    ),
];

/// Why a request is not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// There is no such path.
    NotFound,
    /// Nothing can be changed here.
    Method,
    /// The name of the host is not one of this one.
    Host,
    /// A call that is not for this client, or not by this method.
    Call(Denied),
}

/// Where a connection has come in, and what is there.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Entrance {
    /// The address at which the connection has come in, if known.
    pub(super) local: Option<IpAddr>,
    /// The address of the client, if known.
    pub(super) peer: Option<IpAddr>,
    /// Whether the calls of other sidecars are there.
    pub(super) compat: bool,
}

/// Reads what a request asks for.
///
/// Queries and a slash at the end are ignored. A path is compared as it was sent: an escaped one is another one.
pub(super) fn read(head: &Parts, entrance: Entrance) -> Result<Endpoint, Refused> {
    let named = head.uri.host().map(str::to_owned).or_else(|| {
        let host = head.headers.get(HOST)?;
        Some(String::from_utf8_lossy(host.as_bytes()).into_owned())
    });
    if let (Some(host), Some(local)) = (named, entrance.local)
        && !may_name(&host, local)
    {
        return Err(Refused::Host);
    }
    let path = head.uri.path();
    let path = match path.strip_suffix('/') {
        None | Some("") => path,
        Some(shorter) => shorter,
    };
    if entrance.compat
        && let Some(call) = Call::at(path)
    {
        let permitted = call.permit(head, entrance.peer).map_err(Refused::Call);
        return permitted.map(|()| Endpoint::Call(call));
    }
    let mut endpoints = ENDPOINTS.iter();
    let Some((endpoint, ..)) = endpoints.find(|(_, known, _)| *known == path) else {
        return Err(Refused::NotFound);
    };
    match head.method {
        Method::GET | Method::HEAD => Ok(*endpoint),
        _ => Err(Refused::Method),
    }
}

/// Whether a client may call this host so. A page from elsewhere can make a browser on this host connect to a
/// loopback address, but only by a name that is the page's own.
fn may_name(host: &str, local: IpAddr) -> bool {
    if !local.to_canonical().is_loopback() {
        return true;
    }
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None if host.matches(':').count() > 1 => host,
        None => host.split(':').next().unwrap_or_default(),
    };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name.is_empty()
        || name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<IpAddr>().is_ok()
}

impl Refused {
    /// `compat` is whether the calls of other sidecars are there.
    pub(super) fn answer(&self, compat: bool) -> Answer {
        match self {
            Self::NotFound => text(
                StatusCode::NOT_FOUND,
                format!("there is no such path here; there are\n{}", list(compat)),
            ),
            Self::Call(denied) => denied.answer(),
            Self::Method => {
                let message = "nothing can be changed here: use GET or HEAD\n".to_owned();
                let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, message);
                let allowed = HeaderValue::from_static("GET, HEAD");
                answer.headers_mut().insert(ALLOW, allowed);
                answer
            }
            Self::Host => text(
                StatusCode::MISDIRECTED_REQUEST,
                "at a loopback address, call this host by its address or `localhost`\n".to_owned(),
            ),
        }
    }
}

/// The list of paths. `compat` is whether the calls of other sidecars are there.
pub(super) fn index(compat: bool) -> Answer {
    text(StatusCode::OK, list(compat))
}

fn list(compat: bool) -> String {
    let lines = ENDPOINTS.map(|(_, path, what)| format!("{path:19}{what}\n"));
    let calls = if compat {
        compat::list()
    } else {
        String::new()
    };
    lines.concat() + &calls
}

/// Whether clients should be sent here; nothing if the loop has not answered.
pub(super) fn ready(verdict: Option<Verdict>) -> Answer {
    health(verdict, Verdict::is_ready)
}

/// Whether what serves is what is desired.
pub(super) fn current(verdict: Option<Verdict>) -> Answer {
    health(verdict, Verdict::is_current)
}

fn health(verdict: Option<Verdict>, is_so: fn(&Verdict) -> bool) -> Answer {
    match verdict {
        Some(verdict) => {
            let message = format!("{}\n{}\n", verdict.health, verdict.why);
            text(ok_if(is_so(&verdict)), message)
        }
        None => text(ok_if(false), format!("NOT_READY\n{STUCK}\n")),
    }
}

/// Whether the loop turns. That it has answered is the proof.
pub(super) fn live(verdict: Option<Verdict>) -> Answer {
    match verdict {
        Some(_) => text(
            ok_if(true),
            "LIVE\nthe supervisor's loop turns\n".to_owned(),
        ),
        None => text(ok_if(false), format!("NOT_LIVE\n{STUCK}\n")),
    }
}

const STUCK: &str = "the supervisor's loop has not answered in time";

fn ok_if(is_so: bool) -> StatusCode {
    if is_so {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

/// The status, or why there is none.
pub(super) fn status(status: &Result<Bytes, String>) -> Answer {
    match status {
        Ok(json) => answer(
            StatusCode::OK,
            "application/json",
            Either::Left(Full::new(json.clone())),
        ),
        Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

pub(super) fn json(status: &PublicStatus) -> Bytes {
    // What is written has no maps with strange keys, so it can always be written.
    let mut json = serde_json::to_vec_pretty(status).unwrap_or_default();
    json.push(b'\n');
    Bytes::from(json)
}

/// What has happened, as numbers.
pub(super) fn metrics(exposition: Exposition) -> Answer {
    let body = Full::new(Bytes::from(exposition.body));
    answer(StatusCode::OK, exposition.content_type, Either::Left(body))
}

/// Events as they come, or the head of that answer alone.
pub(super) fn events(body: Option<EventBody>) -> Answer {
    let body = match body {
        Some(body) => Either::Right(body),
        None => Either::Left(Full::default()),
    };
    answer(StatusCode::OK, "text/event-stream", body)
}

pub(super) fn text(status: StatusCode, text: String) -> Answer {
    let body = Full::new(Bytes::from(text));
    answer(status, "text/plain; charset=utf-8", Either::Left(body))
}

pub(super) fn answer(
    status: StatusCode,
    content_type: &'static str,
    body: Either<Full<Bytes>, EventBody>,
) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers: [(HeaderName, &str); 3] = [
        (CONTENT_TYPE, content_type),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    for (name, value) in headers {
        answer
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    answer
}

#[cfg(test)]
mod tests {
    use handover_core::Epoch;
    use http_body_util::BodyExt as _;
    use hyper::Request;

    use super::*;
    use crate::operator::{Health, Lacking, Why};

    fn head(method: &str, uri: &str, host: Option<&str>) -> Parts {
        let mut request = Request::builder().method(method).uri(uri);
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn at(local: &str) -> Entrance {
        Entrance {
            local: local.parse().ok(),
            ..Entrance::default()
        }
    }

    fn asked(method: &str, uri: &str) -> Result<Endpoint, Refused> {
        read(&head(method, uri, None), Entrance::default())
    }

    #[test]
    fn a_path_is_known_without_its_query_a_last_slash_and_its_host() {
        for (uri, endpoint) in [
            ("/", Endpoint::Index),
            ("/?x=1", Endpoint::Index),
            ("/healthz/ready", Endpoint::Ready),
            ("/healthz/ready/", Endpoint::Ready),
            ("/healthz/live?verbose", Endpoint::Live),
            ("http://10.0.0.1:80/healthz/current", Endpoint::Current),
            ("/status?a=b&c", Endpoint::Status),
            ("/events", Endpoint::Events),
            ("/metrics", Endpoint::Metrics),
            ("/stats/prometheus?usedonly", Endpoint::Statistics),
        ] {
            assert_eq!(asked("GET", uri), Ok(endpoint), "{uri}");
            assert_eq!(asked("HEAD", uri), Ok(endpoint), "{uri}");
            assert_eq!(asked("POST", uri), Err(Refused::Method), "{uri}");
        }
        for uri in [
            "/healthz",
            "/healthz/ready//",
            "/healthz/Ready",
            "/healthz%2Fready",
            "/healthz/%72eady",
            "/../status",
            "/v1/status",
            "*",
        ] {
            assert_eq!(asked("GET", uri), Err(Refused::NotFound), "{uri}");
        }
    }

    #[test]
    fn at_a_loopback_address_a_name_from_elsewhere_is_refused() {
        let may = |local: &str, host| {
            let read = read(&head("GET", "/", Some(host)), at(local));
            match read {
                Ok(_) => true,
                Err(refused) => {
                    assert_eq!(refused, Refused::Host);
                    false
                }
            }
        };
        for host in [
            "127.0.0.1",
            "127.0.0.1:15020",
            "[::1]:15020",
            "::1",
            "localhost",
            "LOCALHOST:1",
            "web.localhost.",
            "10.1.2.3:80",
            "",
        ] {
            assert!(may("127.0.0.1", host), "{host}");
            assert!(may("::ffff:127.0.0.1", host), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:15020",
            "localhost.evil.example",
            "1.2.3",
        ] {
            assert!(!may("127.0.0.1", host), "{host}");
            assert!(!may("::1", host), "{host}");
            assert!(may("10.0.0.1", host), "{host}");
        }
        // The one in the address counts.
        let absolute = head("GET", "http://evil.example/status", Some("localhost"));
        let read = read(&absolute, at("127.0.0.1"));
        assert_eq!(read, Err(Refused::Host));
    }

    #[test]
    fn calls_are_there_only_where_they_were_asked_for_and_a_foreign_name_comes_first() {
        let here = |compat| Entrance {
            compat,
            peer: "127.0.0.1".parse().ok(),
            ..at("127.0.0.1")
        };
        let quit = head("POST", "/quitquitquit/", Some("localhost"));
        assert_eq!(read(&quit, here(true)), Ok(Endpoint::Call(Call::Quit)));
        assert_eq!(read(&quit, here(false)), Err(Refused::NotFound));
        let renamed = head("POST", "/quitquitquit", Some("evil.example"));
        assert_eq!(read(&renamed, here(true)), Err(Refused::Host));
        let status = head("POST", "/status", None);
        assert_eq!(read(&status, here(true)), Err(Refused::Method));
        assert!(!list(false).contains("quitquitquit"));
        assert!(list(true).starts_with(&list(false)));
        assert!(list(true).contains("/quitquitquit"));
    }

    async fn text_of(answer: Answer) -> (u16, String) {
        let status = answer.status().as_u16();
        let headers = answer.headers();
        assert_eq!(headers[CACHE_CONTROL], "no-store");
        assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff");
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn each_word_has_its_codes() {
        let epoch = Epoch::ZERO;
        let known = [
            (Health::Ready, Why::Serves(epoch)),
            (Health::Degraded, Why::ServesOther(epoch, Lacking::Unusable)),
            (Health::NotReady, Why::NotListening(epoch)),
            (Health::Terminating, Why::Draining),
        ];
        let verdicts = known.map(|(health, why)| Some(Verdict { health, why }));
        let mut table = String::new();
        for verdict in verdicts.into_iter().chain([None]) {
            let (is_ready, told) = text_of(ready(verdict)).await;
            let (is_current, same) = text_of(current(verdict)).await;
            let (is_live, _) = text_of(live(verdict)).await;
            assert_eq!(told, same);
            let told = told.trim_end().replace('\n', ": ");
            table += &format!("{is_ready} {is_current} {is_live} {told}\n");
        }
        insta::assert_snapshot!(table, @r"
        200 200 200 READY: epoch 0 serves what is desired
        200 503 200 DEGRADED: epoch 0 serves, but not what is desired: the files ask for nothing that can be run (`handover status` shows the reason)
        503 503 200 NOT_READY: epoch 0 is live, but nothing listens for clients
        503 503 200 TERMINATING: draining: new clients should go elsewhere
        503 503 503 NOT_READY: the supervisor's loop has not answered in time
        ");
    }

    #[tokio::test]
    async fn the_index_is_a_list_and_so_is_the_answer_to_an_unknown_path() {
        let (status, list) = text_of(index(false)).await;
        assert_eq!(status, 200);
        assert!(
            list.contains("/healthz/ready     200 while an epoch serves\n"),
            "{list}"
        );
        let (status, unknown) = text_of(Refused::NotFound.answer(false)).await;
        assert_eq!(status, 404);
        assert!(unknown.ends_with(&list), "{unknown}");
        let refused = Refused::Method.answer(false);
        assert_eq!(refused.headers()[ALLOW], "GET, HEAD");
        assert_eq!(text_of(refused).await.0, 405);
        assert_eq!(text_of(Refused::Host.answer(false)).await.0, 421);
    }
}
