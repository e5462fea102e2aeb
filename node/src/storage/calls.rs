//! Which call into a store is under way, for those who watch for disks that hang. In: the word of the thread that makes the calls. Out: one
//! number per call, without a clock. Absent: how long a call may take (`raft`), and the work between two calls: a thread that is busy is no
//! disk that hangs.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;

use super::{Direction, KeyRange, Keyspace, Reader, Row, Rows, StoreError};

/// What the slowest disk that is worth having flushes, bytes per second: a flush of much data may take longer than another call.
const FLUSHED_PER_SECOND: u64 = 16 << 20;

/// Whether the rows of the write under way are on disk.
type Written = Box<dyn Fn() -> bool + Send>;

/// The calls of one thread. It costs two stores to memory per call: no clock is read, the watcher has its own.
#[derive(Default)]
pub struct Calls {
    /// Odd during a call.
    count: AtomicU64,
    allowance_ms: AtomicU64,
    written: Mutex<Option<Written>>,
}

/// A call that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Another one for each call.
    pub number: u64,
    /// How much longer than another call it may take.
    pub allowance: Duration,
}

impl Calls {
    /// Makes a call.
    pub fn during<T>(&self, call: impl FnOnce() -> T) -> T {
        // One thread alone writes here.
        let count = self.count.load(Ordering::Relaxed);
        self.count.store(count + 1, Ordering::Relaxed);
        let outcome = call();
        self.count.store(count + 2, Ordering::Relaxed);
        outcome
    }

    /// Makes a call that flushes so many bytes.
    pub fn flushing<T>(&self, bytes: u64, call: impl FnOnce() -> T) -> T {
        self.allowance_ms.store(bytes * 1_000 / FLUSHED_PER_SECOND, Ordering::Relaxed);
        let outcome = self.during(call);
        self.allowance_ms.store(0, Ordering::Relaxed);
        outcome
    }

    /// Within a call that writes: from when `written` says so its rows are on disk, and it only waits for the engine's own threads to catch
    /// up. That is back-pressure, and no call any more. `written` is asked by other threads and must not block.
    pub(super) fn until<T>(&self, written: impl Fn() -> bool + Send + 'static, write: impl FnOnce() -> T) -> T {
        *self.lock() = Some(Box::new(written));
        let outcome = write();
        *self.lock() = None;
        outcome
    }

    /// The call that waits for the disk at the moment.
    pub fn under_way(&self) -> Option<Call> {
        let number = self.count.load(Ordering::Relaxed);
        if number.is_multiple_of(2) || self.lock().as_ref().is_some_and(|written| written()) {
            return None;
        }
        let allowance = Duration::from_millis(self.allowance_ms.load(Ordering::Relaxed));
        Some(Call { number, allowance })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Written>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Calls {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Calls").field(&self.under_way()).finish()
    }
}

/// A reader each of whose reads is such a call. For the thread that makes them alone.
pub(crate) struct Counted {
    pub(crate) reader: Arc<dyn Reader>,
    pub(crate) calls: Arc<Calls>,
}

impl Reader for Counted {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.calls.during(|| self.reader.get(keyspace, key))
    }

    fn recall(&self, keyspace: Keyspace, key: &[u8]) -> Option<Option<Bytes>> {
        self.reader.recall(keyspace, key)
    }

    fn range(&self, keyspace: Keyspace, range: KeyRange, direction: Direction) -> Rows {
        let calls = Arc::clone(&self.calls);
        let rows = calls.during(|| self.reader.range(keyspace, range, direction));
        Box::new(CountedRows { rows, calls })
    }
}

struct CountedRows {
    rows: Rows,
    calls: Arc<Calls>,
}

impl Iterator for CountedRows {
    type Item = Result<Row, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.calls.during(|| self.rows.next())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[test]
    fn each_call_has_a_number_and_none_is_under_way_between_two() {
        let calls = Calls::default();
        assert_eq!(calls.under_way(), None);
        let number = || calls.under_way().map(|call| call.number);
        let (first, second) = (calls.during(number), calls.during(number));
        assert!(first.is_some() && second.is_some() && first != second, "{first:?} {second:?}");
        assert_eq!(calls.under_way(), None);
    }

    #[test]
    fn a_write_that_is_on_disk_and_waits_for_the_engine_is_no_call() {
        let calls = Calls::default();
        let on_disk = Arc::new(AtomicBool::new(false));
        let written = {
            let on_disk = Arc::clone(&on_disk);
            move || on_disk.load(Ordering::Relaxed)
        };
        calls.during(|| {
            calls.until(written, || {
                assert!(calls.under_way().is_some());
                on_disk.store(true, Ordering::Relaxed);
                assert_eq!(calls.under_way(), None);
            });
            assert!(calls.under_way().is_some(), "what comes after it is one again");
        });
    }

    #[test]
    fn a_large_flush_may_take_longer() {
        let calls = Calls::default();
        let allowance = calls.flushing(64 << 20, || calls.under_way().unwrap().allowance);
        assert_eq!(allowance, Duration::from_secs(4));
        assert_eq!(calls.during(|| calls.under_way().unwrap().allowance), Duration::ZERO);
    }
}
