//! Snapshots between members: the published view of one becomes the state of another. In: a view and a member, or frames from a member.
//! Out: frames, or a state that openraft is told to install. Absent: what is in a frame (`state::snapshot`), and when a follower needs
//! one (openraft knows, when the entries that it lacks are gone).
//!
//! A transfer has a connection of its own, so heartbeats and appends never wait behind it, and nobody who writes is held up: a view does
//! not change, and the entries that are applied meanwhile are in the log. Each end holds a few frames in memory, whatever the size.

mod receive;
mod send;

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};

use super::{
    encoding,
    retention::Attended,
    types::{self, Committed, Member, StoredMembership},
};
use crate::{
    state::{
        Applied, Level, Machine, View,
        snapshot::{Origin, Received},
    },
    storage::{Incoming, Store, StoreError},
};

pub(super) use receive::receive;

/// A member that did not take a snapshot is sent the next one after this long, doubled with each failure …
const FIRST_REST: Duration = Duration::from_millis(500);
/// … up to this.
const LONGEST_REST: Duration = Duration::from_secs(60);

pub(super) type SnapshotMeta = openraft::storage::SnapshotMeta<Committed, u64, Member>;
pub(super) type Snapshot = openraft::storage::Snapshot<Committed, u64, Member, Contents>;

/// A member that is not known to have its snapshot within this time after all of it was sent is not waited for.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(600);

/// How far the log is cut, and what members were sent instead of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotCounters {
    /// The last log index that was dropped.
    pub purged_index: Option<u64>,
    /// The last log index at which the state machine was flushed or received.
    pub durable_index: Option<u64>,
    /// On the leader: entries that the furthest-behind member lacks.
    pub replication_lag: Option<u64>,
    /// Flushes of the state machine, since the start, that let the log drop entries.
    pub made: u64,
    /// Snapshots sent since the start.
    pub sent: u64,
    /// Snapshots received since the start.
    pub received: u64,
}

/// What openraft hands around as a snapshot.
pub(super) enum Contents {
    /// This member's own, to be sent.
    View(Arc<View>),
    /// Another member's, on disk, to be installed.
    Received(Received),
}

/// The membership of a state as openraft wants it.
pub(super) fn membership(stored: Option<(Applied, Bytes)>) -> io::Result<StoredMembership> {
    let Some((at, bytes)) = stored else {
        return Ok(StoredMembership::default());
    };
    let membership = encoding::decode_membership(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(StoredMembership::new(Some(types::log_id(at.term, at.index)), membership))
}

fn meta(applied: Applied, stored: Option<(Applied, Bytes)>) -> io::Result<SnapshotMeta> {
    Ok(SnapshotMeta {
        last_log_id: Some(types::log_id(applied.term, applied.index)),
        last_membership: membership(stored)?,
    })
}

/// A view as a snapshot; none of a state that is empty.
pub(super) fn of(view: Arc<View>) -> io::Result<Option<Snapshot>> {
    let Some(applied) = view.applied() else {
        return Ok(None);
    };
    let meta = meta(applied, view.membership())?;
    Ok(Some(Snapshot {
        meta,
        snapshot: Contents::View(view),
    }))
}

type Create = Arc<dyn Fn() -> Result<Box<dyn Incoming>, StoreError> + Send + Sync>;
type Discard = Arc<dyn Fn(u64) + Send + Sync>;

/// Where a received state is put.
pub(super) struct Place {
    create: Create,
    discard: Discard,
}

impl Place {
    /// Beside the state of `machine`.
    pub(super) fn of<S: Store>(machine: &Machine<S>) -> Self {
        let stores = machine.stores();
        let removing = stores.clone();
        Place {
            create: Arc::new(move || stores.as_ref().ok_or(StoreError::Alone)?.create_next()),
            discard: Arc::new(move |set| {
                if let Some(stores) = &removing {
                    stores.discard(set);
                }
            }),
        }
    }
}

/// A member that is brought up to date.
struct Attending {
    attended: Attended,
    /// When all of the snapshot had been sent.
    sent: Option<Instant>,
}

/// What this member does with snapshots.
pub(super) struct Office {
    origin: Origin,
    /// The newest feature level that this program knows.
    known: Level,
    /// A level above it that the log or a snapshot asks for: this member cannot go on.
    above: OnceLock<Level>,
    place: Place,
    /// A transfer keeps old rows from being freed, so there is one at a time.
    sending: Semaphore,
    transfers: AtomicU64,
    attended: Mutex<Option<Attending>>,
    /// Members that did not take one, and until when they are left alone: a whole state is not sent again at once.
    resting: Mutex<HashMap<u64, (Instant, Duration)>>,
    damage: watch::Sender<Option<String>>,
    sent: AtomicU64,
    received: AtomicU64,
    made: AtomicU64,
}

impl Office {
    pub(super) fn new(origin: Origin, known: Level, place: Place, damage: watch::Sender<Option<String>>) -> Self {
        Office {
            origin,
            known,
            above: OnceLock::new(),
            place,
            sending: Semaphore::new(1),
            transfers: AtomicU64::new(1),
            attended: Mutex::default(),
            resting: Mutex::default(),
            damage,
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            made: AtomicU64::new(0),
        }
    }

    fn attend(&self, attended: Option<Attending>) {
        *self.attended.lock().unwrap_or_else(PoisonError::into_inner) = attended;
    }

    /// A member that is being sent a snapshot, or was a moment ago.
    pub(super) fn attended(&self) -> Option<Attended> {
        let attended = self.attended.lock().unwrap_or_else(PoisonError::into_inner);
        let Attending { attended, sent } = attended.as_ref()?;
        let present = sent.is_none_or(|sent| sent.elapsed() < CATCH_UP_LIMIT);
        present.then_some(*attended)
    }

    /// A member that was sent one has it.
    pub(super) fn has_caught_up(&self, member: u64) {
        let mut attended = self.attended.lock().unwrap_or_else(PoisonError::into_inner);
        if attended
            .as_ref()
            .is_some_and(|known| known.attended.member == member && known.sent.is_some())
        {
            *attended = None;
        }
    }

    fn resting(&self) -> MutexGuard<'_, HashMap<u64, (Instant, Duration)>> {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_resting(&self, member: u64) -> bool {
        self.resting().get(&member).is_some_and(|(until, _)| Instant::now() < *until)
    }

    /// The first time for a short while, then longer.
    fn let_rest(&self, member: u64) {
        let mut resting = self.resting();
        let pause = resting.get(&member).map_or(FIRST_REST, |(_, pause)| LONGEST_REST.min(2 * *pause));
        resting.insert(member, (Instant::now() + pause, pause));
    }

    /// The log or a snapshot is of this level, which the program does not know.
    pub(super) fn is_above(&self, level: Level) {
        // The first is the one that is told.
        let _ = self.above.set(level);
    }

    /// Why this member cannot go on, if it is for its program's level.
    pub(super) fn too_new(&self) -> Option<StoreError> {
        let known = self.known;
        self.above.get().map(|found| StoreError::NewerLevel { found: *found, known })
    }

    /// The first finding is the one that is told.
    pub(super) fn found_damage(&self, reason: String) {
        self.damage.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                tracing::error!(reason, "the data of this member is damaged");
                *known = Some(reason);
            }
            first
        });
    }

    /// As if a snapshot were under way for as long as the permit lives: meanwhile none is really sent, whose end would be taken for this one's.
    #[cfg(test)]
    pub(super) async fn pretend_to_send(&self, member: u64, needs_from: u64) -> tokio::sync::SemaphorePermit<'_> {
        let turn = self.sending.acquire().await.expect("it is never closed");
        let attended = Attended { member, needs_from };
        self.attend(Some(Attending { attended, sent: None }));
        turn
    }

    /// Whose state this is.
    #[cfg(test)]
    pub(super) fn origin(&self) -> Origin {
        self.origin
    }

    pub(super) fn was_made(&self) {
        self.made.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn counters(&self) -> SnapshotCounters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SnapshotCounters {
            made: read(&self.made),
            sent: read(&self.sent),
            received: read(&self.received),
            ..SnapshotCounters::default()
        }
    }
}
