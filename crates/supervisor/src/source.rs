//! Where the desired configuration comes from.

use std::error::Error;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use crate::Files;
use crate::control::wire::Configuration;
use crate::operator::{Applies, Inputs};

/// An error of any kind.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// A configuration on its way, or why the files ask for nothing that can be run. The error and its
/// sources are told on one line.
///
/// It is dropped when a newer one is wished for, or when everything ends.
pub type Read<C> = Pin<Box<dyn Future<Output = Result<C, BoxError>> + Send>>;

/// A configuration that is being kept, or why it cannot be.
pub type Keeping = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

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

    /// Returns whether clients give the configuration, and whether one is kept from before.
    ///
    /// While none is kept and none was given, [`Source::read`] is not called.
    fn applies(&self) -> Applies {
        Applies::Never
    }

    /// Reads a configuration that a client has given, in place of the one that is kept. What can be judged
    /// without a start is judged: its error is the client's answer, and changes nothing.
    ///
    /// It is called only if [`Source::applies`] says that clients give the configuration.
    fn read_given(&self, _text: Arc<[u8]>, _files: &Files) -> Read<Self::Config> {
        Box::pin(async { Err("no configuration is taken from clients".into()) })
    }

    /// Keeps a configuration that a client has given, so that [`Source::read`] reads it from here on, also
    /// after a crash of the machine. The call itself must not block.
    ///
    /// It is called like [`Source::read_given`].
    fn keep(&self, _text: Arc<[u8]>) -> Keeping {
        Box::pin(async { Err("no configuration is kept".into()) })
    }

    /// Returns a configuration to start with in place of what the files ask for, if that cannot be
    /// used.
    fn stand_in(&self) -> Option<Self::Config> {
        None
    }
}
