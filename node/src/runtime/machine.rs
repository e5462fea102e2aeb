//! The real machine.

use std::{
    io,
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::{runtime::Handle, task::JoinHandle};

use super::threads;

/// Runs a future beside its caller, on Raft's threads where the process has such.
pub(crate) fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    match threads::home() {
        Some(home) => home.spawn(future),
        None => tokio::spawn(future),
    }
}

/// Runs a future where [`spawn`] would, and waits for it: what it makes (sockets, timers, tasks) belongs there.
///
/// # Errors
/// When it panicked, or the runtime is closing down.
pub(crate) async fn at_home<F>(future: F) -> io::Result<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    match threads::home() {
        Some(home) => home.spawn(future).await.map_err(io::Error::other),
        None => Ok(future.await),
    }
}

/// Runs what blocks on a thread for it, once.
///
/// # Errors
/// When it panicked, or the runtime is closing down.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}

/// Gives a future an OS thread of its own: it may block as it likes. Needs a runtime around it.
///
/// # Errors
/// When the system gives no thread.
pub(crate) fn thread(name: &str, future: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
    let runtime = threads::home().unwrap_or_else(Handle::current);
    let work = move || runtime.block_on(future);
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

/// The time of day, Unix milliseconds. A clock before 1970 counts as 1970: the others' clocks decide then.
pub(crate) fn wall_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
