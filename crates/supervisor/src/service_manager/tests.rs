use std::collections::BTreeMap;
use std::path::Path;

use handover_core::Epoch;
use std::os::unix::net::UnixDatagram;
use tokio::time::{sleep, timeout};

use super::*;
use crate::operator::Summary;

const LIMIT: Duration = Duration::from_secs(20);

fn from(variables: &[(&str, &str)]) -> Option<ServiceManager> {
    let variables: BTreeMap<&str, &str> = variables.iter().copied().collect();
    ServiceManager::from_variables(|name| variables.get(name).map(OsString::from))
}

fn bound(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(path).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket
}

fn next(socket: &UnixDatagram) -> String {
    let mut text = [0; 4096];
    let count = socket.recv(&mut text).unwrap();
    String::from_utf8(text[..count].to_vec()).unwrap()
}

#[tokio::test]
async fn each_notification_is_one_message_to_a_path_or_an_abstract_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let name = format!("handover-service-manager-{}", std::process::id());
    let abstract_address = SocketAddr::from_abstract_name(&name).unwrap();
    let hidden = UnixDatagram::bind_addr(&abstract_address).unwrap();
    hidden.set_read_timeout(Some(LIMIT)).unwrap();
    for (socket, address) in [
        (bound(&path), path.to_str().unwrap().to_owned()),
        (hidden, format!("@{name}")),
    ] {
        let manager = from(&[("NOTIFY_SOCKET", &address)]).unwrap();
        let hears = |notification| {
            manager.notify(notification);
            next(&socket)
        };
        assert_eq!(hears(Notification::Ready), "READY=1");
        assert_eq!(hears(Notification::Stopping), "STOPPING=1");
        assert_eq!(hears(Notification::Alive), "WATCHDOG=1");
        let serving = Notification::Status(Summary::Serving(Epoch::new(3)));
        assert_eq!(hears(serving), "STATUS=epoch 3 serves");
        let time = Notification::MoreTime(Duration::from_secs(30));
        assert_eq!(hears(time), "EXTEND_TIMEOUT_USEC=30000000");
        let before = now().as_micros();
        let reloading = hears(Notification::Reloading);
        let stamp = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
        let stamp: u128 = stamp.unwrap().parse().unwrap();
        assert!((before..=now().as_micros()).contains(&stamp), "{stamp}");
    }
}

#[tokio::test]
async fn the_end_is_one_line_with_its_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = bound(&path);
    let manager = from(&[("NOTIFY_SOCKET", path.to_str().unwrap())]).unwrap();
    let sentence = "envoy.yaml:\n  READY=1\u{1b}[2J\tno such field";
    manager.ended(sentence, 65, None, LIMIT).await;
    let heard = next(&socket);
    assert_eq!(
        heard,
        "STATUS=envoy.yaml: READY=1 [2J no such field\nEXIT_STATUS=65"
    );
    manager.ended(&"x".repeat(5000), 71, Some(28), LIMIT).await;
    let heard = next(&socket);
    let end = "x\nEXIT_STATUS=71\nERRNO=28";
    assert!(heard.ends_with(end) && heard.len() < 400, "{heard}");
}

#[tokio::test]
async fn a_full_socket_blocks_nobody_and_gets_the_rest_later() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = bound(&path);
    let manager = from(&[("NOTIFY_SOCKET", path.to_str().unwrap())]).unwrap();
    let filler = UnixDatagram::unbound().unwrap();
    filler.set_nonblocking(true).unwrap();
    let mut fillers = 0;
    while filler.send_to(b"filler", &path).is_ok() {
        fillers += 1;
    }
    manager.notify(Notification::Reloading);
    manager.notify(Notification::Alive);
    manager.notify(Notification::Alive);
    manager.notify(Notification::Ready);
    for _ in 0..fillers {
        assert_eq!(next(&socket), "filler");
    }
    socket.set_nonblocking(true).unwrap();
    let mut heard = Vec::new();
    let all = async {
        while heard.len() < 3 {
            let mut text = [0; 4096];
            match socket.recv(&mut text) {
                Ok(count) => heard.push(String::from_utf8_lossy(&text[..count]).into_owned()),
                Err(_) => sleep(Duration::from_millis(10)).await,
            }
        }
    };
    timeout(LIMIT, all).await.unwrap();
    assert!(heard[0].starts_with("RELOADING=1\n"), "{heard:?}");
    assert_eq!(heard[1..], ["WATCHDOG=1", "READY=1"]);
}

#[tokio::test]
async fn a_socket_that_is_missing_or_of_another_kind_ends_nothing_and_may_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let manager = from(&[("NOTIFY_SOCKET", path.to_str().unwrap())]).unwrap();
    manager.notify(Notification::Ready);
    let stream = std::os::unix::net::UnixListener::bind(&path).unwrap();
    manager.notify(Notification::Ready);
    drop(stream);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "a file").unwrap();
    manager.notify(Notification::Ready);
    std::fs::remove_file(&path).unwrap();
    let socket = bound(&path);
    manager.notify(Notification::Alive);
    assert_eq!(next(&socket), "WATCHDOG=1");
    drop(socket);
    manager.notify(Notification::Alive);
    manager.ended("over", 0, None, LIMIT).await;
}

#[test]
fn an_address_that_is_none_is_no_service_manager() {
    let long = format!("/{}", "x".repeat(200));
    for address in ["", "relative/path", "vsock:2:1234", "notify", &long] {
        assert!(from(&[("NOTIFY_SOCKET", address)]).is_none(), "{address}");
    }
    assert!(from(&[("WATCHDOG_USEC", "1000000")]).is_none());
}

#[test]
fn the_watchdog_counts_only_for_this_process_and_with_a_time() {
    let own = std::process::id().to_string();
    let every = |limit: &str, pid: &str| {
        let variables = [
            ("NOTIFY_SOCKET", "@handover-no-such-socket"),
            ("WATCHDOG_USEC", limit),
            ("WATCHDOG_PID", pid),
        ];
        from(&variables).unwrap().expects().alive_every
    };
    let half = Some(Duration::from_secs(10));
    assert_eq!(every("20000000", &own), half);
    assert_eq!(every("20000000", ""), half);
    for (limit, pid) in [
        ("20000000", "1"),
        ("20000000", "nobody"),
        ("0", &own),
        ("-1", &own),
        ("20s", &own),
        ("", &own),
    ] {
        assert_eq!(every(limit, pid), None, "{limit} {pid}");
    }
}
