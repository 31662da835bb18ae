use super::*;
use crate::bootstrap::Format;

fn bootstrap(admin: &str, listeners: &str) -> Bootstrap {
    let text = format!(
        "admin: {{ address: {admin} }}\nstatic_resources: {{ listeners: [ {listeners} ] }}\n"
    );
    Bootstrap::parse(text.as_bytes(), Format::Yaml).unwrap()
}

fn at(address: &str, port: u16) -> String {
    format!("{{ socket_address: {{ address: \"{address}\", port_value: {port} }} }}")
}

fn listener(name: &str, more: &str, address: &str) -> String {
    format!("{{ name: \"{name}\", {more} address: {address} }},")
}

fn tcp(address: &str) -> LocalAddress {
    LocalAddress::Tcp(address.parse().unwrap())
}

fn listening(addresses: &[&str]) -> Listening {
    let address = |text: &&str| match text.contains('/') {
        true => LocalAddress::Unix((*text).to_owned()),
        false => tcp(text),
    };
    Listening {
        addresses: addresses.iter().map(address).collect(),
        uncountable: BTreeSet::new(),
    }
}

/// What is shown with one connection at each address.
fn shown(listening: &Listening, bootstrap: &Bootstrap, exclude: &Exclude) -> Vec<String> {
    let clients = Clients::of(listening, bootstrap, exclude);
    let each = listening
        .addresses
        .iter()
        .map(|address| (address.clone(), 1));
    let holding = clients.holding(&each.collect());
    holding.iter().map(ToString::to_string).collect()
}

fn exclude(names: &[&str], ports: &[u16]) -> Exclude {
    Exclude {
        ports: ports.iter().copied().collect(),
        listeners: names.iter().map(|name| name.parse().unwrap()).collect(),
        inbound_only: false,
    }
}

#[test]
fn the_admin_endpoint_is_left_out_by_its_address_alone() {
    let none = Exclude::default();
    for (admin, addresses, counted) in [
        (at("127.0.0.1", 9), &["127.0.0.1:9"][..], &[][..]),
        (at("0.0.0.0", 9), &["0.0.0.0:9"], &[]),
        (at("::", 9), &["[::]:9"], &[]),
        (at("::ffff:127.0.0.1", 9), &["127.0.0.1:9"], &[]),
        // Its port at another address is a listener's.
        (
            at("127.0.0.1", 9),
            &["127.0.0.1:9", "10.0.0.1:9"],
            &["10.0.0.1_9"],
        ),
        (at("127.0.0.1", 9), &["127.0.0.1:9", "[::]:9"], &["[__]_9"]),
        (at("127.0.0.1", 9), &["127.0.0.2:9"], &["127.0.0.2_9"]),
        // It is gone: a newer epoch has taken it along.
        (at("127.0.0.1", 9), &["[::]:9"], &["[__]_9"]),
        ("{ pipe: { path: /a } }".to_owned(), &["/a", "/b"], &["/b"]),
    ] {
        let found = shown(&listening(addresses), &bootstrap(&admin, ""), &none);
        let counted: Vec<_> = counted
            .iter()
            .map(|name| format!("1 connection on listener {name}"))
            .collect();
        assert_eq!(found, counted, "{admin} {addresses:?}");
    }
}

#[test]
fn a_listener_of_clients_counts_whatever_its_name() {
    let listeners = [
        listener("a", "stat_prefix: admin,", &at("0.0.0.0", 80)),
        listener(
            "envoy_internal_x",
            "stat_prefix: envoy_internal_x,",
            &at("0.0.0.0", 81),
        ),
        listener("web", "stat_prefix: web.worker_0,", &at("0.0.0.0", 82)),
        listener("admin", "", &at("0.0.0.0", 83)),
    ];
    let config = bootstrap(&at("127.0.0.1", 9), &listeners.concat());
    let addresses = [
        "0.0.0.0:80",
        "0.0.0.0:81",
        "0.0.0.0:82",
        "0.0.0.0:83",
        "127.0.0.1:9",
    ];
    assert_eq!(
        shown(&listening(&addresses), &config, &Exclude::default()),
        [
            "1 connection on listener 0.0.0.0_83",
            "1 connection on listener admin",
            "1 connection on listener envoy_internal_x",
            "1 connection on listener web.worker_0",
        ]
    );
}

#[test]
fn a_listener_has_one_name_for_all_its_addresses_and_one_by_lds_that_of_each() {
    let more = "additional_addresses: [{ address: { socket_address: { address: \"::\", port_value: 80 } } }],";
    let listeners = [
        listener("web", more, &at("0.0.0.0", 80)),
        listener("any", "stat_prefix: any,", &at("127.0.0.1", 0)),
        listener("local", "", "{ pipe: { path: /run/web } }"),
    ];
    let config = bootstrap(&at("127.0.0.1", 9), &listeners.concat());
    let addresses = [
        "0.0.0.0:80",
        "[::]:80",
        "127.0.0.1:40000",
        "[::1]:81",
        "/run/web",
    ];
    assert_eq!(
        shown(&listening(&addresses), &config, &Exclude::default()),
        [
            "1 connection on listener /run/web",
            "2 connections on listener 0.0.0.0_80",
            "1 connection on listener [__1]_81",
            "1 connection on listener any",
        ]
    );
}

#[test]
fn what_is_excluded_is_so_by_each_name_and_port() {
    let listeners = [
        listener("web", "", &at("0.0.0.0", 80)),
        listener("probes", "stat_prefix: health,", &at("0.0.0.0", 81)),
    ];
    let config = bootstrap(&at("127.0.0.1", 9), &listeners.concat());
    let listening = listening(&["0.0.0.0:80", "0.0.0.0:81", "[::1]:82", "127.0.0.1:80"]);
    for (names, ports, left) in [
        (&[][..], &[][..], 4),
        (&["probes"], &[], 3),
        (&["health"], &[], 3),
        (&["web"], &[], 3),
        (&["[__1]_82"], &[], 3),
        (&[], &[81, 82], 2),
        (&[], &[80], 2),
    ] {
        let exclude = exclude(names, ports);
        assert_eq!(
            shown(&listening, &config, &exclude).len(),
            left,
            "{exclude:?}"
        );
    }
}

#[test]
fn what_cannot_be_seen_from_outside_is_told_unless_it_does_not_count() {
    let udp = "{ socket_address: { address: 0.0.0.0, port_value: 443, protocol: UDP } }";
    let quic = bootstrap(&at("127.0.0.1", 9), &listener("quic", "", udp));
    let plain = bootstrap(
        &at("127.0.0.1", 9),
        &listener("web", "", &at("0.0.0.0", 80)),
    );
    let told = |config: &Bootstrap, seen: &[Uncountable], exclude: &Exclude| {
        let mut listening = listening(&["0.0.0.0:80", "127.0.0.1:9"]);
        listening.uncountable = seen.iter().copied().collect();
        let clients = Clients::of(&listening, config, exclude);
        clients.uncountable().map(ToOwned::to_owned)
    };
    let none = Exclude::default();
    assert_eq!(told(&plain, &[], &none), None);
    assert_eq!(told(&quic, &[], &none).unwrap(), "the listener quic is UDP");
    assert_eq!(told(&quic, &[], &exclude(&["quic"], &[])), None);
    let seen = [Uncountable::Udp("0.0.0.0:443".parse().unwrap())];
    assert_eq!(
        told(&plain, &seen, &none).unwrap(),
        "the listener at 0.0.0.0:443 is UDP"
    );
    assert_eq!(told(&plain, &seen, &exclude(&[], &[443])), None);
    assert_eq!(told(&quic, &seen, &exclude(&["quic"], &[])), None);
    let seen = [Uncountable::Transparent("0.0.0.0:80".parse().unwrap())];
    assert!(told(&plain, &seen, &none).is_some());
    assert_eq!(told(&plain, &seen, &exclude(&["web"], &[])), None);
    assert!(told(&plain, &[Uncountable::OtherNamespace], &none).is_some());
}

#[test]
fn each_address_is_known_and_whether_its_connections_count() {
    let of = |addresses: &[&str], uncountable: Option<Uncountable>| {
        let listening = Listening {
            uncountable: uncountable.into_iter().collect(),
            ..listening(addresses)
        };
        let bootstrap = bootstrap("{ pipe: { path: /admin } }", "");
        Clients::of(&listening, &bootstrap, &Exclude::default())
    };
    let [admin, unix] = ["/admin", "/b"].map(|path| LocalAddress::Unix(path.to_owned()));
    let clients = of(&["/admin", "10.0.0.1:80"], None);
    let known = [admin, tcp("10.0.0.1:80")];
    assert_eq!(clients.addresses(), known.into());
    // The admin endpoint does not count, so it may be a Unix socket.
    let nowhere = BTreeSet::new();
    assert_eq!(clients.closing(&nowhere), ListenersSeen::Closed);
    let other = of(&["10.0.0.1:80"], Some(Uncountable::OtherNamespace));
    assert_eq!(other.closing(&nowhere), ListenersSeen::Unseen);
    let mixed = of(&["/admin", "/b", "10.0.0.1:80"], None);
    assert_eq!(mixed.closing(&nowhere), ListenersSeen::Unseen);
    // An address without a connection holds nothing.
    let counts = [(tcp("10.0.0.1:80"), 0), (unix, 1)];
    assert_eq!(mixed.holding(&counts.into()).len(), 1);
}

#[test]
fn a_socket_is_known_by_its_listener_and_by_what_it_is_for() {
    let listening = listening(&[
        "/admin",
        "/pipe",
        "10.0.0.1:80",
        "10.0.0.1:81",
        "10.0.0.2:99",
    ]);
    let listeners = [
        listener("web", "", &at("10.0.0.1", 80)),
        listener("", "", &at("10.0.0.1", 81)),
        listener("pipe", "", "{ pipe: { path: /pipe } }"),
        listener("chosen", "", &at("10.0.0.2", 0)),
    ];
    let bootstrap = bootstrap("{ pipe: { path: /admin } }", &listeners.concat());
    let known = |address| known_by(&address, &listening, &bootstrap, &exclude(&["web"], &[]));
    let unix = |path: &str| LocalAddress::Unix(path.to_owned());
    let named = |name: &str| Some(name.to_owned());
    for (address, name, purpose) in [
        (unix("/admin"), None, ListenerPurpose::Admin),
        (unix("/pipe"), named("pipe"), ListenerPurpose::Clients),
        (tcp("10.0.0.1:80"), named("web"), ListenerPurpose::Excluded),
        (tcp("10.0.0.1:81"), None, ListenerPurpose::Clients),
        (
            tcp("10.0.0.2:99"),
            named("chosen"),
            ListenerPurpose::Clients,
        ),
        (tcp("10.0.0.1:82"), None, ListenerPurpose::Clients),
    ] {
        assert_eq!(known(address.clone()), (name, purpose), "{address}");
    }
}

/// What is left of one connection at each address, and what the look at the listeners says, while all of these are
/// open.
fn while_open(clients: &Clients, open: &[&str]) -> (Vec<String>, ListenersSeen) {
    let open: BTreeSet<SocketAddr> = open.iter().map(|text| text.parse().unwrap()).collect();
    let each = clients.addresses().into_iter().map(|address| (address, 1));
    let mut counts = each.collect();
    clients.leave_out_what_stays(&mut counts, &open);
    let holding = clients.holding(&counts);
    let names = holding.into_iter().map(|it| it.listener).collect();
    (names, clients.closing(&open))
}

/// A worker that was busy kept an inbound listener open for longer than 250 ms. All its connections were taken
/// for those of a listener that stays, so the drain ended at once, and cut them.
#[test]
fn a_static_inbound_listener_counts_while_it_is_still_open() {
    use ListenersSeen::{Closed, MayStay, Open};

    let listeners = [
        listener("in", "traffic_direction: INBOUND,", &at("0.0.0.0", 80)),
        listener("out", "traffic_direction: OUTBOUND,", &at("0.0.0.0", 81)),
        listener("any", "", &at("0.0.0.0", 82)),
    ];
    let config = bootstrap(&at("127.0.0.1", 9), &listeners.concat());
    let (inbound, by_lds) = ("0.0.0.0:80", "10.0.0.1:90");
    let stay = ["127.0.0.1:9", "0.0.0.0:81", "0.0.0.0:82"];
    let listening = listening(&[&stay[..], &[inbound, by_lds]].concat());
    let seen = |inbound_only: bool, open: &[&str]| {
        let exclude = Exclude {
            inbound_only,
            ..Exclude::default()
        };
        let clients = Clients::of(&listening, &config, &exclude);
        while_open(&clients, &[&stay[..], open].concat())
    };
    let (of_in, of_lds) = ("0.0.0.0_80".to_owned(), "10.0.0.1_90".to_owned());
    for (open, counted, closing) in [
        (&[inbound, by_lds][..], vec![of_in.clone()], Open),
        (&[inbound], vec![of_in.clone(), of_lds.clone()], Open),
        (&[by_lds], vec![of_in.clone()], MayStay),
        (&[], vec![of_in, of_lds], Closed),
    ] {
        assert_eq!(seen(true, open), (counted, closing), "{open:?}");
    }
    // Without the flag, whatever is open counts.
    let (counted, closing) = seen(false, &[inbound, by_lds]);
    assert_eq!((counted.len(), closing), (4, Open));
}
