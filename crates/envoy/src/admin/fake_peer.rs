//! Peers for tests: each connection gets the next of some prepared bytes, and is closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::{AdminAddress, AdminClient};

pub(crate) struct FakePeer {
    address: AdminAddress,
    asked: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for FakePeer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakePeer {
    /// Answers the connections one after the other; the last answer is given for ever.
    pub(crate) async fn answers(answers: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let answers: Vec<_> = answers.into_iter().collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = AdminAddress::Tcp(listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let number = counter.fetch_add(1, Ordering::Relaxed);
                let answer = &answers[number.min(answers.len() - 1)];
                let mut request = [0; 1024];
                // How much comes first does not matter: the answer is prepared.
                if stream.read(&mut request).await.is_err() {
                    continue;
                }
                stream.write_all(answer).await.ok();
            }
        });
        Self {
            address,
            asked,
            task,
        }
    }

    pub(crate) async fn always(answer: Vec<u8>) -> Self {
        Self::answers([answer]).await
    }

    /// Takes connections and says nothing.
    pub(crate) async fn silent() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = AdminAddress::Tcp(listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            let mut held = Vec::new();
            loop {
                held.push(listener.accept().await.unwrap());
            }
        });
        Self {
            address,
            asked: Arc::default(),
            task,
        }
    }

    /// Sends the beginning, and then the same bytes for as long as anyone reads; without more
    /// bytes the connection is kept and nothing follows.
    pub(crate) async fn endless(start: &'static [u8], more: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = AdminAddress::Tcp(listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                // An answer before the question is another error than the one that is provoked.
                stream.read_u8().await.ok();
                stream.write_all(start).await.ok();
                if more.is_empty() {
                    std::future::pending::<()>().await;
                }
                while stream.write_all(more).await.is_ok() {}
            }
        });
        Self {
            address,
            asked: Arc::default(),
            task,
        }
    }

    pub(crate) fn client(&self) -> AdminClient {
        AdminClient::new(self.address.clone())
    }

    /// How many connections were taken.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

/// A whole response with status 200.
pub(crate) fn ok(body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A whole answer to `/server_info`.
pub(crate) fn server_info(state: &str, epoch: u32) -> Vec<u8> {
    ok(&format!(
        r#"{{"version": "abc/1.40.0/Clean/RELEASE/BoringSSL", "state": "{state}",
            "uptime_current_epoch": "5s", "uptime_all_epochs": "65s", "hot_restart_version": "11.104",
            "command_line_options": {{"restart_epoch": {epoch}}}}}"#
    ))
}
