//! Supervisors that cannot wait for files.

use std::sync::Arc;

use handover_supervisor::watch::Rescan;
use handover_supervisor::{AwaitedFiles, BuildError, Files, Read, Source, Supervisor};

use crate::support::{FileText, Place, Plain};

/// It has something to start with whatever the file holds.
struct StandsIn(FileText);

impl Source for StandsIn {
    type Config = String;

    fn name(&self) -> String {
        self.0.name()
    }

    fn read(&self, files: &Files) -> Read<String> {
        self.0.read(files)
    }

    fn stand_in(&self) -> Option<String> {
        Some("one".to_owned())
    }
}

#[tokio::test]
async fn what_starts_with_a_stand_in_is_refused_to_wait_and_the_files_are_named() {
    let place = Place::with("one");
    let paths = ["/run/tls/key", "/run/tls/cert"].map(Into::into);
    let awaited = AwaitedFiles::watch(&paths, None, Rescan::Never).unwrap();
    let source = StandsIn(FileText(place.file()));
    let supervisor = Supervisor::builder(Arc::new(Plain::default()), source);
    let refused = supervisor.await_files(awaited).build();
    let Err(error @ BuildError::AwaitsWithStandIn { .. }) = refused else {
        panic!("it is built, or refused for another reason");
    };
    insta::assert_snapshot!(error, @"file has a configuration to start with before its files can be used, so nothing can wait for `/run/tls/key`, `/run/tls/cert`: await no files, or start without a configuration that stands in");
}
