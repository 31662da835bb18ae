//! The output of a process, line by line, with the time each line came.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Which output a line was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A line of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its place in the log, from 0.
    pub number: usize,
    /// When it came, since the log's start.
    pub at: Duration,
    /// Where it was written to.
    pub stream: Stream,
    /// Its text without the line end; what is not UTF-8 is replaced.
    pub text: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stream = match self.stream {
            Stream::Stdout => "out",
            Stream::Stderr => "err",
        };
        write!(f, "{:8.3} {stream} {}", self.at.as_secs_f64(), self.text)
    }
}

/// The lines of both outputs in the order they came. Clones share one log.
#[derive(Debug, Clone)]
pub struct Log(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    start: Instant,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    lines: Vec<Line>,
    open_streams: usize,
}

impl Log {
    /// Reads both outputs, each on a thread that ends with its output.
    ///
    /// # Panics
    ///
    /// When no thread can be started.
    #[must_use]
    pub fn follow(stdout: impl Read + Send + 'static, stderr: impl Read + Send + 'static) -> Self {
        let log = Self(Arc::new(Shared {
            start: Instant::now(),
            state: Mutex::new(State {
                lines: Vec::new(),
                open_streams: 2,
            }),
            changed: Condvar::new(),
        }));
        log.read(Stream::Stdout, stdout);
        log.read(Stream::Stderr, stderr);
        log
    }

    /// All lines so far.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        self.0.lock().lines.clone()
    }

    /// The lines so far, from line number `from` on.
    #[must_use]
    pub fn lines_from(&self, from: usize) -> Vec<Line> {
        self.0.lock().lines.get(from..).unwrap_or_default().to_vec()
    }

    /// The lines of one output so far, each with its end.
    #[must_use]
    pub fn text_of(&self, stream: Stream) -> String {
        let lines = self.lines().into_iter();
        let lines = lines.filter(|line| line.stream == stream);
        lines.map(|line| line.text + "\n").collect()
    }

    /// Waits for the `count`-th line, from line number `from` on, that contains `pattern`. `None`
    /// when `limit` passes or both outputs end first.
    #[must_use]
    pub fn wait_for(
        &self,
        pattern: &str,
        from: usize,
        count: usize,
        limit: Duration,
    ) -> Option<Line> {
        let matching = |state: &State| {
            let lines = state.lines.iter().skip(from);
            lines
                .filter(|line| line.text.contains(pattern))
                .nth(count.saturating_sub(1))
                .cloned()
        };
        let state = self.0.wait_while(limit, |state| {
            state.open_streams > 0 && matching(state).is_none()
        });
        matching(&state)
    }

    /// Waits until both outputs have ended; whether they did. A descendant that inherited them
    /// keeps them open after the process itself has ended.
    #[must_use]
    pub fn wait_for_end(&self, limit: Duration) -> bool {
        self.0
            .wait_while(limit, |state| state.open_streams > 0)
            .open_streams
            == 0
    }

    fn read(&self, stream: Stream, source: impl Read + Send + 'static) {
        let shared = Arc::clone(&self.0);
        thread::Builder::new()
            .name(format!("{stream:?}"))
            .spawn(move || {
                let mut source = BufReader::new(source);
                let mut bytes = Vec::new();
                // A pipe that cannot be read any more has ended, whatever the reason.
                while source
                    .read_until(b'\n', &mut bytes)
                    .is_ok_and(|read| read > 0)
                {
                    shared.push(stream, &bytes);
                    bytes.clear();
                }
                shared.lock().open_streams -= 1;
                shared.changed.notify_all();
            })
            .expect("a thread for the output of a process");
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.lines() {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while(
        &self,
        limit: Duration,
        condition: impl Fn(&State) -> bool,
    ) -> MutexGuard<'_, State> {
        let (state, _timeout) = self
            .changed
            .wait_timeout_while(self.lock(), limit, |state| condition(state))
            .unwrap_or_else(PoisonError::into_inner);
        state
    }

    fn push(&self, stream: Stream, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim_end_matches(['\r', '\n']).to_owned();
        let at = self.start.elapsed();
        let mut state = self.lock();
        let number = state.lines.len();
        state.lines.push(Line {
            number,
            at,
            stream,
            text,
        });
        drop(state);
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    #[test]
    fn a_last_line_without_its_end_is_kept() {
        let log = Log::follow(&b"one\r\n\ntwo"[..], &b""[..]);
        assert!(log.wait_for_end(LONG));
        let texts: Vec<String> = log.lines().into_iter().map(|line| line.text).collect();
        assert_eq!(texts, ["one", "", "two"]);
    }

    #[test]
    fn lines_are_read_on_from_where_they_were_read_to() {
        let log = Log::follow(&b"one\ntwo\nthree\n"[..], &b""[..]);
        assert!(log.wait_for_end(LONG));
        let texts = |from| -> Vec<String> {
            let lines = log.lines_from(from).into_iter();
            lines.map(|line| line.text).collect()
        };
        assert_eq!(texts(1), ["two", "three"]);
        assert_eq!(texts(3), texts(9));
        assert!(texts(3).is_empty());
    }

    #[test]
    fn a_line_is_found_by_its_text_its_place_and_its_turn() {
        let log = Log::follow(&b"live 0\nother\nlive 1\n"[..], &b""[..]);
        let number = |from, count| {
            log.wait_for("live", from, count, LONG)
                .map(|line| (line.number, line.text))
        };
        assert_eq!(number(0, 1), Some((0, "live 0".to_owned())));
        assert_eq!(number(0, 2), Some((2, "live 1".to_owned())));
        assert_eq!(number(1, 1), Some((2, "live 1".to_owned())));
    }

    #[test]
    fn the_wait_for_a_line_ends_with_the_outputs() {
        let log = Log::follow(&b"all there is\n"[..], &b""[..]);
        let begun = Instant::now();
        assert_eq!(log.wait_for("more", 0, 1, LONG), None);
        assert!(begun.elapsed() < LONG);
    }
}
