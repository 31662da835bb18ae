//! A page in a real browser: headless Chromium, driven by its driver.
//!
//! The driver speaks `WebDriver`, which is JSON over HTTP. What a test needs of it is five calls, so they are made
//! here: a library for all of it brings some forty packages.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::envoy_bin::{report_skip, test_of};
use crate::http::{Response, ResponseReader};
use crate::limit::eventually;
use crate::supervisor::{Launch, Supervisor};

/// For one call: the first one starts the browser, on a machine that does something else as well.
const LIMIT: Duration = Duration::from_secs(60);

/// What Chromium is started with. The sandbox cannot be had by root. Nothing is asked of anyone but the page.
const ARGUMENTS: [&str; 12] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--hide-scrollbars",
    "--window-size=1100,1000",
];

/// The driver on the search path. Without it, or without its browser, the test ends here, successfully, and says
/// so.
///
/// It returns `()` from the enclosing function, so it must stand in the test itself.
#[macro_export]
macro_rules! require_browser {
    () => {{
        // The type name of a local function is the path of the test around it.
        fn here() {}
        match $crate::browser::driver_or_skip(std::any::type_name_of_val(&here)) {
            Some(driver) => driver,
            None => return,
        }
    }};
}

/// The work of [`require_browser!`](crate::require_browser).
#[doc(hidden)]
#[must_use]
pub fn driver_or_skip(here: &str) -> Option<PathBuf> {
    let driver = found("chromedriver").filter(|_| found("chromium").is_some());
    if driver.is_none() {
        let why = "no Chromium here (Debian's packages chromium and chromium-driver have it)";
        report_skip(&test_of(here), why);
    }
    driver
}

/// Where a program is on the search path.
fn found(name: &str) -> Option<PathBuf> {
    let search = std::env::var_os("PATH").unwrap_or_default();
    let mut programs = std::env::split_paths(&search).map(|place| place.join(name));
    programs.find(|program| program.is_file())
}

/// A browser with one page. When it is dropped, it and its files are gone.
#[derive(Debug)]
pub struct Browser {
    // It ends before its files are removed.
    _driver: Supervisor,
    _files: TempDir,
    address: SocketAddr,
    session: String,
}

impl Browser {
    /// Starts a browser by this driver.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[must_use]
    pub fn start(driver: &PathBuf) -> Self {
        let files = tempfile::Builder::new()
            .prefix("handover-")
            .tempdir()
            .expect("a directory");
        let driver = Launch::program(driver)
            .arg("--port=0")
            .env("HOME", files.path())
            .env("TMPDIR", files.path())
            .env("XDG_RUNTIME_DIR", files.path())
            .start();
        let line = driver.wait_for_line("started successfully on port ", LIMIT);
        let port = line.text.rsplit(' ').next().unwrap_or_default();
        let port = port.trim_end_matches('.').parse();
        let port: u16 = port.expect("the driver prints its port");
        let address = (Ipv4Addr::LOCALHOST, port).into();
        let profile = format!("--user-data-dir={}", files.path().join("profile").display());
        let arguments = ARGUMENTS.iter().map(ToString::to_string).chain([profile]);
        let wish = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": arguments.collect::<Vec<_>>()},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let session = value(send(address, "POST", "/session", Some(&wish)));
        let session = text_at(&session, "/sessionId");
        Self {
            _driver: driver,
            _files: files,
            address,
            session,
        }
    }

    /// Opens a page, and waits until it is loaded.
    ///
    /// # Panics
    ///
    /// When it cannot be loaded.
    #[track_caller]
    pub fn open(&self, url: &str) {
        self.call("url", &json!({"url": url}));
    }

    /// Runs the body of a function in the page, and returns what it returns.
    ///
    /// # Panics
    ///
    /// When it throws.
    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        self.call("execute/sync", &json!({"script": script, "args": []}))
    }

    /// Returns the text that is seen of the element with this id.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[track_caller]
    pub fn text(&self, id: &str) -> String {
        let text = self.run(&format!("return document.getElementById('{id}').innerText"));
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the text of the element with this id contains these words, and returns it.
    ///
    /// # Panics
    ///
    /// When `limit` passes first.
    #[track_caller]
    pub fn shows(&self, id: &str, words: &str, limit: Duration) -> String {
        let mut last = String::new();
        eventually(limit, &format!("{words:?} in #{id}"), || {
            last = self.text(id);
            last.contains(words).then(|| last.clone())
        })
    }

    /// Shows the page as a device of this width in pixels would, in light or dark.
    ///
    /// # Panics
    ///
    /// When the browser refuses.
    #[track_caller]
    pub fn device(&self, width: u32, scheme: &str) {
        let features = json!([
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]);
        self.command("Emulation.setEmulatedMedia", &json!({"features": features}));
        let device = json!({
            "width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": width < 700,
        });
        self.command("Emulation.setDeviceMetricsOverride", &device);
    }

    /// Returns a picture of the top of the page, so many pixels high, as PNG.
    ///
    /// # Panics
    ///
    /// When the browser takes none.
    #[track_caller]
    #[must_use]
    pub fn picture(&self, height: u32) -> Vec<u8> {
        let width = self.run("return document.documentElement.clientWidth");
        let clip = json!({"x": 0, "y": 0, "width": width, "height": height, "scale": 1});
        let wish = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        let taken = self.command("Page.captureScreenshot", &wish);
        let picture = text_at(&taken, "/data");
        STANDARD.decode(picture).expect("a picture comes as base64")
    }

    /// Sends a command of the browser's own protocol, for what its driver cannot do.
    ///
    /// # Panics
    ///
    /// When it is refused.
    #[track_caller]
    pub fn command(&self, name: &str, parameters: &Value) -> Value {
        self.call(
            "goog/cdp/execute",
            &json!({"cmd": name, "params": parameters}),
        )
    }

    /// Returns what the page has logged since the last call, security violations included. What the browser's
    /// own pages log is left out, such as the one that it starts with.
    ///
    /// # Panics
    ///
    /// When the browser does not answer.
    #[track_caller]
    pub fn log(&self) -> Vec<String> {
        let entries = self.call("se/log", &json!({"type": "browser"}));
        let entries = entries.as_array().into_iter().flatten();
        let texts = entries.map(|entry| text_at(entry, "/message"));
        texts
            .filter(|text| !text.starts_with("chrome://"))
            .collect()
    }

    #[track_caller]
    fn call(&self, what: &str, parameters: &Value) -> Value {
        let path = format!("/session/{}/{what}", self.session);
        value(send(self.address, "POST", &path, Some(parameters)))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends its own processes in order. What is left is killed with the driver.
        let path = format!("/session/{}", self.session);
        let _ended = send(self.address, "DELETE", &path, None);
    }
}

/// The value of an answer.
#[track_caller]
fn value(answer: io::Result<Response>) -> Value {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => panic!("the driver of the browser does not answer: {error}"),
    };
    let mut json: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    assert_eq!(answer.status, 200, "the browser refuses: {json:#}");
    json.get_mut("value").map(Value::take).unwrap_or_default()
}

/// The text at this place of an answer.
#[track_caller]
fn text_at(answer: &Value, place: &str) -> String {
    match answer.pointer(place).and_then(Value::as_str) {
        Some(text) => text.to_owned(),
        None => panic!("the driver of the browser gives no text {place}: {answer}"),
    }
}

fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> io::Result<Response> {
    let body = body.map(ToString::to_string).unwrap_or_default();
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    let mut reader = ResponseReader::default();
    let mut buffer = vec![0; 64 * 1024];
    let invalid = |broken| io::Error::new(io::ErrorKind::InvalidData, format!("{broken:?}"));
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return reader.end_of_input().map_err(invalid);
        }
        let bytes = buffer.get(..read).unwrap_or_default();
        if let Some(response) = reader.push(bytes).map_err(invalid)? {
            return Ok(response);
        }
    }
}
