use handover_core::Epoch;
use handover_netutil::connections::{Traffic, Uncountable};

use super::*;

fn tcp(address: &str) -> LocalAddress {
    LocalAddress::Tcp(address.parse().unwrap())
}

fn connection(inode: u64, local: &str, peer: &str, seconds: u64, bytes: u64) -> Connection {
    let mut connection = Connection::new(inode, 100, 7, tcp(local));
    connection.peer = Some(peer.parse().unwrap());
    connection.traffic = Some(Traffic {
        received: bytes,
        sent: 1,
        idle: Duration::from_secs(seconds / 2),
        at_least: Duration::from_secs(seconds),
    });
    connection
}

fn listener(name: Option<&str>, purpose: Purpose) -> Listener {
    Listener {
        name: name.map(str::to_owned),
        purpose,
    }
}

fn epoch(number: u32, state: EpochState, connections: Vec<Connection>) -> LookedAt {
    let looked = Looked {
        connections,
        ..Looked::default()
    };
    LookedAt {
        epoch: number,
        state,
        serves: state == EpochState::Live,
        age: Duration::from_secs(1_000),
        known: Some(EpochListeners {
            epoch: Epoch::new(number),
            pid: 100 + number,
            listeners: BTreeMap::new(),
            not_seen: Vec::new(),
        }),
        looked,
        unknown_family: None,
    }
}

/// An old epoch that has closed its listeners, and the one that has them.
fn hand_over() -> Vec<LookedAt> {
    let mut old = epoch(
        0,
        EpochState::Draining,
        vec![
            connection(1, "127.0.0.1:80", "10.0.0.7:5000", 90, 10),
            connection(2, "10.0.0.1:80", "10.0.0.7:5001", 5, 4_000),
            connection(3, "127.0.0.1:9901", "127.0.0.1:6000", 5, 1),
            connection(4, "127.0.0.1:40000", "10.0.0.9:8080", 5, 1),
            connection(5, "[fe80::1]:81", "[fe80::2]:5000", 2_000, 1),
        ],
    );
    let known = old.known.as_mut().unwrap();
    let excluded = listener(Some("probes"), Purpose::Excluded);
    known.listeners.insert(tcp("[::]:81"), excluded);
    let mut new = epoch(
        1,
        EpochState::Live,
        vec![connection(6, "127.0.0.1:80", "10.0.0.7:5002", 1, 1)],
    );
    let known = new.known.as_mut().unwrap();
    known.listeners.extend([
        (tcp("0.0.0.0:80"), listener(Some("web"), Purpose::Clients)),
        (tcp("127.0.0.1:9901"), listener(None, Purpose::Admin)),
    ]);
    vec![old, new]
}

fn sorted_out(looked: Vec<LookedAt>) -> Vec<Clients> {
    sort_out(looked, &mut FirstSeen::default(), Instant::now())
}

fn peers_of(epoch: &ConnectionsOfEpoch) -> Vec<String> {
    let listed = epoch.listed.iter();
    listed
        .map(|client| client.peer.clone().unwrap_or_default())
        .collect()
}

#[test]
fn an_old_epoch_is_known_by_the_listeners_of_the_new_one() {
    let who = report(sorted_out(hand_over()), WhoRequest::default(), None);
    let old = &who.epochs[0];
    // The oldest first, no older than the epoch; without the admin endpoint and the upstream.
    assert_eq!(
        peers_of(old),
        ["[fe80::2]:5000", "10.0.0.7:5000", "10.0.0.7:5001"]
    );
    assert_eq!((old.connections, old.other_connections), (Some(3), Some(1)));
    let [excluded, web, _] = &old.listed[..] else {
        panic!("{old:?}");
    };
    assert_eq!(excluded.age_at_least_seconds, Some(1_000));
    assert!(!excluded.holds_drain && web.holds_drain);
    assert_eq!(web.listener.as_deref(), Some("web"));
    assert_eq!((web.bytes_in, web.bytes_out), (Some(10), Some(1)));
    assert!(old.not_seen.is_empty());
    assert_eq!(who.epochs[1].connections, Some(1));
}

#[test]
fn a_list_is_bounded_and_says_how_many_there_are() {
    let request = |sort, limit| WhoRequest {
        sort,
        limit: Some(limit),
        ..WhoRequest::default()
    };
    let who = report(sorted_out(hand_over()), request(Sort::Bytes, 1), None);
    assert_eq!(peers_of(&who.epochs[0]), ["10.0.0.7:5001"]);
    assert_eq!(who.epochs[0].connections, Some(3));
    let many = |number| {
        let connections = (0..2_000)
            .map(|inode| connection(inode, "127.0.0.1:80", "10.0.0.7:5000", inode, 1))
            .collect();
        let mut epoch = epoch(number, EpochState::Draining, connections);
        let looked = &mut epoch.looked;
        looked.listening.addresses.insert(tcp("127.0.0.1:80"));
        epoch
    };
    let epochs = sorted_out(vec![many(0), many(1)]);
    let who = report(epochs, request(Sort::Age, usize::MAX), None);
    let listed: Vec<_> = who.epochs.iter().map(|epoch| epoch.listed.len()).collect();
    assert_eq!(listed, [MOST_LISTED, 0]);
    assert!(
        who.epochs
            .iter()
            .all(|epoch| epoch.connections == Some(2_000))
    );
    // A client reads no more than this.
    let text = serde_json::to_vec_pretty(&who).unwrap();
    assert!(
        text.len() < crate::control::wire::MAX_ANSWER / 2,
        "{}",
        text.len()
    );
}

#[test]
fn what_is_not_seen_is_no_zero() {
    let mut unread = epoch(0, EpochState::Draining, vec![]);
    unread.unknown_family = Some("it may not be looked at".to_owned());
    let mut young = epoch(1, EpochState::Starting, vec![]);
    young.known = None;
    let mut udp = epoch(2, EpochState::Live, vec![]);
    let looked = &mut udp.looked;
    let address = "0.0.0.0:443".parse().unwrap();
    looked
        .listening
        .uncountable
        .insert(Uncountable::Udp(address));
    let mut late = epoch(3, EpochState::Live, vec![]);
    let known = late.known.as_mut().unwrap();
    known
        .not_seen
        .push("it closed its listeners before they were seen".to_owned());
    let epochs = sorted_out(vec![unread, young, udp, late]);
    let who = report(epochs, WhoRequest::default(), None);
    let told: Vec<_> = who
        .epochs
        .iter()
        .map(|epoch| (epoch.connections, epoch.not_seen[0].as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (None, "it may not be looked at"),
            (None, "it has no process yet"),
            (Some(0), "the listener at 0.0.0.0:443 is UDP"),
            (Some(0), "it closed its listeners before they were seen"),
        ]
    );
}

#[test]
fn an_epoch_that_serves_loses_nobody_unless_it_is_named() {
    let epochs = sorted_out(hand_over());
    let all = |named| {
        let selected = select(&epochs, Peers::All, named);
        let connections = selected.connections.iter();
        let inodes: Vec<_> = connections.map(|connection| connection.inode).collect();
        (inodes, selected.on_serving, selected.left_on_serving)
    };
    assert_eq!(all(None), (vec![1, 2, 5], 0, 1));
    assert_eq!(all(Some(0)), (vec![1, 2, 5], 0, 0));
    assert_eq!(all(Some(1)), (vec![6], 1, 0));
    assert_eq!(all(Some(7)), (vec![], 0, 0));
    let one = select(&epochs, "10.0.0.7:5001".parse().unwrap(), None);
    assert_eq!(one.connections.len(), 1);
    assert_eq!(one.left_on_serving, 0);
}

#[test]
fn a_connection_ages_from_the_first_look_where_the_kernel_says_nothing() {
    let unix = || {
        let name = LocalAddress::Unix("/run/web.sock".to_owned());
        let mut connection = Connection::new(9, 100, 7, name.clone());
        connection.peer_pid = Some(33);
        let mut epoch = epoch(0, EpochState::Live, vec![connection]);
        let looked = &mut epoch.looked;
        looked.listening.addresses.insert(name);
        vec![epoch]
    };
    let mut first_seen = FirstSeen::default();
    let start = Instant::now();
    let mut age = |looked, seconds| {
        let now = start + Duration::from_secs(seconds);
        let epochs = sort_out(looked, &mut first_seen, now);
        let who = report(epochs, WhoRequest::default(), None);
        let client = who.epochs[0].listed.first().cloned();
        client.map(|client| (client.peer.unwrap(), client.age_at_least_seconds))
    };
    let peer = || "pid:33".to_owned();
    assert_eq!(age(unix(), 0), Some((peer(), None)));
    assert_eq!(age(unix(), 30), Some((peer(), Some(30))));
    // What is gone is forgotten.
    assert_eq!(age(vec![epoch(0, EpochState::Live, vec![])], 31), None);
    assert_eq!(age(unix(), 60), Some((peer(), None)));
}

#[test]
fn the_list_of_an_epoch_that_is_named_has_no_other() {
    let named = WhoRequest {
        epoch: Some(1),
        ..WhoRequest::default()
    };
    let who = report(sorted_out(hand_over()), named, None);
    let epochs: Vec<_> = who.epochs.iter().map(|epoch| epoch.epoch).collect();
    assert_eq!(epochs, [1]);
}

#[test]
fn what_has_ended_since_it_was_known_to_run_is_left_out_and_its_workers_have_no_connection() {
    let mut both = hand_over();
    let (program, worker) = (both[0].known.as_ref().unwrap().pid, 7);
    both[0].looked.ended = [worker].into();
    let who = report(sorted_out(both), WhoRequest::default(), None);
    assert_eq!(who.epochs[0].connections, Some(3));
    assert!(who.epochs[0].not_seen.is_empty());

    let mut both = hand_over();
    both[0].looked.ended = [program].into();
    both[0].unknown_family = Some("it is no child that runs".to_owned());
    let who = report(sorted_out(both), WhoRequest::default(), None);
    let epochs: Vec<_> = who.epochs.iter().map(|epoch| epoch.epoch).collect();
    assert_eq!(epochs, [1]);
}

#[test]
fn a_process_that_runs_and_cannot_be_read_is_told() {
    let seen = |pid, kind: ErrorKind, connections: Vec<Connection>| {
        let mut looked_at = epoch(0, EpochState::Live, connections);
        let unread = &mut looked_at.looked.unread;
        unread.push(ConnectionsError::new(pid, "/proc/7/fd".into(), kind.into()));
        let who = report(sorted_out(vec![looked_at]), WhoRequest::default(), None);
        let epoch = who.epochs.into_iter().next().unwrap();
        (epoch.connections, epoch.not_seen.join("; "))
    };
    let (program, worker) = (100, 7);
    for (pid, kind) in [
        (program, ErrorKind::NotFound),
        (worker, ErrorKind::NotFound),
        (worker, ErrorKind::PermissionDenied),
    ] {
        let (connections, why) = seen(pid, kind, vec![]);
        assert_eq!(connections, None);
        assert!(why.contains("/proc/7/fd"), "{why}");
        let has_remedy = why.contains("CAP_SYS_PTRACE");
        assert_eq!(has_remedy, kind == ErrorKind::PermissionDenied, "{why}");
    }
    // What was seen of the others counts.
    let client = connection(1, "127.0.0.1:80", "10.0.0.7:5000", 1, 1);
    let (connections, why) = seen(worker, ErrorKind::PermissionDenied, vec![client]);
    assert_eq!(connections, Some(0), "it is on no listener");
    assert!(!why.is_empty());
}
