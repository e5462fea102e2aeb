//! A bound on the bytes that a connection holds in memory. In: sizes. Out: permits that give the bytes back when they are dropped.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One permit is this many bytes.
const UNIT: usize = 1 << 10;
/// What a connection holds at most: two of the largest frames, so that the next is on its way while one is worked on.
const BYTES: usize = 64 << 20;

/// The bytes that a connection may still hold.
#[derive(Clone, Debug)]
pub(super) struct Budget(Arc<Semaphore>);

impl Budget {
    pub(super) fn new() -> Self {
        Budget(Arc::new(Semaphore::new(BYTES / UNIT)))
    }

    /// Waits until `bytes` more may be held.
    pub(super) async fn take(&self, bytes: usize) -> OwnedSemaphorePermit {
        let units = u32::try_from((bytes / UNIT + 1).min(BYTES / UNIT)).expect("the budget has fewer units than that");
        Arc::clone(&self.0)
            .acquire_many_owned(units)
            .await
            .expect("this semaphore is never closed")
    }
}
