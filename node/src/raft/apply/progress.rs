//! What the apply thread is doing, for others to see. In: its own word. Out: how long a batch has been under way, and whether there is no
//! space; and back to the thread: that nobody wants the rest any more. Absent: the batches.

use std::{
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// Shared between the apply thread and its group.
#[derive(Debug)]
pub(in crate::raft) struct Progress {
    started: Instant,
    /// Microseconds after `started` at which the batch under way began, plus one; 0 for none.
    began: AtomicU64,
    waits: AtomicBool,
    closing: Mutex<bool>,
    closed: Condvar,
}

impl Default for Progress {
    fn default() -> Self {
        Progress {
            started: Instant::now(),
            began: AtomicU64::new(0),
            waits: AtomicBool::new(false),
            closing: Mutex::new(false),
            closed: Condvar::new(),
        }
    }
}

impl Progress {
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub(super) fn batch_begins(&self) {
        self.began.store(self.now() + 1, Ordering::Relaxed);
    }

    pub(super) fn batch_ends(&self) {
        self.began.store(0, Ordering::Relaxed);
    }

    pub(super) fn set_waits(&self, waits: bool) {
        self.waits.store(waits, Ordering::Relaxed);
    }

    /// How long the batch has been under way; none between batches, and while there is no space.
    pub(in crate::raft) fn under_way(&self) -> Option<Duration> {
        let began = self.began.load(Ordering::Relaxed).checked_sub(1)?;
        Some(Duration::from_micros(self.now().saturating_sub(began)))
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
