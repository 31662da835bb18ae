//! A proxy that serves nothing, a source that reads a file, and a directory for both.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use handover_supervisor::agent::core::{Epoch, Target};
use handover_supervisor::agent::{Handle, Proxy, RunControl, RunError};
use handover_supervisor::control::wire::{self, Status};
use handover_supervisor::control::{Answered, Client, Socket};
use handover_supervisor::{Builder, Ended, Facts, Files, Operate, Read, Source, Supervisor};
use handover_test_support::limit::within;
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Longer than anything here takes.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Each epoch of it is live at once, unless its configuration says otherwise.
#[derive(Default)]
pub(crate) struct Plain {
    /// Whether it has a bug that shows when it is asked about itself.
    pub(crate) is_shy: Arc<AtomicBool>,
    /// How long a drain of everything takes.
    pub(crate) drain_takes: Duration,
}

#[async_trait]
impl Proxy for Plain {
    type Config = String;

    async fn run(
        &self,
        target: Target<String>,
        _epoch: Epoch,
        control: RunControl,
    ) -> Result<(), RunError> {
        let Target::Serve(config) = target else {
            sleep(self.drain_takes).await;
            return Ok(());
        };
        if config == "rejected" {
            return Err(RunError::permanent("no such field".to_owned()));
        }
        control.live();
        tokio::select! {
            _ = control.retired() => Ok(()),
            _ = control.abort() => Err(RunError::Aborted),
        }
    }

    fn cleanup(&self, _epoch: Epoch) {}

    fn panic(&self, _config: &String) {}
}

#[async_trait]
impl Operate for Plain {
    async fn facts(&self) -> Facts {
        assert!(!self.is_shy.load(Ordering::SeqCst), "of the proxy");
        Facts::default()
    }
}

/// The content of a file, with two exceptions.
pub(crate) struct FileText(pub(crate) PathBuf);

impl Source for FileText {
    type Config = String;

    fn name(&self) -> String {
        "file".to_owned()
    }

    fn read(&self, _files: &Files) -> Read<String> {
        let text = std::fs::read_to_string(&self.0).unwrap();
        assert_ne!(text, "a panic", "of the source");
        Box::pin(async move {
            assert_ne!(text, "a late panic", "of the read");
            match text.as_str() {
                "never" => std::future::pending().await,
                "wrong" => Err("line 1 is wrong".into()),
                _ => Ok(text),
            }
        })
    }
}

/// A directory with the watched file, and the socket.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn with(text: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("handover-").tempdir();
        let place = Self(dir.unwrap());
        place.write(text);
        place
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.0.path().join("file")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.0.path().join("it.sock")
    }

    pub(crate) fn write(&self, text: &str) {
        let part = self.0.path().join("part");
        std::fs::write(&part, text).unwrap();
        std::fs::rename(part, self.file()).unwrap();
    }

    pub(crate) fn supervisor<P>(&self, proxy: P) -> Builder<P, FileText>
    where
        P: Operate + Proxy<Config = String>,
    {
        Supervisor::builder(Arc::new(proxy), FileText(self.file()))
            .watch([self.file()])
            .control(Socket::bind(&self.socket()).unwrap())
    }
}

/// A supervisor in a task.
pub(crate) struct Running {
    pub(crate) handle: Handle<String>,
    task: JoinHandle<std::io::Result<Ended>>,
}

impl Running {
    pub(crate) fn start<P>(supervisor: Builder<P, FileText>) -> Self
    where
        P: Operate + Proxy<Config = String>,
    {
        let supervisor = supervisor.build().unwrap();
        Self {
            handle: supervisor.handle(),
            task: tokio::spawn(supervisor.run_without_signals()),
        }
    }

    pub(crate) async fn ended(self) -> Ended {
        let ended = within(LIMIT, "the end", self.task).await;
        ended.unwrap().unwrap()
    }
}

/// What is answered at the socket of this place; the code and the message of what was not done.
pub(crate) async fn ask<T: DeserializeOwned>(
    place: &Place,
    path: &'static str,
    request: &impl serde::Serialize,
) -> Result<T, (wire::Code, String)> {
    let socket = place.socket();
    let client = Client::new(&socket);
    let answer = match path {
        wire::STATUS => client.get(path).await,
        _ => client.post(path, request, LIMIT).await,
    };
    match answer.unwrap() {
        Answered::Done(text) => Ok(serde_json::from_slice(&text).unwrap()),
        Answered::Refused(refusal) => Err((refusal.code, refusal.message)),
    }
}

/// Waits until the status of this place is like this.
pub(crate) async fn status_when(
    place: &Place,
    what: &str,
    is_so: impl Fn(&Status) -> bool,
) -> Status {
    let looked = async {
        loop {
            let status: Status = ask(place, wire::STATUS, &()).await.unwrap();
            if is_so(&status) {
                return status;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    within(LIMIT, what, looked).await
}
