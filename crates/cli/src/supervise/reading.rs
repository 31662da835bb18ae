//! From a change or a wish to what is wanted: the files are looked at, read, and what they ask for is
//! passed on.
//!
//! ```text
//!  a change ────────────────────────┐
//!  HUP ─────────────────────────────┤
//!  reload ──▶ the files are looked at ──▶ the configuration is read ──▶ the agent
//! ```
//!
//! Reading may wait for the network, so it goes on beside the loop; the newest wish takes the place
//! of the reading before it, and whoever waited for that one waits for the newest.

use std::mem::take;
use std::path::PathBuf;

use handover_runtime::Shortage;
use handover_tokio::{Applied, Handle};
use tracing::{debug, info, warn};

use super::Desk;
use super::again::What;
use super::asked::{answer, spawn};
use super::reload::Going;
use crate::control::Asked;
use crate::control::wire::{Code, Refusal, ReloadRequest};
use crate::operate::Operate;
use crate::source::{Reading, Source};

/// What was asked for last.
pub(super) struct Wanted<C> {
    pub(super) config: C,
    /// A digest of what the proxy read beside it.
    inputs: u64,
    /// Whether it stands in for what the files ask for, which cannot be used.
    pub(super) stands_in: bool,
    /// Why the files ask for nothing that can be run, as they are.
    pub(super) problem: Option<String>,
}

impl<C> Wanted<C> {
    pub(super) fn new(config: C, inputs: u64, stands_in: bool) -> Self {
        Self {
            config,
            inputs,
            stands_in,
            problem: None,
        }
    }
}

/// Those who have asked for a reload and were not answered.
#[derive(Debug, Default)]
pub(super) struct Reloads {
    /// They wait until the files were looked at.
    before_the_look: Vec<(Asked, ReloadRequest)>,
    /// They wait for what is being read.
    reading: Vec<(Asked, ReloadRequest)>,
    /// Whether a signal asks for the next epoch, once the files were looked at.
    next_is_due: bool,
}

impl Reloads {
    /// The next epoch is due once the files were looked at, whether they have changed or not.
    pub(super) fn next_is_due(&mut self) {
        self.next_is_due = true;
    }
}

impl<P, S> Desk<P, S>
where
    P: Operate,
    S: Source<Config = P::Config>,
{
    /// A reload is asked for. What the files hold at this moment counts, told or not.
    pub(super) fn reload(&mut self, asked: Asked, request: ReloadRequest) {
        if let (true, Some(why)) = (request.cold, P::NO_COLD_RESTART) {
            return answer(asked, Err(Refusal::new(Code::NotSupported, why)));
        }
        self.reloads.before_the_look.push((asked, request));
        self.files.look_soon();
    }

    /// The files were looked at, and these hold something else.
    pub(super) fn looked(&mut self, changed: &[PathBuf]) {
        let reloads = take(&mut self.reloads.before_the_look);
        let next_is_due = take(&mut self.reloads.next_is_due);
        if !changed.is_empty() {
            info!("{}", sentence(changed));
            self.files.tell_bad_entries(Some(changed));
        } else if reloads.is_empty() && !next_is_due {
            return;
        }
        let asks = |(_, request): &(Asked, ReloadRequest)| !request.if_changed;
        self.renewal_is_due |= next_is_due || reloads.iter().any(asks);
        self.reloads.reading.extend(reloads);
        self.begin_to_read();
    }

    /// Begins to read what the files hold, in place of what is being read.
    pub(super) fn begin_to_read(&mut self) {
        self.again.cancel();
        match self.files.problem() {
            None => {
                self.reading_inputs = self.source.inputs(&self.files);
                self.reading = Some(self.source.read(&self.files));
            }
            Some(problem) => {
                self.reading = None;
                self.not_read(&anyhow::anyhow!(problem));
            }
        }
    }

    /// The files ask for nothing that can be run.
    pub(super) fn not_read(&mut self, problem: &anyhow::Error) {
        let message = format!("keeps serving what it has: {problem:#}");
        warn!("{message}");
        if Shortage::of(problem.as_ref()).is_some() {
            self.again.plan(What::Read);
        }
        if let Some(wanted) = &mut self.wanted {
            wanted.problem = Some(format!("{problem:#}"));
        }
        for (asked, _) in take(&mut self.reloads.reading) {
            answer(asked, Err(Refusal::new(Code::Rejected, message.clone())));
        }
    }

    /// The files ask for this.
    pub(super) async fn read(&mut self, config: P::Config) {
        let inputs = self.reading_inputs;
        let before = self
            .wanted
            .replace(Wanted::new(config.clone(), inputs, false));
        let other_inputs = before
            .as_ref()
            .is_none_or(|before| before.stands_in || before.inputs != inputs);
        let changed = other_inputs || before.is_none_or(|before| before.config != config);
        let renew = take(&mut self.renewal_is_due) || other_inputs;
        let mut reloads = take(&mut self.reloads.reading);
        if reloads.is_empty() {
            return apply(&self.handle, config, renew).await;
        }
        // One that ends everything comes first: the others then wait for what it starts.
        reloads.sort_by_key(|(_, request)| !request.cold);
        for (index, (asked, request)) in reloads.into_iter().enumerate() {
            let taken_in = if request.cold && index == 0 {
                self.handle.restart_and_follow(config.clone()).await
            } else if renew && index == 0 {
                self.handle.renew_and_follow(config.clone()).await
            } else {
                self.handle.apply_and_follow(config.clone()).await
            };
            match taken_in {
                Ok(taken_in) => {
                    let proxy = &self.proxy;
                    let going = Going::new(proxy, &self.handle, taken_in, request, changed);
                    spawn(asked, going.answer());
                }
                Err(error) => answer(asked, Err(Refusal::new(Code::Ending, error.to_string()))),
            }
        }
    }
}

/// Waits for what is being read, if anything is.
///
/// # Cancel safety
///
/// The reading goes on with the next call.
pub(super) async fn end_of<C>(reading: &mut Option<Reading<C>>) -> anyhow::Result<C> {
    match reading {
        None => std::future::pending().await,
        Some(read) => {
            let result = read.await;
            *reading = None;
            result
        }
    }
}

/// Asks for the configuration; with `renew` for the next epoch, even if the configuration is equal.
pub(super) async fn apply<C>(handle: &Handle<C>, config: C, renew: bool) {
    let applied = if renew {
        handle.renew(config).await
    } else {
        handle.apply(config).await
    };
    match applied {
        Ok(Applied::Unchanged) => debug!("the configuration is what is wanted already"),
        Ok(_) => {}
        Err(error) => info!("a change is not taken in: {error}"),
    }
}

/// `a.yaml and 2 more have changed`.
fn sentence(paths: &[PathBuf]) -> String {
    match paths {
        [] => "the watched files have changed".to_owned(),
        [path] => format!("{} has changed", path.display()),
        [path, others @ ..] => format!("{} and {} more have changed", path.display(), others.len()),
    }
}
