use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::panic::catch_unwind;
use std::time::Duration;

use handover_test_support::leftovers::Leftovers;
use handover_test_support::limit::eventually;
use handover_test_support::ports::BaseId;
use handover_test_support::supervisor::Launch;

use crate::LONG;

#[test]
fn a_process_that_still_runs_is_named() {
    let guard = Leftovers::watch();
    let sleeper = Launch::program("sleep").arg("600").tag(guard.tag()).start();
    // A process that is started returns to its parent a moment before the kernel shows its new
    // environment and arguments.
    let left = eventually(LONG, "the process to be listed", || {
        let left = guard.list();
        (!left.is_empty()).then_some(left)
    });
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(
        left[0].starts_with(&format!("process {} ", sleeper.pid())),
        "{left:?}"
    );
    assert!(left[0].ends_with("sleep 600"), "{left:?}");
    drop(sleeper);
    guard.assert_nothing_left(LONG);
}

#[test]
fn processes_of_other_tests_are_not_named() {
    let guard = Leftovers::watch();
    let _other = Launch::program("sleep").arg("600").start();
    guard.assert_nothing_left(Duration::ZERO);
}

#[test]
fn a_new_file_is_named_and_an_old_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("deep")).unwrap();
    fs::write(directory.path().join("old"), "").unwrap();
    let guard = Leftovers::watch().directory(directory.path());
    guard.assert_nothing_left(Duration::ZERO);
    let new = directory.path().join("deep/new");
    fs::write(&new, "").unwrap();
    assert_eq!(guard.list(), [format!("file {}", new.display())]);
}

#[test]
fn shared_memory_and_sockets_of_the_base_id_are_named() {
    let base_id = BaseId::free();
    let guard = Leftovers::watch().base_id(base_id.number());
    guard.assert_nothing_left(Duration::ZERO);

    fs::write(base_id.shared_memory(), "").unwrap();
    let name = format!("envoy_domain_socket_child_{}1", base_id.number());
    let addr = SocketAddr::from_abstract_name(&name).unwrap();
    let _socket = UnixDatagram::bind_addr(&addr).unwrap();

    let memory = format!("shared memory {}", base_id.shared_memory().display());
    assert_eq!(guard.list(), [memory, format!("abstract socket @{name}")]);
}

#[test]
fn a_listener_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let guard = Leftovers::watch().listener(addr);
    assert_eq!(guard.list(), [format!("a listener on {addr}")]);
    drop(listener);
    guard.assert_nothing_left(LONG);
}

#[test]
fn the_message_names_all_that_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let guard = Leftovers::watch().directory(directory.path());
    for name in ["one", "two"] {
        fs::write(directory.path().join(name), "").unwrap();
    }
    let result = catch_unwind(|| guard.assert_nothing_left(Duration::ZERO));
    let message = *result.unwrap_err().downcast::<String>().unwrap();
    assert!(
        message.contains("/one\n") && message.ends_with("/two"),
        "{message}"
    );
}
