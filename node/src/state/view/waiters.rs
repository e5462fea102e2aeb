//! Readers that wait for a number (a revision, a log index) that will be reached. In: the number, and news of how far it has come. Out:
//! those are woken whose number is reached, and no others: readers that wait for what is far away cost a batch nothing.
//!
//! A waiter costs about 200 bytes and is a request on a connection of its own, so there are no more of them than connections. News costs
//! one lock, and a step in a tree for each waiter that is due.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use super::Stopped;

/// In the order in which they are due.
#[derive(Default)]
pub(super) struct Waiters {
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: BTreeMap<Place, oneshot::Sender<()>>,
    /// Tells those apart that wait for the same number.
    next: u64,
    /// No more news will come.
    closed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    wanted: u64,
    ticket: u64,
}

impl Waiters {
    /// Returns when `wanted` is reached. `is_reached` looks at what the news is about; it is asked before the wait and once in the queue, so
    /// that news which came in between is not missed.
    pub(super) async fn wait(&self, wanted: u64, is_reached: impl Fn() -> bool) -> Result<(), Stopped> {
        if is_reached() {
            return Ok(());
        }
        let (due, reached) = oneshot::channel();
        let _waiting = {
            let mut queue = self.queue();
            if queue.closed {
                return if is_reached() { Ok(()) } else { Err(Stopped) };
            }
            queue.next += 1;
            let place = Place {
                wanted,
                ticket: queue.next,
            };
            queue.waiting.insert(place, due);
            Waiting { waiters: self, place }
        };
        if is_reached() {
            return Ok(());
        }
        match reached.await {
            Ok(()) => Ok(()),
            Err(_) if is_reached() => Ok(()),
            Err(_) => Err(Stopped),
        }
    }

    /// What the news is about must be there before this: then whoever is not in the queue yet finds it when it looks again.
    pub(super) fn reached(&self, number: u64) {
        let due = {
            let mut queue = self.queue();
            let later = Place {
                wanted: number.saturating_add(1),
                ticket: 0,
            };
            let later = queue.waiting.split_off(&later);
            std::mem::replace(&mut queue.waiting, later)
        };
        for waiter in due.into_values() {
            // One whose deadline has just passed does not listen any more.
            let _ = waiter.send(());
        }
    }

    /// No more news will come: no one is left waiting.
    pub(super) fn close(&self) {
        let mut queue = self.queue();
        queue.closed = true;
        queue.waiting.clear();
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.queue().waiting.len()
    }
}

/// A place in the queue, which is left when its request has gone.
struct Waiting<'a> {
    waiters: &'a Waiters,
    place: Place,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.waiters.queue().waiting.remove(&self.place);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use futures::FutureExt;

    use super::*;

    /// A future's outcome, and how often it was polled.
    async fn counted<T>(future: impl Future<Output = T>) -> (T, u32) {
        let mut future = std::pin::pin!(future);
        let mut polls = 0;
        let outcome = std::future::poll_fn(|context| {
            polls += 1;
            future.as_mut().poll(context)
        });
        (outcome.await, polls)
    }

    #[tokio::test]
    async fn only_those_are_woken_that_are_due() {
        let (waiters, now) = (Arc::new(Waiters::default()), Arc::new(AtomicU64::new(1)));
        let wait = |wanted: u64| {
            let (waiters, now) = (Arc::clone(&waiters), Arc::clone(&now));
            tokio::spawn(async move { counted(waiters.wait(wanted, || now.load(Ordering::SeqCst) >= wanted)).await })
        };
        let (far, near) = (wait(1_000), wait(50));
        for number in (2..100).chain([1_000]) {
            while number == 2 && waiters.count() < 2 {
                tokio::task::yield_now().await;
            }
            now.store(number, Ordering::SeqCst);
            waiters.reached(number);
            tokio::task::yield_now().await;
        }
        assert_eq!(near.await.unwrap(), (Ok(()), 2), "once when it began, once when it was due");
        assert_eq!(
            far.await.unwrap(),
            (Ok(()), 2),
            "ninety-eight batches that were not its own did not wake it"
        );
        assert_eq!(waiters.count(), 0);
    }

    #[tokio::test]
    async fn who_gives_up_leaves_and_who_comes_late_is_told() {
        let waiters = Waiters::default();
        assert_eq!(waiters.wait(5, || true).await, Ok(()));
        {
            let mut waiting = waiters.wait(5, || false).boxed();
            assert!(waiting.as_mut().now_or_never().is_none());
            assert_eq!(waiters.count(), 1);
        }
        assert_eq!(waiters.count(), 0, "its deadline has passed");
        let mut waiting = waiters.wait(5, || false).boxed();
        assert!(waiting.as_mut().now_or_never().is_none());
        waiters.reached(4);
        assert!(waiting.as_mut().now_or_never().is_none());
        waiters.close();
        assert_eq!(waiting.await, Err(Stopped));
        assert_eq!(waiters.wait(5, || false).await, Err(Stopped));
    }
}
