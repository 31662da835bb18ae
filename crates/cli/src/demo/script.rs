//! The script: good configurations one after the other, and in the middle one that does not start.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use handover_core::Urgency;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::load::Load;
use super::report::EventCounts;
use super::screen::Screen;
use super::tally::Tally;
use crate::supervised::Handle;

/// How long anything may take until it has happened.
const LIMIT: Duration = Duration::from_secs(30);

/// What is played.
pub(crate) struct Script {
    /// The watched file.
    pub(crate) config: PathBuf,
    /// The content of the good configuration with this number, from 1.
    pub(crate) good: Box<dyn Fn(u32) -> String + Send + Sync>,
    /// The content of the one that does not start.
    pub(crate) bad: String,
    /// How many good ones there are, the first one not counted.
    pub(crate) hand_overs: u32,
    /// The time between two of them.
    pub(crate) interval: Duration,
    /// Where the requests go.
    pub(crate) address: SocketAddr,
}

/// How far the play got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScriptEnd {
    /// To its end.
    Finished,
    /// The agent ended before.
    Interrupted,
}

impl Script {
    /// Makes the watched file hold this, in one step.
    pub(crate) fn write(&self, content: &str) -> Result<()> {
        let part = self.config.with_extension("part");
        std::fs::write(&part, content)
            .and_then(|()| std::fs::rename(&part, &self.config))
            .with_context(|| format!("writing {}", self.config.display()))
    }

    /// Plays it, with load from the moment that the first epoch serves, and lets the agent end.
    /// When it is interrupted, the clients finish first.
    pub(crate) async fn play(
        self,
        handle: Handle,
        screen: Arc<Screen>,
        tally: Arc<Tally>,
        interrupted: oneshot::Receiver<()>,
    ) -> Result<ScriptEnd> {
        let mut status = handle.status();
        let end = async {
            tokio::select! {
                _ = interrupted => {}
                () = async { while status.changed().await.is_ok() {} } => {}
            }
        };
        let mut end = std::pin::pin!(end);
        let outcome = tokio::select! {
            first = until(&screen, |happened| happened.live > 0) => match first {
                Ok(()) => self.with_load(&screen, &tally, end).await,
                Err(error) => Err(error),
            },
            () = &mut end => Ok(ScriptEnd::Interrupted),
        };
        handle.terminate(Urgency::Drain);
        outcome
    }

    async fn with_load(
        &self,
        screen: &Screen,
        tally: &Arc<Tally>,
        end: impl Future<Output = ()>,
    ) -> Result<ScriptEnd> {
        screen.say(&format!("clients send requests to {}", self.address));
        let load = Load::start(self.address, tally).context("starting the clients")?;
        let outcome = tokio::select! {
            outcome = self.acts(screen) => outcome.map(|()| ScriptEnd::Finished),
            () = end => Ok(ScriptEnd::Interrupted),
        };
        load.stop().await;
        outcome
    }

    async fn acts(&self, screen: &Screen) -> Result<()> {
        sleep(self.interval).await;
        let bad_one = self.hand_overs.div_ceil(2);
        for number in 1..=self.hand_overs {
            let before = *screen.happened().borrow();
            screen.say(&format!(
                "-- configuration {} of {}",
                number, self.hand_overs
            ));
            self.write(&(self.good)(number))?;
            until(screen, |happened| happened.live > before.live).await?;
            sleep(self.interval).await;
            if number == bad_one {
                screen.say("-- a configuration that does not start");
                self.write(&self.bad)?;
                until(screen, |happened| happened.given_up > before.given_up).await?;
                sleep(self.interval / 2).await;
            }
        }
        Ok(())
    }
}

/// Waits until that has happened.
async fn until(screen: &Screen, what: impl Fn(&EventCounts) -> bool) -> Result<()> {
    let mut happened = screen.happened();
    let wait = timeout(LIMIT, happened.wait_for(|happened| what(happened))).await;
    wait.context("the hand-over did not happen within 30 s")?
        .context("the display has ended")?;
    Ok(())
}
