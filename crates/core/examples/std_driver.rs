//! A complete driver on plain threads and `std::process`: no runtime, no signal, no dependency.
//!
//! It supervises real children, which are this program again, through a hand-over that fails, one
//! that works, and a drain. Run it with `cargo run -p handover-core --example std_driver`.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "a driver owns the clock and the threads; an example shows what it does"
)]

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, BufRead, BufReader};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};
use std::{env, thread};

use handover_core::retry::Retry;
use handover_core::{
    Abort, Epoch, Exit, Input, Machine, OnExhausted, Outcome, Output, Policy, Severity, Standing,
    Target, Timestamp, Urgency,
};

type Config = &'static str;

struct Driver {
    machine: Machine<Config>,
    start: Instant,
    /// The processes of the running epochs. The drain has none.
    children: BTreeMap<Epoch, Child>,
    tell: Sender<Input<Config>>,
    told: Receiver<Input<Config>>,
}

impl Driver {
    /// One input or timeout, then all outputs, until the machine has finished.
    fn run(mut self, mut user: impl FnMut(&Self) -> Option<Input<Config>>) -> io::Result<Outcome> {
        loop {
            let input = user(&self).or_else(|| self.wait());
            let now = self.now();
            if let Some(input) = input {
                print!("{input:?}: ");
                println!("{:?}", self.machine.handle_input(now, input));
            } else {
                self.machine.handle_timeout(now);
            }
            while let Some(output) = self.machine.poll_output() {
                self.carry_out(&output)?;
            }
            if let Some(outcome) = self.machine.outcome() {
                return Ok(outcome);
            }
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::new(self.start.elapsed())
    }

    /// The next input, or nothing when the deadline comes first.
    fn wait(&mut self) -> Option<Input<Config>> {
        let input = match self.machine.poll_timeout() {
            Some(deadline) => self.told.recv_timeout(deadline.at.since(self.now())).ok(),
            None => self.told.recv().ok(),
        }?;
        if let Input::Exited(epoch, _) = input
            && let Some(child) = self.children.get_mut(&epoch)
        {
            // Its output is closed, so it is about to end; how, only its parent can tell.
            return Some(match child.wait() {
                Ok(status) if status.success() => Input::Exited(epoch, Exit::Clean),
                Ok(_) | Err(_) => Input::Exited(epoch, Exit::Failed(Severity::Transient)),
            });
        }
        Some(input)
    }

    fn carry_out(&mut self, output: &Output<Config>) -> io::Result<()> {
        if !matches!(output, Output::Event(_)) {
            println!("    {output:?}");
        }
        match *output {
            Output::Start { epoch, target } => match target {
                Target::Serve(config) => self.start(epoch, config),
                Target::Drain => self.children.values_mut().for_each(drain),
            },
            Output::Abort { epoch, how } => match (self.children.get_mut(&epoch), how) {
                (Some(child), Abort::Graceful) => drain(child),
                (Some(child), Abort::Immediate) => child.kill()?,
                (None, _) => drop(self.tell.send(Input::Exited(epoch, Exit::Aborted))),
            },
            // A child that starts has taken nothing over before it says that it is live.
            Output::Withdraw(epoch) => {
                self.children.get_mut(&epoch).map_or(Ok(()), Child::kill)?;
            }
            Output::Cleanup(epoch) => drop(self.children.remove(&epoch)),
            Output::Retire { epoch, .. } => {
                self.children.get_mut(&epoch).into_iter().for_each(drain);
            }
            Output::Panic { .. } | Output::Finish(_) | Output::Event(_) => {}
        }
        Ok(())
    }

    /// Starts a child, and a thread that listens to it.
    fn start(&mut self, epoch: Epoch, config: Config) {
        let pipe = Stdio::piped;
        let program = env::current_exe().map(Command::new);
        let child = program.and_then(|mut it| it.arg(config).stdin(pipe()).stdout(pipe()).spawn());
        let mut child = child.ok();
        let output = child.as_mut().and_then(|child| child.stdout.take());
        self.children.extend(child.map(|child| (epoch, child)));
        let tell = self.tell.clone();
        thread::spawn(move || {
            let lines = output.map(|output| BufReader::new(output).lines());
            for _live in lines.into_iter().flatten() {
                drop(tell.send(Input::Live(epoch)));
            }
            // This is said of a child that could not be spawned, too.
            drop(tell.send(Input::Exited(epoch, Exit::Failed(Severity::Permanent))));
        });
    }
}

/// Closes the child's standard input, upon which it ends what it is doing.
fn drain(child: &mut Child) {
    drop(child.stdin.take());
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    if let Some(config) = env::args().nth(1) {
        return Ok(serve(&config)?);
    }
    let policy = Policy {
        retry: Retry::new(1, Duration::from_millis(20)),
        on_exhausted: OnExhausted::HoldLastGood,
        start_deadline: Some(Duration::from_secs(10)),
        ..Policy::default()
    };
    let (tell, told) = mpsc::channel();
    let driver = Driver {
        machine: Machine::new(policy)?,
        start: Instant::now(),
        children: BTreeMap::new(),
        tell,
        told,
    };
    // A patient user: the next wish comes when the last one has come to its end.
    let mut wishes = ["good", "broken", "better"].map(Input::Desire).into_iter();
    let outcome = driver.run(|driver| {
        let ends = matches!(
            driver.machine.standing(),
            Standing::Nothing | Standing::Live(_) | Standing::GivenUp(_)
        );
        let is_next = ends && driver.children.len() <= 1;
        is_next.then(|| wishes.next().unwrap_or(Input::Terminate(Urgency::Drain)))
    })?;
    Ok(ExitCode::from(u8::from(outcome != Outcome::Drained)))
}

/// The child: it says that it is live, and serves until its standard input is closed.
fn serve(config: &str) -> io::Result<ExitCode> {
    if config == "broken" {
        return Ok(ExitCode::FAILURE);
    }
    println!("live");
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(ExitCode::SUCCESS)
}
