//! The connections of clients for people.

use handover_supervisor::control::wire::{
    ClientConnection, ConnectionsOfEpoch, EndedConnections, EpochState, Peers, Who,
};

use super::table::{plain, span};

/// What is shown for what is unknown.
const UNKNOWN: &str = "?";

/// The whole answer, without a line feed at its end.
pub(super) fn text(who: &Who, peers: Option<Peers>) -> String {
    let mut lines = Vec::new();
    if let (Some(ended), Some(peers)) = (&who.ended, peers) {
        lines.extend(sentences(ended, peers));
        lines.push(String::new());
    }
    if who.epochs.is_empty() {
        // With one that is named, the others are not told of.
        let text = match who.ended {
            Some(_) => "none of these epochs runs any more",
            None => "no epoch runs",
        };
        lines.push(text.to_owned());
    }
    for (index, epoch) in who.epochs.iter().enumerate() {
        if index > 0 {
            lines.push(String::new());
        }
        lines.extend(section(epoch));
    }
    lines.join("\n")
}

/// What became of the connections that were to be closed.
fn sentences(ended: &EndedConnections, peers: Peers) -> Vec<String> {
    let of_whom = match peers {
        Peers::All => String::new(),
        Peers::Address(_) | Peers::Socket(_) | Peers::Process(_) => format!(" of {peers}"),
    };
    let EndedConnections { closed, meant, .. } = *ended;
    let mut lines = vec![format!(
        "closed {closed} of {}{of_whom}",
        connections(meant)
    )];
    let mut add = |number: u64, what: &str, more: &str| {
        if number > 0 {
            lines.push(format!("{what}: {number}{more}"));
        }
    };
    add(
        ended.meant_on_serving,
        "of these on an epoch that serves",
        "",
    );
    add(ended.gone, "ended before", "");
    add(ended.late, "not reached in time", "; repeat the command");
    add(
        ended.still_held,
        "closed, but still held by the program",
        "",
    );
    let left = "left alone on an epoch that serves";
    add(
        ended.left_on_serving,
        left,
        "; --epoch EPOCH names that epoch",
    );
    let why = ended.problem.as_deref().unwrap_or("the reason is unknown");
    let why = format!("; {}", plain(why));
    add(ended.refused, "could not be closed", &why);
    lines
}

fn section(epoch: &ConnectionsOfEpoch) -> Vec<String> {
    let state = match epoch.state {
        EpochState::Starting => "starting",
        EpochState::Live => "live",
        EpochState::Draining => "draining",
        EpochState::Aborting => "aborting",
    };
    let pid = match epoch.pid {
        Some(pid) => format!(", pid {pid}"),
        None => String::new(),
    };
    let count = match epoch.connections {
        None => "connections unknown".to_owned(),
        Some(count) if epoch.not_seen.is_empty() => connections(count),
        Some(0) => "no connection seen".to_owned(),
        Some(count) => format!("at least {}", connections(count)),
    };
    let mut lines = vec![format!("epoch {} ({state}{pid}): {count}", epoch.epoch)];
    if !epoch.listed.is_empty() {
        let rows = epoch.listed.iter().map(row);
        lines.extend(columns(
            std::iter::once(HEAD.map(str::to_owned)).chain(rows),
        ));
    }
    let listed = u64::try_from(epoch.listed.len()).unwrap_or(u64::MAX);
    let more = epoch.connections.unwrap_or_default().saturating_sub(listed);
    if more > 0 {
        lines.push(format!("  and {more} more, see --limit"));
    }
    for why in &epoch.not_seen {
        lines.push(format!("  not all seen: {}", plain(why)));
    }
    match epoch.other_connections {
        None | Some(0) => {}
        Some(others) => lines.push(format!(
            "  and {others} of its own: to upstreams, or on a listener that was closed unseen"
        )),
    }
    lines
}

const HEAD: [&str; 7] = [
    "PEER",
    "LISTENER",
    "AGE AT LEAST",
    "IDLE",
    "IN",
    "OUT",
    "STATE",
];

fn row(connection: &ClientConnection) -> [String; 7] {
    let unknown = || UNKNOWN.to_owned();
    let seconds = |seconds: Option<u64>| seconds.map_or_else(unknown, |it| span(it).to_string());
    let bytes = |number: Option<u64>| number.map_or_else(unknown, size);
    let listener = match &connection.listener {
        Some(name) => format!("{} {}", plain(name), plain(&connection.local)),
        None => plain(&connection.local),
    };
    let mut state = plain(&connection.state).replace('_', " ");
    if !connection.holds_drain {
        state.push_str(", holds no drain");
    }
    [
        connection.peer.as_deref().map_or_else(unknown, plain),
        listener,
        seconds(connection.age_at_least_seconds),
        seconds(connection.idle_seconds),
        bytes(connection.bytes_in),
        bytes(connection.bytes_out),
        state,
    ]
}

/// Lines with each column as wide as its widest cell.
fn columns<const N: usize>(rows: impl Iterator<Item = [String; N]>) -> Vec<String> {
    let rows: Vec<_> = rows.collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(widths);
        let cells = cells.map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        format!("  {}", line.trim_end())
    });
    lines.collect()
}

fn connections(count: u64) -> String {
    match count {
        0 => "no connection".to_owned(),
        1 => "1 connection".to_owned(),
        count => format!("{count} connections"),
    }
}

/// `12 B`, `1.5 kB`, `3.0 MB`.
fn size(bytes: u64) -> String {
    let units = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    let unit = units.into_iter().find(|(unit, _)| bytes >= *unit);
    match unit {
        None => format!("{bytes} B"),
        Some((unit, name)) => {
            let tenths = bytes / (unit / 10);
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use handover_supervisor::control::wire::API;

    fn client(peer: &str, listener: Option<&str>) -> ClientConnection {
        ClientConnection {
            peer: Some(peer.to_owned()),
            local: "10.0.0.1:443".to_owned(),
            listener: listener.map(str::to_owned),
            pid: 7,
            age_at_least_seconds: Some(3_725),
            idle_seconds: Some(2),
            bytes_in: Some(999),
            bytes_out: Some(12_345_678),
            state: "open".to_owned(),
            holds_drain: true,
        }
    }

    fn epoch(number: u32, state: EpochState) -> ConnectionsOfEpoch {
        ConnectionsOfEpoch {
            epoch: number,
            state,
            pid: Some(4_711 + number),
            connections: Some(0),
            not_seen: Vec::new(),
            other_connections: Some(0),
            listed: Vec::new(),
        }
    }

    #[test]
    fn the_peers_of_each_epoch_are_listed_and_what_is_unknown_is_said() {
        let mut old = epoch(0, EpochState::Draining);
        old.connections = Some(102);
        old.other_connections = Some(3);
        old.listed = vec![
            client("[2001:db8::7]:51234", Some("web\u{1b}[2J")),
            ClientConnection {
                peer: None,
                local: "/run/web.sock".to_owned(),
                age_at_least_seconds: None,
                idle_seconds: None,
                bytes_in: None,
                bytes_out: None,
                state: "closed_by_peer".to_owned(),
                holds_drain: false,
                ..client("", None)
            },
        ];
        let mut udp = epoch(1, EpochState::Live);
        udp.not_seen = vec!["the listener at 0.0.0.0:443 is UDP".to_owned()];
        let mut unseen = epoch(2, EpochState::Starting);
        (unseen.pid, unseen.connections, unseen.other_connections) = (None, None, None);
        unseen.not_seen = vec!["it has no process yet".to_owned()];
        let who = Who {
            api: API,
            ended: None,
            epochs: vec![old, udp, unseen],
        };
        insta::assert_snapshot!(text(&who, None), @r"
        epoch 0 (draining, pid 4711): 102 connections
          PEER                 LISTENER                   AGE AT LEAST  IDLE  IN     OUT      STATE
          [2001:db8::7]:51234  web\u{1b}[2J 10.0.0.1:443  1h 2m 5s      2s    999 B  12.3 MB  open
          ?                    /run/web.sock              ?             ?     ?      ?        closed by peer, holds no drain
          and 100 more, see --limit
          and 3 of its own: to upstreams, or on a listener that was closed unseen

        epoch 1 (live, pid 4712): no connection seen
          not all seen: the listener at 0.0.0.0:443 is UDP

        epoch 2 (starting): connections unknown
          not all seen: it has no process yet
        ");
    }

    #[test]
    fn what_was_closed_is_told_beside_what_was_left() {
        let ended = |ended, peers: &str| {
            let who = Who {
                api: API,
                ended: Some(ended),
                epochs: Vec::new(),
            };
            text(&who, Some(peers.parse().unwrap()))
        };
        let one = EndedConnections {
            meant: 1,
            closed: 1,
            left_on_serving: 2,
            ..EndedConnections::default()
        };
        insta::assert_snapshot!(ended(one, "10.0.0.7"), @r"
        closed 1 of 1 connection of 10.0.0.7
        left alone on an epoch that serves: 2; --epoch EPOCH names that epoch

        none of these epochs runs any more
        ");
        let partly = EndedConnections {
            meant: 9,
            closed: 4,
            meant_on_serving: 9,
            gone: 1,
            still_held: 1,
            refused: 2,
            late: 2,
            left_on_serving: 0,
            problem: Some("it may not".to_owned()),
        };
        insta::assert_snapshot!(ended(partly, "all"), @r"
        closed 4 of 9 connections
        of these on an epoch that serves: 9
        ended before: 1
        not reached in time: 2; repeat the command
        closed, but still held by the program: 1
        could not be closed: 2; it may not

        none of these epochs runs any more
        ");
    }

    #[test]
    fn sizes_have_a_unit() {
        let sizes = [0, 999, 1_000, 1_999, 1_000_000, 2_500_000_000].map(size);
        assert_eq!(
            sizes,
            ["0 B", "999 B", "1.0 kB", "1.9 kB", "1.0 MB", "2.5 GB"]
        );
    }
}
