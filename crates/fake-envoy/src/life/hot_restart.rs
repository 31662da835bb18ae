//! Taking a place among the epochs: domain sockets, shared memory and the flag in it.

use std::io;
use std::os::unix::process::parent_id;
use std::rc::Rc;
use std::time::Duration;

use crate::child::{self, Child};
use crate::context::{Context, Ending};
use crate::faults::{Habit, Step};
use crate::shared_memory::{SharedMemory, SharedMemoryError, system_text};
use crate::sockets::{DomainSocket, Names, Role};

/// How long Envoy waits between tries to reach a parent.
const SECOND: Duration = Duration::from_secs(1);

/// The place of a process among the epochs.
#[derive(Debug)]
pub(super) struct HotRestart {
    pub(super) names: Names,
    /// Where a child asks.
    pub(super) parent_socket: DomainSocket,
    pub(super) memory: SharedMemory,
    /// Bound so that nobody else takes the place; UDP packets are not forwarded.
    _udp: [DomainSocket; 2],
}

/// Takes the place. Nothing with `--disable-hot-restart`.
pub(super) async fn take(context: &Rc<Context>) -> Result<Option<HotRestart>, Ending> {
    let arguments = &context.arguments;
    if arguments.disable_hot_restart {
        return Ok(None);
    }
    let epoch = arguments.restart_epoch;
    let (names, sockets) = bind(context)?;
    let [child_socket, udp_child, parent_socket, udp_parent] = sockets;
    context.step(Step::Bound).await;
    let second = context.scaled(SECOND);
    let mut child = Child::new(names.clone(), epoch, child_socket, second);
    if arguments.skip_hot_restart_on_no_parent {
        child.skip_missing_parent(&context.log);
    }
    context.child.replace(Some(child));
    let version = arguments.settings.hot_restart_version;
    let memory = SharedMemory::attach(names.tenfold(), epoch, version);
    let memory = memory.map_err(|error| without_memory(context, &error))?;
    if !context.habits().has(&Habit::OutliveSupervisor) {
        die_with_supervisor(parent_id());
    }
    let text = format!(
        "initializing epoch {epoch} (base id={}, hot restart version={version})",
        names.base_id
    );
    context.info("server.cc:463", &text);
    Ok(Some(HotRestart {
        names,
        parent_socket,
        memory,
        _udp: [udp_child, udp_parent],
    }))
}

fn bind(context: &Context) -> Result<(Names, [DomainSocket; 4]), Ending> {
    let arguments = &context.arguments;
    let epoch = arguments.restart_epoch;
    let mut names = Names {
        path: arguments.socket_path.clone(),
        mode: arguments.socket_mode,
        base_id: arguments.base_id,
    };
    let all = |names: &Names| -> io::Result<[DomainSocket; 4]> {
        let one = |role| DomainSocket::bind(names, role, epoch);
        Ok([
            one(Role::Child)?,
            one(Role::UdpChild)?,
            one(Role::Parent)?,
            one(Role::UdpParent)?,
        ])
    };
    let mut tries = if arguments.use_dynamic_base_id { 5 } else { 1 };
    loop {
        if arguments.use_dynamic_base_id {
            names.base_id = random_base_id();
        }
        tries -= 1;
        let error = match all(&names) {
            Ok(sockets) => {
                write_base_id(context, &names)?;
                return Ok((names, sockets));
            }
            Err(error) => error,
        };
        if tries == 0 {
            let text = if error.kind() == io::ErrorKind::AddrInUse {
                format!(
                    "unable to bind domain socket with base_id={}, id={epoch}, errno={} (see --base-id option)\n",
                    names.tenfold(),
                    error.raw_os_error().unwrap_or_default(),
                )
            } else {
                format!("unable to bind domain socket {}: {error}\n", names.path)
            };
            return Err(Ending::failed(text));
        }
    }
}

fn write_base_id(context: &Context, names: &Names) -> Result<(), Ending> {
    let arguments = &context.arguments;
    let Some(path) = arguments.base_id_path.as_ref() else {
        return Ok(());
    };
    std::fs::write(path, names.base_id.to_string()).map_err(|error| {
        let text = format!(
            "cannot open base id output file {} for writing.",
            path.display()
        );
        context.log.line(
            crate::log::Level::Critical,
            "main",
            "main_common.cc:1",
            &text,
        );
        Ending::failed(format!("{text}: {error}\n"))
    })
}

/// Draws a base id of the range that Envoy draws from.
fn random_base_id() -> u32 {
    use std::hash::{BuildHasher as _, Hasher as _};
    let random = std::hash::RandomState::new().build_hasher().finish();
    u32::try_from(random % 0x0fff_ffff).unwrap_or(1)
}

/// Ends as Envoy does: most reasons are failed assertions, and one is an error.
fn without_memory(context: &Context, error: &SharedMemoryError) -> Ending {
    let mismatch =
        "You must have hot restarted into a not-hot-restart-compatible new version of Envoy.";
    match error {
        SharedMemoryError::StillInitializing => {
            Ending::failed("previous envoy process is still initializing\n")
        }
        SharedMemoryError::Open { path, cause } => {
            let text = format!(
                "panic: cannot open shared memory region {path} check user permissions. Error: {cause}"
            );
            let level = crate::log::Level::Critical;
            context
                .log
                .line(level, "assert", "hot_restart_impl.cc:44", &text);
            child::abort_quietly(&context.log)
        }
        SharedMemoryError::Size => child::abort(
            &context.log,
            "hot_restart_impl.cc:67",
            &format!(
                "shmem->size_ == sizeof(SharedMemory). Details: Hot restart SharedMemory size mismatch! {mismatch}"
            ),
        ),
        SharedMemoryError::Version => child::abort(
            &context.log,
            "hot_restart_impl.cc:70",
            &format!(
                "shmem->version_ == HOT_RESTART_VERSION. Details: Hot restart version mismatch! {mismatch}"
            ),
        ),
    }
}

/// Asks the kernel for a SIGTERM when the supervisor ends.
fn die_with_supervisor(supervisor: u32) {
    let signal = Some(rustix::process::Signal::TERM);
    if let Err(error) = rustix::process::set_parent_process_death_signal(signal) {
        let error = system_text(&error.into());
        crate::log::Log::raw(&format!("cannot ask to die with the supervisor: {error}\n"));
    }
    // It may have ended before it was asked for.
    if parent_id() != supervisor {
        let _the_signal_comes =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM);
    }
}
