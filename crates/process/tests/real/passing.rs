//! Passing sockets and descriptors.

use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};

use handover_process::SpawnError;

use super::support::{Recorder, helper, in_time, run};

fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

fn assert_sockets(told: &Recorder, names: &str, addresses: &[String]) {
    assert_eq!(
        told.value("LISTEN_FDS").unwrap(),
        addresses.len().to_string()
    );
    assert_eq!(told.value("LISTEN_FDNAMES").unwrap(), names);
    assert_eq!(told.value("LISTEN_PID"), told.value("pid"));
    for (number, address) in (3..).zip(addresses) {
        assert_eq!(
            told.value(&format!("address{number}")).as_ref(),
            Some(address)
        );
    }
}

#[tokio::test]
async fn one_socket_arrives_as_descriptor_3_and_nothing_else_does() {
    let (socket, address) = listener();
    let told = run(helper(&["describe"]).socket("http", socket)).await;
    assert_sockets(&told, "http", &[address]);
    assert_eq!(told.value("descriptors").unwrap(), "0,1,2,3");
}

#[tokio::test]
async fn three_sockets_arrive_in_order_whatever_their_numbers_were() {
    let (sockets, addresses): (Vec<_>, Vec<_>) = (0..3).map(|_| listener()).unzip();
    let mut numbered: Vec<_> = sockets.into_iter().zip(addresses).collect();
    for _ in 0..3 {
        numbered.rotate_left(1);
        let addresses: Vec<_> = numbered
            .iter()
            .map(|(_, address)| address.clone())
            .collect();
        let mut command = helper(&["describe"]);
        for ((socket, _), name) in numbered.iter().zip(["a", "b", "c"]) {
            command = command.socket(name, socket.try_clone().unwrap());
        }
        let told = run(command).await;
        assert_sockets(&told, "a:b:c", &addresses);
        assert_eq!(told.value("descriptors").unwrap(), "0,1,2,3,4,5");
    }
}

#[tokio::test]
async fn descriptors_that_change_places_do_not_overwrite_each_other() {
    // The numbers that four sockets have here, in turn, are the numbers that they get there: each
    // to itself, pairwise swapped, in a ring.
    for places in [[0, 1, 2, 3], [1, 0, 3, 2], [1, 2, 3, 0], [3, 0, 1, 2]] {
        let sockets: Vec<TcpListener> = (0..4).map(|_| listener().0).collect();
        let numbers: Vec<_> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
        let links: Vec<_> = numbers.iter().map(|number| link(*number)).collect();
        let mut command = helper(&["describe"]);
        for (socket, place) in sockets.into_iter().zip(places) {
            command = command.descriptor(numbers[place], socket);
        }
        let told = run(command).await;
        for (link, place) in links.iter().zip(places) {
            let there = told.value(&format!("link{}", numbers[place]));
            assert_eq!(there.as_ref(), Some(link), "{places:?}");
        }
    }
}

/// What tells one open socket from all others.
fn link(number: i32) -> String {
    let link = std::fs::read_link(format!("/proc/self/fd/{number}")).unwrap();
    link.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn sixty_sockets_arrive_in_order() {
    let (sockets, addresses): (Vec<_>, Vec<_>) = (0..60).map(|_| listener()).unzip();
    let mut command = helper(&["describe"]);
    for (number, socket) in sockets.into_iter().enumerate().rev() {
        command = command.socket(format!("s{number}"), socket);
    }
    let told = run(command).await;
    let reversed: Vec<String> = addresses.into_iter().rev().collect();
    let names: Vec<String> = (0..60).rev().map(|number| format!("s{number}")).collect();
    assert_sockets(&told, &names.join(":"), &reversed);
}

#[tokio::test]
async fn a_descriptor_keeps_its_number_and_the_gap_below_it_is_closed() {
    let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let (socket, _) = listener();
    let command = helper(&["describe"]).socket("a", socket);
    let told = run(command.descriptor(9, null()).descriptor(7, null())).await;
    assert_eq!(told.value("descriptors").unwrap(), "0,1,2,3,7,9");
}

#[tokio::test]
async fn the_number_behind_the_sockets_is_free() {
    let mut command = helper(&["describe"]);
    for name in ["a", "b"] {
        command = command.socket(name, listener().0);
    }
    let told = run(command.descriptor(5, listener().0)).await;
    assert_eq!(told.value("descriptors").unwrap(), "0,1,2,3,4,5");
}

#[tokio::test]
async fn what_was_not_passed_is_closed_even_if_it_is_inheritable() {
    let leaky = std::fs::File::open("/dev/null").unwrap();
    rustix::io::fcntl_setfd(&leaky, rustix::io::FdFlags::empty()).unwrap();
    let told = run(helper(&["describe"])).await;
    assert_eq!(told.value("descriptors").unwrap(), "0,1,2");
}

#[tokio::test]
async fn names_and_numbers_that_cannot_be_are_refused() {
    for name in ["", "a:b", "a\nb", "\u{e9}", &"x".repeat(256)] {
        let command = helper(&["sleep"]).socket(name, listener().0);
        let error = in_time(command.spawn()).await.unwrap_err();
        assert!(matches!(error, SpawnError::SocketName { .. }), "{error}");
    }
    for number in [-1, 0, 2, 3] {
        let command = helper(&["sleep"]).socket("a", listener().0);
        let error = in_time(command.descriptor(number, listener().0).spawn()).await;
        let error = error.unwrap_err();
        assert!(matches!(error, SpawnError::FdTaken { .. }), "{error}");
    }
    // Without a sink of its output, too, a child has its standard streams.
    let error = in_time(helper(&["sleep"]).descriptor(1, listener().0).spawn()).await;
    let error = error.unwrap_err();
    assert!(
        matches!(error, SpawnError::FdTaken { target: 1, .. }),
        "{error}"
    );
    let twice = helper(&["sleep"]).descriptor(5, listener().0);
    let error = in_time(twice.descriptor(5, listener().0).spawn())
        .await
        .unwrap_err();
    assert!(
        matches!(error, SpawnError::FdTaken { target: 5, .. }),
        "{error}"
    );
}
