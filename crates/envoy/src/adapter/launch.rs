//! Starting an epoch: what is checked before, and how it follows on the one that runs.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use handover_core::Epoch;
use handover_tokio::error_chain;
use handover_tokio::process::{Command, Signal};

use super::epochs::{FileId, Launched, Predecessor, off_the_runtime};
use super::lines::Line;
#[cfg(feature = "template")]
use super::rendered::for_epoch;
use super::side_by_side::{NotSideBySide, obstacle};
use super::{Envoy, EnvoyConfig, EnvoyFailed, Validated};
use crate::bootstrap::wait_for_first_resources;
use crate::heard::{Heard, Listening};
use crate::text::is_about_reading;
use crate::validate::{Verdict, validate};
use crate::version::{BinaryError, HotRestartVersion, check_binary, hot_restart_version};

impl Envoy {
    /// Validates the configuration where an older epoch would suffer from a bad one, and starts
    /// Envoy with it, as it is for this epoch.
    pub(super) async fn launch(
        &self,
        config: Arc<EnvoyConfig>,
        epoch: Epoch,
    ) -> Result<Launched, EnvoyFailed> {
        let asked = config;
        let config = for_epoch(Arc::clone(&asked), epoch).await?;
        let settings = &self.settings;
        check_binary(&settings.binary)?;
        let binary = FileId::of(&settings.binary).map_err(|source| BinaryError::Run {
            path: settings.binary.clone(),
            source,
        })?;
        if let Some(limits) = config.admin_limits() {
            tracing::warn!(epoch = epoch.number(), "{config}: {limits}");
        }
        let write = |content: &[u8]| {
            let written = self.run_dir.write(epoch.number(), config.format(), content);
            written.map_err(EnvoyFailed::from)
        };
        let line = match self.epochs.predecessor() {
            None => {
                write(config.content())?;
                self.lines.begin(epoch)?
            }
            Some(older) => {
                let start = Start {
                    config: &config,
                    asked: &asked,
                    epoch,
                    binary,
                };
                self.follow_on(&older, &start, &write).await?
            }
        };
        let file = self.run_dir.file(epoch.number(), config.format());
        self.stand_ins.vacate(&line, epoch).await;
        let arguments = self
            .args
            .serve(&file, line.restart_epoch(epoch), line.base_id());
        let heard = Heard::default();
        let command = Command::new(&settings.binary)
            .args(arguments)
            .epoch(epoch.number())
            .label("envoy")
            // Envoy asks for the same by itself; this covers the moments before it does.
            .death_signal(Signal::TERM)
            .shared_output(Arc::new(Listening {
                heard: heard.clone(),
                sink: Arc::clone(&settings.output),
            }));
        let child = Arc::new(command.spawn().await?);
        Ok(Launched {
            child,
            config,
            asked,
            binary,
            line,
            file,
            heard,
        })
    }

    /// Makes ready for an epoch beside the one that runs, and tells in which line: the same one where
    /// it can take over by hot restart, otherwise another one.
    async fn follow_on(
        &self,
        older: &Predecessor,
        start: &Start<'_>,
        write: &Write<'_>,
    ) -> Result<Line, EnvoyFailed> {
        let Start {
            config,
            epoch,
            binary,
            ..
        } = *start;
        let other = self.other_hot_restart(older, binary).await?;
        if let Some((found, running)) = &other {
            let why = if found.is_disabled() || running == HotRestartVersion::DISABLED {
                Some(NotSideBySide::NoHotRestart)
            } else {
                obstacle(&older.config, config)
            };
            if let Some(why) = why {
                return Err(EnvoyFailed::OtherHotRestart {
                    binary: self.settings.binary.clone(),
                    found: found.clone(),
                    running: running.clone(),
                    why,
                });
            }
        }
        self.write_and_validate(start, write).await?;
        let Some((found, running)) = other else {
            self.check_flag(&older.line)?;
            self.epochs.note_listening().await;
            return Ok(older.line.clone());
        };
        self.epochs.note_listening().await;
        let line = self.begin_beside(epoch, older).await?;
        tracing::info!(
            epoch = epoch.number(),
            "hot restart version {found} differs from {running}: starting side by side on {line}"
        );
        Ok(line)
    }

    /// The hot restart versions of the binary and of the Envoy that runs, where the one cannot take over
    /// from the other: they differ because the binary was replaced, or there is none.
    async fn other_hot_restart(
        &self,
        older: &Predecessor,
        binary: FileId,
    ) -> Result<Option<(HotRestartVersion, String)>, EnvoyFailed> {
        let Some(running) = &older.hot_restart_version else {
            return Ok(None);
        };
        let disabled = running == HotRestartVersion::DISABLED;
        if older.binary == binary && !disabled {
            return Ok(None);
        }
        let found = hot_restart_version(&self.settings.binary).await?;
        let differs = found.as_str() != running;
        Ok((differs || disabled).then(|| (found, running.clone())))
    }

    /// Writes the configuration of an epoch beside an older one, and lets Envoy validate what was
    /// written. While the older one serves, the new one waits for its first resources as long as its
    /// start deadline allows: otherwise Envoy goes live without what it did not get in time, and takes
    /// the listeners over.
    async fn write_and_validate(
        &self,
        start: &Start<'_>,
        write: &Write<'_>,
    ) -> Result<(), EnvoyFailed> {
        let Start { config, epoch, .. } = *start;
        if self.epochs.any_serves() {
            let why = match that_waits(config).await {
                Ok(None) => None,
                Ok(Some(waits)) => {
                    let file = write(&waits)?;
                    match self.validate(start, &file, true).await {
                        // What is wrong may be wrong with the original as well, which decides.
                        Err(EnvoyFailed::Rejected { message, .. }) => Some(message),
                        result => return result,
                    }
                }
                Err(why) => Some(why),
            };
            let file = write(config.content())?;
            self.validate(start, &file, false).await?;
            if let Some(why) = why {
                tracing::warn!(
                    epoch = epoch.number(),
                    "{config}: epoch {epoch} waits for what it fetches no longer than Envoy does by \
                     itself, and may then serve without: {why}"
                );
            }
            return Ok(());
        }
        let file = write(config.content())?;
        self.validate(start, &file, false).await
    }

    /// Lets Envoy validate what was written, unless this reading of the configuration was found valid
    /// already and is tried again. A configuration that is equal but was read again, or one that serves
    /// already and is renewed, may come with other certificates.
    async fn validate(
        &self,
        start: &Start<'_>,
        file: &Path,
        waits: bool,
    ) -> Result<(), EnvoyFailed> {
        let Start {
            config,
            asked,
            binary,
            ..
        } = *start;
        let is_known = |known: &Validated| {
            Arc::ptr_eq(&known.asked, asked)
                && known.config == *config
                && known.binary == binary
                && known.waits >= waits
                && !self.epochs.any_live_with(asked)
        };
        if self.validated.lock().await.as_ref().is_some_and(is_known) {
            return Ok(());
        }
        let source = || config.source().to_owned();
        match validate(&self.settings.binary, &self.args, file).await {
            Verdict::Valid => {
                *self.validated.lock().await = Some(Validated {
                    config: Arc::clone(config),
                    asked: Arc::clone(asked),
                    binary,
                    waits,
                });
                Ok(())
            }
            Verdict::Rejected { message } if is_about_reading(&message, file) => {
                Err(EnvoyFailed::Unreadable {
                    config: source(),
                    file: file.to_owned(),
                })
            }
            Verdict::Rejected { message } => Err(EnvoyFailed::Rejected {
                config: source(),
                message,
            }),
            Verdict::CouldNotRun(error) => Err(EnvoyFailed::NotValidated {
                config: source(),
                source: error,
            }),
        }
    }
}

/// An epoch that is to be started.
struct Start<'a> {
    /// What it will run with.
    config: &'a Arc<EnvoyConfig>,
    /// What was asked for: the same, unless a template makes another text for each epoch.
    asked: &'a Arc<EnvoyConfig>,
    epoch: Epoch,
    binary: FileId,
}

/// Writes the file of an epoch.
type Write<'a> = dyn Fn(&[u8]) -> Result<PathBuf, EnvoyFailed> + Send + Sync + 'a;

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
