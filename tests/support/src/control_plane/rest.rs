//! Discovery over REST: one request, one answer, both in JSON.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::sleep;
use tonic::body::Body;

use super::Kind;
use super::state::{Answer, Manner, Shared};

/// Answers, as soon as the manner of the kind allows it.
pub(super) async fn answer(request: Request<Incoming>, shared: &Shared) -> Response<Body> {
    let kind = Kind::of_path(request.uri().path());
    let body = request.into_body().collect().await;
    let (Some(kind), Ok(body)) = (kind, body) else {
        return response(StatusCode::NOT_FOUND, Vec::new());
    };
    let asked: Value = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
    let node = asked.pointer("/node/id").and_then(Value::as_str);
    let names: Vec<String> = asked
        .get("resource_names")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect();
    shared.note(kind, |seen| seen.asked += 1);
    if let Manner::Slow(time) = shared.look(|state| state.manner(kind)) {
        sleep(time).await;
    }
    let mut changes = shared.changes();
    let answer = loop {
        match shared.look(|state| state.answer(node.unwrap_or_default(), kind, &names)) {
            Some(answer) => break answer,
            None => {
                // The sender is in `shared`, which is borrowed.
                let _change = changes.changed().await;
            }
        }
    };
    shared.note(kind, |seen| seen.answered += 1);
    response(StatusCode::OK, written(&answer, kind))
}

fn written(answer: &Answer, kind: Kind) -> Vec<u8> {
    if answer.garbage {
        return b"no discovery response".to_vec();
    }
    let body = json!({
        "version_info": answer.version,
        "type_url": kind.type_url(),
        "resources": answer.resources
    });
    body.to_string().into_bytes()
}

fn response(status: StatusCode, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(Bytes::from(body))));
    *response.status_mut() = status;
    response
}
