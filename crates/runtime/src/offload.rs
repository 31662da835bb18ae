//! Work that blocks, on threads that a shortage of threads cannot take away.
//!
//! Tokio's own threads for blocking work are started when they are needed, and it panics when the
//! operating system has none left. A supervisor must outlive that moment: its children would end
//! with it. So one thread is started early and stays for as long as the process lives. Others join
//! it while there is more work, and end when there is none.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::{StartError, panic_message};

/// How many threads there are at most.
const MOST_THREADS: usize = 32;
/// How long a thread that has nothing to do is kept beside another one.
const IDLE: Duration = Duration::from_secs(10);
/// How often another thread is asked for while work waits for one.
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// How long work waits for a thread at most.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why [`offload`] brought no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OffloadError {
    /// The operating system started no thread, and none became free in time.
    #[error(
        "could not start a thread (is a limit reached: of processes, RLIMIT_NPROC or pids.max of the control group, or of memory?)"
    )]
    NoThread(#[source] StartError),
    /// As many threads as there may be are at work, and none became free in time.
    #[error("all {MOST_THREADS} threads are busy, and none became free within {PATIENCE:?}")]
    Busy,
    /// The work panicked.
    #[error("the work panicked: {message}")]
    Panicked {
        /// What the panic said.
        message: String,
    },
}

/// The result of [`offload`], when there is one.
///
/// Dropping this drops the result. Work that has not begun by then never begins; work that has
/// begun goes on to its end.
#[must_use = "work that has not begun is cancelled when this is dropped"]
pub struct Offloaded<T> {
    done: Done,
    result: Kept<T>,
}

/// Ends once the work is done, or will never be. It knows nothing of the result, so a program has its
/// code once and not for each kind of work.
type Done = Pin<Box<dyn Future<Output = Result<(), OffloadError>> + Send>>;

/// The result of the work, or what its panic said, once it is done.
type Kept<T> = Arc<Mutex<Option<Result<T, String>>>>;

impl<T> Future for Offloaded<T> {
    type Output = Result<T, OffloadError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        ready!(self.done.as_mut().poll(context))?;
        let kept = &mut *self.result.lock().unwrap_or_else(PoisonError::into_inner);
        Poll::Ready(match kept.take() {
            Some(Ok(value)) => Ok(value),
            Some(Err(message)) => Err(OffloadError::Panicked { message }),
            // The work is dropped unrun by nobody but `withdraw`.
            None => Err(OffloadError::Busy),
        })
    }
}

impl<T> fmt::Debug for Offloaded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offloaded").finish_non_exhaustive()
    }
}

/// Runs work that blocks on a thread for such work, and returns its result.
///
/// The work is queued by the call, before the future is polled. Use it in place of
/// [`tokio::task::spawn_blocking`], which panics when no thread can be started. Where none can be
/// started here, the work waits for one of those that there are. What the work must not lose if it
/// never runs stays with the caller, for instance in an [`Arc`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use handover_runtime::offload::offload;
///
/// let text = offload(|| std::fs::read_to_string("/proc/self/status")).await??;
/// assert!(text.starts_with("Name:"));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// - [`OffloadError::NoThread`] and [`OffloadError::Busy`] after ten seconds without a thread, or at
///   once where the process has none for such work. The work was not done; it may be tried again.
/// - [`OffloadError::Panicked`] if the work panicked.
///
/// # Panics
///
/// The future panics if the work has to wait for a thread outside of a tokio runtime with its timer
/// enabled.
///
/// # Cancel safety
///
/// Dropping the future loses the result; see [`Offloaded`]. Polling it by reference in a
/// `tokio::select!` is cancel safe.
pub fn offload<T, F>(work: F) -> Offloaded<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    Pool::shared().offload(work)
}

/// Starts the thread that stays, unless there is one.
///
/// Call this at the start of a program: a shortage of threads is found there, where a program may
/// still end with an error, and every later [`offload`] has a thread to wait for.
///
/// # Errors
///
/// [`OffloadError::NoThread`] if the operating system starts no thread.
pub fn prepare() -> Result<(), OffloadError> {
    Pool::shared().prepare()
}

struct Pool {
    state: Mutex<State>,
    work_came: Condvar,
    most_threads: usize,
    idle: Duration,
    patience: Duration,
    start: fn(Arc<Pool>) -> io::Result<()>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

struct Job {
    number: u64,
    work: Box<dyn FnOnce() + Send>,
}

/// Whether queued work has a thread.
enum Standing {
    /// It has begun, or a thread for it is awake.
    Served,
    /// It waits for a thread that is at work.
    Short(OffloadError),
}

impl Pool {
    fn shared() -> &'static Arc<Self> {
        static POOL: std::sync::OnceLock<Arc<Pool>> = std::sync::OnceLock::new();
        POOL.get_or_init(|| {
            Arc::new(Self {
                state: Mutex::default(),
                work_came: Condvar::new(),
                most_threads: MOST_THREADS,
                idle: IDLE,
                patience: PATIENCE,
                start: start_thread,
            })
        })
    }

    fn prepare(self: &Arc<Self>) -> Result<(), OffloadError> {
        let mut state = self.state();
        if state.threads > 0 {
            return Ok(());
        }
        self.grow(&mut state)
    }

    fn offload<T, F>(self: &Arc<Self>, work: F) -> Offloaded<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let result: Kept<T> = Arc::default();
        let kept = Arc::clone(&result);
        let done = self.queue(Box::new(move || {
            let result = catch_unwind(AssertUnwindSafe(work));
            let result = result.map_err(|payload| panic_message(&*payload));
            *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        }));
        Offloaded { done, result }
    }

    /// Queues work that keeps its result itself.
    fn queue(self: &Arc<Self>, work: Box<dyn FnOnce() + Send>) -> Done {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let (answer, mut answered) = oneshot::channel();
        let job = Job {
            number,
            work: Box::new(move || {
                if answer.is_closed() {
                    return;
                }
                work();
                // Nobody may be waiting any more.
                let _gone = answer.send(());
            }),
        };
        let mut state = self.state();
        state.queue.push_back(job);
        let mut standing = self.serve(state, number);
        let pool = Arc::clone(self);
        Box::pin(async move {
            let mut until = None;
            let answer = loop {
                let Standing::Short(error) = standing else {
                    break answered.await;
                };
                let now = Instant::now();
                let until = *until.get_or_insert(now + pool.patience);
                if now >= until || !pool.has_threads() {
                    if pool.withdraw(number) {
                        return Err(error);
                    }
                    standing = Standing::Served;
                    continue;
                }
                if let Ok(answer) = timeout_at(until.min(now + ASK_AGAIN), &mut answered).await {
                    break answer;
                }
                standing = pool.serve(pool.state(), number);
            };
            answer.map_err(|_| OffloadError::Busy)
        })
    }

    /// Sees to it that the queued work with this number has a thread, if that is possible.
    fn serve(self: &Arc<Self>, mut state: MutexGuard<'_, State>, number: u64) -> Standing {
        let Some(place) = state.queue.iter().position(|job| job.number == number) else {
            return Standing::Served;
        };
        if place < state.idle {
            // A thread that wakes while the numbers are locked only goes to sleep again.
            drop(state);
            self.work_came.notify_one();
            return Standing::Served;
        }
        if state.threads >= self.most_threads {
            return Standing::Short(OffloadError::Busy);
        }
        match self.grow(&mut state) {
            Ok(()) => Standing::Served,
            Err(error) => Standing::Short(error),
        }
    }

    /// Starts one more thread. It counts as idle until it takes its first work.
    fn grow(self: &Arc<Self>, state: &mut State) -> Result<(), OffloadError> {
        (self.start)(Arc::clone(self)).map_err(|error| OffloadError::NoThread(error.into()))?;
        state.threads += 1;
        state.idle += 1;
        Ok(())
    }

    /// Takes work back that has not begun. False if it has.
    fn withdraw(&self, number: u64) -> bool {
        let mut state = self.state();
        let before = state.queue.len();
        state.queue.retain(|job| job.number != number);
        state.queue.len() < before
    }

    fn has_threads(&self) -> bool {
        self.state().threads > 0
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No panic can leave the numbers half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What each thread does.
    fn run(&self) {
        let mut state = self.state();
        loop {
            if let Some(job) = state.queue.pop_front() {
                state.idle -= 1;
                drop(state);
                // What the work or its unwanted result leaves to be dropped may panic as well.
                drop(catch_unwind(AssertUnwindSafe(job.work)));
                state = self.state();
                state.idle += 1;
                continue;
            }
            // The last one that has nothing to do stays, for the work that comes when no thread
            // can be started; and it sleeps until then.
            if state.idle <= 1 {
                state = self
                    .work_came
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let (woken, wait) = self
                .work_came
                .wait_timeout(state, self.idle)
                .unwrap_or_else(PoisonError::into_inner);
            state = woken;
            if wait.timed_out() && state.queue.is_empty() && state.idle > 1 {
                state.idle -= 1;
                state.threads -= 1;
                return;
            }
        }
    }
}

fn start_thread(pool: Arc<Pool>) -> io::Result<()> {
    thread::Builder::new()
        .name("handover-work".into())
        .spawn(move || pool.run())
        .map(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// How long a test waits before it fails.
    const LIMIT: Duration = Duration::from_secs(20);

    fn pool(start: fn(Arc<Pool>) -> io::Result<()>, patience: Duration) -> Arc<Pool> {
        Arc::new(Pool {
            state: Mutex::default(),
            work_came: Condvar::new(),
            most_threads: 3,
            idle: Duration::from_millis(1),
            patience,
            start,
        })
    }

    /// Starts a thread while the system has some left.
    fn start_one_of(left: &AtomicUsize, pool: Arc<Pool>) -> io::Result<()> {
        left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
            left.checked_sub(1)
        })
        .map_err(|_| io::Error::from(io::ErrorKind::WouldBlock))?;
        start_thread(pool)
    }

    /// Keeps a thread busy until the sender is dropped.
    async fn occupy(pool: &Arc<Pool>) -> (Sender<()>, Offloaded<()>) {
        let (release, released) = channel::<()>();
        let (begun, has_begun) = oneshot::channel();
        let busy = pool.offload(move || {
            begun.send(()).unwrap();
            released.recv().unwrap_err();
        });
        has_begun.await.unwrap();
        (release, busy)
    }

    async fn in_time<T>(future: impl Future<Output = T>) -> T {
        tokio::time::timeout(LIMIT, future).await.unwrap()
    }

    #[tokio::test]
    async fn work_waits_for_a_busy_thread_where_no_other_can_be_started() {
        static LEFT: AtomicUsize = AtomicUsize::new(1);
        let pool = pool(|pool| start_one_of(&LEFT, pool), LIMIT);
        let (release, busy) = occupy(&pool).await;
        let mut waits = pool.offload(|| 7);
        assert!(
            tokio::time::timeout(ASK_AGAIN * 2, &mut waits)
                .await
                .is_err()
        );
        drop(release);
        assert_eq!(in_time(waits).await.unwrap(), 7);
        in_time(busy).await.unwrap();
    }

    #[tokio::test]
    async fn a_thread_is_asked_for_now_and_then_and_not_all_the_time() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let start_the_first = |pool| match ASKED.fetch_add(1, Ordering::SeqCst) {
            0 => start_thread(pool),
            _ => Err(io::ErrorKind::WouldBlock.into()),
        };
        let pool = pool(start_the_first, LIMIT);
        let (release, busy) = occupy(&pool).await;
        let mut waits = pool.offload(|| 7);
        let began = Instant::now();
        let waited = tokio::time::timeout(ASK_AGAIN * 2, &mut waits).await;
        assert!(waited.is_err());
        let most = 3 + began.elapsed().as_millis() / ASK_AGAIN.as_millis();
        let asked = ASKED.load(Ordering::SeqCst);
        assert!((2..=most).contains(&(asked as u128)), "{asked} of {most}");
        drop(release);
        in_time(waits).await.unwrap();
        in_time(busy).await.unwrap();
    }

    #[tokio::test]
    async fn hanging_work_holds_others_only_until_a_thread_can_be_started() {
        static LEFT: AtomicUsize = AtomicUsize::new(1);
        let pool = pool(|pool| start_one_of(&LEFT, pool), LIMIT);
        let (_hangs, _busy) = occupy(&pool).await;
        let waits = pool.offload(|| 7);
        LEFT.store(1, Ordering::SeqCst);
        assert_eq!(in_time(waits).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn work_that_gets_no_thread_in_time_is_not_done_and_says_what_is_short() {
        static LEFT: AtomicUsize = AtomicUsize::new(1);
        let pool = pool(|pool| start_one_of(&LEFT, pool), Duration::from_millis(20));
        let (hangs, busy) = occupy(&pool).await;
        let (done, was_done) = channel::<()>();
        let error = in_time(pool.offload(move || done.send(())))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("RLIMIT_NPROC"), "{error}");
        drop(hangs);
        in_time(busy).await.unwrap();
        assert!(was_done.recv().is_err());
    }

    #[tokio::test]
    async fn without_any_thread_the_error_comes_at_once_and_the_next_work_is_tried() {
        static LEFT: AtomicUsize = AtomicUsize::new(0);
        let pool = pool(|pool| start_one_of(&LEFT, pool), LIMIT * 2);
        assert!(matches!(
            pool.prepare(),
            Err(OffloadError::NoThread(error)) if error.0.kind() == io::ErrorKind::WouldBlock
        ));
        let error = in_time(pool.offload(|| 7)).await.unwrap_err();
        assert!(matches!(error, OffloadError::NoThread(_)));
        LEFT.store(1, Ordering::SeqCst);
        assert_eq!(in_time(pool.offload(|| 7)).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn one_thread_is_prepared_and_only_once() {
        let pool = pool(start_thread, LIMIT);
        pool.prepare().unwrap();
        pool.prepare().unwrap();
        assert_eq!(pool.state().threads, 1);
        prepare().unwrap();
        assert!(Pool::shared().has_threads());
        assert_eq!(in_time(offload(|| 7)).await.unwrap(), 7);
    }

    #[test]
    fn only_work_that_has_not_begun_is_taken_back() {
        let pool = pool(|_| Err(io::ErrorKind::WouldBlock.into()), LIMIT);
        let waits = pool.offload(|| 7);
        assert_eq!(format!("{waits:?}"), "Offloaded { .. }");
        let number = pool.state().queue.front().unwrap().number;
        assert!(!pool.withdraw(number + 1));
        assert!(pool.withdraw(number));
        assert!(!pool.withdraw(number));
    }

    #[tokio::test]
    async fn with_as_many_threads_as_there_may_be_work_waits_its_turn() {
        let pool = pool(start_thread, Duration::from_millis(20));
        let mut busy = Vec::new();
        for _ in 0..3 {
            busy.push(occupy(&pool).await);
        }
        let error = in_time(pool.offload(|| 7)).await.unwrap_err();
        assert!(matches!(error, OffloadError::Busy));
        let (release, first) = busy.pop().unwrap();
        drop(release);
        in_time(first).await.unwrap();
        assert_eq!(in_time(pool.offload(|| 7)).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_any_more_never_begins() {
        static LEFT: AtomicUsize = AtomicUsize::new(1);
        let pool = pool(|pool| start_one_of(&LEFT, pool), LIMIT);
        let (release, busy) = occupy(&pool).await;
        let (done, was_done) = channel::<()>();
        drop(pool.offload(move || done.send(())));
        drop(release);
        in_time(busy).await.unwrap();
        in_time(pool.offload(|| ())).await.unwrap();
        assert!(was_done.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_costs_no_thread() {
        static LEFT: AtomicUsize = AtomicUsize::new(1);
        let pool = pool(|pool| start_one_of(&LEFT, pool), LIMIT);
        let work = || -> () { panic!("of the work") };
        let error = in_time(pool.offload(work)).await.unwrap_err();
        assert_eq!(error.to_string(), "the work panicked: of the work");
        assert_eq!(in_time(pool.offload(|| 7)).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn threads_that_have_nothing_to_do_end_but_for_one() {
        let pool = pool(start_thread, LIMIT);
        let mut busy = Vec::new();
        for _ in 0..3 {
            busy.push(occupy(&pool).await);
        }
        assert_eq!(pool.state().threads, 3);
        drop(busy);
        in_time(async {
            while pool.state().threads > 1 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(pool.state().threads, 1);
    }

    /// A pool that counts two idle threads and has none: a test runs the one that it looks at.
    fn counts_two_idle(idle: Duration) -> Arc<Pool> {
        let state = State {
            threads: 2,
            idle: 2,
            ..State::default()
        };
        Arc::new(Pool {
            state: Mutex::new(state),
            work_came: Condvar::new(),
            most_threads: 3,
            idle,
            patience: LIMIT,
            start: |_| Err(io::ErrorKind::WouldBlock.into()),
        })
    }

    #[test]
    fn a_thread_that_ends_is_neither_counted_nor_idle() {
        let pool = counts_two_idle(Duration::from_millis(1));
        pool.run();
        let state = pool.state();
        assert_eq!((state.threads, state.idle), (1, 1));
    }

    #[test]
    fn the_only_thread_that_is_idle_when_its_time_is_over_stays() {
        let idle = Duration::from_millis(200);
        let pool = loop {
            let pool = counts_two_idle(idle);
            let thread = Arc::clone(&pool);
            thread::spawn(move || thread.run());
            thread::sleep(idle / 4);
            let mut state = pool.state();
            // On a slow machine it may have ended before.
            if state.threads == 2 {
                // The other one takes work.
                state.idle = 1;
                drop(state);
                break pool;
            }
        };
        thread::sleep(idle * 2);
        let state = pool.state();
        assert_eq!((state.threads, state.idle), (2, 1));
    }

    #[test]
    fn a_thread_that_is_woken_beside_an_idle_one_does_the_work() {
        let pool = counts_two_idle(LIMIT * 2);
        let thread = Arc::clone(&pool);
        thread::spawn(move || thread.run());
        thread::sleep(Duration::from_millis(20));
        let (done, was_done) = channel();
        pool.state().queue.push_back(Job {
            number: 0,
            work: Box::new(move || done.send(()).unwrap()),
        });
        pool.work_came.notify_one();
        was_done.recv_timeout(LIMIT).unwrap();
    }
}
