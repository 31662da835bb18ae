//! Any bytes on the control socket, and requests that are nearly right: each gets one answer at most,
//! in JSON, and nothing panics.

use std::convert::Infallible;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio::time::timeout;

use super::super::wire::{DrainRequest, DrainResult, Drained, ReloadRequest, Reply, StopRequest};
use super::*;

/// What the routes answer to these bytes, over HTTP as the server speaks it.
fn answer_to(request: &[u8]) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let exchange = async {
        let (mut client, server) = duplex(64 << 10);
        let service = service_fn(async |request| {
            let asked = read(request).await;
            let done = asked.map(|wanted| {
                if let Wanted::Ask(ask) = wanted {
                    assert!(ask.check().is_ok(), "{ask:?}");
                }
                Reply::Drained(Drained {
                    api: API,
                    result: DrainResult::Draining,
                    epoch: None,
                })
            });
            Ok::<_, Infallible>(respond(&done))
        });
        let connection = http1::Builder::new()
            .keep_alive(false)
            .half_close(true)
            .max_buf_size(8 << 10)
            .serve_connection(TokioIo::new(server), service);
        let talk = async {
            // A server that has refused the beginning does not take the rest.
            let _taken = client.write_all(request).await;
            let _ended = client.shutdown().await;
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            answer
        };
        let (_broken_off, answer) = tokio::join!(connection, talk);
        answer
    };
    let limit = Duration::from_secs(60);
    runtime
        .block_on(async { timeout(limit, exchange).await })
        .unwrap()
}

/// Nothing, or one answer whose body is that of the interface.
fn is_an_answer(answer: &[u8]) -> Result<(), TestCaseError> {
    if answer.is_empty() {
        return Ok(());
    }
    let text = std::str::from_utf8(answer).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    prop_assert!(head.starts_with("HTTP/1."), "{text}");
    let status = head.split(' ').nth(1).unwrap();
    // What is no HTTP is refused without words.
    if body.is_empty() {
        prop_assert!(["400", "414", "431"].contains(&status), "{text}");
        return Ok(());
    }
    if status == "200" {
        let reply: Drained = serde_json::from_str(body).unwrap();
        prop_assert_eq!(reply.result, DrainResult::Draining);
    } else {
        let failed: Failed = serde_json::from_str(body).unwrap();
        let expected = failed.error.code.status().to_string();
        prop_assert_eq!(expected.as_str(), status);
    }
    Ok(())
}

fn valid_request() -> impl Strategy<Value = Vec<u8>> {
    let bodies = prop::sample::select(vec![
        "",
        "{}",
        r#"{"wait": true, "timeout_ms": 1000}"#,
        r#"{"now": true, "if_changed": true}"#,
        r#"{"cold": true}"#,
        r#"{"wait": false, "timeout_ms": null}"#,
    ]);
    let routes = prop::sample::select(PATHS.to_vec());
    (routes, bodies, any::<bool>()).prop_map(|((path, method), body, chunked)| {
        let body = match chunked {
            false => format!("Content-Length: {}\r\n\r\n{body}", body.len()),
            true if body.is_empty() => "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
            true => format!(
                "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
                body.len()
            ),
        };
        format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{body}").into_bytes()
    })
}

#[derive(Clone, Debug)]
enum Change {
    Replace(u8),
    Insert(u8),
    Remove,
    Double,
    Cut,
}

fn change() -> impl Strategy<Value = (prop::sample::Index, Change)> {
    let byte = || {
        prop_oneof![
            any::<u8>(),
            prop::sample::select(b"{}[]\":,0 \r\n/".to_vec())
        ]
    };
    let change = prop_oneof![
        4 => byte().prop_map(Change::Replace),
        4 => byte().prop_map(Change::Insert),
        4 => Just(Change::Remove),
        1 => Just(Change::Double),
        1 => Just(Change::Cut),
    ];
    (any::<prop::sample::Index>(), change)
}

fn changed(mut request: Vec<u8>, changes: &[(prop::sample::Index, Change)]) -> Vec<u8> {
    for (place, change) in changes {
        if request.is_empty() {
            break;
        }
        let place = place.index(request.len());
        match change {
            Change::Replace(byte) => request[place] = *byte,
            Change::Insert(byte) => request.insert(place, *byte),
            Change::Remove => drop(request.remove(place)),
            Change::Double => request.extend_from_within(place..),
            Change::Cut => request.truncate(place),
        }
    }
    request
}

proptest! {
    #[test]
    fn any_bytes_get_an_answer_or_none(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        is_an_answer(&answer_to(&bytes))?;
    }

    #[test]
    fn a_request_that_is_nearly_right_gets_an_answer_or_none(
        request in valid_request(),
        changes in prop::collection::vec(change(), 0..6),
    ) {
        let request = changed(request, &changes);
        let answer = answer_to(&request);
        is_an_answer(&answer).map_err(|error| {
            TestCaseError::fail(format!("{error} to {:?}", String::from_utf8_lossy(&request)))
        })?;
    }

    #[test]
    fn any_body_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), text in r#"\{("(wait|now|cold|if_changed|through_probation|timeout_ms|x)": ?(true|false|null|-?[0-9]{1,22}|\[|"a"),?){0,4}\}?"#) {
        for body in [&bytes[..], text.as_bytes()] {
            let refused = [
                parse::<ReloadRequest>(body).err(),
                parse::<DrainRequest>(body).err(),
                parse::<StopRequest>(body).err(),
            ];
            for refusal in refused.into_iter().flatten() {
                prop_assert_eq!(refusal.code, Code::BadRequest);
            }
        }
    }

    #[test]
    fn a_request_is_read_as_it_was_written(
        (wait, now, cold, if_changed) in any::<(bool, bool, bool, bool)>(),
        through_probation in any::<bool>(),
        timeout_ms in any::<Option<u64>>(),
    ) {
        let request = ReloadRequest { wait, now, cold, if_changed, through_probation, timeout_ms };
        let written = serde_json::to_vec(&request).unwrap();
        prop_assert_eq!(parse::<ReloadRequest>(&written).unwrap(), request);
    }
}
