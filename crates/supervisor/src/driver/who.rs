//! Looking who is connected to each epoch, and closing what was asked for.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use handover_core::{EpochState, Phase, Purpose};
use handover_netutil::connections::{Closing, Connection, close, look, still_held};
use handover_process::family;
use handover_runtime::offload::offload;
use handover_runtime::time_limit::timeout;
use handover_tokio::{Status, error_chain};
use tokio::sync::{Mutex, OwnedMutexGuard, watch};
use tokio::time::sleep;

use super::status::state_of;
use crate::control::Answer;
use crate::control::wire::{Code, EndedConnections, Refusal, Reply, WhoRequest};
use crate::who::{Clients, FirstSeen, LookedAt, report, select, sort_out};
use crate::{EpochListeners, Operate};

/// How long an answer may take. A busy host with a hundred thousand connections needs some seconds.
const LIMIT: Duration = Duration::from_secs(30);
/// How long connections are closed for.
const CLOSING: Duration = Duration::from_secs(10);
/// How many times it is looked whether a process has let go of what was shut down. The pauses double.
const LOOKS: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// When each connection was seen first. One look at a time has it, since each takes memory and a thread.
pub(super) type SharedFirstSeen = Arc<Mutex<FirstSeen>>;

/// An epoch before it is looked at.
#[derive(Clone)]
struct Running {
    epoch: u32,
    state: EpochState,
    serves: bool,
    age: Duration,
    known: Option<EpochListeners>,
}

/// Looks, closes what was asked for, and looks again.
pub(super) async fn answer<P: Operate>(
    proxy: &P,
    status: watch::Receiver<Status>,
    first_seen: SharedFirstSeen,
    request: WhoRequest,
) -> Answer {
    let work = async {
        let listeners = proxy.listeners().await.ok_or_else(|| {
            let message = "the connections of this proxy cannot be seen";
            Refusal::new(Code::NotSupported, message)
        })?;
        let running = running(&status.borrow(), &listeners);
        let mut known = first_seen.lock_owned().await;
        let mut clients;
        (clients, known) = look_at(running.clone(), known).await?;
        if let Some(named) = request.epoch
            && !clients.iter().any(|epoch| epoch.epoch() == named)
        {
            let message = format!("epoch {named} does not run");
            return Err(Refusal::new(Code::BadRequest, message));
        }
        let mut ended = None;
        if let Some(peers) = request.end {
            let selected = select(&clients, peers, request.epoch);
            let meant = u64::try_from(selected.connections.len()).unwrap_or(u64::MAX);
            let mut so_far = EndedConnections {
                meant,
                meant_on_serving: selected.on_serving,
                left_on_serving: selected.left_on_serving,
                ..EndedConnections::default()
            };
            end(selected.connections, &mut so_far).await?;
            tracing::warn!(
                "closed {} of {meant} connections of {peers}, as asked",
                so_far.closed
            );
            ended = Some(so_far);
            (clients, known) = look_at(running, known).await?;
        }
        drop(known);
        let reported = offload(move || report(clients, request, ended)).await;
        Ok(Reply::Who(Box::new(
            reported.map_err(|error| failed(&error))?,
        )))
    };
    timeout(LIMIT, work).await.unwrap_or_else(|_| {
        let limit = humantime::format_duration(LIMIT);
        let message = format!("the connections were not read and closed within {limit}");
        Err(Refusal::new(Code::TimedOut, message))
    })
}

fn running(status: &Status, listeners: &[EpochListeners]) -> Vec<Running> {
    let goes_on = status.phase == Phase::Running;
    let elapsed = status.started.elapsed();
    let epochs = status.epochs.iter();
    // The one that stands for a drain has no process.
    let epochs = epochs.filter(|info| info.purpose != Purpose::Drain);
    let epochs = epochs.map(|info| Running {
        epoch: info.epoch.number(),
        state: info.state,
        serves: goes_on && matches!(info.state, EpochState::Live | EpochState::Starting),
        age: elapsed.saturating_sub(info.started.elapsed()),
        known: listeners.iter().find(|it| it.epoch == info.epoch).cloned(),
    });
    epochs.collect()
}

/// Looks at every epoch at once, off the loop.
async fn look_at(
    running: Vec<Running>,
    mut first_seen: OwnedMutexGuard<FirstSeen>,
) -> Result<(Vec<Clients>, OwnedMutexGuard<FirstSeen>), Refusal> {
    let work = move || {
        let families = running.iter().map(|epoch| match &epoch.known {
            Some(known) => family(known.pid).map_err(|error| error_chain(&error)),
            None => Ok(BTreeSet::new()),
        });
        let families: Vec<Result<BTreeSet<u32>, String>> = families.collect();
        // One without a family may have ended.
        let groups: Vec<_> = families
            .iter()
            .zip(&running)
            .map(|(family, epoch)| {
                let alone = || epoch.known.iter().map(|known| known.pid).collect();
                family.clone().unwrap_or_else(|_| alone())
            })
            .collect();
        let looked = look(&groups).into_iter().zip(families);
        let looked = running.into_iter().zip(looked);
        let looked = looked.map(|(epoch, (looked, family))| LookedAt {
            epoch: epoch.epoch,
            state: state_of(epoch.state),
            serves: epoch.serves,
            age: epoch.age,
            known: epoch.known,
            looked,
            unknown_family: family.err(),
        });
        let clients = sort_out(looked.collect(), &mut first_seen, Instant::now());
        (clients, first_seen)
    };
    offload(work).await.map_err(|error| failed(&error))
}

/// Closes connections, and waits a moment for the processes to let go of them.
async fn end(connections: Vec<Connection>, ended: &mut EndedConnections) -> Result<(), Refusal> {
    let until = Instant::now() + CLOSING;
    let closing = offload(move || close(connections, until)).await;
    let Closing {
        destroyed,
        shut_down,
        gone,
        refused,
        late,
        error,
    } = closing.map_err(|error| failed(&error))?;
    let count = u64::try_from(shut_down.len()).unwrap_or(u64::MAX);
    ended.closed = destroyed.saturating_add(count);
    (ended.gone, ended.refused, ended.late) = (gone, refused, late);
    ended.problem = error.map(|error| error.to_string());
    let shut_down = Arc::new(shut_down);
    let mut pause = FIRST_PAUSE;
    for _ in 0..LOOKS {
        let held = Arc::clone(&shut_down);
        let held = offload(move || still_held(&held)).await;
        ended.still_held = held.map_err(|error| failed(&error))?;
        if ended.still_held == 0 {
            break;
        }
        sleep(pause).await;
        pause *= 2;
    }
    Ok(())
}

fn failed(error: &(dyn std::error::Error + 'static)) -> Refusal {
    Refusal::new(Code::Failed, error_chain(error))
}
