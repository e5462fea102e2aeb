//! What the apply thread is doing, for others to see. In: its calls into the store, and its own word. Out: how long one call has been
//! waiting for the disk, and whether there is no space; and back to the thread: that the rest is not wanted any more. Absent: the batches.
//! However long one of them takes, only a single call that does not return says that the disk hangs.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::storage::Calls;

/// Shared between the apply thread and its group.
#[derive(Debug)]
pub(in crate::raft) struct Progress {
    calls: Arc<Calls>,
    /// The number of the last call that was seen under way, and since when. Whoever asks keeps it, at least ten times a second: so much
    /// shorter than it is may a stall look.
    seen: Mutex<Option<(u64, Instant)>>,
    waits: AtomicBool,
    closing: Mutex<bool>,
    closed: Condvar,
}

#[cfg(test)]
impl Default for Progress {
    fn default() -> Self {
        Progress::new(Arc::default())
    }
}

impl Progress {
    pub(in crate::raft) fn new(calls: Arc<Calls>) -> Self {
        Progress {
            calls,
            seen: Mutex::new(None),
            waits: AtomicBool::new(false),
            closing: Mutex::new(false),
            closed: Condvar::new(),
        }
    }

    pub(super) fn set_waits(&self, waits: bool) {
        self.waits.store(waits, Ordering::Relaxed);
    }

    /// How long the call under way has been waiting for the disk; none between calls, and while there is no space.
    pub(in crate::raft) fn under_way(&self) -> Option<Duration> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(call) = self.calls.under_way() else {
            *seen = None;
            return None;
        };
        let known = seen.filter(|(number, _)| *number == call.number);
        let (_, since) = *seen.insert(known.unwrap_or_else(|| (call.number, Instant::now())));
        Some(since.elapsed().saturating_sub(call.allowance))
    }

    /// Whether a batch waits for disk space.
    pub(in crate::raft) fn waits_for_space(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }

    /// Ends a wait for space, now and from now on.
    pub(in crate::raft) fn close(&self) {
        *self.lock() = true;
        self.closed.notify_all();
    }

    /// Pauses; false when the group closes.
    pub(super) fn pause(&self, pause: Duration) -> bool {
        let waited = self.closed.wait_timeout_while(self.lock(), pause, |closing| !*closing);
        let (closing, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !*closing
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.closing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
