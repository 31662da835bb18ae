//! Drives an operator by hand: a first configuration, a reload of an equal one, and two signals to end.
//!
//! It prints each input with what the operator answers to it. No process runs.

#![expect(clippy::print_stdout, reason = "the example shows what it does")]

use std::collections::VecDeque;

use handover_core::{Epoch, Outcome, Timestamp};
use handover_supervisor::operator::{
    Input, Inputs, Operator, Output, Reading, Settings, Settlement, Signal, TakenIn,
};

fn main() {
    let mut operator = Operator::new(Settings::default());
    // What the world brings, once nothing is left to do about what came before.
    let mut world = VecDeque::from([Signal::HangUp, Signal::Terminate, Signal::Terminate]);
    let mut inputs = VecDeque::new();
    loop {
        while let Some(output) = operator.poll_output() {
            println!("    {output:?}");
            match output {
                Output::Read { read, .. } => inputs.push_back(Input::ReadDone {
                    read,
                    result: Ok(Reading {
                        config: "a",
                        inputs: Inputs::default(),
                    }),
                }),
                Output::Apply { change, .. }
                | Output::Renew { change, .. }
                | Output::Restart { change, .. } => {
                    inputs.push_back(Input::TakenIn {
                        change,
                        result: TakenIn::Changed,
                    });
                    inputs.push_back(Input::Settled {
                        change,
                        result: Settlement::Live(Epoch::ZERO),
                    });
                }
                Output::Finish(_) => return,
                // No agent, process or client is there to be told.
                Output::CancelRead(_)
                | Output::LookForFiles
                | Output::ForgetFiles
                | Output::Keep(_)
                | Output::Terminate(_)
                | Output::Release(_)
                | Output::Call { .. }
                | Output::Look(_)
                | Output::Examine { .. }
                | Output::CancelExamine(_)
                | Output::Unfit { .. }
                | Output::WatchClients { .. }
                | Output::Forward(_)
                | Output::Answer { .. }
                | Output::RunHook { .. }
                | Output::Notify(_)
                | Output::Event(_) => {}
            }
        }
        let signal = || world.pop_front().map(Input::Signal);
        let input = inputs
            .pop_front()
            .or_else(signal)
            .unwrap_or(Input::AgentEnded(Ok(Outcome::DrainSkipped)));
        println!("{input:?}");
        let _reception = operator.handle_input(Timestamp::ZERO, input);
    }
}
