//! When the log may be cut. In: how far entries are applied, and how many bytes the log has written. Out: word to openraft that the state
//! machine is durable (it makes it so, through `apply`), after which it drops all but the last entries. Absent: the cut itself (`log`).
//!
//! The log drops nothing that is not in the state machine on disk: after a power cut the rows go back to the last flush, and everything
//! after it must be found in the log.

use std::{sync::Arc, time::Duration};

use openraft::async_runtime::watch::WatchReceiver as _;

use super::{Inner, settings::ENTRIES_KEPT};

/// How often it looks.
const LOOK: Duration = Duration::from_secs(1);
/// A flush of the state machine holds up apply for a moment, so it is not made for a few entries …
const ENTRIES: u64 = 100_000;
/// … nor for a few bytes: this is one segment of the log, and less would free none …
const BYTES: u64 = 64 << 20;
/// … but a shard that is written to slowly gets one all the same, so that a restart has little to apply again.
const LONGEST: Duration = Duration::from_secs(60);
/// A flush that takes longer is not waited for; it counts when it is done.
const FLUSH_LIMIT: Duration = Duration::from_secs(30);

/// What the log had when it was last cut.
struct Mark {
    applied: u64,
    bytes: u64,
    at: tokio::time::Instant,
}

impl Inner {
    pub(super) async fn keep_log_short(self: Arc<Self>) {
        let mut mark = Mark {
            applied: self.views.latest().applied().map_or(0, |applied| applied.index),
            bytes: self.wal.metrics().bytes,
            at: tokio::time::Instant::now(),
        };
        loop {
            tokio::time::sleep(LOOK).await;
            let applied = self.views.latest().applied().map_or(0, |applied| applied.index);
            let bytes = self.wal.metrics().bytes;
            let due = applied.saturating_sub(mark.applied) >= ENTRIES
                || bytes.saturating_sub(mark.bytes) >= BYTES
                || mark.at.elapsed() >= LONGEST;
            if !due || applied == mark.applied {
                continue;
            }
            if self.cut_log().await.is_err() {
                return;
            }
            mark = Mark {
                applied,
                bytes,
                at: tokio::time::Instant::now(),
            };
        }
    }

    /// Makes everything applied durable, and has the log drop all of it but the last entries.
    ///
    /// # Errors
    /// When openraft has stopped.
    pub(super) async fn cut_log(&self) -> Result<(), ()> {
        let before = self.raft.metrics().borrow_watched().snapshot;
        self.raft.trigger().snapshot().await.map_err(|_| ())?;
        // While nothing new is applied there is nothing to wait for.
        let waiting = self.raft.wait(Some(FLUSH_LIMIT));
        let made = waiting.metrics(|now| now.snapshot > before, "the state machine is durable");
        if let Ok(now) = made.await {
            self.snapshots.was_made();
            tracing::debug!(snapshot = ?now.snapshot, purged = ?now.purged, kept = ENTRIES_KEPT, "the state machine is durable");
        }
        Ok(())
    }
}
