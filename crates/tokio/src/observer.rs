//! What watches the steps of an agent's machine.

use handover_core::{Input, Machine, Output, Timestamp};

use crate::Failure;

/// Watches each step of an agent's [`Machine`], for a recording or a test.
///
/// The agent calls it from its loop, in this order for each step:
/// [`step_begins`](Self::step_begins), then [`output`](Self::output) for each output before it is
/// carried out. Why an epoch has failed is told by [`failed`](Self::failed), before the outputs that follow
/// from it. The loop waits for each call, so no call may block. A panic in one is a panic of the
/// agent.
pub trait Observer<C>: Send {
    /// The machine is as it was before the step. It takes this input at this time, or handles its
    /// deadline if there is none.
    fn step_begins(&mut self, machine: &Machine<C>, now: Timestamp, input: Option<&Input<C>>);

    /// This output of the step is carried out next.
    fn output(&mut self, output: &Output<C>);

    /// An epoch has failed, or was found unfit, for this reason. It is told again, in more words, where the proxy adds
    /// [why an epoch was late](crate::RunControl::will_not_go_live_because). It does nothing by default.
    fn failed(&mut self, failure: &Failure) {
        let _ = failure;
    }
}
