//! When the log may be cut. In: how far entries are applied, and how many bytes the log has written. Out: word to openraft that the state
//! machine is durable (it makes it so, through `apply`), after which it drops all but the last entries. Absent: the cut itself (`log`).
//!
//! The log drops nothing that is not in the state machine on disk: after a power cut the rows go back to the last flush, and everything
//! after it must be found in the log.

use std::{sync::Arc, time::Duration};

use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::time::Instant;

use super::{Inner, settings::ENTRIES_KEPT};

/// When it is time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// How often it looks.
    look: Duration,
    /// A flush of the state machine holds up apply for a moment, so it is not made for a few entries …
    entries: u64,
    /// … nor for a few bytes …
    bytes: u64,
    /// … but a shard that is written to slowly gets one all the same, so that a restart has little to apply again.
    longest: Duration,
    /// A member that is being sent a snapshot needs the entries after it, so the log is left alone, up to this many bytes.
    held_bytes: u64,
}

impl Pace {
    /// 64 MiB are one segment of the log, and cutting less would free none.
    pub(super) const NORMAL: Pace = Pace {
        look: Duration::from_secs(1),
        entries: 100_000,
        bytes: 64 << 20,
        longest: Duration::from_secs(60),
        held_bytes: 4 << 30,
    };

    fn is_due(&self, since: &Since) -> bool {
        since.entries > 0 && (since.entries >= self.entries || since.bytes >= self.bytes || since.time >= self.longest)
    }
}

/// What has come since the log was last cut.
struct Since {
    entries: u64,
    bytes: u64,
    time: Duration,
}

/// A flush that takes longer is not waited for; it counts when it is done.
const FLUSH_LIMIT: Duration = Duration::from_secs(30);

impl Inner {
    pub(super) async fn keep_log_short(self: Arc<Self>, pace: Pace) {
        let now = || {
            let applied = self.views.latest().applied().map_or(0, |applied| applied.index);
            (applied, self.wal.metrics().bytes, Instant::now())
        };
        let mut last = now();
        loop {
            tokio::time::sleep(pace.look).await;
            let (applied, bytes, at) = now();
            let since = Since {
                entries: applied.saturating_sub(last.0),
                bytes: bytes.saturating_sub(last.1),
                time: at.saturating_duration_since(last.2),
            };
            if !pace.is_due(&since) || (since.bytes < pace.held_bytes && self.is_log_needed()) {
                continue;
            }
            if self.cut_log().await.is_err() {
                return;
            }
            last = (applied, bytes, at);
        }
    }

    /// Whether a member is on its way from a snapshot to the end of the log: were the entries in between dropped, it would need another
    /// snapshot, and under a steady load so for ever.
    fn is_log_needed(&self) -> bool {
        let Some(member) = self.snapshots.attended() else {
            return false;
        };
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let matched = metrics.replication.as_ref().and_then(|members| *members.get(&member)?);
        let behind = metrics
            .last_log_index
            .unwrap_or(0)
            .saturating_sub(matched.map_or(0, |matched| matched.index));
        if metrics.replication.is_some() && behind > ENTRIES_KEPT / 2 {
            return true;
        }
        self.snapshots.has_caught_up(member);
        self.snapshots.attended().is_some()
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

#[cfg(test)]
impl Pace {
    /// At once, and again.
    pub(super) const QUICK: Pace = Pace {
        look: Duration::from_millis(10),
        longest: Duration::from_millis(10),
        ..Pace::NORMAL
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// covers row 62
    #[test]
    fn the_log_is_cut_after_entries_or_bytes_or_time() {
        let since = |entries, bytes, seconds| Since {
            entries,
            bytes,
            time: Duration::from_secs(seconds),
        };
        for (since, due) in [
            (since(99_999, (64 << 20) - 1, 59), false),
            (since(100_000, 0, 0), true),
            (since(1, 64 << 20, 0), true),
            (since(1, 0, 60), true),
            (since(0, 64 << 20, 3600), false),
        ] {
            assert_eq!(Pace::NORMAL.is_due(&since), due, "{} entries", since.entries);
        }
    }
}
