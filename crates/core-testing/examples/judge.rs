//! Judges the steps of a machine as a driver's test would, and shows a scenario's transcript.
//!
//! Run it with `cargo run -p handover-core-testing --example judge`.

#![expect(clippy::print_stdout, reason = "an example shows what it finds")]

use std::error::Error;
use std::time::Duration;

use handover_core::{Epoch, Event, Exit, Input, Machine, Output, Policy, Severity, Timestamp};
use handover_core_testing::scenario::Scenario;
use handover_core_testing::{Checker, Observation};

const SCRIPT: &str = "\
# A bad configuration is held back, and the good one goes on.
policy resilient retries=1
0      desire good
50ms   live 0
1s     desire bad
+20ms  exit 1 failed
+300ms exit 1 failed
";

fn main() -> Result<(), Box<dyn Error>> {
    println!("{}", Scenario::parse(SCRIPT)?.run()?);

    // The same judge beside steps of one's own: each must be passed, in order.
    let policy = Policy::resilient();
    let mut machine = Machine::new(policy)?;
    let mut checker = Checker::new(policy);
    for (millis, input) in [
        (0, Input::Desire("good")),
        (50, Input::Live(Epoch::ZERO)),
        (1_000, Input::Desire("bad")),
    ] {
        let step = Observation::make(&mut machine, Timestamp::from_millis(millis), Some(input));
        checker.judge(&step)?;
    }
    let failed = Input::Exited(Epoch::new(1), Exit::Failed(Severity::Transient));
    let mut step = Observation::make(&mut machine, Timestamp::from_millis(1_020), Some(failed));
    checker.clone().judge(&step)?;
    println!("every step of the machine keeps every invariant");

    // A machine that retried without a delay would not pass.
    for output in &mut step.outputs {
        if let Output::Event(Event::RetryScheduled { delay, .. }) = output {
            *delay = Duration::ZERO;
        }
    }
    match checker.judge(&step) {
        Err(violation) => println!("a forged step: {violation}"),
        Ok(()) => return Err("a forged step has passed".into()),
    }
    Ok(())
}
