//! What a program is desired to have read.

use std::future::ready;

use super::Revision;
use crate::control::wire::Configuration;
use crate::{Files, Read, Source};

/// The source of a [`Program`](super::Program): the program reads its files itself, so what is desired is
/// an epoch that has read them as they are.
#[derive(Clone, Debug)]
pub struct WatchedFiles {
    program: String,
}

impl WatchedFiles {
    /// Returns the source for the program of this name.
    #[must_use]
    pub fn of(program: impl Into<String>) -> Self {
        let program = program.into();
        Self { program }
    }
}

impl Source for WatchedFiles {
    type Config = Revision;

    fn name(&self) -> String {
        self.program.clone()
    }

    fn read(&self, files: &Files) -> Read<Revision> {
        let files = files.snapshot().map(|files| files.digest());
        Box::pin(ready(Ok(Revision { files })))
    }

    fn describe(&self, revision: &Revision) -> Configuration {
        describe(self.program.clone(), *revision)
    }
}

pub(super) fn describe(source: String, revision: Revision) -> Configuration {
    let hash = revision.files.map(|digest| digest.to_string());
    Configuration { source, hash }
}
