//! The program that the process tests start. Its first argument names what it does.
//!
//! It is a program of its own, so that the tests depend on no shell and on no installed tool. It
//! also plays the supervisor where a test needs a whole process for that: to kill it, to count its
//! descriptors, or to make it the one that orphans are given to.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "it speaks to the tests by its output and dies of whatever it does not expect"
)]

mod describe;
mod supervisor;

use std::io::Write;
use std::os::fd::FromRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, exit};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize| arguments[index].parse::<u32>().unwrap();
    match arguments[0].as_str() {
        "exit" => exit(number(1).cast_signed()),
        "sleep" => sleep(),
        "ignore-term" => {
            ignore(libc::SIGTERM);
            println!("ready");
            sleep();
        }
        "abort-with-core" => {
            let unlimited = libc::rlimit {
                rlim_cur: libc::RLIM_INFINITY,
                rlim_max: libc::RLIM_INFINITY,
            };
            #[expect(unsafe_code, reason = "no safe wrapper")]
            // SAFETY: the limit is valid for reads.
            unsafe {
                libc::setrlimit(libc::RLIMIT_CORE, &raw const unlimited);
            }
            std::process::abort();
        }
        // Starts a process that stays in the group and keeps the output, tells its id, and stays.
        "tree" => {
            println!("{}", grandchild(&["sleep"]));
            sleep();
        }
        // The same, but ends and leaves that process behind.
        "leave" => {
            println!("{}", grandchild(&["sleep"]));
            println!("the last line");
            exit(0);
        }
        // Starts a process in a group of its own, which does the rest of the arguments, and waits for it.
        "in-own-group" => {
            let own = std::env::current_exe().unwrap();
            let mut inner = Command::new(own);
            inner.args(&arguments[1..]).process_group(0);
            let status = inner.status().unwrap();
            exit(status.code().unwrap_or(98));
        }
        "orphan" => {
            grandchild(&["exit", "7"]);
            exit(0);
        }
        "lines" => lines(number(1)),
        "flood" => {
            let line = [&[b'x'; 1023][..], b"\n"].concat();
            for _ in 0..number(1) {
                std::io::stdout().write_all(&line).unwrap();
            }
        }
        "describe" => describe::describe(),
        "identity" => describe::identity(),
        "ready-fd" => {
            #[expect(
                unsafe_code,
                reason = "the number of the descriptor comes from outside"
            )]
            // SAFETY: the test passes a descriptor under this number, and nobody else uses it.
            let mut file = unsafe { std::fs::File::from_raw_fd(number(1).cast_signed()) };
            file.write_all(b"ready\n").unwrap();
            sleep();
        }
        "notify" => {
            describe::notify(&arguments[1]);
            println!("sent");
            sleep();
        }
        "describe-child" => supervisor::describe_child(),
        "supervise" => supervisor::supervise(),
        "no-child-signal" => supervisor::no_child_signal(),
        "reap-orphans" => supervisor::reap_orphans(),
        "many" => supervisor::many(number(1)),
        other => {
            eprintln!("`{other}` is nothing this program does");
            exit(64);
        }
    }
}

/// Waits to be killed. Nobody waits for a helper longer than this.
fn sleep() -> ! {
    std::thread::sleep(std::time::Duration::from_secs(60));
    exit(99);
}

fn ignore(signal: i32) {
    #[expect(unsafe_code, reason = "no safe wrapper")]
    // SAFETY: ignoring a signal runs no code.
    unsafe {
        libc::signal(signal, libc::SIG_IGN);
    }
}

#[expect(clippy::zombie_processes, reason = "it is started to be left behind")]
fn grandchild(arguments: &[&str]) -> u32 {
    let own = std::env::current_exe().unwrap();
    let child = Command::new(own).args(arguments).spawn().unwrap();
    child.id()
}

/// The last line on each stream has no line feed.
fn lines(count: u32) {
    let text = |stream: &str| {
        let lines: Vec<String> = (1..=count).map(|line| format!("{stream} {line}")).collect();
        lines.join("\n")
    };
    std::io::stdout().write_all(text("out").as_bytes()).unwrap();
    std::io::stdout().flush().unwrap();
    std::io::stderr().write_all(text("err").as_bytes()).unwrap();
}
