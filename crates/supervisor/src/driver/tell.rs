//! What the log says of it.

use std::path::{Path, PathBuf};

use handover_core::{Epoch, Urgency};
use tracing::{debug, error, info, warn};

use crate::change_loop::SOON;
use crate::control::{Ask, PendingAsk};
use crate::operator::{Again, Call, EndedBy, Event, JobDone, Reception, Report};

pub(super) fn asked(asked: &PendingAsk) {
    let (ask, pid) = (asked.ask, asked.pid.unwrap_or_default());
    let changes_nothing = match ask {
        Ask::Status | Ask::Wait(_) => true,
        Ask::Who(request) => request.end.is_none(),
        Ask::Reload(_) | Ask::Apply(_) | Ask::Drain(_) | Ask::Undrain | Ask::Stop(_) => false,
    };
    if changes_nothing {
        debug!(pid, "process {pid} asks at the control socket: {ask}");
    } else {
        info!(pid, "process {pid} asks at the control socket: {ask}");
    }
}

pub(super) fn reception(reception: Reception) {
    if let Reception::Ignored(why) = reception {
        debug!("ignored an input: {why}");
    }
}

pub(super) fn changed(paths: &[PathBuf]) {
    match paths {
        [] => {}
        [path] => info!("{} has changed", path.display()),
        [path, others @ ..] => {
            info!("{} and {} more have changed", path.display(), others.len());
        }
    }
}

/// `paths` are those of the newest change.
pub(super) fn changed_after_each_start(paths: &[PathBuf], starts: u32) {
    let what = paths
        .first()
        .map_or(Path::new("a watched file"), PathBuf::as_path);
    warn!(
        "each of the last {starts} epochs was followed by a change within {SOON:?}, now of {}: if what is started writes \
         there itself, watch something else; --min-interval keeps starts apart",
        what.display()
    );
}

pub(super) fn released(epoch: Epoch) {
    warn!(
        epoch = epoch.number(),
        "epoch {epoch} is released on request: the next start does not wait for it"
    );
}

pub(super) fn not_kept(why: &Report) {
    warn!("the configuration that a client has given is live, and cannot be kept: {why}");
}

pub(super) fn hooks_are_dropped() {
    warn!("the hooks that are left at the end were not done in time, and are dropped");
}

/// `name` is what is supervised.
pub(super) fn event(event: &Event, name: &str) {
    match event {
        Event::Ending { urgency, by } => ending(*urgency, *by),
        Event::NextIsDue(signal) => info!("received {signal}: the next epoch is due"),
        Event::NotRead(failure) => warn!("the running configuration serves on: {}", failure.report),
        Event::NotTakenIn(_) => info!("a change was refused: everything is ending"),
        Event::Unchanged(_) => debug!("the configuration is the desired one already"),
        Event::Short(what) => warn!("the system is short of {what}; {name} is tried again later"),
        Event::TriesAgain(Again::Read) => debug!("reading {name} again"),
        Event::TriesAgain(Again::Start) => info!("trying {name} again"),
        Event::Called {
            what: Call::Drain,
            refusal: None,
        } => info!("draining on request: health checks fail until `handover undrain`"),
        Event::Called {
            what: Call::Undrain,
            refusal: None,
        } => info!("the drain is taken back: health checks succeed"),
        Event::Called {
            what: Call::Drain,
            refusal: Some(refusal),
        } => warn!("the drain failed: {refusal}"),
        Event::Called {
            what: Call::Undrain,
            refusal: Some(refusal),
        } => warn!("taking the drain back failed: {refusal}"),
        Event::ProbeUnknown { probe, why } => {
            warn!("{probe} could not be tried, so it proves nothing: {why}");
        }
        Event::AwaitsFiles(missing) => warn!("nothing is started yet: {}", missing.join("; ")),
        Event::FilesAreThere => info!("the awaited files are there: reading {name}"),
        Event::AwaitsConfiguration => {
            warn!(
                "nothing is started yet: a configuration is awaited; give one with `handover apply`"
            );
        }
        Event::HookFailed { moment, why } => warn!("the hook {moment} has failed: {why}"),
        Event::DrainTooLate => info!("a drain has no effect any more: everything is ending"),
    }
}

fn ending(urgency: Urgency, by: EndedBy) {
    let how = match urgency {
        Urgency::Drain => "draining",
        Urgency::Stop => "stopping without a drain",
        Urgency::Kill => "killing",
    };
    match by {
        EndedBy::Signal(signal) => info!("received {signal}: {how}"),
        EndedBy::Ask(_) => info!("{how}, as asked"),
        EndedBy::FirstRead => debug!("{how}, as there is nothing to run"),
        EndedBy::Job(JobDone::ProcessEnded(pid)) => {
            info!(pid, "the job is done, as process {pid} has ended: {how}");
        }
        EndedBy::Job(JobDone::FileAppeared) => {
            info!("the job is done, as its file has appeared: {how}");
        }
        EndedBy::FilesLimit => debug!("{how}, as the awaited files are not there"),
        EndedBy::Panic => error!("{how}, because of a bug"),
    }
}
