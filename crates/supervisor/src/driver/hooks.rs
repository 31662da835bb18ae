//! Runs the hooks of the user.

use std::sync::Arc;

use handover_core::Timestamp;
use handover_runtime::time_limit::timeout;

use super::{Done, Driver, tell};
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

    /// Runs the hooks of what has ended last, for at most the time that one hook may take.
    pub(super) async fn run_last_hooks(&mut self) {
        let limit = self.world.hooks.limit();
        // Those that are left at the limit are dropped with everything else.
        let _in_time = timeout(limit, async {
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
        })
        .await;
    }
}
