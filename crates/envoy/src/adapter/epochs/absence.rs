//! Which listeners of an older epoch a newer one lacks, although its configuration does not take them
//! away.
//!
//! | the older epoch had it | the newer configuration | it is missing |
//! | --- | --- | --- |
//! | static | has it at the same address | if nobody listens there |
//! | static | has it at another address | if it is not active at all |
//! | static | does not have it | never |
//! | fetched (LDS) | fetches listeners, from wherever | if nobody listens at its addresses |
//! | fetched (LDS) | has a static one at its address | if nobody listens there |
//! | fetched (LDS) | fetches none | never |
//!
//! A source at another path or in another cluster takes nothing away: a wrong one is the very mistake
//! that must be found. A listener is known by its addresses, because those are what a client knows. One
//! inside of Envoy is known by its name.

use crate::adapter::examination::MissingListener;
use crate::admin::{ActiveListener, is_same_place};
use crate::bootstrap::{ListenAddress, Listener};

/// The listeners of one epoch.
#[derive(Clone, Copy, Debug)]
pub(in crate::adapter) struct Listeners<'a> {
    /// Those that are active.
    pub(in crate::adapter) active: &'a [ActiveListener],
    /// Those of its configuration.
    pub(in crate::adapter) configured: &'a [Listener],
    /// Whether it fetches others.
    pub(in crate::adapter) fetches: bool,
}

/// Returns the listeners that `newer` lacks, in the order of `older`.
pub(in crate::adapter) fn missing(
    older: Listeners<'_>,
    newer: Listeners<'_>,
) -> Vec<MissingListener> {
    let missing = older.active.iter();
    missing
        .filter_map(|listener| missing_of(listener, older, newer))
        .collect()
}

/// Returns those of them that `older` had fetched.
pub(in crate::adapter) fn missing_of_fetched(
    older: Listeners<'_>,
    newer: Listeners<'_>,
) -> Vec<MissingListener> {
    let fetched = older
        .active
        .iter()
        .filter(|one| older.has_fetched_this(one));
    fetched
        .filter_map(|listener| missing_of(listener, older, newer))
        .collect()
}

fn missing_of(
    listener: &ActiveListener,
    older: Listeners<'_>,
    newer: Listeners<'_>,
) -> Option<MissingListener> {
    let places = || listener.addresses.iter().filter(|at| is_place(at));
    let has_name = !listener.name.is_empty();
    let is_active = |name: &str| newer.active.iter().any(|other| other.name == name);
    let lost: Vec<&ListenAddress> = places().filter(|at| !newer.listens_at(at)).collect();
    if lost.is_empty() && (places().next().is_some() || is_active(&listener.name)) {
        return None;
    }
    let configured = older.configured.iter().find(|one| is_same(one, listener));
    let name = match configured {
        // Envoy has made the name up.
        Some(configured) if configured.name.is_empty() => String::new(),
        Some(_) | None => listener.name.clone(),
    };
    let missing = |at: Vec<&ListenAddress>| {
        Some(MissingListener {
            name: name.clone(),
            addresses: at.into_iter().cloned().collect(),
            refused: None,
        })
    };
    let wanted: Vec<_> = lost
        .iter()
        .copied()
        .filter(|at| newer.is_configured_at(at))
        .collect();
    if !wanted.is_empty() {
        return missing(wanted);
    }
    if configured.is_none() && newer.fetches {
        return missing(lost);
    }
    // It may have moved, and be active nowhere.
    let moved = newer
        .configured
        .iter()
        .find(|one| has_name && one.name == listener.name)?;
    let is_there = is_active(&moved.name) || moved.addresses.iter().any(|at| newer.listens_at(at));
    if is_there {
        return None;
    }
    missing(moved.addresses.iter().filter(|at| is_place(at)).collect())
}

impl Listeners<'_> {
    /// Returns whether a fetched listener is active.
    pub(in crate::adapter) fn has_fetched(&self) -> bool {
        self.active.iter().any(|one| self.has_fetched_this(one))
    }

    fn has_fetched_this(&self, listener: &ActiveListener) -> bool {
        !self.configured.iter().any(|one| is_same(one, listener))
    }

    fn listens_at(&self, place: &ListenAddress) -> bool {
        let mut active = self.active.iter();
        active.any(|listener| listener.addresses.iter().any(|at| is_same_place(at, place)))
    }

    fn is_configured_at(&self, place: &ListenAddress) -> bool {
        let mut configured = self.configured.iter();
        configured.any(|listener| listener.addresses.iter().any(|at| is_same_place(at, place)))
    }
}

/// Whether a client can connect to the address.
fn is_place(address: &ListenAddress) -> bool {
    *address != ListenAddress::Other
}

/// Whether a configured listener is the active one. One without a name is known by an address.
fn is_same(configured: &Listener, active: &ActiveListener) -> bool {
    if !configured.name.is_empty() {
        return configured.name == active.name;
    }
    let mut addresses = configured.addresses.iter();
    addresses.any(|one| active.addresses.iter().any(|at| is_same_place(at, one)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::{Bootstrap, Format};

    /// The address that stands for a word: a port of 127.0.0.1, `53/udp`, a path, or `-` for one inside
    /// of Envoy.
    fn address(word: &str) -> ListenAddress {
        let socket = |port: &str, udp| ListenAddress::Socket {
            address: "127.0.0.1".to_owned(),
            port: port.parse().unwrap(),
            udp,
        };
        match word {
            "-" => ListenAddress::Other,
            path if path.starts_with('/') => ListenAddress::Pipe(path.into()),
            udp if udp.ends_with("/udp") => socket(udp.trim_end_matches("/udp"), true),
            port => socket(port, false),
        }
    }

    /// Listeners of the form `NAME@ADDRESS+ADDRESS`, with a space between two.
    fn split(text: &str) -> Vec<(&str, Vec<ListenAddress>)> {
        let words = text.split_whitespace();
        words
            .map(|word| {
                let (name, addresses) = word.split_once('@').unwrap();
                (name, addresses.split('+').map(address).collect())
            })
            .collect()
    }

    fn active(text: &str) -> Vec<ActiveListener> {
        let listeners = split(text).into_iter();
        listeners
            .map(|(name, addresses)| ActiveListener {
                name: name.to_owned(),
                addresses,
            })
            .collect()
    }

    fn configured(text: &str) -> Vec<Listener> {
        // A parsed one, because there is no other way to make one.
        let one = "{admin: {address: {pipe: {path: /a}}}, static_resources: {listeners: [{}]}}";
        let bootstrap = Bootstrap::parse(one.as_bytes(), Format::Yaml).unwrap();
        let listeners = split(text).into_iter();
        listeners
            .map(|(name, addresses)| Listener {
                name: name.to_owned(),
                addresses,
                ..bootstrap.listeners[0].clone()
            })
            .collect()
    }

    /// What is missing. A text is what is active, then `|`, then what is configured; `+ LDS` stands for
    /// listeners that are fetched.
    fn shown(older: &str, newer: &str) -> String {
        let read = |text: &str| {
            let (is_active, rest) = text.split_once('|').unwrap();
            let (is_configured, fetches) = match rest.split_once("+ LDS") {
                Some((is_configured, _)) => (is_configured, true),
                None => (rest, false),
            };
            (active(is_active), configured(is_configured), fetches)
        };
        let (older, newer) = (read(older), read(newer));
        let of = |(active, configured, fetches)| Listeners {
            active,
            configured,
            fetches,
        };
        let missing = missing(
            of((&older.0[..], &older.1[..], older.2)),
            of((&newer.0[..], &newer.1[..], newer.2)),
        );
        let missing = missing.iter().map(ToString::to_string);
        missing.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn what_the_configuration_does_not_take_away_is_missing() {
        let web = "listener web at 127.0.0.1:80";
        for (case, older, newer, missing) in [
            // Static ones.
            ("the same", "web@80 | web@80", "web@80 | web@80", ""),
            (
                "removed",
                "web@80 api@81 | web@80 api@81",
                "web@80 | web@80",
                "",
            ),
            ("all removed", "web@80 | web@80", "| ", ""),
            ("configured, not active", "web@80 | web@80", "| web@80", web),
            ("renamed", "web@80 | web@80", "www@80 | www@80", ""),
            ("renamed, not active", "web@80 | web@80", "| www@80", web),
            ("moved", "web@80 | web@80", "web@81 | web@81", ""),
            (
                "moved, not active",
                "web@80 | web@80",
                "| web@81",
                "listener web at 127.0.0.1:81",
            ),
            (
                "one address removed",
                "web@80+81 | web@80+81",
                "web@80 | web@80",
                "",
            ),
            (
                "one address lost",
                "web@80+81 | web@80+81",
                "web@81 | web@80+81",
                web,
            ),
            (
                "two names exchanged",
                "a@80 b@81 | a@80 b@81",
                "a@81 b@80 | a@81 b@80",
                "",
            ),
            ("without a name", "1f-2e@80 | @80", "9c-0a@80 | @80", ""),
            (
                "without a name, not active",
                "1f-2e@80 | @80",
                "| @80",
                "listener at 127.0.0.1:80",
            ),
            ("without a name, removed", "1f-2e@80 | @80", "| ", ""),
            (
                "the system chose the port",
                "web@40001 | web@0",
                "web@40002 | web@0",
                "",
            ),
            (
                "UDP and TCP at one port",
                "dns@53+53/udp | dns@53+53/udp",
                "dns@53 | dns@53+53/udp",
                "listener dns at 127.0.0.1:53/udp",
            ),
            (
                "a Unix socket",
                "web@/run/a | web@/run/a",
                "| web@/run/a",
                "listener web at unix:/run/a",
            ),
            ("inside of Envoy", "in@- | in@-", "in@- | in@-", ""),
            (
                "inside of Envoy, not active",
                "in@- | in@-",
                "| in@-",
                "listener in",
            ),
            ("inside of Envoy, removed", "in@- | in@-", "| ", ""),
            // Fetched ones.
            ("fetched again", "web@80 | + LDS", "web@80 | + LDS", ""),
            (
                "not fetched again",
                "web@80 api@81 | + LDS",
                "api@81 | + LDS",
                web,
            ),
            (
                "fetched nothing",
                "web@80 api@81 | + LDS",
                "| + LDS",
                "listener web at 127.0.0.1:80, listener api at 127.0.0.1:81",
            ),
            (
                "fetched under another name",
                "web@80 | + LDS",
                "www@80 | + LDS",
                "",
            ),
            (
                "fetched at another address",
                "web@80 | + LDS",
                "web@81 | + LDS",
                web,
            ),
            ("fetching was removed", "web@80 | + LDS", "| ", ""),
            ("became static", "web@80 | + LDS", "web@80 | web@80", ""),
            (
                "became static, not active",
                "web@80 | + LDS",
                "| web@80",
                web,
            ),
            (
                "static became fetched",
                "web@80 | web@80",
                "web@80 | + LDS",
                "",
            ),
            (
                "static removed, others fetched",
                "web@80 | web@80",
                "| + LDS",
                "",
            ),
            (
                "fetched beside a static one",
                "web@80 api@81 | web@80 + LDS",
                "web@80 | web@80 + LDS",
                "listener api at 127.0.0.1:81",
            ),
            (
                "fetched, inside of Envoy",
                "in@- | + LDS",
                "| + LDS",
                "listener in",
            ),
            // The older one had nothing.
            ("nothing before", "| web@80", "| web@80", ""),
            ("only new ones", "| ", "web@80 | web@80", ""),
        ] {
            assert_eq!(shown(older, newer), missing, "{case}");
        }
    }
}
