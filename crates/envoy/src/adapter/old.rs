//! An epoch that a newer one has replaced, until its end.
//!
//! It ends by itself at its parent-shutdown time, when its child tells it to. Until then it must go
//! on running: its child asks it for statistics every five seconds and waits for the answer with its
//! whole main thread, so a parent that is stopped stops its child's admin endpoint as well, and with
//! it every further hand-over. One that was replaced side by side has no child: it ends as soon as its last
//! connection has, or at its parent-shutdown time, when it is told to here.

use std::time::Duration;

use handover_core::{Epoch, LOOK_AROUND};
use handover_process::{Child, Signal};
use handover_runtime::time_limit::was_missed;
use handover_tokio::RunControl;
use tokio::time::{Instant, sleep_until};

use super::Envoy;
use super::epochs::Launched;
use super::lines::Line;
use super::serve::PutDown;
use super::side_by_side::KeptListening;
use crate::proc_net::is_stopped;

/// How often it is looked at. Its end is waited for by people, and the kernel tells neither when its
/// last connection ends nor when it is stopped.
const LOOK: Duration = Duration::from_millis(200);

/// Looking takes longer on a host with many connections: the pause is at least so many times as long,
/// so that looking takes a third of the time at most, but no longer than a change may wait for it.
const PAUSE: u32 = 2;
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long it may be stopped. Its child feels it after five seconds.
const STOPPED: Duration = Duration::from_secs(4);

/// How long it may run beyond its time.
const OVERSTAY: Duration = Duration::from_secs(5);

impl Envoy {
    /// Lets the epoch give way to one of another line, reports it released once its last connection is
    /// gone, continues it where somebody has stopped it, and returns when it must be killed.
    pub(super) async fn follow_to_the_end(
        &self,
        epoch: Epoch,
        Launched { child, line, .. }: &Launched,
        control: &RunControl,
    ) -> PutDown {
        let mut released = false;
        let mut told = false;
        let mut stopped: Option<Instant> = None;
        // After a time in which this process was stopped, the clock proves nothing: what has become
        // of the epoch is seen first.
        let mut judged_from = Instant::now();
        let mut looked_for_long = false;
        loop {
            // The newer one may have died meanwhile, and another one come: then it is their turn later.
            if self.epochs.must_give_way(epoch)
                && let Err(KeptListening) = self.give_way(epoch, line, child).await
            {
                return PutDown::KeptListening;
            }
            let looking = Instant::now();
            let exclude = &self.settings.stop.exclude;
            let listens = self.epochs.listens(epoch);
            if !released && !listens && self.epochs.connections(epoch, exclude).await == Some(0) {
                released = true;
                self.epochs.set_drained(epoch);
                control.released();
            }
            let took = looking.elapsed();
            // It may have been stopped in the middle of a look. Where every look takes so long, the
            // host is slow, and the second one counts.
            if took > LOOK_AROUND && !looked_for_long {
                judged_from = Instant::now() + LOOK_AROUND;
            }
            looked_for_long = took > LOOK_AROUND;
            stopped = is_stopped(child.pid()).then(|| stopped.unwrap_or_else(Instant::now));
            if stopped.is_some_and(|since| since.max(judged_from).elapsed() >= STOPPED) {
                wake(epoch, child);
            }
            let may_judge = judged_from.elapsed() > Duration::ZERO;
            let served = self.epochs.longest_live_after(epoch);
            let time = self.args.parent_shutdown_time();
            let over = released || served.is_some_and(|served| served >= time);
            if may_judge && over && !told && !listens && self.epochs.is_left_behind(epoch) {
                told = true;
                if let Err(error) = child.signal(Signal::TERM) {
                    tracing::debug!(epoch = epoch.number(), "{error}");
                }
            }
            let time = time.saturating_add(OVERSTAY);
            if may_judge && served.is_some_and(|served| served >= time) {
                tracing::warn!(
                    epoch = epoch.number(),
                    "epoch {epoch} has not ended at its parent-shutdown time and is killed"
                );
                return PutDown::Overstayed;
            }
            let next = Instant::now() + (took * PAUSE).clamp(LOOK, LONGEST_PAUSE);
            sleep_until(next).await;
            if was_missed(next) {
                judged_from = Instant::now() + LOOK_AROUND;
            }
        }
    }

    /// Continues those of the line's epochs older than this one that are stopped; false if there is none.
    pub(super) fn wake_older(&self, line: &Line, epoch: Epoch) -> bool {
        let mut any = false;
        for (older, child) in self.epochs.older_than(line, epoch) {
            if is_stopped(child.pid()) {
                any |= wake(older, &child);
            }
        }
        any
    }
}

/// Continues the epoch where it is stopped.
pub(super) fn wake_if_stopped(epoch: Epoch, child: &Child) {
    if is_stopped(child.pid()) {
        wake(epoch, child);
    }
}

/// Continues a stopped epoch, and says whether the signal was sent.
fn wake(epoch: Epoch, child: &Child) -> bool {
    tracing::warn!(
        epoch = epoch.number(),
        "epoch {epoch} is stopped; continuing it, because the newer one waits for it"
    );
    child.signal(Signal::CONT).is_ok()
}
