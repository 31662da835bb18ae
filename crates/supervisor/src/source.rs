//! Where the desired configuration comes from.

use std::error::Error;
use std::path::PathBuf;
use std::pin::Pin;

use crate::Files;
use crate::control::wire::Configuration;
use crate::operator::Inputs;

/// An error of any kind.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// A configuration on its way, or why the files ask for nothing that can be run. The error and its
/// sources are told on one line.
///
/// It is dropped when a newer one is wished for, or when everything ends.
pub type Read<C> = Pin<Box<dyn Future<Output = Result<C, BoxError>> + Send>>;

/// Turns what there is into a configuration.
///
/// A panic in any of its methods is a bug: the supervisor reports it and drains what runs.
pub trait Source: Send {
    /// What the proxy is run with.
    type Config;

    /// Returns what is supervised, for people.
    fn name(&self) -> String;

    /// Reads the configuration that the files ask for at present. The call itself must not block; what
    /// it returns may wait for the network.
    ///
    /// Where a watched file is missing or cannot be read, it is not called.
    fn read(&self, files: &Files) -> Read<Self::Config>;

    /// Returns a digest of what the proxy reads beside its configuration, certificates for example.
    /// Another one leads to the next epoch, even with an equal configuration.
    fn inputs(&self, _files: &Files) -> Inputs {
        Inputs::default()
    }

    /// Returns what a configuration is, without its content, for a status.
    fn describe(&self, _config: &Self::Config) -> Configuration {
        Configuration {
            source: self.name(),
            hash: None,
        }
    }

    /// Returns the program files whose replacement leads to another configuration. They are watched by
    /// their identity and not read.
    fn programs(&self) -> &[PathBuf] {
        &[]
    }

    /// Returns a configuration to start with in place of what the files ask for, if that cannot be
    /// used.
    fn stand_in(&self) -> Option<Self::Config> {
        None
    }
}
