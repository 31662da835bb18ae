//! Looking at an epoch on probation.

use std::sync::Arc;

use handover_core::Epoch;
use handover_runtime::time_limit::timeout;
use tokio::task::JoinSet;

use super::{Done, Driver};
use crate::operator::{ExaminationId, Input, Probed, Seen};
use crate::{Operate, Source, Verify};

impl<P, S> Driver<P, S>
where
    P: Operate,
    S: Source<Config = P::Config>,
{
    /// Asks the proxy, and makes the probes beside that if they are wanted.
    pub(super) fn examine(&mut self, examination: ExaminationId, epoch: Epoch, probes: bool) {
        let limit = self.world.time_limit;
        let proxy = Arc::clone(&self.world.proxy);
        let wanted: Arc<[Verify]> = match probes {
            true => Arc::clone(&self.world.verify),
            false => Arc::new([]),
        };
        self.examining = Some(self.work.spawn(async move {
            // They end with this task.
            let mut making = JoinSet::new();
            for index in 0..wanted.len() {
                let wanted = Arc::clone(&wanted);
                making.spawn(async move {
                    let probe = wanted.get(index)?;
                    Some((index, probe.make(epoch, limit).await))
                });
            }
            let proxy = timeout(limit, proxy.examine(epoch)).await.ok();
            let mut probes: Vec<(usize, Probed)> = Vec::new();
            while let Some(made) = making.join_next().await {
                match made {
                    Ok(made) => probes.extend(made),
                    Err(error) => {
                        if let Ok(payload) = error.try_into_panic() {
                            std::panic::resume_unwind(payload);
                        }
                    }
                }
            }
            probes.sort_by_key(|(index, _)| *index);
            let probes = probes.into_iter().map(|(_, probed)| probed).collect();
            let seen = Seen { proxy, probes };
            Done::Input(Input::Examined { examination, seen })
        }));
    }

    pub(super) fn cancel_examination(&mut self) {
        if let Some(examining) = self.examining.take() {
            examining.abort();
        }
    }
}
