//! A million hand-overs on one machine, with the time of each hundred thousand and the resident
//! memory after it: both stay flat.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "an example shows what it measures"
)]

use std::sync::Arc;
use std::time::Instant;

use handover_core::{Epoch, Exit, Input, Machine, Policy, PolicyError, Reception, Timestamp};

const PART: u32 = 100_000;

fn main() -> Result<(), PolicyError> {
    let mut machine = Machine::new(Policy::resilient())?;
    let (mut next, mut other) = (Arc::<str>::from("A"), Arc::<str>::from("B"));
    for part in 0..10 {
        let begun = Instant::now();
        for index in 0..PART {
            let epoch = part * PART + index;
            let mut inputs = vec![
                Input::Desire(Arc::clone(&next)),
                Input::Live(Epoch::new(epoch)),
            ];
            if let Some(before) = epoch.checked_sub(1) {
                inputs.push(Input::Exited(Epoch::new(before), Exit::Clean));
            }
            std::mem::swap(&mut next, &mut other);
            for input in inputs {
                let reception = machine.handle_input(Timestamp::ZERO, input);
                assert_eq!(reception, Reception::Accepted, "every step is one");
                while machine.poll_output().is_some() {}
            }
        }
        println!(
            "hand-overs up to {:>9}: {:>6.1} ms, {} kB resident",
            (part + 1) * PART,
            begun.elapsed().as_secs_f64() * 1_000.0,
            resident_kilobytes()
        );
    }
    Ok(())
}

/// As Linux tells it; 0 elsewhere.
fn resident_kilobytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}
