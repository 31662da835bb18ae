//! What a control plane has and how it behaves. Nothing here waits for a peer.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::Kind;
use crate::limit;

/// The longest that the port may take to open or close.
const PORT_LIMIT: Duration = Duration::from_secs(10);

/// How requests for a kind are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Manner {
    /// At once, with the resources that were set.
    #[default]
    Answers,
    /// The same, this long after the request.
    Slow(Duration),
    /// Not at all; a request is taken, and answered once the manner is another one.
    Silent,
    /// With the resources, spoilt so that Envoy reads and refuses them.
    Refused,
    /// With bytes that are no resource.
    Garbage,
    /// Without any resource, as a control plane does that has just started and knows nothing yet.
    Empty,
}

/// What has happened to the requests of a kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Requests that were not the acknowledgement of an answer.
    pub asked: u64,
    /// Answers sent.
    pub answered: u64,
    /// What Envoys said of answers that they have refused. Over REST they say nothing.
    pub refused: Vec<String>,
}

/// The resources of one kind for some Envoys.
#[derive(Debug, Clone, Default)]
struct Snapshot {
    version: u64,
    resources: Vec<Value>,
}

/// An answer, before it is written for a transport. Two that are equal need not both be sent.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub(super) version: String,
    pub(super) resources: Vec<Value>,
    /// The resources are to be replaced by bytes without a meaning.
    pub(super) garbage: bool,
}

/// All that changes while the control plane runs.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) away: bool,
    /// Whether the port is open, as the thread last said.
    pub(super) listens: bool,
    /// By the id of a node, or "" for all of them.
    snapshots: BTreeMap<(String, Kind), Snapshot>,
    manners: BTreeMap<Kind, Manner>,
    seen: BTreeMap<Kind, Seen>,
    /// The last version given out.
    version: u64,
}

impl State {
    pub(super) fn set(&mut self, node: &str, kind: Kind, resources: Vec<Value>) {
        self.version += 1;
        let version = self.version;
        let snapshot = Snapshot { version, resources };
        self.snapshots.insert((node.to_owned(), kind), snapshot);
    }

    pub(super) fn behave(&mut self, kind: Kind, manner: Manner) {
        self.manners.insert(kind, manner);
    }

    pub(super) fn manner(&self, kind: Kind) -> Manner {
        self.manners.get(&kind).copied().unwrap_or_default()
    }

    pub(super) fn seen(&self, kind: Kind) -> Seen {
        self.seen.get(&kind).cloned().unwrap_or_default()
    }

    pub(super) fn note(&mut self, kind: Kind, what: impl FnOnce(&mut Seen)) {
        what(self.seen.entry(kind).or_default());
    }

    /// What a node that asks for these names is owed; no names mean all resources. `None` if there is nothing
    /// to send: the manner is silent, or none of the named resources exists.
    pub(super) fn answer(&self, node: &str, kind: Kind, names: &[String]) -> Option<Answer> {
        let snapshot = [node, ""]
            .into_iter()
            .find_map(|node| self.snapshots.get(&(node.to_owned(), kind)));
        let Snapshot { version, resources } = snapshot.cloned().unwrap_or_default();
        let is_asked_for = |resource: &Value| {
            let name = resource.get(kind.name_field()).and_then(Value::as_str);
            names.is_empty() || names.iter().any(|one| Some(one.as_str()) == name)
        };
        let mut resources: Vec<Value> = resources.into_iter().filter(is_asked_for).collect();
        if resources.is_empty() && !names.is_empty() {
            return None;
        }
        let mut version = version.to_string();
        let manner = self.manner(kind);
        match manner {
            Manner::Answers | Manner::Slow(_) => {}
            Manner::Silent => return None,
            Manner::Refused | Manner::Garbage => version.push_str("-wrong"),
            Manner::Empty => {
                version.push_str("-empty");
                resources.clear();
            }
        }
        if manner == Manner::Refused {
            resources
                .iter_mut()
                .for_each(|resource| spoil(kind, resource));
        }
        Some(Answer {
            version,
            resources,
            garbage: manner == Manner::Garbage,
        })
    }
}

/// Changes a resource so that Envoy can read it but must refuse it.
pub(super) fn spoil(kind: Kind, resource: &mut Value) {
    let set = |resource: &mut Value, pointer: &str, value: Value| {
        if let Some(place) = resource.pointer_mut(pointer) {
            *place = value;
        }
    };
    match kind {
        Kind::Listener => {
            resource
                .as_object_mut()
                .map(|fields| fields.remove("address"));
        }
        Kind::Cluster => set(resource, "/connect_timeout", json!("0s")),
        Kind::Routes => set(resource, "/virtual_hosts/0/domains", json!([])),
        Kind::Endpoints => {
            if let Some(Value::Object(group)) = resource.pointer_mut("/endpoints/0") {
                // At most 128.
                group.insert("priority".to_owned(), json!(200));
            }
        }
        Kind::Secret => {
            for part in [
                "tls_certificate/certificate_chain",
                "validation_context/trusted_ca",
            ] {
                let pointer = format!("/{part}/inline_string");
                set(resource, &pointer, json!("no certificate"));
            }
        }
    }
}

/// The state, for the test and for the thread that serves.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Counts the changes that a stream or a waiting request may have an interest in.
    changes: watch::Sender<u64>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock())
    }

    /// Notes something that changes no answer.
    pub(super) fn note(&self, kind: Kind, what: impl FnOnce(&mut Seen)) {
        self.lock().note(kind, what);
    }

    /// Changes the state, and wakes whoever waits for a change.
    pub(super) fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changes.send_modify(|count| *count += 1);
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Says whether the port is open.
    pub(super) fn listens(&self, listens: bool) {
        self.lock().listens = listens;
    }

    /// Waits until the port is as it should be.
    pub(super) fn wait_for_port(&self) {
        limit::eventually(
            PORT_LIMIT,
            "the port of the control plane to follow",
            || self.look(|state| (state.listens != state.away).then_some(())),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn state() -> State {
        let mut state = State::default();
        state.set(
            "",
            Kind::Routes,
            vec![json!({"name": "a"}), json!({"name": "b"})],
        );
        state
    }

    #[test]
    fn only_named_resources_are_sent_and_nothing_for_an_unknown_name() {
        let state = state();
        let answer = state.answer("n", Kind::Routes, &names(&["b"])).unwrap();
        assert_eq!(answer.resources, [json!({"name": "b"})]);
        assert_eq!(state.answer("n", Kind::Routes, &names(&["c"])), None);
        let none = state.answer("n", Kind::Listener, &[]).unwrap();
        assert!(none.resources.is_empty());
    }

    #[test]
    fn a_node_with_resources_of_its_own_gets_those() {
        let mut state = state();
        state.set("n", Kind::Routes, vec![json!({"name": "b", "own": true})]);
        let all = names(&[]);
        assert_eq!(
            state
                .answer("n", Kind::Routes, &all)
                .unwrap()
                .resources
                .len(),
            1
        );
        assert_eq!(
            state
                .answer("m", Kind::Routes, &all)
                .unwrap()
                .resources
                .len(),
            2
        );
    }

    #[test]
    fn the_manner_changes_the_answer_and_its_version() {
        let mut state = state();
        let all = names(&[]);
        let good = state.answer("n", Kind::Routes, &all).unwrap();
        state.behave(Kind::Routes, Manner::Silent);
        assert_eq!(state.answer("n", Kind::Routes, &all), None);
        state.behave(Kind::Routes, Manner::Garbage);
        let garbage = state.answer("n", Kind::Routes, &all).unwrap();
        assert!(garbage.garbage);
        assert_ne!(garbage.version, good.version);
        state.behave(Kind::Routes, Manner::Empty);
        let empty = state.answer("n", Kind::Routes, &all).unwrap();
        assert!(empty.resources.is_empty());
        assert_ne!(empty.version, good.version);
        state.behave(Kind::Routes, Manner::Slow(Duration::ZERO));
        assert_eq!(state.answer("n", Kind::Routes, &all), Some(good));
    }
}
