//! A driver that decides on faults while the process runs. The crate page describes its lines.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::Path;
use std::rc::Rc;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::faults::{Fault, Faults, Step};

/// The connection to a driver.
#[derive(Debug)]
pub(crate) struct Script {
    lines: mpsc::UnboundedSender<Said>,
    paused_at: RefCell<Vec<String>>,
    go: Notify,
    is_gone: Cell<bool>,
    reader: RefCell<Option<OwnedReadHalf>>,
}

/// A line for the driver, and who waits until it is written.
type Said = (String, oneshot::Sender<()>);

/// What a driver says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Line {
    Go,
    Fault(Fault),
    Clear,
    Faults,
    Pause(String),
}

impl Line {
    fn parse(line: &str) -> Result<Self, String> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "go" => Ok(Self::Go),
            "fault" => {
                let fault: Fault = rest.trim().parse().map_err(|error| format!("{error}"))?;
                if fault.counts_starts() {
                    return Err("a fault that counts starts must be given at the start".to_owned());
                }
                Ok(Self::Fault(fault))
            }
            "clear" => Ok(Self::Clear),
            "faults" => Ok(Self::Faults),
            "pause" => Ok(Self::Pause(rest.trim().to_owned())),
            other => Err(format!(
                "{other:?} is unknown: use go, fault, clear, faults or pause"
            )),
        }
    }
}

impl Script {
    /// Connects to the driver. [`run`](Self::run) must be called then.
    pub(crate) async fn connect(path: &Path) -> io::Result<Self> {
        let (reader, writer) = UnixStream::connect(path).await?.into_split();
        let (lines, outgoing) = mpsc::unbounded_channel();
        tokio::task::spawn_local(write(writer, outgoing));
        Ok(Self {
            lines,
            paused_at: RefCell::default(),
            go: Notify::new(),
            is_gone: Cell::new(false),
            reader: RefCell::new(Some(reader)),
        })
    }

    /// Says hello, and waits until the driver lets the process go.
    pub(crate) async fn hello(&self, epoch: u32) {
        let _no_wait = self.say(format!("hello pid={} epoch={epoch}", std::process::id()));
        self.wait().await;
    }

    /// Reports a step, and waits there if the driver wants that.
    pub(crate) async fn reached(&self, step: Step) {
        let name = step.to_string();
        if !self.holds(step) {
            // The process may end at this step, so the line must be out before.
            let written = self.say(format!("step {name}"));
            let _driver_is_gone = written.await;
            return;
        }
        let _no_wait = self.say(format!("paused {name}"));
        self.wait().await;
    }

    /// Returns whether the driver wants the process to wait at a step.
    pub(crate) fn holds(&self, step: Step) -> bool {
        self.paused_at.borrow().contains(&step.to_string())
    }

    /// Obeys the driver until it goes away.
    pub(crate) async fn run(self_: Rc<crate::context::Context>) {
        let Some(script) = &self_.script else { return };
        let Some(reader) = script.reader.borrow_mut().take() else {
            return;
        };
        let mut lines = BufReader::new(reader).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            match Line::parse(line.trim()) {
                Ok(Line::Go) => script.go.notify_one(),
                Ok(line) => {
                    let answer = script.obey(line, &mut self_.faults.borrow_mut());
                    let _no_wait = script.say(answer);
                }
                Err(error) => {
                    let _no_wait = script.say(format!("error {error}"));
                }
            }
        }
        script.is_gone.set(true);
        script.go.notify_one();
    }

    fn obey(&self, line: Line, faults: &mut Faults) -> String {
        match line {
            Line::Go => {}
            Line::Fault(fault) => faults.add(fault),
            Line::Clear => faults.clear(),
            Line::Faults => return format!("ok {}", faults.texts()),
            Line::Pause(step) => self.paused_at.borrow_mut().push(step),
        }
        "ok".to_owned()
    }

    async fn wait(&self) {
        if !self.is_gone.get() {
            self.go.notified().await;
        }
    }

    /// Sends a line. What it returns is over once the line is written, or the driver is gone.
    fn say(&self, line: String) -> oneshot::Receiver<()> {
        let (written, waits) = oneshot::channel();
        // The writer ends with the driver.
        let _driver_is_gone = self.lines.send((line, written));
        waits
    }
}

async fn write(mut writer: OwnedWriteHalf, mut lines: mpsc::UnboundedReceiver<Said>) {
    while let Some((line, written)) = lines.recv().await {
        if writer
            .write_all(format!("{line}\n").as_bytes())
            .await
            .is_err()
        {
            return;
        }
        let _nobody_waits = written.send(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_driver_are_read_or_refused() {
        let fault = "crash@live".parse().unwrap();
        for (line, expected) in [
            ("go", Ok(Line::Go)),
            ("fault crash@live", Ok(Line::Fault(fault))),
            ("pause admin", Ok(Line::Pause("admin".to_owned()))),
            (
                "fault crash@live:once",
                Err("a fault that counts starts must be given at the start".to_owned()),
            ),
            (
                "x",
                Err("\"x\" is unknown: use go, fault, clear, faults or pause".to_owned()),
            ),
        ] {
            assert_eq!(Line::parse(line), expected);
        }
    }
}
