//! Metrics of a running instance, and the program that judges them.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::envoy_bin::report_skip;

/// How long a scrape may take.
const LIMIT: Duration = Duration::from_secs(30);

/// What one scrape has returned.
#[derive(Clone, Debug)]
pub struct Scrape {
    /// The status line and the headers.
    pub head: String,
    /// The text.
    pub body: String,
}

impl Scrape {
    /// Reads the metrics at the control socket of an instance.
    ///
    /// # Panics
    ///
    /// When nothing answers there.
    #[must_use]
    pub fn of(socket: &Path, accept: &str) -> Self {
        let mut stream = UnixStream::connect(socket).expect("the instance listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a socket");
        let request = format!("GET /v1/metrics HTTP/1.1\r\nhost: x\r\naccept: {accept}\r\n\r\n");
        stream
            .write_all(request.as_bytes())
            .expect("the instance reads");
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .expect("the instance answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a whole answer");
        Self {
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        }
    }

    /// The samples: name and labels as they are written, and the value.
    ///
    /// # Panics
    ///
    /// When a line is no sample.
    #[must_use]
    pub fn samples(&self) -> BTreeMap<&str, f64> {
        let lines = self.body.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| {
                let (name, value) = line.rsplit_once(' ').expect("a name and a value");
                (name, value.parse().expect("a number"))
            })
            .collect()
    }

    /// The value of a sample, by its name and labels as they are written.
    #[must_use]
    pub fn value(&self, sample: &str) -> Option<f64> {
        self.samples().get(sample).copied()
    }
}

/// Where promtool is: at `PROMTOOL`, or on the search path. If it is nowhere, the test is reported as skipped.
#[must_use]
pub fn promtool_or_skip(test: &str) -> Option<PathBuf> {
    let named = std::env::var_os("PROMTOOL").map(PathBuf::from);
    let search = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&search).map(|place| place.join("promtool"));
    let found = named.into_iter().chain(places).find(|path| path.is_file());
    if found.is_none() {
        report_skip(
            test,
            "no promtool here (Debian's package prometheus has it; `cargo xtask check promtool` fetches it)",
        );
    }
    found
}
