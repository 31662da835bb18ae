//! Runs the hooks of the user.

use std::sync::Arc;

use handover_core::{Timestamp, Urgency};
use handover_runtime::time_limit::timeout;

use super::{Done, Driver, next_end, tell};
use crate::operator::{HookCall, HookId, Input, Output};
use crate::{Operate, Source};

impl<P, S> Driver<P, S>
where
    P: Operate,
    S: Source<Config = P::Config>,
{
    pub(super) fn run_hook(&mut self, hook: HookId, call: HookCall) {
        let (hooks, proxy) = (Arc::clone(&self.world.hooks), Arc::clone(&self.world.proxy));
        let instance = self.world.name.to_string();
        self.work.spawn(async move {
            let result = hooks.run(&call, &*proxy, &instance).await;
            Done::Input(Input::HookDone { hook, result })
        });
    }

    /// Runs the hooks of what has ended last, for at most the time that one hook may take. A further signal to
    /// end is heard: whoever wants everything to be killed does not wait for a hook.
    pub(super) async fn run_last_hooks(&mut self) {
        if self.operator.urgency() == Some(Urgency::Kill) {
            return;
        }
        let limit = self.world.hooks.limit();
        let mut signals = self.world.signals.take();
        // Those that are left are dropped with everything else.
        tokio::select! {
            _in_time = timeout(limit, self.run_open_hooks()) => {}
            _signal = next_end(&mut signals) => {}
        }
        if self.operator.has_open_hooks() {
            tell::hooks_are_dropped();
        }
    }

    async fn run_open_hooks(&mut self) {
        loop {
            while let Some(output) = self.operator.poll_output() {
                // Everything else has ended.
                if matches!(output, Output::RunHook { .. } | Output::Event(_)) {
                    self.carry_out(output).await;
                }
            }
            if !self.operator.has_open_hooks() {
                return;
            }
            let Some(done) = self.work.join_next().await else {
                return;
            };
            if let Ok(Done::Input(input @ Input::HookDone { .. })) = done {
                let now = Timestamp::new(self.started.elapsed());
                tell::reception(self.operator.handle_input(now, input));
            }
        }
    }
}
