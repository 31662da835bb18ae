//! Whether an epoch that has a gate may take over from an older one, which serves meanwhile.
//!
//! Without a gate an epoch takes over once Envoy waits for nothing more. Envoy waits for an answer, and
//! takes a refused or empty one for one. So the epoch must also have what was seen of the older one:
//!
//! | the older epoch had | the new epoch | the gate |
//! | --- | --- | --- |
//! | nothing that was seen | - | opens |
//! | - | waits for something else, by Envoy's own words | is closed |
//! | fetched listeners | listens at all their addresses | opens |
//! | the same | does not, and has accepted no list (LDS) | is closed |
//! | the same | does not, and has no fetched listener at all | is closed |
//! | the same | does not, and has others of a list that it has accepted | opens |
//! | fetched clusters | has them all | opens |
//! | the same | has not, and has accepted no list (CDS), or some of them are warming | is closed |
//! | the same | has not, and has no fetched cluster at all | is closed |
//! | the same | has not, and has others of a list that it has accepted | opens |
//! | received routes, certificates, endpoints | asks for them, and has received none | is closed |
//! | received certificates that were of use | has refused those that it has received | is closed |
//!
//! A list that was accepted may lack something on purpose. Only its author knows, so that is judged
//! once the epoch is live. What the new configuration does not fetch any more does not count, and
//! what cannot be seen holds nothing.

mod passage;

use std::collections::BTreeSet;

use super::absence::{Listeners, missing_of_fetched};
use crate::admin::{AdminError, CLUSTERS, LISTENERS, ServerInfo, ServerState, Targets};
use crate::text::one_line;

pub(in crate::adapter) use passage::{Look, Opening, Passage, Verdict};

/// How many resources are named of those that are missing.
const NAMED: usize = 5;

/// What the older epoch had, as far as it was seen.
#[derive(Clone, Copy, Debug)]
pub(in crate::adapter) struct Had<'a> {
    pub(in crate::adapter) listeners: Option<Listeners<'a>>,
    /// Its active clusters that were fetched.
    pub(in crate::adapter) clusters: Option<&'a BTreeSet<String>>,
    /// What it had received and could use.
    pub(in crate::adapter) received: &'a [String],
    /// Whether it is known which of its certificates it could use.
    pub(in crate::adapter) knows_certificates: bool,
}

/// What the epoch behind the gate has.
#[derive(Clone, Copy, Debug)]
pub(in crate::adapter) struct Has<'a> {
    pub(in crate::adapter) listeners: Option<Listeners<'a>>,
    /// Its active clusters that were fetched.
    pub(in crate::adapter) clusters: Option<&'a BTreeSet<String>>,
    /// The clusters that wait for something.
    pub(in crate::adapter) warming: Option<&'a BTreeSet<String>>,
    /// Whether its configuration fetches clusters.
    pub(in crate::adapter) fetches_clusters: bool,
    /// What it asks for and has not received.
    pub(in crate::adapter) awaited: &'a [String],
    /// The certificates that it has received and refused.
    pub(in crate::adapter) refused: &'a [String],
}

/// Returns what keeps the gate closed, in words for people: nothing if it opens.
pub(in crate::adapter) fn holds(had: Had<'_>, has: Has<'_>) -> Vec<String> {
    let is_lost = |what: &str| {
        let is_in = |list: &[String]| list.iter().any(|name| name == what);
        is_in(had.received) && is_in(has.awaited)
    };
    let mut holds = Vec::new();
    if let (Some(older), Some(listeners)) = (had.listeners, has.listeners)
        && listeners.fetches
    {
        let missing = missing_of_fetched(older, listeners);
        let why = match (is_lost(LISTENERS), listeners.has_fetched()) {
            (true, _) => Some(not_accepted(LISTENERS)),
            (false, false) => Some(empty(LISTENERS)),
            (false, true) => None,
        };
        if let Some(why) = why.filter(|_| !missing.is_empty()) {
            let names: Vec<_> = missing.iter().map(ToString::to_string).collect();
            holds.push(format!("{} ({why})", some(&names)));
        }
    }
    let gone = match (had.clusters, has.clusters) {
        (Some(had), Some(has)) => {
            let gone = had.difference(has);
            Some(
                gone.map(|name| one_line(&format!("cluster {name}")))
                    .collect(),
            )
        }
        (None, _) | (_, None) => None::<Vec<_>>,
    };
    // What warms and was not there before is no reason to wait.
    let warms = |name: &String| has.warming.is_some_and(|warming| warming.contains(name));
    let is_on_its_way = (had.clusters).is_some_and(|had| had.iter().any(warms));
    if has.fetches_clusters && gone.as_ref().is_none_or(|gone| !gone.is_empty()) {
        let is_empty = has.clusters.is_some_and(BTreeSet::is_empty);
        let why = match (is_lost(CLUSTERS), is_on_its_way) {
            (true, _) => Some(not_accepted(CLUSTERS)),
            (false, true) => Some("some are warming".to_owned()),
            // The older one may have had none either, if that was not seen.
            (false, false) => (is_empty && gone.is_some()).then(|| empty(CLUSTERS)),
        };
        if let Some(why) = why {
            let names = gone.map_or_else(|| CLUSTERS.to_owned(), |gone| some(&gone));
            holds.push(format!("{names} ({why})"));
        }
    }
    let others: Vec<_> = has
        .awaited
        .iter()
        .filter(|name| ![LISTENERS, CLUSTERS].contains(&name.as_str()) && is_lost(name))
        .filter(|name| !has.refused.contains(name))
        .cloned()
        .collect();
    if !others.is_empty() {
        holds.push(format!("{} (not received)", some(&others)));
    }
    let refused = has
        .refused
        .iter()
        .filter(|name| had.knows_certificates && had.received.contains(name));
    let refused: Vec<_> = refused.cloned().collect();
    if !refused.is_empty() {
        holds.push(format!("{} (Envoy has refused what came)", some(&refused)));
    }
    holds
}

fn not_accepted(list: &str) -> String {
    format!("{list}: nothing that Envoy accepts has come")
}

fn empty(list: &str) -> String {
    format!("{list}: the list is empty")
}

/// The first of these names, and how many there are beside them.
fn some(names: &[String]) -> String {
    let first: Vec<_> = names.iter().take(NAMED).map(String::as_str).collect();
    let more = names.len().saturating_sub(NAMED);
    match more {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

/// What must be done next at a gate that is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::adapter) enum Step {
    /// Ask again a little later: it waits for something that Envoy names.
    Wait,
    /// Ask again a little later: nothing was learned.
    Again,
    /// Ask in which state it is. The answer goes to [`after_state`].
    AskState,
    /// Ask what it has. What follows from that is told by [`holds`].
    AskResources,
}

/// Returns what follows from the answer for whom the epoch waits. Until it has the admin endpoint, the
/// older one answers there, which waits for no gate.
pub(in crate::adapter) fn after_targets(targets: &Result<Targets, AdminError>) -> Step {
    match targets {
        Ok(targets) if !targets.gate => Step::AskState,
        Ok(targets) if targets.others.is_empty() => Step::AskResources,
        Ok(_) => Step::Wait,
        Err(error) if error.is_refusal() => Step::AskState,
        Err(_) => Step::Again,
    }
}

/// Returns what follows from the state of an epoch that does not name its gate. An Envoy may call it by
/// another name, or its configuration may forbid the question.
pub(in crate::adapter) fn after_state(
    state: &Result<ServerInfo, AdminError>,
    restart_epoch: u32,
) -> Step {
    match state {
        Ok(info)
            if info.restart_epoch == restart_epoch && info.state == ServerState::Initializing =>
        {
            Step::AskResources
        }
        Ok(_) | Err(_) => Step::Again,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::ActiveListener;
    use crate::bootstrap::ListenAddress;
    use std::time::Duration;

    fn owned(names: &str) -> Vec<String> {
        let names = names.split(',').map(str::trim);
        names
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect()
    }

    fn listeners(names: &str) -> Vec<ActiveListener> {
        let names = owned(names).into_iter();
        names
            .map(|name| ActiveListener {
                addresses: vec![ListenAddress::Pipe(format!("/{name}").into())],
                name,
            })
            .collect()
    }

    fn set(names: &str) -> BTreeSet<String> {
        owned(names).into_iter().collect()
    }

    /// Both epochs fetch all they have. `older` and `newer` are `LISTENERS | CLUSTERS | received or
    /// awaited | refused`; `?` stands for what was not seen.
    fn held(older: &str, newer: &str, warming: &str) -> String {
        let read = |text: &str| {
            let parts: Vec<_> = text.split('|').map(str::trim).collect();
            let seen = |part: &str| (part != "?").then(|| part.to_owned());
            (
                seen(parts[0]).map(|names| listeners(&names)),
                seen(parts[1]).map(|names| set(&names)),
                owned(parts[2]),
                owned(parts.get(3).copied().unwrap_or_default()),
            )
        };
        let (older, newer, warming) = (read(older), read(newer), set(warming));
        let of = |active| Listeners {
            active,
            configured: &[],
            fetches: true,
        };
        let had = Had {
            listeners: older.0.as_deref().map(of),
            clusters: older.1.as_ref(),
            received: &older.2,
            knows_certificates: true,
        };
        let has = Has {
            listeners: newer.0.as_deref().map(of),
            clusters: newer.1.as_ref(),
            warming: Some(&warming),
            fetches_clusters: true,
            awaited: &newer.2,
            refused: &newer.3,
        };
        holds(had, has).join("; ")
    }

    #[test]
    fn the_gate_is_closed_as_long_as_what_was_there_may_come() {
        let both = "listeners (LDS), clusters (CDS)";
        let none_listens = "listener web at unix:/web (listeners (LDS): the list is empty)";
        let lds =
            "listener web at unix:/web (listeners (LDS): nothing that Envoy accepts has come)";
        let cds = "cluster b (clusters (CDS): nothing that Envoy accepts has come)";
        let older = format!("web, api | a, b | {both}, secret x (SDS)");
        for (case, older, newer, warming, held_by) in [
            ("all is there", older.as_str(), "web, api | a, b | ", "", ""),
            ("more is there", &older, "web, api, c | a, b, c | ", "", ""),
            // Listeners.
            (
                "no answer, or a refused one",
                &older,
                "| a, b | listeners (LDS)",
                "",
                "listener web at unix:/web, listener api at unix:/api (listeners (LDS): nothing that \
                 Envoy accepts has come)",
            ),
            (
                "one of the listeners is refused",
                &older,
                "api | a, b | listeners (LDS)",
                "",
                lds,
            ),
            ("an empty list", "web | a | ", "| a | ", "", none_listens),
            ("one was removed", &older, "api | a, b | ", "", ""),
            (
                "the older one has lived with a refused list",
                &older,
                "web, api | a, b | listeners (LDS)",
                "",
                "",
            ),
            (
                "the older one has never received a list",
                "api | a | ",
                "web | a | listeners (LDS)",
                "",
                "",
            ),
            ("not seen", &older, "? | a, b | listeners (LDS)", "", ""),
            // Clusters.
            ("refused", &older, "web, api | a | clusters (CDS)", "", cds),
            (
                "all refused, and no names",
                &older,
                "web, api | ? | clusters (CDS)",
                "",
                "clusters (CDS) (clusters (CDS): nothing that Envoy accepts has come)",
            ),
            (
                "an empty list of clusters",
                &older,
                "web, api | | ",
                "",
                "cluster a, cluster b (clusters (CDS): the list is empty)",
            ),
            ("one cluster was removed", &older, "web, api | a | ", "", ""),
            (
                "one cluster is warming",
                &older,
                "web, api | a | ",
                "b",
                "cluster b (some are warming)",
            ),
            (
                "a new one is warming",
                &older,
                "web, api | a, b | ",
                "c",
                "",
            ),
            (
                "one was removed, and a new one is warming",
                &older,
                "web, api | a | ",
                "c",
                "",
            ),
            (
                "the older one has lived with refused clusters",
                &older,
                "web, api | a, b | clusters (CDS)",
                "",
                "",
            ),
            ("clusters not seen", "web | ? | ", "web | | ", "", ""),
            (
                "clusters not seen, warming",
                "web | ? | ",
                "web | a | ",
                "a, b, c",
                "",
            ),
            // Others.
            (
                "a certificate has not come",
                &older,
                "web, api | a, b | secret x (SDS), secret y (SDS)",
                "",
                "secret x (SDS) (not received)",
            ),
            (
                "a certificate has come and is refused, and another one as well that was not there",
                &older,
                "web, api | a, b | secret x (SDS) | secret x (SDS), secret y (SDS)",
                "",
                "secret x (SDS) (Envoy has refused what came)",
            ),
            (
                "the older one has lived without a refused certificate",
                "web | a | ",
                "web | a | | secret x (SDS)",
                "",
                "",
            ),
            ("nothing before", "| | ", "| | ", "", ""),
            (
                "nothing before and now",
                "| | ",
                "| | listeners (LDS)",
                "",
                "",
            ),
        ] {
            assert_eq!(held(older, newer, warming), held_by, "{case}");
        }
    }

    #[test]
    fn what_the_configuration_does_not_fetch_any_more_does_not_count() {
        let (active, clusters, none) = (listeners("web"), set("a"), BTreeSet::new());
        let received = owned("listeners (LDS), clusters (CDS)");
        let of = |active, fetches| Listeners {
            active,
            configured: &[],
            fetches,
        };
        let had = Had {
            listeners: Some(of(&active, true)),
            clusters: Some(&clusters),
            received: &received,
            knows_certificates: true,
        };
        let has = Has {
            listeners: Some(of(&[], false)),
            clusters: Some(&none),
            warming: Some(&none),
            fetches_clusters: false,
            awaited: &[],
            refused: &[],
        };
        assert_eq!(holds(had, has), [""; 0]);
    }

    #[test]
    fn a_reason_does_not_grow_with_the_configuration() {
        let names: Vec<String> = (0..1000).map(|number| format!("l{number}")).collect();
        let older = format!("{} | | ", names.join(","));
        let reason = held(&older, "| | ", "");
        assert!(reason.contains(" and 995 more ("), "{reason}");
    }

    fn error(status: u16) -> AdminError {
        AdminError::Status {
            address: "127.0.0.1:1".parse().unwrap(),
            path: "/init_dump",
            status,
            body: String::new(),
        }
    }

    fn silent() -> AdminError {
        AdminError::TimedOut {
            address: "127.0.0.1:1".parse().unwrap(),
            path: "/init_dump",
            limit: Duration::from_secs(1),
        }
    }

    #[test]
    fn only_an_epoch_that_is_certain_to_be_the_one_behind_the_gate_is_looked_at() {
        let targets = |gate, others: &str| {
            let others = owned(others);
            after_targets(&Ok(Targets { gate, others }))
        };
        assert_eq!(targets(true, ""), Step::AskResources);
        assert_eq!(targets(true, "SdsApi x"), Step::Wait);
        assert_eq!(targets(false, ""), Step::AskState);
        assert_eq!(targets(false, "SdsApi x"), Step::AskState);
        assert_eq!(after_targets(&Err(error(403))), Step::AskState);
        assert_eq!(after_targets(&Err(error(500))), Step::Again);
        assert_eq!(after_targets(&Err(silent())), Step::Again);

        let state = |restart_epoch, state| {
            let info = ServerInfo {
                state,
                restart_epoch,
                concurrency: None,
                version: "1.40.0".to_owned(),
                hot_restart_version: "11.104".to_owned(),
                uptime: Duration::ZERO,
                uptime_all_epochs: Duration::ZERO,
            };
            after_state(&Ok(info), 1)
        };
        assert_eq!(state(1, ServerState::Initializing), Step::AskResources);
        assert_eq!(state(1, ServerState::PreInitializing), Step::Again);
        assert_eq!(state(1, ServerState::Live), Step::Again);
        assert_eq!(state(0, ServerState::Initializing), Step::Again);
        assert_eq!(after_state(&Err(error(403)), 1), Step::Again);
        assert_eq!(after_state(&Err(silent()), 1), Step::Again);
    }
}
