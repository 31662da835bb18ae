//! What goes on beside the loop of the driver.

use std::future::Future;
use std::pin::Pin;

use tokio::task::{AbortHandle, JoinError, JoinSet};

use super::Done;

/// The tasks beside the loop.
///
/// Each future is boxed. So all of them are one kind of task, and the program has the code of a task once
/// for a configuration and not once for each of them.
pub(super) struct Work<C>(JoinSet<Done<C>>);

impl<C: Send + 'static> Work<C> {
    pub(super) fn new() -> Self {
        Self(JoinSet::new())
    }

    pub(super) fn spawn(
        &mut self,
        work: impl Future<Output = Done<C>> + Send + 'static,
    ) -> AbortHandle {
        let work: Pin<Box<dyn Future<Output = Done<C>> + Send>> = Box::pin(work);
        self.0.spawn(work)
    }

    /// Waits for the next one that ends. `None` if there is none.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a task that was not returned is returned by the next call.
    pub(super) async fn join_next(&mut self) -> Option<Result<Done<C>, JoinError>> {
        self.0.join_next().await
    }
}
