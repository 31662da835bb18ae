//! Starting an epoch: what is checked before, and how it follows on the one that runs.

use std::path::Path;
use std::sync::Arc;

use handover_core::Epoch;
use handover_tokio::process::{Command, Signal};

use super::epochs::{FileId, Launched, Predecessor};
use super::lines::Line;
#[cfg(feature = "template")]
use super::rendered::for_epoch;
use super::side_by_side::{NotSideBySide, obstacle};
use super::{Envoy, EnvoyConfig, EnvoyFailed};
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
        let config = for_epoch(config, epoch).await?;
        let settings = &self.settings;
        check_binary(&settings.binary)?;
        let binary = FileId::of(&settings.binary).map_err(|source| BinaryError::Run {
            path: settings.binary.clone(),
            source,
        })?;
        let file = self
            .run_dir
            .write(epoch.number(), config.format(), config.content())?;
        let line = match self.epochs.predecessor() {
            None => self.lines.begin(epoch)?,
            Some(older) => {
                self.follow_on(&older, &config, epoch, binary, &file)
                    .await?
            }
        };
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
        config: &Arc<EnvoyConfig>,
        epoch: Epoch,
        binary: FileId,
        file: &Path,
    ) -> Result<Line, EnvoyFailed> {
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
        self.validate(config, binary, file).await?;
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

    async fn validate(
        &self,
        config: &Arc<EnvoyConfig>,
        binary: FileId,
        file: &Path,
    ) -> Result<(), EnvoyFailed> {
        let known = (Arc::clone(config), binary);
        if self.validated.lock().await.as_ref() == Some(&known) {
            return Ok(());
        }
        let source = || config.source().to_owned();
        match validate(&self.settings.binary, &self.args, file).await {
            Verdict::Valid => {
                *self.validated.lock().await = Some(known);
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

/// Without templates every epoch runs the same.
#[cfg(not(feature = "template"))]
async fn for_epoch(
    config: Arc<EnvoyConfig>,
    _epoch: Epoch,
) -> Result<Arc<EnvoyConfig>, EnvoyFailed> {
    Ok(config)
}
