//! Tells what the process was given.

use std::net::TcpListener;
use std::os::fd::{BorrowedFd, FromRawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Prints one `name=value` per line.
pub(crate) fn describe() {
    let pid = std::process::id();
    println!("pid={pid}");
    println!("group={}", rustix::process::getpgrp().as_raw_nonzero());
    println!("directory={}", std::env::current_dir().unwrap().display());
    let descriptors = open_descriptors();
    for number in &descriptors {
        let link = std::fs::read_link(format!("/proc/self/fd/{number}")).unwrap();
        println!("link{number}={}", link.display());
    }
    let descriptors: Vec<String> = descriptors.iter().map(i32::to_string).collect();
    println!("descriptors={}", descriptors.join(","));
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    for field in ["SigBlk", "SigIgn"] {
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        println!("{field}={}", line.split_once(':').unwrap().1.trim());
    }
    let death = rustix::process::parent_process_death_signal().unwrap();
    println!("death={}", death.map_or(0, rustix::process::Signal::as_raw));
    println!(
        "stdin={}",
        std::fs::read_link("/proc/self/fd/0").unwrap().display()
    );
    for name in [
        "LISTEN_FDS",
        "LISTEN_FDNAMES",
        "LISTEN_PID",
        "NOTIFY_SOCKET",
        "READY_FD",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
        "RESTART_EPOCH",
        "EXTRA",
        "PATH",
    ] {
        if let Ok(value) = std::env::var(name) {
            println!("{name}={value}");
        }
    }
    let sockets: i32 = std::env::var("LISTEN_FDS").map_or(0, |count| count.parse().unwrap());
    for number in 3..3 + sockets {
        #[expect(unsafe_code, reason = "the numbers come from the environment")]
        // SAFETY: the convention hands these descriptors to this process, and each is taken once.
        let listener = unsafe { TcpListener::from_raw_fd(number) };
        println!("address{number}={}", listener.local_addr().unwrap());
    }
}

/// Sends one message to the supervisor.
pub(crate) fn notify(text: &str) {
    let address = std::env::var("NOTIFY_SOCKET").unwrap();
    let address = SocketAddr::from_abstract_name(address.strip_prefix('@').unwrap()).unwrap();
    let socket = UnixDatagram::unbound().unwrap();
    socket.send_to_addr(text.as_bytes(), &address).unwrap();
}

/// The open numbers, without the one that the look itself takes.
fn open_descriptors() -> Vec<i32> {
    let mut numbers: Vec<i32> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .file_name()
                .to_str()
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    numbers.sort_unstable();
    numbers.retain(|number| {
        #[expect(unsafe_code, reason = "asking whether a number is open")]
        // SAFETY: it is only asked for its flags; a number that is closed gives an error.
        let fd = unsafe { BorrowedFd::borrow_raw(*number) };
        rustix::io::fcntl_getfd(fd).is_ok()
    });
    numbers
}

/// Tells who this process is, what it may, and whether it can open its output again.
pub(super) fn identity() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    for line in status.lines() {
        let (name, value) = line.split_once(':').unwrap();
        let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
        println!("{name}={value}");
    }
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .unwrap();
    let numbers: Vec<_> = line.split_whitespace().take(2).collect();
    println!("open-files={}", numbers.join(" "));
    let mut signal: libc::c_int = 0;
    #[expect(unsafe_code, reason = "no safe wrapper")]
    // SAFETY: the signal is valid for writes.
    unsafe {
        libc::prctl(libc::PR_GET_PDEATHSIG, &raw mut signal);
    }
    println!("death-signal={signal}");
    let opened = std::fs::OpenOptions::new().write(true).open("/dev/stdout");
    match opened {
        Ok(_) => println!("stdout=opened"),
        Err(error) => println!("stdout={error}"),
    }
}
