//! What readers see: the state between two batches.
//!
//! A [`View`] never changes. It holds the tables of its moment and a reader that was opened by the apply thread after that batch and
//! before the next: a picture opened at any other time may show parts of a batch. It also keeps old rows from being freed, so it is
//! held for one request, not longer. Absent by design: waiting for a quorum (`raft`), and access rules (`app`).

mod expired;
mod scan;
mod waiters;

use std::{ops::Deref, sync::Arc};

use arc_swap::ArcSwap;
use bytes::Bytes;
use kvfleet_api::{
    admin::{Settings, SettingsStatus},
    tenant::{TenantState, TenantStatus},
    usage::Used,
};
use tokio::sync::watch;

pub use expired::Expired;
pub use scan::{Collect, Ended, ScanLimits, ScanRange};
use waiters::Waiters;

use super::{
    Applied, ChangeCounts, Checkpoint, Digest, Header, Level, Record, Tenant, TenantId,
    tables::{Tables, damaged},
};
use crate::storage::{Direction, KeyRange, Keyspace, Reader, Rows, StoreError, keys};

/// The state at one moment.
pub struct View {
    applied: Option<Applied>,
    membership: Option<(Applied, Bytes)>,
    tables: Tables,
    reader: Arc<dyn Reader>,
}

impl View {
    pub(super) fn new(applied: Option<Applied>, membership: Option<(Applied, Bytes)>, tables: Tables, reader: Arc<dyn Reader>) -> Self {
        View {
            applied,
            membership,
            tables,
            reader,
        }
    }

    /// The same view over other rows.
    #[cfg(test)]
    pub(super) fn over(&self, reader: impl FnOnce(Arc<dyn Reader>) -> Arc<dyn Reader>) -> Self {
        let reader = reader(Arc::clone(&self.reader));
        View::new(self.applied, self.membership.clone(), self.tables.clone(), reader)
    }

    /// The last entry that it contains.
    pub fn applied(&self) -> Option<Applied> {
        self.applied
    }

    /// The last membership that it contains, in raft's own encoding.
    pub fn membership(&self) -> Option<(Applied, Bytes)> {
        self.membership.clone()
    }

    /// The digest of its records and tenants, as it was kept while they were written.
    pub fn digest(&self) -> Digest {
        self.tables.digest
    }

    /// What the state was at fixed places of the log, oldest first, and what it is now; to be compared with another member's.
    pub fn checkpoints(&self) -> Vec<Checkpoint> {
        let mut checkpoints = self.tables.checkpoints.to_vec();
        checkpoints.extend(self.applied.map(|applied| Checkpoint::of(&self.tables, applied.index)));
        checkpoints
    }

    /// How many changes of records this member has applied since it started.
    pub fn changes(&self) -> ChangeCounts {
        self.tables.changes
    }

    /// Reads every header and compares the digest of what is there with the digest that was kept. Large values are not read: they are
    /// looked at when they are. Blocks, for long.
    ///
    /// # Errors
    /// [`StoreError::Digest`] when they differ, [`StoreError::Read`] when a row cannot be read.
    pub fn scrub(&self) -> Result<(), StoreError> {
        let found = Digest::of_rows(self.reader.as_ref())?;
        self.compare(found)
    }

    pub(super) fn compare(&self, found: Digest) -> Result<(), StoreError> {
        let kept = self.tables.digest;
        if found == kept {
            return Ok(());
        }
        Err(StoreError::Digest {
            found: found.to_string(),
            kept: kept.to_string(),
        })
    }

    /// Every row of a keyspace, in the order of the keys. Blocks at each step.
    pub fn rows(&self, keyspace: Keyspace) -> Rows {
        self.reader.range(keyspace, KeyRange::ALL, Direction::Ascending)
    }

    /// The feature level of the group. What needs a higher one must not be proposed. From memory.
    pub fn level(&self) -> Level {
        self.tables.level
    }

    /// The last revision that it contains.
    pub fn revision(&self) -> u64 {
        self.tables.revision
    }

    /// The last stamp that it contains, Unix milliseconds.
    pub fn stamp_ms(&self) -> u64 {
        self.tables.clock_ms
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.tables.settings.settings
    }

    /// The settings with their revision; 0 while they are the defaults that nobody has put.
    pub fn settings_status(&self) -> SettingsStatus {
        SettingsStatus::clone(&self.tables.settings)
    }

    /// The tenant of this name, released ones too. From memory.
    pub fn tenant(&self, name: &str) -> Option<Arc<Tenant>> {
        self.tables.tenants.by_name(name).cloned()
    }

    /// All tenants by name, released ones too; their usage as of [`View::stamp_ms`]. From memory.
    pub fn tenants(&self) -> Vec<TenantStatus> {
        self.tables.tenants.iter().map(|tenant| self.status(tenant)).collect()
    }

    /// How many tenants are served, released ones not counted. From memory, without copying them.
    pub fn served_tenants(&self) -> usize {
        let tenants = self.tables.tenants.iter();
        tenants.filter(|tenant| tenant.state == TenantState::Active).count()
    }

    /// One tenant; its usage as of [`View::stamp_ms`]. From memory.
    pub fn tenant_status(&self, name: &str) -> Option<TenantStatus> {
        self.tables.tenants.by_name(name).map(|tenant| self.status(tenant))
    }

    fn status(&self, tenant: &Tenant) -> TenantStatus {
        tenant.status(self.tables.usage.get(tenant.id).used())
    }

    /// One record; none when it is absent or expired. Blocks on the store: keep it off the async threads.
    ///
    /// # Errors
    /// Those of the store.
    pub fn get(&self, tenant: TenantId, key: &str, now_ms: u64) -> Result<Option<Record>, StoreError> {
        if self.tables.tenants.by_id(tenant).is_none() {
            return Ok(None);
        }
        let key = keys::record(tenant, key);
        let Some(row) = self.reader.get(Keyspace::Records, &key)? else {
            return Ok(None);
        };
        self.shown(&row, now_ms)?.map(|header| self.whole(&key, header)).transpose()
    }

    /// As [`View::get`], from memory: none when the store must be asked. Never blocks.
    ///
    /// # Errors
    /// [`StoreError::Damaged`].
    #[allow(clippy::option_option)] // Not known, known to be absent, known.
    pub fn recall(&self, tenant: TenantId, key: &str, now_ms: u64) -> Result<Option<Option<Record>>, StoreError> {
        if self.tables.tenants.by_id(tenant).is_none() {
            return Ok(Some(None));
        }
        let key = keys::record(tenant, key);
        let row = match self.reader.recall(Keyspace::Records, &key) {
            None => return Ok(None),
            Some(None) => return Ok(Some(None)),
            Some(Some(row)) => row,
        };
        let Some(header) = self.shown(&row, now_ms)? else {
            return Ok(Some(None));
        };
        if !header.is_apart() {
            return Ok(Some(Some(header.with(None))));
        }
        // A value that is not the one that was written is in memory too, once it was read: reading it again tells the damage.
        let value = self.reader.recall(Keyspace::Values, &key).flatten();
        let value = value.filter(|value| header.refuse(Some(value)).is_none());
        Ok(value.map(|value| Some(header.with(Some(value)))))
    }

    /// The header of a record, expired or not: what a write of this key replaces. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) fn stored(&self, tenant: TenantId, key: &str) -> Result<Option<Header>, StoreError> {
        let row = self.reader.get(Keyspace::Records, &keys::record(tenant, key))?;
        row.map(|row| Header::decode(&row).map_err(|error| damaged(Keyspace::Records, error)))
            .transpose()
    }

    fn shown(&self, row: &Bytes, now_ms: u64) -> Result<Option<Header>, StoreError> {
        let header = Header::decode(row).map_err(|error| damaged(Keyspace::Records, error))?;
        Ok(Some(header).filter(|header| !header.is_expired(self.moment(now_ms))))
    }

    /// The record with its value. A value that lies apart is read, and is the one that was written, or damage.
    fn whole(&self, key: &[u8], header: Header) -> Result<Record, StoreError> {
        if !header.is_apart() {
            return Ok(header.with(None));
        }
        let value = self.reader.get(Keyspace::Values, key)?;
        match header.refuse(value.as_deref()) {
            None => Ok(header.with(value)),
            Some(reason) => Err(damaged(Keyspace::Values, reason)),
        }
    }

    /// What the tenant uses; records past their expiry are not counted as keys, their bytes are until they are swept.
    ///
    /// # Errors
    /// Those of the store.
    pub fn used(&self, tenant: TenantId, now_ms: u64) -> Result<Used, StoreError> {
        let standing = self.standing_at(tenant, now_ms)?;
        Ok(Used {
            storage: standing.bytes,
            keys: standing.keys,
        })
    }

    /// Before this moment, Unix milliseconds, no sweep is due. One that has passed means that one may be due, and [`View::sweep_due`] looks.
    /// From memory.
    pub fn next_expiry_ms(&self) -> u64 {
        if self.tables.expired > 0 {
            self.tables.clock_ms
        } else {
            self.tables.next_expiry_ms
        }
    }

    /// Whether rows of deleted tenants wait for `Reap`.
    pub fn reap_due(&self) -> bool {
        self.tables.tenants.has_graves()
    }

    /// What has expired in the log stays expired: a reader's clock behind the view's does not bring it back.
    fn moment(&self, now_ms: u64) -> u64 {
        now_ms.max(self.tables.clock_ms)
    }
}

/// Where readers find the latest view.
#[derive(Clone)]
pub struct Views {
    latest: Arc<ArcSwap<View>>,
    applied: watch::Receiver<Option<u64>>,
    waiting: Arc<Waiting>,
}

/// Who waits for views to come.
#[derive(Default)]
struct Waiting {
    /// By the index that is to be applied.
    index: Waiters,
    /// By the revision that is to be in the view.
    revision: Waiters,
}

impl Views {
    /// The latest view.
    pub fn latest(&self) -> Arc<View> {
        self.latest.load_full()
    }

    /// The same, for a glance: it must not be held.
    pub fn peek(&self) -> impl Deref<Target = Arc<View>> {
        self.latest.load()
    }

    /// The first view found that contains the entry with this index.
    ///
    /// # Errors
    /// [`Stopped`] when the state machine is gone before it got there.
    pub async fn wait_applied(&self, index: u64) -> Result<Arc<View>, Stopped> {
        let reached = || self.latest.load().applied.is_some_and(|applied| applied.index >= index);
        self.waiting.index.wait(index, reached).await?;
        Ok(self.latest())
    }

    /// Returns when the latest view contains this revision.
    ///
    /// # Errors
    /// [`Stopped`] when the state machine is gone before it got there.
    pub async fn wait_revision(&self, revision: u64) -> Result<(), Stopped> {
        let reached = || self.latest.load().revision() >= revision;
        self.waiting.revision.wait(revision, reached).await
    }

    /// Tells of every new view (of the newest, when several came at once) by the index that it has applied. For what follows every one:
    /// who waits for one of them uses [`Views::wait_applied`] or [`Views::wait_revision`], and is not woken for the others.
    pub fn subscribe(&self) -> watch::Receiver<Option<u64>> {
        self.applied.clone()
    }
}

/// The state machine has stopped: the member is closing down or has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the state machine has stopped")]
pub struct Stopped;

/// The apply thread's end of [`Views`].
pub(super) struct Publisher {
    latest: Arc<ArcSwap<View>>,
    applied: watch::Sender<Option<u64>>,
    waiting: Arc<Waiting>,
}

impl Publisher {
    pub(super) fn new(view: View) -> (Self, Views) {
        let publisher = Publisher {
            applied: watch::Sender::new(view.applied.map(|applied| applied.index)),
            latest: Arc::new(ArcSwap::from_pointee(view)),
            waiting: Arc::default(),
        };
        let views = publisher.views();
        (publisher, views)
    }

    pub(super) fn views(&self) -> Views {
        Views {
            latest: Arc::clone(&self.latest),
            applied: self.applied.subscribe(),
            waiting: Arc::clone(&self.waiting),
        }
    }

    /// The view first, then the news of it: whoever is woken finds it.
    pub(super) fn publish(&self, view: View) {
        let (index, revision) = (view.applied.map(|applied| applied.index), view.revision());
        self.latest.store(Arc::new(view));
        self.applied.send_replace(index);
        if let Some(index) = index {
            self.waiting.index.reached(index);
        }
        self.waiting.revision.reached(revision);
    }
}

impl Drop for Publisher {
    /// A view keeps the store's files open, and whoever holds [`Views`] may outlive the machine (a member that drains still answers).
    /// So the last view is replaced by one that has the tables and no rows: the files, and their lock, go with the last reader.
    fn drop(&mut self) {
        let last = self.latest.load_full();
        self.latest.store(Arc::new(View {
            applied: last.applied,
            membership: last.membership.clone(),
            tables: last.tables.clone(),
            reader: Arc::new(ClosedReader),
        }));
        self.waiting.index.close();
        self.waiting.revision.close();
    }
}

/// The rows of a machine that has stopped.
struct ClosedReader;

impl Reader for ClosedReader {
    fn get(&self, _: Keyspace, _: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Err(StoreError::Closed)
    }

    fn range(&self, _: Keyspace, _: KeyRange, _: Direction) -> Rows {
        Box::new(std::iter::once(Err(StoreError::Closed)))
    }
}
