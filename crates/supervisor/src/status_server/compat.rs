//! The calls by which jobs and hooks written for the sidecars of service meshes end or drain them.
//!
//! Each one does what a request on the control socket does. They are there only if they were asked for, and only for
//! programs on this host: a peer at a loopback address that neither is a browser nor passes on what somebody
//! else has sent. Nothing here waits.

use std::net::IpAddr;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::header::{ALLOW, FORWARDED, HeaderMap, HeaderName, HeaderValue, ORIGIN, REFERER, VIA};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};

use super::routes::{Answer, text};
use crate::control::Ask;
use crate::control::wire::{Code, DrainRequest, Refusal, StopRequest};

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// Istio: end.
    Quit,
    /// Istio: drain and stay.
    Drain,
    /// Consul dataplane: drain and end.
    GracefulShutdown,
    /// Consul dataplane: whether the proxy is ready.
    GracefulStartup,
}

/// Each call, its path, and what it does.
const CALLS: [(Call, &str, &str); 4] = [
    (Call::Quit, "/quitquitquit", "POST: drain, then end"),
    (Call::Drain, "/drain", "POST: fail health checks, go on"),
    (
        Call::GracefulShutdown,
        "/graceful_shutdown",
        "GET or POST: drain, then end",
    ),
    (
        Call::GracefulStartup,
        "/graceful_startup",
        "GET or POST: 200 while an epoch serves",
    ),
];

/// What a browser, or a proxy that passes a request on, adds to it. A page from elsewhere can make a browser on this host
/// send a POST to a loopback address, without a question first.
const NOT_OURS: [HeaderName; 7] = [
    ORIGIN,
    REFERER,
    HeaderName::from_static("sec-fetch-site"),
    HeaderName::from_static("sec-fetch-mode"),
    FORWARDED,
    HeaderName::from_static("x-forwarded-for"),
    VIA,
];

/// Why a call is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// The client is not on this host, or its address is unknown.
    Peer(Option<IpAddr>),
    /// The request has this header.
    Header(HeaderName),
    /// The path is called by another method.
    Method(Call),
}

impl Call {
    /// Returns what this path calls, if anything.
    pub(super) fn at(path: &str) -> Option<Self> {
        let mut calls = CALLS.iter();
        let (call, ..) = calls.find(|(_, known, _)| *known == path)?;
        Some(*call)
    }

    /// Returns the path of the call.
    pub(super) fn path(self) -> &'static str {
        let mut calls = CALLS.iter();
        calls
            .find(|(call, ..)| *call == self)
            .map_or("", |(_, path, _)| path)
    }

    /// Refuses a request that does not come from a program on this host. `peer` is the address of the client.
    pub(super) fn permit(self, head: &Parts, peer: Option<IpAddr>) -> Result<(), Denied> {
        if !peer.is_some_and(|peer| peer.to_canonical().is_loopback()) {
            return Err(Denied::Peer(peer));
        }
        if let Some(header) = not_ours(&head.headers) {
            return Err(Denied::Header(header));
        }
        let is_known = match self {
            Self::Quit | Self::Drain => head.method == Method::POST,
            // The original takes any method, and hooks use both of these.
            Self::GracefulShutdown | Self::GracefulStartup => {
                head.method == Method::GET || head.method == Method::POST
            }
        };
        match is_known {
            true => Ok(()),
            false => Err(Denied::Method(self)),
        }
    }

    /// Returns what the call asks of the supervisor; nothing if it changes nothing.
    pub(super) fn ask(self) -> Option<Ask> {
        match self {
            Self::Quit | Self::GracefulShutdown => Some(Ask::Stop(StopRequest::default())),
            Self::Drain => Some(Ask::Drain(DrainRequest::default())),
            Self::GracefulStartup => None,
        }
    }
}

fn not_ours(headers: &HeaderMap) -> Option<HeaderName> {
    let mut names = NOT_OURS.into_iter();
    names.find(|name| headers.contains_key(name))
}

/// The lines of the list of paths.
pub(super) fn list() -> String {
    let lines = CALLS.map(|(_, path, what)| format!("{path:18} {what}, for this host only\n"));
    lines.concat()
}

impl Denied {
    pub(super) fn answer(&self) -> Answer {
        let (status, message) = match self {
            Self::Peer(peer) => {
                let peer = peer.map_or("an unknown address".to_owned(), |peer| {
                    peer.to_canonical().to_string()
                });
                (
                    StatusCode::FORBIDDEN,
                    format!(
                        "this is for programs on this host only, and the request comes from {peer}: connect to \
                         127.0.0.1 or [::1], or use the control socket\n"
                    ),
                )
            }
            Self::Header(header) => (
                StatusCode::FORBIDDEN,
                format!(
                    "the request has the header `{header}`, so it comes from a browser or through a proxy: send it \
                     directly and without that header, or use the control socket\n"
                ),
            ),
            Self::Method(call) => (
                StatusCode::METHOD_NOT_ALLOWED,
                format!("{} takes {}\n", call.path(), call.methods()),
            ),
        };
        let mut answer = text(status, message);
        if let Self::Method(call) = self {
            let allowed = HeaderValue::from_static(call.methods());
            answer.headers_mut().insert(ALLOW, allowed);
        }
        answer
    }
}

impl Call {
    /// The value of `Allow`.
    fn methods(self) -> &'static str {
        match self {
            Self::Quit | Self::Drain => "POST",
            Self::GracefulShutdown | Self::GracefulStartup => "GET, POST",
        }
    }
}

/// The answer to a call that was carried out, or not. Nothing stands for a supervisor that has not answered in time.
///
/// The words of a refusal may quote a file or a process, so the answer has its code alone.
pub(super) fn done(outcome: Option<Result<(), Refusal>>) -> Answer {
    let Some(outcome) = outcome else {
        let message =
            "not answered in time; it may still be carried out: `handover status` shows it\n";
        return text(StatusCode::SERVICE_UNAVAILABLE, message.to_owned());
    };
    let Err(refusal) = outcome else {
        let body = Either::Left(Full::new(Bytes::from_static(b"OK\n")));
        return super::routes::answer(StatusCode::OK, "text/plain; charset=utf-8", body);
    };
    let status = StatusCode::from_u16(refusal.code.status());
    let why = match refusal.code {
        Code::NotSupported => "what is supervised cannot do that",
        Code::Ending => "everything is ending already",
        Code::Failed => "it was tried without success: the log of handover has the reason",
        Code::BadRequest
        | Code::Forbidden
        | Code::NotFound
        | Code::UnknownVersion
        | Code::MethodNotAllowed
        | Code::TooLarge
        | Code::Rejected
        | Code::Replaced
        | Code::TimedOut
        | Code::Busy
        | Code::Other => "refused: the log of handover has the reason",
    };
    text(
        status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        format!("{why}\n"),
    )
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use hyper::Request;

    use super::*;

    fn head(method: &str, path: &str, header: Option<&str>) -> Parts {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(header) = header {
            request = request.header(header, "x");
        }
        request.body(()).unwrap().into_parts().0
    }

    async fn line(answer: Answer) -> String {
        let (status, allow) = (
            answer.status().as_u16(),
            answer.headers().get(ALLOW).cloned(),
        );
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let allow = allow.map_or(String::new(), |allow| format!(" {allow:?}"));
        format!(
            "{status}{allow} {}",
            String::from_utf8_lossy(&body).trim_end()
        )
    }

    #[tokio::test]
    async fn each_path_is_called_by_the_methods_of_the_original() {
        let mut table = String::new();
        for (call, path, _) in CALLS {
            assert_eq!((Call::at(path), call.path()), (Some(call), path));
            for method in ["GET", "POST", "HEAD", "PUT"] {
                let permitted = call.permit(&head(method, path, None), "127.0.0.1".parse().ok());
                let outcome = match permitted {
                    Ok(()) => format!("{:?}", call.ask()),
                    Err(denied) => line(denied.answer()).await,
                };
                table += &format!("{method} {path}: {outcome}\n");
            }
        }
        assert_eq!(Call::at("/quitquitquit/now"), None);
        insta::assert_snapshot!(table);
    }

    #[tokio::test]
    async fn a_client_elsewhere_a_browser_and_a_proxy_are_refused_with_the_reason() {
        for peer in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            let permitted = Call::Quit.permit(&head("POST", "/", None), peer.parse().ok());
            assert_eq!(permitted, Ok(()), "{peer}");
        }
        let mut table = String::new();
        for peer in [
            "10.0.0.1",
            "::ffff:10.0.0.1",
            "fe80::1",
            "0.0.0.0",
            "unknown",
        ] {
            for (call, ..) in CALLS {
                let denied = call.permit(&head("POST", "/", None), peer.parse().ok());
                assert_eq!(denied, Err(Denied::Peer(peer.parse().ok())), "{peer}");
            }
            table += &line(Denied::Peer(peer.parse().ok()).answer()).await;
            table += "\n";
        }
        for header in [
            "origin",
            "Referer",
            "Sec-Fetch-Site",
            "X-Forwarded-For",
            "via",
        ] {
            for (call, ..) in CALLS {
                let head = head("POST", "/", Some(header));
                let denied = call.permit(&head, "127.0.0.1".parse().ok()).unwrap_err();
                assert!(matches!(denied, Denied::Header(_)), "{header}: {denied:?}");
            }
        }
        table += &line(Denied::Header(ORIGIN).answer()).await;
        insta::assert_snapshot!(table);
    }

    #[tokio::test]
    async fn a_refusal_is_told_by_its_code_and_shows_no_text_of_it() {
        let mut table = String::new();
        for code in [Code::NotSupported, Code::Ending, Code::Failed, Code::Busy] {
            let refusal = Refusal::new(code, "SECRET");
            table += &format!("{}\n", line(done(Some(Err(refusal)))).await);
        }
        table += &format!(
            "{}\n{}",
            line(done(None)).await,
            line(done(Some(Ok(())))).await
        );
        insta::assert_snapshot!(table);
    }
}
