//! An Envoy or any program.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use handover_core::{Epoch, Target};
use handover_envoy::{Envoy, EnvoyConfig};
use handover_process::Signal;
use handover_supervisor::control::wire::Configuration;
use handover_supervisor::metrics::Observe;
use handover_supervisor::operator::{Applies, Inputs, Refusal};
use handover_supervisor::program::{Program, Revision, WatchedFiles};
use handover_supervisor::{
    EpochListeners, EpochStatistics, Examination, Facts, Files, Keeping, Operate, Read, Source,
};
use handover_tokio::{Proxy, RunControl, RunError};

use crate::commands::ConfigSource;

/// What is supervised.
pub(crate) enum Supervised {
    Envoy(Box<Envoy>),
    Program(Box<Program>),
}

/// Where its configuration comes from.
pub(crate) enum SupervisedSource {
    Envoy(Box<ConfigSource>),
    Program(Box<WatchedFiles>),
}

/// What it is run with.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Config {
    Envoy(Arc<EnvoyConfig>),
    Program(Revision),
}

/// A configuration that is not of the kind of what it was given to.
#[derive(Debug)]
struct OfAnotherKind;

impl fmt::Display for OfAnotherKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a bug: the configuration is not of the kind of what is supervised")
    }
}

impl Error for OfAnotherKind {}

impl From<Envoy> for Supervised {
    fn from(envoy: Envoy) -> Self {
        Self::Envoy(Box::new(envoy))
    }
}

impl From<Program> for Supervised {
    fn from(program: Program) -> Self {
        Self::Program(Box::new(program))
    }
}

impl From<ConfigSource> for SupervisedSource {
    fn from(source: ConfigSource) -> Self {
        Self::Envoy(Box::new(source))
    }
}

impl From<WatchedFiles> for SupervisedSource {
    fn from(source: WatchedFiles) -> Self {
        Self::Program(Box::new(source))
    }
}

/// Calls this method of the trait, as the one that it is.
macro_rules! either {
    ($which:expr, $of:ident::$method:ident($($argument:expr),*)) => {
        match $which {
            Self::Envoy(it) => $of::$method(&**it $(, $argument)*),
            Self::Program(it) => $of::$method(&**it $(, $argument)*),
        }
    };
    ($which:expr, $of:ident::$method:ident($($argument:expr),*).await) => {
        match $which {
            Self::Envoy(it) => $of::$method(&**it $(, $argument)*).await,
            Self::Program(it) => $of::$method(&**it $(, $argument)*).await,
        }
    };
}

#[async_trait]
impl Proxy for Supervised {
    type Config = Config;

    async fn run(
        &self,
        target: Target<Config>,
        epoch: Epoch,
        control: RunControl,
    ) -> Result<(), RunError> {
        match (self, target) {
            (Self::Envoy(envoy), Target::Serve(Config::Envoy(config))) => {
                envoy.run(Target::Serve(config), epoch, control).await
            }
            (Self::Program(program), Target::Serve(Config::Program(revision))) => {
                program.run(Target::Serve(revision), epoch, control).await
            }
            (Self::Envoy(envoy), Target::Drain) => envoy.run(Target::Drain, epoch, control).await,
            (Self::Program(program), Target::Drain) => {
                program.run(Target::Drain, epoch, control).await
            }
            (Self::Envoy(_), Target::Serve(Config::Program(_)))
            | (Self::Program(_), Target::Serve(Config::Envoy(_))) => {
                Err(RunError::permanent(OfAnotherKind))
            }
        }
    }

    fn cleanup(&self, epoch: Epoch) {
        either!(self, Proxy::cleanup(epoch));
    }

    fn panic(&self, config: &Config) {
        match (self, config) {
            (Self::Envoy(envoy), Config::Envoy(config)) => Proxy::panic(&**envoy, config),
            (Self::Program(program), Config::Program(revision)) => {
                Proxy::panic(&**program, revision);
            }
            (Self::Envoy(_), Config::Program(_)) | (Self::Program(_), Config::Envoy(_)) => {}
        }
    }
}

#[async_trait]
impl Operate for Supervised {
    fn released_is_cut(&self) -> bool {
        either!(self, Operate::released_is_cut())
    }

    fn shows_evidence(&self) -> bool {
        either!(self, Operate::shows_evidence())
    }

    fn no_cold_restart(&self) -> Option<&'static str> {
        either!(self, Operate::no_cold_restart())
    }

    fn forward(&self, signal: Signal) {
        either!(self, Operate::forward(signal));
    }

    async fn facts(&self) -> Facts {
        either!(self, Operate::facts().await)
    }

    async fn drain_on_request(&self) -> Result<Option<Epoch>, Refusal> {
        either!(self, Operate::drain_on_request().await)
    }

    async fn undrain(&self) -> Result<Option<Epoch>, Refusal> {
        either!(self, Operate::undrain().await)
    }

    async fn held_by(&self) -> Vec<String> {
        either!(self, Operate::held_by().await)
    }

    async fn unknown_clients(&self) -> Vec<String> {
        either!(self, Operate::unknown_clients().await)
    }

    async fn without_clients(&self) {
        either!(self, Operate::without_clients().await);
    }

    async fn listeners(&self) -> Option<Vec<EpochListeners>> {
        either!(self, Operate::listeners().await)
    }

    async fn examine(&self, epoch: Epoch) -> Examination {
        either!(self, Operate::examine(epoch).await)
    }

    async fn statistics(&self, only_used: bool) -> Result<Vec<EpochStatistics>, String> {
        either!(self, Operate::statistics(only_used).await)
    }

    fn observe(&self, observe: Observe) {
        either!(self, Operate::observe(observe));
    }

    fn cut(&self) -> Option<String> {
        either!(self, Operate::cut())
    }

    fn lost(&self) -> Option<String> {
        either!(self, Operate::lost())
    }

    fn last_words(&self, error: &(dyn Error + 'static)) -> Vec<String> {
        either!(self, Operate::last_words(error))
    }
}

impl SupervisedSource {
    /// Marks what is read as of the kind of its source.
    fn marked<C: 'static>(read: Read<C>, mark: fn(C) -> Config) -> Read<Config> {
        Box::pin(async move { read.await.map(mark) })
    }
}

impl Source for SupervisedSource {
    type Config = Config;

    fn name(&self) -> String {
        either!(self, Source::name())
    }

    fn read(&self, files: &Files) -> Read<Config> {
        match self {
            Self::Envoy(source) => Self::marked(source.read(files), Config::Envoy),
            Self::Program(source) => Self::marked(source.read(files), Config::Program),
        }
    }

    fn inputs(&self, files: &Files) -> Inputs {
        either!(self, Source::inputs(files))
    }

    fn describe(&self, config: &Config) -> Configuration {
        match (self, config) {
            (Self::Envoy(source), Config::Envoy(config)) => source.describe(config),
            (Self::Program(source), Config::Program(revision)) => source.describe(revision),
            (Self::Envoy(_), Config::Program(_)) | (Self::Program(_), Config::Envoy(_)) => {
                Configuration {
                    source: self.name(),
                    hash: None,
                }
            }
        }
    }

    fn programs(&self) -> &[PathBuf] {
        either!(self, Source::programs())
    }

    fn applies(&self) -> Applies {
        either!(self, Source::applies())
    }

    fn read_given(&self, text: Arc<[u8]>, files: &Files) -> Read<Config> {
        match self {
            Self::Envoy(source) => Self::marked(source.read_given(text, files), Config::Envoy),
            Self::Program(source) => Self::marked(source.read_given(text, files), Config::Program),
        }
    }

    fn keep(&self, text: Arc<[u8]>) -> Keeping {
        either!(self, Source::keep(text))
    }

    fn stand_in(&self) -> Option<Config> {
        match self {
            Self::Envoy(source) => source.stand_in().map(Config::Envoy),
            Self::Program(source) => source.stand_in().map(Config::Program),
        }
    }
}
