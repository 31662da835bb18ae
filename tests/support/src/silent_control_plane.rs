//! A control plane that is away until it is told to answer.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// How often a connection looks whether it may answer.
const LOOK: Duration = Duration::from_millis(10);

/// Takes the questions of an Envoy that fetches its resources by REST, and leaves them without an
/// answer until [`answer`](Self::answer) is called. Its threads end with their connections.
#[derive(Debug)]
pub struct SilentControlPlane {
    addr: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    answers: AtomicBool,
    asked: AtomicBool,
    ended: AtomicBool,
}

impl SilentControlPlane {
    /// Starts it; it accepts connections when this returns.
    ///
    /// # Panics
    ///
    /// When no loopback port can be bound.
    #[must_use]
    pub fn away() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free loopback port");
        let addr = listener.local_addr().expect("it is bound");
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.ended.load(Ordering::Relaxed) {
                    return;
                }
                let state = Arc::clone(&shared);
                // A peer that goes away is the end of it.
                thread::spawn(move || drop(serve(stream, &state)));
            }
        });
        Self { addr, state }
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Whether anybody has asked it for something.
    #[must_use]
    pub fn was_asked(&self) -> bool {
        self.state.asked.load(Ordering::Relaxed)
    }

    /// Answers every question from now on: there are no resources.
    pub fn answer(&self) {
        self.state.answers.store(true, Ordering::Relaxed);
    }
}

impl Drop for SilentControlPlane {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::Relaxed);
        // The accepting thread looks at it with the next connection.
        let _gone = TcpStream::connect(self.addr);
    }
}

fn serve(mut stream: TcpStream, state: &State) -> io::Result<()> {
    stream.set_read_timeout(Some(LOOK))?;
    let mut owed = false;
    let mut buffer = [0; 65_536];
    while !state.ended.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(_) => {
                state.asked.store(true, Ordering::Relaxed);
                owed = true;
            }
            Err(error) if is_pause(&error) => {
                if owed && state.answers.load(Ordering::Relaxed) {
                    owed = false;
                    let body = "{\"version_info\":\"1\",\"resources\":[]}";
                    let length = body.len();
                    write!(
                        stream,
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
                         content-length: {length}\r\n\r\n{body}"
                    )?;
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn is_pause(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}
