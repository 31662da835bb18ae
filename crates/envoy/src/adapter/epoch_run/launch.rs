//! Starting an epoch: what is checked before, and how it follows on the one that runs.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use handover_core::Epoch;
use handover_process::{Command, Signal};
use handover_runtime::offload::offload;
use handover_tokio::{RunControl, error_chain};
use tokio::time::Instant;

use super::super::epochs::preparation::{Origin, Preparation, Step, Text};
use super::super::epochs::succession::{OtherVersion, Succession, needs_version, succession};
use super::super::examination::{looking_before_start, starting_alone};
use super::super::lineage::{Lineage, Tenancy};
use super::super::observed::Observed;
#[cfg(feature = "template")]
use super::super::rendered::for_epoch;
use super::super::running::{EnvoyProcess, FileId, Launch, off_the_runtime};
use super::super::statistics::last_look;
use super::super::{Envoy, EnvoyConfig, EnvoyFailed};
use super::gate::Gate;
use super::initializing_flag;
use super::side_by_side::begin_beside;
use crate::bootstrap::wait_for_first_resources;
use crate::rejection_reason::{Listening, RejectionReason};
use crate::statistics::Flush;
use crate::validate::{overlay_arguments, validate_with};
use crate::version::{BinaryError, check_binary, hot_restart_version_as};

/// Validates the configuration where an older epoch would suffer from a bad one, and starts Envoy with
/// it, as it is for this epoch.
pub(super) async fn launch(
    envoy: &Envoy,
    config: Arc<EnvoyConfig>,
    epoch: Epoch,
    control: &RunControl,
) -> Result<(EnvoyProcess, Tenancy, Option<Gate>), EnvoyFailed> {
    let asked = config;
    let config = for_epoch(Arc::clone(&asked), epoch).await?;
    let settings = &envoy.settings;
    let binary = checked(&settings.binary).await?;
    if let Some(limits) = config.admin_limits() {
        tracing::warn!(epoch = epoch.number(), "{config}: {limits}");
    }
    let starting = Starting {
        envoy,
        config: &config,
        asked: &asked,
        epoch,
        binary,
        flush: match settings.statistics {
            true => config.flush(),
            false => Flush::InIntervals,
        },
    };
    let flush = starting.flush;
    let (tenancy, gate) = match envoy.running.newest() {
        None => {
            starting_alone(envoy);
            starting
                .prepare(Preparation::alone(starting.origin()), None)
                .await?;
            envoy.lineages.until_home_is_free().await;
            (begin(envoy, epoch).await?, None)
        }
        Some(older) => {
            // It is registered, so its lineage goes on; and with this beyond its end.
            let tenancy = older.lineage.enter();
            let following = starting.follow_on(&older, tenancy);
            looking_before_start(envoy, starting.may_be_held(), following).await?
        }
    };
    let file = envoy.files.file(epoch, config.format());
    let lineage = Lineage::clone(&tenancy);
    let running = &envoy.running;
    envoy.stand_ins.vacate(running, &lineage, epoch).await;
    let mut arguments = envoy
        .args
        .serve(&file, lineage.restart_epoch(epoch), lineage.base_id());
    arguments.extend(overlay_arguments(
        starting.overlay(gate.as_ref()).as_deref(),
    ));
    let heard = RejectionReason::default();
    let command = Command::new(&settings.binary)
        .args(arguments)
        .epoch(epoch.number())
        .label("envoy")
        // Envoy asks for the same by itself; this covers the moments before it does.
        .death_signal(Signal::TERM)
        .run_as(settings.run_as.clone())
        .shared_output(Arc::new(Listening {
            heard: heard.clone(),
            sink: Arc::clone(&settings.output),
        }));
    // The endpoint of the older one goes to the new one as it starts.
    if let Some(older) = envoy.running.newest() {
        last_look(envoy, &older).await;
    }
    let child = command.spawn().await?;
    let launch = Launch {
        epoch,
        control: control.clone(),
        config,
        asked,
        binary,
        lineage,
        file,
        is_gated: gate.is_some(),
        flush,
        heard,
    };
    Ok((EnvoyProcess::new(launch, child), tenancy, gate))
}

/// Checks the binary, and returns which file it is. It may lie on a file system that takes its time.
async fn checked(binary: &Path) -> Result<FileId, EnvoyFailed> {
    let path = binary.to_owned();
    let looked = offload(move || {
        check_binary(&path)?;
        FileId::of(&path).map_err(|source| BinaryError::Run { path, source })
    });
    match looked.await {
        Ok(looked) => Ok(looked?),
        Err(error) => Err(BinaryError::Examine {
            path: binary.to_owned(),
            source: std::io::Error::other(error),
        }
        .into()),
    }
}

/// Begins a lineage. That reads tables of the whole host, and may take another base id by a lock file.
pub(super) async fn begin(envoy: &Envoy, epoch: Epoch) -> Result<Tenancy, EnvoyFailed> {
    let lineages = Arc::clone(&envoy.lineages);
    match offload(move || lineages.begin(epoch)).await {
        Ok(begun) => Ok(begun?),
        Err(source) => Err(EnvoyFailed::NoBaseId { source }),
    }
}

/// Chooses another base id in place of that of a lineage, whose first epoch has found it in use.
pub(super) async fn choose_again(envoy: &Envoy, lineage: Lineage) -> Result<(), EnvoyFailed> {
    let lineages = Arc::clone(&envoy.lineages);
    match offload(move || lineages.choose_again(&lineage)).await {
        Ok(chosen) => Ok(chosen?),
        Err(source) => Err(EnvoyFailed::NoBaseId { source }),
    }
}

/// An epoch that is about to be started.
struct Starting<'a> {
    envoy: &'a Envoy,
    /// What it will run with.
    config: &'a Arc<EnvoyConfig>,
    /// What was asked for: the same, unless a template makes another text for each epoch.
    asked: &'a Arc<EnvoyConfig>,
    epoch: Epoch,
    binary: FileId,
    flush: Flush,
}

impl Starting<'_> {
    /// What is merged into the configuration.
    fn overlay(&self, gate: Option<&Gate>) -> Option<String> {
        self.flush.overlay(gate.map(Gate::overlay))
    }

    /// Makes ready for an epoch beside the one that runs, and returns in which lineage, and its gate.
    async fn follow_on(
        &self,
        older: &EnvoyProcess,
        tenancy: Option<Tenancy>,
    ) -> Result<(Tenancy, Option<Gate>), EnvoyFailed> {
        let (envoy, epoch) = (self.envoy, self.epoch);
        let fits = envoy.settings.memory_guard.look(older.pid()).await;
        fits.map_err(|source| EnvoyFailed::NoMemory {
            config: self.config.source().to_owned(),
            source,
        })?;
        let succession = self.succession(older).await?;
        if let Succession::Refused(OtherVersion { found, running }, why) = succession {
            return Err(EnvoyFailed::OtherHotRestart {
                binary: envoy.settings.binary.clone(),
                found,
                running,
                why,
            });
        }
        let waits = self.waits();
        let gate = self.gate().await;
        let preparation = Preparation::beside(self.origin(), waits, gate.is_some());
        let gate = self.prepare(preparation, gate).await?;
        let Succession::SideBySide(OtherVersion { found, running }) = succession else {
            initializing_flag::check(envoy, &older.lineage)?;
            envoy.running.note_listening().await;
            let tenancy = tenancy.ok_or(EnvoyFailed::LineageEnded)?;
            return Ok((tenancy, gate));
        };
        envoy.running.note_listening().await;
        let tenancy = begin_beside(envoy, epoch, older).await?;
        tracing::info!(
            epoch = epoch.number(),
            "hot restart version {found} differs from {running}: starting side by side on {}",
            *tenancy
        );
        Ok((tenancy, gate))
    }

    /// Whether the epoch waits for its resources while an older one serves.
    fn waits(&self) -> bool {
        self.envoy.settings.wait_for_resources && self.envoy.running.table().any_serves()
    }

    /// Whether the epoch waits and asks a control plane for what the older one may have. Other
    /// configurations need no node, and Envoy asks at no gate without one.
    fn may_be_held(&self) -> bool {
        self.waits() && self.config.fetches().from_control_plane
    }

    /// Makes the gate of an epoch that may be held.
    async fn gate(&self) -> Option<Gate> {
        let epoch = self.epoch;
        if !self.may_be_held() {
            return None;
        }
        let gate = Gate::new(self.envoy.files.shared(), epoch).await;
        gate.inspect_err(|error| {
            tracing::warn!(
                epoch = epoch.number(),
                "epoch {epoch} may take over without what the control plane refuses to send: {}; a \
                 shorter path of the run directory may help",
                error_chain(error)
            );
        })
        .ok()
    }

    /// Finds out how the epoch follows on the one that runs.
    async fn succession(&self, older: &EnvoyProcess) -> Result<Succession, EnvoyFailed> {
        let running = older.hot_restart_version();
        let found = match needs_version(running, older.binary == self.binary) {
            true => {
                let settings = &self.envoy.settings;
                Some(hot_restart_version_as(&settings.binary, &settings.run_as).await?)
            }
            false => None,
        };
        let [old, new] = [&older.config, self.config].map(|config| &config.bootstrap().listeners);
        Ok(succession(running, found, old, new))
    }

    fn origin(&self) -> Origin<FileId> {
        Origin {
            asked: Arc::clone(self.asked),
            config: Arc::clone(self.config),
            binary: self.binary,
        }
    }

    /// Writes the text of the epoch, and lets Envoy validate it where the preparation asks for that. Returns
    /// the gate, if the epoch can have it.
    async fn prepare(
        &self,
        (mut preparation, mut step): (Preparation<FileId>, Step),
        gate: Option<Gate>,
    ) -> Result<Option<Gate>, EnvoyFailed> {
        let (envoy, config, epoch) = (self.envoy, self.config, self.epoch);
        let file = envoy.files.file(epoch, config.format());
        loop {
            step = match step {
                Step::Rewrite => preparation.handle_rewritten(that_waits(config).await),
                Step::Write(text) => {
                    let text = match text {
                        Text::Original => None,
                        Text::Waiting(text) => Some(text),
                    };
                    envoy.files.write(epoch, config, text).await?;
                    let is_live = envoy.running.any_live_with(self.asked);
                    preparation.handle_written(&*envoy.last_valid.lock().await, is_live)
                }
                Step::Validate => {
                    let gate = gate.as_ref().filter(|_| preparation.is_gated());
                    let (settings, args) = (&envoy.settings, &envoy.args);
                    let (binary, run_as) = (&settings.binary, &settings.run_as);
                    let overlay = self.overlay(gate);
                    let overlay = overlay.as_deref();
                    let began = Instant::now();
                    let verdict = validate_with(binary, args, &file, overlay, run_as).await;
                    let took = began.elapsed();
                    envoy.observer.tell(Observed::Validated { epoch, took });
                    let mut last = envoy.last_valid.lock().await;
                    preparation.handle_verdict(verdict, &file, &mut last)?
                }
                Step::Done { not_waiting } => {
                    if let Some(why) = not_waiting {
                        tracing::warn!(
                            epoch = epoch.number(),
                            "{config}: epoch {epoch} may serve before it has fetched all resources: {why}"
                        );
                    }
                    return Ok(gate.filter(|_| preparation.is_gated()));
                }
            };
        }
    }
}

/// Returns the text with which Envoy waits for its first resources without a time-out, `None` where it
/// fetches nothing, or why there is no such text.
async fn that_waits(config: &Arc<EnvoyConfig>) -> Result<Option<Vec<u8>>, String> {
    let config = Arc::clone(config);
    let rewritten = off_the_runtime(move || {
        let waits =
            wait_for_first_resources(config.content(), config.format(), &AtomicBool::new(false));
        match waits {
            Ok(Cow::Owned(waits)) => Ok(Some(waits)),
            Ok(Cow::Borrowed(_)) => Ok(None),
            Err(error) => Err(error_chain(&error)),
        }
    });
    let ended = || Err("the text could not be worked on".to_owned());
    rewritten.await.unwrap_or_else(ended)
}

/// Without templates every epoch runs the same.
#[cfg(not(feature = "template"))]
async fn for_epoch(
    config: Arc<EnvoyConfig>,
    _epoch: Epoch,
) -> Result<Arc<EnvoyConfig>, EnvoyFailed> {
    Ok(config)
}
