//! What a process does while it lives: hear its child, ask its parent, and end it in time.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::UnixDatagram;

use super::hot_restart::HotRestart;
use super::process::{Process, apply_habits};
use crate::child;
use crate::faults::{Habit, Step};
use crate::log::Level;
use crate::parent::{Duty, duty};
use crate::sockets::{DomainSocket, Role};
use crate::statistics::Import;
use crate::wire::{
    AdminShutDown, DATAGRAM, Frames, HotRestartMessage, PassedSocket, ReplyKind, Stats, reply,
};

/// How often statistics are merged.
const MERGE: Duration = Duration::from_secs(5);
/// How often a leak grows.
const LEAK: Duration = Duration::from_millis(100);

/// Starts to obey the child.
pub(super) fn hear_child(process: &Rc<Process>, hot_restart: &Rc<HotRestart>) -> io::Result<()> {
    hot_restart.parent_socket.set_nonblocking()?;
    let socket = rustix::io::dup(&hot_restart.parent_socket)?;
    let socket = UnixDatagram::from_std(socket.into())?;
    let (process, hot_restart) = (Rc::clone(process), Rc::clone(hot_restart));
    tokio::task::spawn_local(async move {
        let mut frames = Frames::default();
        let mut datagram = [0; DATAGRAM];
        while let Ok(length) = socket.recv(&mut datagram).await {
            let part = datagram.get(..length).unwrap_or_default();
            if let Some(message) = frames.take(part) {
                obey(&process, &hot_restart, &message).await;
            }
        }
    });
    Ok(())
}

async fn obey(process: &Rc<Process>, hot_restart: &HotRestart, message: &HotRestartMessage) {
    let context = &process.context;
    let answer = |message: &HotRestartMessage| send(process, hot_restart, message, None);
    match duty(message, &context.habits()) {
        Duty::Nothing => {}
        Duty::NotRecognized => answer(&HotRestartMessage {
            not_recognized: true,
            ..HotRestartMessage::default()
        }),
        Duty::PassNoSocket => pass(process, hot_restart, "", 0),
        Duty::PassSocket { address, worker } => pass(process, hot_restart, &address, worker),
        Duty::ShutDownAdmin => {
            context.warn("server.cc:1174", "shutting down admin due to child startup");
            let admin = process.admin.take();
            if let Some(admin) = admin {
                // The child binds the address as soon as it has the answer.
                admin.stop().await;
            }
            context.warn("server.cc:1182", "terminating parent process");
            context.with_child(child::Child::terminate);
            process.service.statistics.forget_parent();
            answer(&reply(ReplyKind::ShutdownAdmin(AdminShutDown {
                original_start_time: process.original_start.get(),
                enable_reuse_port_default: true,
            })));
        }
        Duty::TellStatistics => {
            let connections = process.service.connections.get();
            let stats = process.service.statistics.for_child(0, connections);
            answer(&reply(ReplyKind::Stats(stats)));
        }
        Duty::Drain => {
            context.info("server.cc:159", "closing and draining listeners");
            context.step(Step::Drain).await;
            process.stop_listeners(false);
            process.service.drain.begin();
        }
        Duty::End => {
            let text = "shutting down due to child request";
            context.info("hot_restarting_parent.cc:135", text);
            context.warn("server.cc:1028", "caught ENVOY_SIGTERM");
            context.terminate().await;
        }
    }
}

fn pass(process: &Process, hot_restart: &HotRestart, address: &str, worker: u32) {
    let bound = process.bound.borrow();
    let fd = bound.iter().find_map(|bound| bound.passed(address, worker));
    let number = fd.map_or(-1, |fd| std::os::fd::AsRawFd::as_raw_fd(&fd));
    let passed = reply(ReplyKind::PassListenSocket(PassedSocket { fd: number }));
    send(process, hot_restart, &passed, fd);
}

fn send(
    process: &Process,
    hot_restart: &HotRestart,
    message: &HotRestartMessage,
    fd: Option<std::os::fd::BorrowedFd<'_>>,
) {
    let epoch = process.context.arguments.restart_epoch.wrapping_add(1);
    let to = (&hot_restart.names, Role::Child, epoch);
    let socket: &DomainSocket = &hot_restart.parent_socket;
    if socket.send(to, message, fd).is_err() {
        let text = "hot restart sendmsg() to the child failed";
        process
            .context
            .log
            .line(Level::Error, "main", "hot_restarting_base.cc:136", text);
    }
}

/// Merges the statistics of the parent.
pub(super) fn merge(process: &Process) {
    let context = &process.context;
    if context.arguments.skip_hot_restart_parent_stats {
        return;
    }
    take_in(process, context.with_child(child::Child::stats).as_ref());
}

/// Takes the statistics of the parent in.
pub(super) fn take_in(process: &Process, stats: Option<&Stats>) {
    if let Some(stats) = stats {
        let statistics = &process.service.statistics;
        statistics.merge(stats);
        let parents = statistics.gauge("server.parent_connections", Import::Never);
        parents.set(stats.connections);
    }
}

/// Starts what comes by the clock: merging, ending the parent, and a leak.
pub(super) fn keep_books(process: &Rc<Process>) {
    let context = Rc::clone(&process.context);
    let merging = Rc::clone(process);
    tokio::task::spawn_local(async move {
        loop {
            tokio::time::sleep(merging.context.scaled(MERGE)).await;
            merge(&merging);
            apply_habits(&merging);
        }
    });
    let ending = Rc::clone(process);
    tokio::task::spawn_local(async move {
        tokio::time::sleep(context.scaled_flag(context.arguments.parent_shutdown_time)).await;
        context.info(
            "drain_manager_impl.cc:226",
            "shutting down parent after drain",
        );
        context.with_child(child::Child::terminate);
        let statistics = &ending.service.statistics;
        statistics.forget_parent();
        statistics
            .gauge("server.parent_connections", Import::Never)
            .set(0);
    });
    let leaking = Rc::clone(process);
    tokio::task::spawn_local(async move {
        let mut leaked = Vec::new();
        loop {
            tokio::time::sleep(LEAK).await;
            let bytes = leaking.context.habits().value(|habit| {
                if let Habit::Leak(bytes) = habit {
                    Some(*bytes)
                } else {
                    None
                }
            });
            let bytes = usize::try_from(bytes.unwrap_or(0) / 10).unwrap_or(0);
            // Ones, because zeros would take no memory before they are touched.
            leaked.extend(std::iter::repeat_n(1_u8, bytes));
            std::hint::black_box(&leaked);
        }
    });
}
