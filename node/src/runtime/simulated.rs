//! The simulation's machine: one thread runs everything; a process can be paused, and its clock set wrong.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use openraft::{
    impls::TokioRuntime,
    rt::{deterministic_rng::DeterministicRng, task_local::TaskLocalFuture},
};
use tokio::task::JoinHandle;

tokio::task_local! {
    static PROCESS: Arc<Process>;
}

/// One life of one member.
pub(crate) struct Process {
    paused: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
    /// Milliseconds between its clock and the true time.
    ahead_ms: AtomicI64,
    /// The true time, for all processes.
    now_ms: Arc<AtomicU64>,
    seeds: AtomicU64,
}

impl Process {
    pub(crate) fn new(now_ms: Arc<AtomicU64>, ahead_ms: i64, seed: u64) -> Arc<Self> {
        Arc::new(Process {
            paused: AtomicBool::new(false),
            waiting: Mutex::default(),
            ahead_ms: AtomicI64::new(ahead_ms),
            now_ms,
            seeds: AtomicU64::new(seed),
        })
    }

    /// As SIGSTOP: nothing of it runs until it is resumed. Timers and sockets go on without it.
    pub(crate) fn pause(&self) {
        self.paused.store(true, Ordering::Relaxed);
    }

    pub(crate) fn resume(&self) {
        self.paused.store(false, Ordering::Relaxed);
        for waker in self.waiting.lock().unwrap().drain(..) {
            waker.wake();
        }
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// Sets its clock wrong.
    pub(crate) fn set_ahead(&self, ahead_ms: i64) {
        self.ahead_ms.store(ahead_ms, Ordering::Relaxed);
    }

    fn seed(&self) -> u64 {
        self.seeds.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed)
    }
}

/// Runs a future as part of a process.
pub(crate) fn within<F: Future>(process: Arc<Process>, future: F) -> impl Future<Output = F::Output> {
    let seed = process.seed();
    let part = Part {
        process: Arc::clone(&process),
        future: Box::pin(future),
    };
    PROCESS.scope(process, seeded(seed, part))
}

fn seeded<F: Future>(seed: u64, future: F) -> TaskLocalFuture<Cell<u64>, F> {
    DeterministicRng::<TokioRuntime>::scope(seed, future)
}

struct Part<F> {
    process: Arc<Process>,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Part<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        if self.process.is_paused() {
            self.process.waiting.lock().unwrap().push(context.waker().clone());
            return Poll::Pending;
        }
        self.future.as_mut().poll(context)
    }
}

pub(crate) fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    match PROCESS.try_with(Arc::clone) {
        Ok(process) => tokio::spawn(within(process, future)),
        Err(_) => tokio::spawn(future),
    }
}

pub(crate) async fn at_home<F: Future>(future: F) -> io::Result<F::Output> {
    Ok(future.await)
}

pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    Ok(work())
}

pub(crate) fn thread(_name: &str, future: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
    drop(spawn(future));
    Ok(())
}

pub(crate) fn wall_ms() -> u64 {
    let read = |process: &Arc<Process>| {
        let now = process.now_ms.load(Ordering::Relaxed);
        now.saturating_add_signed(process.ahead_ms.load(Ordering::Relaxed))
    };
    PROCESS.with(read)
}
