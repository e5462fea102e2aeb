//! How much of the log is kept. In: how far entries are applied, what each member has, how large the volume is. Out: the state machine made
//! durable (through `apply`), then word to openraft how far the log may be dropped. Absent: the files (`log`), and which follower gets a
//! snapshot (openraft decides, by what was dropped).
//!
//! The log drops nothing that is not in the state machine on disk: after a power cut the rows go back to the last flush, and everything
//! after it must be found in the log. So `Persisted` bounds every cut. Above that the log is kept by bytes:
//!
//! - what every member has goes, but for a short end of the log, [`Limits::least`];
//! - for members that lack entries the log is held, up to [`Limits::most`]. A member that lacks more is held for no longer: it is sent a
//!   snapshot, and needs the entries after that one only;
//! - only a leader knows what the others have. It tells them with each append what no member needs any more, so that all cut alike, and the
//!   next leader still has what a member lacks that is away.
//!
//! openraft (0.10.0-alpha.37) puts a leader's cut off for as long as a stream of appends to any member is behind it, and carries it out as a
//! whole or not at all: a follower that is slow but answers would hold the leader's log without a bound. A cut beyond such a member is
//! therefore told to `network`, which ends the stream with the next append: then openraft cuts, and sends a snapshot.

mod plan;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::{sync::watch, time::Instant};

use super::Inner;
use crate::log::Size;
pub(super) use plan::Attended;
use plan::{Member, Plan};

const MIB: u64 = 1 << 20;

/// When it is time for a flush or a cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// How often it looks.
    look: Duration,
    /// A flush of the state machine holds up apply for a moment, and a cut holds up the log, so neither is made for a few entries …
    entries: u64,
    /// … nor for a few bytes …
    bytes: u64,
    /// … but a shard that is written to slowly gets one all the same, so that a restart has little to apply again, and an idle one keeps
    /// little.
    longest: Duration,
    /// How much is kept.
    limits: Limits,
}

/// What is kept of entries that could go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The end of the log that is kept although every member has it: a leader that has just been elected does not know yet who has what.
    least: Size,
    /// What is held for members that lack it, on a volume of any size …
    most: Size,
    /// … and what at least, however small or full the volume is.
    most_at_least: u64,
}

impl Limits {
    /// Of a volume, this part may be log that is held for others.
    const SHARE: u64 = 10;

    /// What is held on a volume of this size (if that is known) with this much room above its reserve.
    fn most_on(&self, volume: Option<u64>, room: u64) -> Size {
        let bytes = match volume {
            // A member that is away shall not stop the writes of all.
            _ if room == 0 => self.most_at_least,
            Some(total) => (total / Self::SHARE).min(self.most.bytes).max(self.most_at_least),
            None => self.most.bytes,
        };
        Size { bytes, ..self.most }
    }
}

impl Pace {
    /// 64 MiB are one segment of the log, and cutting less would free none. Two million entries cost 64 MiB of memory (`log`'s table):
    /// they are an hour at 500 a second.
    pub(super) const NORMAL: Pace = Pace {
        look: Duration::from_secs(1),
        entries: 100_000,
        bytes: 64 * MIB,
        longest: Duration::from_secs(60),
        limits: Limits {
            least: Size {
                entries: 10_000,
                bytes: 16 * MIB,
            },
            most: Size {
                entries: 2_000_000,
                bytes: 4 << 30,
            },
            most_at_least: 64 * MIB,
        },
    };

    fn is_due(&self, waiting: Size, since: Duration) -> bool {
        waiting.entries > 0 && (waiting.entries >= self.entries || waiting.bytes >= self.bytes || since >= self.longest)
    }
}

/// The index after the last one that this process has made durable in the state machine; 0 for none. What was applied by an earlier process
/// counts only after a flush by this one: it may have ended before its own.
pub(super) type Persisted = watch::Receiver<u64>;

/// A flush that takes longer is not waited for; it counts when it is done.
const FLUSH_LIMIT: Duration = Duration::from_secs(30);

/// What is known here of what may go.
pub(super) struct Retention {
    pace: Mutex<Pace>,
    persisted: Persisted,
    /// No member that the log is held for needs an entry below this index. Rises only: what is committed stays so.
    unneeded: AtomicU64,
    /// Appends that begin below this index are not sent any more: what they carry is about to be dropped.
    floor: AtomicU64,
}

impl Retention {
    pub(super) fn new(persisted: Persisted) -> Self {
        Retention {
            pace: Mutex::new(Pace::NORMAL),
            persisted,
            unneeded: AtomicU64::new(0),
            floor: AtomicU64::new(0),
        }
    }

    fn pace(&self) -> Pace {
        *self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For another member: the index below which no member needs anything.
    pub(super) fn unneeded(&self) -> u64 {
        self.unneeded.load(Ordering::Relaxed)
    }

    /// Takes in what a leader tells. Also of one that has been replaced: it speaks of committed entries only.
    pub(super) fn hear(&self, unneeded: u64) {
        self.unneeded.fetch_max(unneeded, Ordering::Relaxed);
    }

    /// Whether an append whose first entry would have this index may still be sent.
    pub(super) fn may_send(&self, first: u64) -> bool {
        first >= self.floor.load(Ordering::Relaxed)
    }
}

/// What one look after another must remember.
struct Since {
    flush: Instant,
    cut: Instant,
    /// The index up to which the last cut was to go; openraft may have put it off.
    cut_to: u64,
    /// Members of which a leader knows nothing, and that have been held for once.
    given_up: BTreeSet<u64>,
}

impl Inner {
    /// Looks, flushes and cuts until openraft stops.
    pub(super) async fn keep_log_short(self: Arc<Self>) {
        let now = Instant::now();
        let mut since = Since {
            flush: now,
            cut: now,
            cut_to: 0,
            given_up: BTreeSet::new(),
        };
        loop {
            let pace = self.retention.pace();
            tokio::time::sleep(pace.look).await;
            if self.flush_when_due(&pace, &mut since).await.is_err() || self.cut_when_due(&pace, &mut since).await.is_err() {
                return;
            }
        }
    }

    async fn flush_when_due(&self, pace: &Pace, since: &mut Since) -> Result<(), ()> {
        let applied = self.views.latest().applied().map_or(0, |applied| applied.index + 1);
        let persisted = *self.retention.persisted.borrow();
        let mut waiting = self.wal.size_from(persisted);
        waiting.entries = waiting.entries.min(applied.saturating_sub(persisted));
        if pace.is_due(waiting, since.flush.elapsed()) {
            // Before the flush: what comes meanwhile waits as long as it would have.
            since.flush = Instant::now();
            self.flush().await?;
        }
        Ok(())
    }

    /// Makes everything applied durable.
    ///
    /// # Errors
    /// When openraft has stopped.
    pub(super) async fn flush(&self) -> Result<(), ()> {
        let mut persisted = self.retention.persisted.clone();
        persisted.borrow_and_update();
        self.raft.trigger().snapshot().await.map_err(|_| ())?;
        let Ok(Ok(())) = tokio::time::timeout(FLUSH_LIMIT, persisted.changed()).await else {
            return Ok(());
        };
        let durable = *persisted.borrow();
        // openraft must have heard of it, too, or it would cut less.
        let known = |snapshot: Option<u64>| snapshot.map_or(0, |index| index + 1) >= durable;
        let waiting = self.raft.wait(Some(FLUSH_LIMIT));
        let made = waiting.metrics(
            |now| known(now.snapshot.map(|id| id.index)),
            "openraft knows that the state machine is durable",
        );
        if let Ok(now) = made.await {
            self.snapshots.was_made();
            tracing::debug!(snapshot = ?now.snapshot, purged = ?now.purged, "the state machine is durable");
        }
        Ok(())
    }

    async fn cut_when_due(&self, pace: &Pace, since: &mut Since) -> Result<(), ()> {
        let Plan {
            unneeded,
            cut_to,
            given_up,
        } = self.plan(pace, &mut since.given_up);
        self.retention.unneeded.fetch_max(unneeded, Ordering::Relaxed);
        let first = self.first_held();
        let held = self.wal.size_from(first);
        let rest = self.wal.size_from(cut_to);
        let droppable = Size {
            entries: held.entries.saturating_sub(rest.entries),
            bytes: held.bytes.saturating_sub(rest.bytes),
        };
        // One that openraft has put off is not asked for again until there is more to cut.
        if cut_to <= since.cut_to || !pace.is_due(droppable, since.cut.elapsed()) {
            return Ok(());
        }
        for Member { id, first_lacking } in given_up {
            let lacks = self.wal.size_from(first_lacking.unwrap_or(first));
            tracing::warn!(
                member = format_args!("{id:x}"),
                entries = lacks.entries,
                bytes = lacks.bytes,
                "a member lacks more of the log than is held for one member: it is cut, and the member needs the whole state"
            );
        }
        (since.cut, since.cut_to) = (Instant::now(), cut_to);
        tracing::debug!(cut_to, ?droppable, kept = ?rest, "cutting the log");
        let Some(last) = cut_to.checked_sub(1) else { return Ok(()) };
        self.raft.trigger().purge_log(last).await.map_err(|_| ())?;
        // Only now: a stream that ended before openraft knows of the cut would be taken up again.
        self.retention.floor.fetch_max(cut_to, Ordering::Relaxed);
        Ok(())
    }

    /// The first index that the log holds, or would.
    fn first_held(&self) -> u64 {
        self.wal.purged().map_or(0, |purged| purged.index + 1)
    }

    fn plan(&self, pace: &Pace, known_given_up: &mut BTreeSet<u64>) -> Plan {
        let rooms = self.transport.rooms();
        let attended = self.snapshots.attended();
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let matched = metrics.replication.as_ref();
        let members = matched.map(|matched| {
            let others = matched.iter().filter(|(id, _)| **id != self.settings.id);
            others.map(|(id, matched)| Member {
                id: *id,
                first_lacking: matched.as_ref().map(|matched| matched.index + 1),
            })
        });
        let after = |id: Option<u64>| id.map_or(0, |id| id + 1);
        let durable = after(metrics.snapshot.map(|id| id.index)).min(*self.retention.persisted.borrow());
        let seen = plan::Seen {
            first_held: self.first_held(),
            applied: after(metrics.last_applied.map(|id| id.index)),
            durable,
            told: self.retention.unneeded(),
            members: members.map(Iterator::collect),
            attended,
            least_from: self.wal.first_within(pace.limits.least),
            most_from: self.wal.first_within(pace.limits.most_on(rooms.volume(), rooms.own())),
        };
        drop(metrics);
        if let Some(attended) = seen.settled() {
            self.snapshots.has_caught_up(attended);
        }
        plan::plan(seen, known_given_up)
    }
}

#[cfg(test)]
impl Pace {
    /// At once, and again; and a few KiB are kept.
    pub(super) const QUICK: Pace = Pace {
        look: Duration::from_millis(10),
        longest: Duration::from_millis(10),
        limits: Limits {
            least: Size {
                entries: 10,
                bytes: 4 << 10,
            },
            most: Size {
                entries: 100_000,
                bytes: 4 * MIB,
            },
            most_at_least: 64 << 10,
        },
        ..Pace::NORMAL
    };

    /// As [`Pace::QUICK`], with other limits for members that lack entries.
    pub(super) fn holding(most: Size) -> Pace {
        let limits = Limits {
            most,
            ..Pace::QUICK.limits
        };
        Pace { limits, ..Pace::QUICK }
    }
}

#[cfg(test)]
impl Retention {
    pub(super) fn set_pace(&self, pace: Pace) {
        *self.pace.lock().unwrap_or_else(PoisonError::into_inner) = pace;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// covers row 62
    #[test]
    fn the_log_is_cut_after_entries_or_bytes_or_time() {
        for (entries, bytes, seconds, due) in [
            (99_999, (64 << 20) - 1, 59, false),
            (100_000, 0, 0, true),
            (1, 64 << 20, 0, true),
            (1, 0, 60, true),
            (0, 64 << 20, 3600, false),
        ] {
            let waiting = Size { entries, bytes };
            assert_eq!(Pace::NORMAL.is_due(waiting, Duration::from_secs(seconds)), due, "{waiting:?}");
        }
    }

    #[test]
    fn a_tenth_of_the_volume_is_held_for_members_that_lack_entries() {
        let most = |volume, room| Pace::NORMAL.limits.most_on(volume, room);
        for (volume, bytes) in [
            (Some(100 * MIB), 64 * MIB),
            (Some(8 << 30), (8 << 30) / 10),
            (Some(1 << 40), 4 << 30),
            (None, 4 << 30),
        ] {
            let entries = 2_000_000;
            assert_eq!(most(volume, 1), Size { entries, bytes }, "of {volume:?}");
        }
        assert_eq!(most(Some(1 << 40), 0).bytes, 64 * MIB, "a volume that is full holds little");
    }
}
