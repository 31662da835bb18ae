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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{env, thread};

use handover_core::retry::Retry;
use handover_core::{
    Abort, Epoch, Event, Exit, Input, Machine, OnExhausted, Outcome, Output, Policy, Reception,
    Severity, Standing, Target, Timestamp,
};

/// What a child is told to do: here only a word.
type Config = &'static str;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    if let [_, config] = env::args().collect::<Vec<_>>().as_slice() {
        return Ok(serve(config));
    }
    let policy = Policy {
        retry: Retry::new(1, Duration::from_millis(20)),
        on_exhausted: OnExhausted::HoldLastGood,
        start_deadline: Some(Duration::from_secs(10)),
        drain_deadline: Some(Duration::from_secs(5)),
        ..Policy::default()
    };
    let mut user = ["good", "broken", "better"].map(Input::Desire).into_iter();
    let outcome = Driver::new(policy)?.run(|| user.next().unwrap_or(Input::Terminate))?;
    Ok(ExitCode::from(u8::from(outcome != Outcome::Drained)))
}

/// The child: it says that it is live, and serves until its standard input is closed.
fn serve(config: &str) -> ExitCode {
    if config == "broken" {
        return ExitCode::FAILURE;
    }
    println!("live");
    let drained = io::copy(&mut io::stdin(), &mut io::sink());
    ExitCode::from(u8::from(drained.is_err()))
}

struct Driver {
    machine: Machine<Config>,
    start: Instant,
    children: BTreeMap<Epoch, Arc<Mutex<Child>>>,
    tell: Sender<Input<Config>>,
    told: Receiver<Input<Config>>,
}

impl Driver {
    fn new(policy: Policy) -> Result<Self, Box<dyn Error>> {
        let (tell, told) = mpsc::channel();
        Ok(Self {
            machine: Machine::new(policy)?,
            start: Instant::now(),
            children: BTreeMap::new(),
            tell,
            told,
        })
    }

    /// One input, all outputs, the next deadline: until the machine has finished.
    fn run(mut self, mut user: impl FnMut() -> Input<Config>) -> Result<Outcome, Box<dyn Error>> {
        loop {
            if let Some(outcome) = self.machine.outcome() {
                return Ok(outcome);
            }
            let input = if self.is_settled() {
                Some(user())
            } else {
                self.wait()
            };
            let now = self.now();
            match input {
                Some(input) => {
                    let reception = self.machine.handle_input(now, input);
                    debug_assert_eq!(reception, Reception::Accepted);
                }
                None => self.machine.handle_timeout(now),
            }
            while let Some(output) = self.machine.poll_output() {
                self.carry_out(&output)?;
            }
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::new(self.start.elapsed())
    }

    /// The next input, or nothing when the deadline has come.
    fn wait(&self) -> Option<Input<Config>> {
        match self.machine.poll_timeout() {
            Some(deadline) => {
                let span = deadline.at.since(self.now());
                self.told.recv_timeout(span).ok()
            }
            None => self.told.recv().ok(),
        }
    }

    /// Whether the user, who is patient, asks for something else.
    fn is_settled(&self) -> bool {
        let one_runs = self.machine.epochs().count() == 1;
        match self.machine.standing() {
            Standing::Nothing => true,
            Standing::Live(_) | Standing::GivenUp(_) => one_runs,
            Standing::Pending(_) | Standing::Stayed | Standing::Ending => false,
        }
    }

    fn carry_out(&mut self, output: &Output<Config>) -> Result<(), Box<dyn Error>> {
        match *output {
            Output::Start {
                epoch,
                target: Target::Serve(config),
            } => self.start(epoch, config)?,
            // Nothing runs for this epoch: it lasts until the others have ended.
            Output::Start {
                target: Target::Drain,
                ..
            } => self.children.values().for_each(drain),
            Output::Abort { epoch, how } => match (self.children.get(&epoch), how) {
                (Some(child), Abort::Graceful) => drain(child),
                (Some(child), Abort::Immediate) => lock(child).kill()?,
                (None, _) => self.tell.send(Input::Exited(epoch, Exit::Aborted))?,
            },
            Output::Cleanup(epoch) => drop(self.children.remove(&epoch)),
            Output::Panic { config, epoch } => println!("gave {config} up after epoch {epoch}"),
            Output::Finish(outcome) => println!("finished: {outcome}"),
            Output::Event(event) => {
                say(event);
                if let Event::Superseded { epoch, .. } = event {
                    self.children.get(&epoch).into_iter().for_each(drain);
                }
            }
        }
        Ok(())
    }

    fn start(&mut self, epoch: Epoch, config: Config) -> Result<(), Box<dyn Error>> {
        let child = Command::new(env::current_exe()?)
            .arg(config)
            .env("RESTART_EPOCH", epoch.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else {
            let exit = Exit::Failed(Severity::Permanent);
            return Ok(self.tell.send(Input::Exited(epoch, exit))?);
        };
        let output = child.stdout.take();
        let child = Arc::new(Mutex::new(child));
        self.children.insert(epoch, Arc::clone(&child));
        let tell = self.tell.clone();
        thread::spawn(move || {
            let lines = output.map(|output| BufReader::new(output).lines());
            for _live in lines.into_iter().flatten() {
                let _ = tell.send(Input::Live(epoch));
            }
            // The child has closed its output, so it is about to exit, and the lock is held briefly.
            let exit = match lock(&child).wait() {
                Ok(status) if status.success() => Exit::Clean,
                Ok(_) | Err(_) => Exit::Failed(Severity::Transient),
            };
            // The driver may have ended.
            let _ = tell.send(Input::Exited(epoch, exit));
        });
        Ok(())
    }
}

/// Tells what happens, without the times, which differ from run to run.
fn say(event: Event) {
    match event {
        Event::Started { epoch, purpose } => println!("epoch {epoch} started: {purpose:?}"),
        Event::Live { epoch, .. } => println!("epoch {epoch} is live"),
        Event::Superseded { epoch, by } => println!("epoch {epoch} drains, {by} serves"),
        Event::Exited { epoch, exit, .. } => println!("epoch {epoch} exited: {exit:?}"),
        Event::RetryScheduled { delay, .. } => println!("retry in {delay:?}"),
        Event::GaveUp { epoch, why, .. } => println!("gave up after epoch {epoch}: {why}"),
        Event::Draining { .. } => println!("draining"),
        Event::StartTimedOut { .. }
        | Event::BudgetRefilled { .. }
        | Event::Restarting
        | Event::Held(_)
        | Event::FallbackLost { .. }
        | Event::Stayed { .. }
        | Event::DrainTimedOut => println!("{event:?}"),
    }
}

/// Closes the child's standard input, upon which it ends what it is doing.
fn drain(child: &Arc<Mutex<Child>>) {
    drop(lock(child).stdin.take());
}

fn lock(child: &Mutex<Child>) -> MutexGuard<'_, Child> {
    child.lock().unwrap_or_else(PoisonError::into_inner)
}
