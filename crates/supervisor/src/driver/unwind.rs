//! A bug in the loop must not take the proxies along.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use handover_runtime::panic_message;

/// Waits for the future, or returns what it said when it panicked.
///
/// # Cancel safety
///
/// As cancel safe as the future.
pub(super) async fn caught<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let mut future = pin!(future);
    poll_fn(move |context| {
        // A future that has panicked is not polled again.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(payload) => Poll::Ready(Err(panic_message(&*payload))),
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::time::Duration;

    use handover_core::Policy;
    use handover_process::{Line, Signal};
    use handover_watch::Rescan;

    use crate::exit_code::ExitCode;
    use crate::program::{Program, Readiness, Revision, Settings, Sockets};
    use crate::signals::Signals;
    use crate::source::{Files, Reading, Source};
    use crate::supervise::Supervisor;

    /// It has a bug.
    struct Wicked {
        file: PathBuf,
    }

    impl Source for Wicked {
        type Config = Revision;

        fn name(&self) -> String {
            "wicked".to_owned()
        }

        fn read(&self, files: &Files) -> Reading<Revision> {
            let content = std::fs::read_to_string(&self.file).unwrap();
            assert!(content != "bad", "of the source");
            let files = files.snapshot().map(|files| files.digest());
            Box::pin(std::future::ready(Ok(Revision { files })))
        }
    }

    #[tokio::test]
    async fn a_panic_of_the_loop_drains_what_runs() {
        let dir = tempfile::tempdir().unwrap();
        let (file, up, drained) = (
            dir.path().join("file"),
            dir.path().join("up"),
            dir.path().join("drained"),
        );
        std::fs::write(&file, "good").unwrap();
        let script = format!(
            "trap 'echo > {}; exit 0' TERM; echo > {}; while :; do sleep 0.02; done",
            drained.display(),
            up.display()
        );
        let program = Program::new(Settings {
            command: "sh".into(),
            arguments: vec!["-c".into(), script.into()],
            sockets: Sockets::new(false),
            readiness: Readiness::After(Duration::from_millis(10)),
            stop_signal: Signal::TERM,
            drain_time: Duration::from_secs(30),
            end_is_final: false,
            output: Arc::new(|_: &Line<'_>| {}),
        });
        let source = Wicked { file: file.clone() };
        let policy = Policy::resilient();
        let watched = [file.clone()];
        let supervisor = Supervisor::new(
            Arc::new(program),
            policy,
            source,
            &watched,
            Rescan::default(),
        )
        .unwrap();
        let running = supervisor.run(Signals::take_over().unwrap());
        let break_it = async {
            while !up.exists() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            std::fs::write(&file, "bad").unwrap();
            std::future::pending::<()>().await;
        };
        let result = tokio::time::timeout(Duration::from_secs(60), async {
            tokio::select! {
                result = running => result,
                () = break_it => unreachable!(),
            }
        });
        let error = result.await.unwrap().unwrap_err();
        assert_eq!(error.code, ExitCode::INTERNAL);
        assert!(error.to_string().contains("of the source"), "{error}");
        assert!(drained.exists());
    }
}
