//! Management servers that are polled over REST, once: for listeners and for routes.

use std::time::Duration;

use serde_json::{Value, json};

use crate::config::{Bootstrap, Source};
use crate::http::Head;
use crate::serve::upstream::call;

/// What is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    Listeners,
    Routes,
}

impl Resource {
    /// The path of its method.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Listeners => "/v3/discovery:listeners",
            Self::Routes => "/v3/discovery:routes",
        }
    }

    fn type_url(self) -> &'static str {
        match self {
            Self::Listeners => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Routes => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        }
    }
}

/// An answer: its version and its resources.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fetched {
    pub(crate) version: String,
    pub(crate) resources: Vec<Value>,
}

/// Asks until there is an answer, or the time for the first one is over. Nothing then: Envoy goes on
/// without what it has not got.
pub(crate) async fn fetch(
    bootstrap: &Bootstrap,
    source: &Source,
    resource: Resource,
    names: &[&str],
    limit: Duration,
) -> Option<Fetched> {
    let asking = async {
        loop {
            if let Some(fetched) = ask(bootstrap, source, resource, names).await {
                return fetched;
            }
            tokio::time::sleep(source.refresh_delay).await;
        }
    };
    if limit.is_zero() {
        return Some(asking.await);
    }
    tokio::time::timeout(limit, asking).await.ok()
}

async fn ask(
    bootstrap: &Bootstrap,
    source: &Source,
    resource: Resource,
    names: &[&str],
) -> Option<Fetched> {
    let body = json!({
        "node": bootstrap.document.get("node").cloned().unwrap_or_else(|| json!({})),
        "resource_names": names,
        "type_url": resource.type_url(),
    });
    let body = body.to_string();
    let head = Head {
        line: format!("POST {} HTTP/1.1", resource.path()),
        fields: [
            ("host", source.cluster.clone()),
            ("content-type", "application/json".to_owned()),
            ("content-length", body.len().to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into(),
    };
    let endpoint = bootstrap.endpoint(&source.cluster);
    let mut answer = call(endpoint, &head, body.as_bytes()).await.ok()?;
    if answer.head.status() != Some(200) {
        return None;
    }
    let body = answer.body().await.ok()?;
    let body: Value = serde_json::from_slice(&body).ok()?;
    let resources = body.get("resources").and_then(Value::as_array).cloned();
    Some(Fetched {
        version: body.get("version_info")?.as_str()?.to_owned(),
        resources: resources.unwrap_or_default(),
    })
}
