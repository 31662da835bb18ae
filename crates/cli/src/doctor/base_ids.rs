//! Other Envoys of this host.

use handover_envoy::hot_restart::{BaseId, Neighbour};

use super::facts::{BaseIdFacts, Facts};
use super::{Check, Severity, Verdict};

/// How many neighbours are named.
const NAMED: usize = 10;

pub(super) const BASE_ID: Check = Check {
    name: "base-id",
    about: "whether another Envoy uses `--base-id`",
    worst: Severity::Error,
    logged: false,
    judge: |facts| on_base_ids(facts, base_id),
};

pub(super) const BASE_ID_NEIGHBOURS: Check = Check {
    name: "base-id-neighbours",
    about: "other Envoys in this network namespace, and shared memory that Envoys have left",
    worst: Severity::Information,
    logged: false,
    judge: |facts| on_base_ids(facts, neighbours),
};

pub(super) const NETWORK_NAMESPACE: Check = Check {
    name: "network-namespace",
    about: "whether the table of Unix sockets can be read, by which other Envoys are found",
    worst: Severity::Error,
    logged: false,
    judge: |facts| on_base_ids(facts, network_namespace),
};

fn on_base_ids(facts: &Facts, judge: fn(&Facts, &BaseIdFacts) -> Verdict) -> Verdict {
    match &facts.base_ids {
        Ok(base_ids) => judge(facts, base_ids),
        Err(why) => Verdict::unknown(why, "look for `envoy_domain_socket` in /proc/net/unix"),
    }
}

fn base_id(facts: &Facts, base_ids: &BaseIdFacts) -> Verdict {
    if let Some(own) = base_ids.own {
        return Verdict::good(
            own.to_string(),
            "an instance with this configuration runs with it",
        );
    }
    let Some(id) = facts.settings.base_id else {
        return Verdict::good("chosen at the start", "a free base id is taken");
    };
    let neighbours = match &base_ids.neighbours {
        Ok(neighbours) => neighbours,
        Err(why) => {
            return Verdict::unknown(why, "look for `envoy_domain_socket` in /proc/net/unix");
        }
    };
    if let Some(other) = neighbours.iter().find(|other| other.base_id == id) {
        return Verdict::error(
            shown(other),
            "another Envoy uses this base id, so the start is refused",
            "end that one, or choose another --base-id",
        );
    }
    let has_memory = base_ids
        .with_memory
        .as_ref()
        .is_ok_and(|ids| ids.contains(&id));
    if has_memory {
        return Verdict::warning(
            format!("{id}, with shared memory of an Envoy that cannot be seen"),
            "if that Envoy runs in another container with the same /dev/shm, the start breaks its \
             next hot restart",
            "give each container its own /dev/shm, or choose another --base-id",
        );
    }
    Verdict::good(id.to_string(), "nobody else uses it")
}

fn neighbours(_facts: &Facts, base_ids: &BaseIdFacts) -> Verdict {
    let how = "look for `envoy_domain_socket` in /proc/net/unix";
    let neighbours = match &base_ids.neighbours {
        Ok(neighbours) => neighbours,
        Err(why) => return Verdict::unknown(why, how),
    };
    let is_seen = |id: &BaseId| neighbours.iter().any(|other| other.base_id == *id);
    let left: Vec<String> = base_ids
        .with_memory
        .iter()
        .flatten()
        .filter(|id| !is_seen(id))
        .map(ToString::to_string)
        .collect();
    let others: Vec<String> = neighbours.iter().map(shown).collect();
    Verdict::good(
        format!(
            "Envoys: {}; shared memory without an Envoy: {}",
            listed(&others),
            listed(&left)
        ),
        "Envoys with other base ids do no harm to each other",
    )
}

fn network_namespace(_facts: &Facts, base_ids: &BaseIdFacts) -> Verdict {
    if let Err(why) = &base_ids.neighbours {
        return Verdict::error(
            "unreadable",
            format!("other Envoys cannot be detected, so the start is refused: {why}"),
            "mount /proc, with /proc/net of this network namespace",
        );
    }
    let network = match &base_ids.network {
        Ok(network) => network,
        Err(why) => return Verdict::unknown(why, "look at `readlink /proc/self/ns/net`"),
    };
    let reason = match &base_ids.network_of_init {
        Ok(init) if init == network => "it is that of process 1",
        Ok(_) => "process 1 is in another one, and only Envoys of this one are seen",
        Err(_) => "which one process 1 is in cannot be seen",
    };
    Verdict::good(network, reason)
}

fn shown(neighbour: &Neighbour) -> String {
    match neighbour.pid {
        Some(pid) => format!("{} (pid {pid})", neighbour.base_id),
        None => format!("{} (of another user or container)", neighbour.base_id),
    }
}

fn listed(items: &[String]) -> String {
    if items.is_empty() {
        return "none".to_owned();
    }
    let named = items
        .iter()
        .take(NAMED)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    match items.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}
