//! The aggregated discovery service: one stream on which an Envoy subscribes to kinds.

use std::collections::BTreeMap;
use std::future::{Ready, ready};
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::server::{Grpc, StreamingService};
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;

use super::discovery::{Any, DiscoveryRequest, DiscoveryResponse};
use super::state::{Answer, Manner, Shared};
use super::{Kind, wire};

type Answers = mpsc::Sender<Result<DiscoveryResponse, Status>>;

/// Answers the stream, in a task of its own that ends with it.
pub(super) async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Response<Body> {
    let codec = ProstCodec::<DiscoveryResponse, DiscoveryRequest>::new();
    Grpc::new(codec).streaming(Service(shared), request).await
}

struct Service(Arc<Shared>);

impl StreamingService<DiscoveryRequest> for Service {
    type Response = DiscoveryResponse;
    type ResponseStream = ReceiverStream<Result<DiscoveryResponse, Status>>;
    type Future = Ready<Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<DiscoveryRequest>>) -> Self::Future {
        let (answers, receiver) = mpsc::channel(16);
        let stream = Stream {
            shared: Arc::clone(&self.0),
            node: String::new(),
            subscriptions: BTreeMap::new(),
            nonce: 0,
        };
        tokio::spawn(stream.run(request.into_inner(), answers));
        ready(Ok(tonic::Response::new(ReceiverStream::new(receiver))))
    }
}

struct Stream {
    shared: Arc<Shared>,
    /// The id of the Envoy's node, which comes with its first request.
    node: String,
    subscriptions: BTreeMap<Kind, Subscription>,
    /// The number of the last answer.
    nonce: u64,
}

struct Subscription {
    names: Vec<String>,
    /// When what is owed was asked for.
    since: Instant,
    sent: Option<Answer>,
}

impl Stream {
    async fn run(mut self, mut requests: Streaming<DiscoveryRequest>, answers: Answers) {
        let mut changes = self.shared.changes();
        loop {
            let due = self.send_what_is_owed(&answers).await;
            tokio::select! {
                request = requests.message() => match request {
                    Ok(Some(request)) => self.take(request),
                    // The Envoy has closed the stream, or is gone.
                    Ok(None) | Err(_) => return,
                },
                // An error cannot be: the sender is in `self.shared`.
                _ = changes.changed() => {}
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                () = answers.closed() => return,
            }
        }
    }

    fn take(&mut self, request: DiscoveryRequest) {
        if let Some(node) = request.node {
            self.node = node.id;
        }
        let Some(kind) = Kind::of_type_url(&request.type_url) else {
            return;
        };
        if let Some(error) = request.error_detail {
            self.shared
                .note(kind, |seen| seen.refused.push(error.message));
        }
        let subscription = self.subscriptions.get(&kind);
        let is_acknowledgement = subscription.is_some_and(|subscription| {
            subscription.names == request.resource_names && !request.response_nonce.is_empty()
        });
        if is_acknowledgement {
            return;
        }
        self.shared.note(kind, |seen| seen.asked += 1);
        let new = Subscription {
            names: request.resource_names,
            since: Instant::now(),
            sent: None,
        };
        self.subscriptions.insert(kind, new);
    }

    /// Sends each answer that differs from the last one sent, and returns when the next one is due.
    async fn send_what_is_owed(&mut self, answers: &Answers) -> Option<Instant> {
        let mut due = None;
        for (kind, subscription) in &mut self.subscriptions {
            let (manner, answer) = self.shared.look(|state| {
                let answer = state.answer(&self.node, *kind, &subscription.names);
                (state.manner(*kind), answer)
            });
            let Some(answer) = answer else {
                continue;
            };
            if subscription.sent.as_ref() == Some(&answer) {
                continue;
            }
            if let Manner::Slow(time) = manner {
                let at = subscription.since + time;
                if at > Instant::now() {
                    due = due.into_iter().chain([at]).min();
                    continue;
                }
            }
            self.nonce += 1;
            let response = written(&answer, *kind, self.nonce.to_string());
            self.shared.note(*kind, |seen| seen.answered += 1);
            subscription.sent = Some(answer);
            if answers.send(Ok(response)).await.is_err() {
                // The stream is closed, which the loop notices.
                return None;
            }
        }
        due
    }
}

fn written(answer: &Answer, kind: Kind, nonce: String) -> DiscoveryResponse {
    let resources = if answer.garbage {
        vec![Any {
            type_url: kind.type_url(),
            // The key of a field without its value.
            value: vec![0x0a],
        }]
    } else {
        answer.resources.iter().map(wire::any).collect()
    };
    DiscoveryResponse {
        version_info: answer.version.clone(),
        resources,
        type_url: kind.type_url(),
        nonce,
    }
}
