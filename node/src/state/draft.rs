//! A batch that is being made: a copy of the tables, and the rows that differ.
//!
//! If anything fails half way the draft is dropped, and rows and tables are as before. The rules that tie rows to one another (a record
//! to its row in `ttl`, both to the counters) are kept here, so that a command cannot break them.

#[allow(dead_code)] // Lists of operations use it.
mod savepoint;

use std::{collections::BTreeSet, ops::Deref, sync::Arc};

use bytes::Bytes;

use super::{
    Applied, Bound, Record, Tenant, TenantId, digest,
    overlay::Overlay,
    tables::{self, Tables, damaged},
    usage::Usage,
};
use crate::storage::{Keyspace, Reader, StoreError, Write, keys};

use savepoint::Savepoints;

/// How many expired rows one entry counts. The rest is left to the next entries: when a million records expire at once, no entry may
/// keep every member, and every write behind it, for the second that counting them takes.
pub(super) const COUNTED_PER_ENTRY: usize = 64;
/// How far ahead of the clock the next expiry is looked for, milliseconds: so often is looked, at most, and so wide is what is looked at.
const LOOK_AHEAD_MS: u64 = 1_000;
/// A batch ends with the entry that has made it read or write this many rows …
pub(super) const BATCH_ROWS: usize = 4_096;
/// … or this many bytes of them: what a batch costs and holds in memory depends on these, and not on how many entries it has.
pub(super) const BATCH_BYTES: u64 = 16 << 20;

/// Work in progress.
pub(super) struct Draft {
    pub(super) tables: Tables,
    pub(super) rows: Overlay,
    charged: BTreeSet<TenantId>,
    /// Whether the rows before this batch say that expired ones are left uncounted.
    was_counting: bool,
    /// Rows that were read or written so far, and their bytes.
    touched: (usize, u64),
    savepoints: Savepoints,
}

/// A record, and the row that it was read from: the digest counts that row's own bytes.
pub(super) struct Stored {
    row: Bytes,
    record: Record,
}

impl Stored {
    fn decode(row: Bytes) -> Result<Self, StoreError> {
        let record = Record::decode(&row).map_err(|error| damaged(Keyspace::Records, error))?;
        Ok(Stored { row, record })
    }

    /// How long its row is.
    pub(super) fn bytes(&self) -> u64 {
        self.row.len() as u64
    }
}

impl Deref for Stored {
    type Target = Record;

    fn deref(&self) -> &Record {
        &self.record
    }
}

/// What [`Draft::reap`] has done.
pub(super) struct Reaped {
    pub(super) rows: u32,
    pub(super) bytes: u64,
    /// Where the next row may be; none when there is none.
    pub(super) next: Option<Vec<u8>>,
}

impl Draft {
    pub(super) fn new(tables: Tables, base: Arc<dyn Reader>) -> Self {
        Draft {
            was_counting: tables.counting(),
            tables,
            rows: Overlay::new(base),
            charged: BTreeSet::new(),
            touched: (0, 0),
            savepoints: Savepoints::default(),
        }
    }

    /// Whether the batch has done enough for one write to the store.
    pub(super) fn is_large(&self) -> bool {
        let (rows, bytes) = self.touched;
        rows >= BATCH_ROWS || bytes >= BATCH_BYTES
    }

    pub(super) fn touch(&mut self, rows: usize, bytes: u64) {
        self.touched.0 += rows;
        self.touched.1 += bytes;
    }

    /// Moves the clock to the stamp, never back, and counts what has expired, up to a bound. Answers the moment that is in force.
    pub(super) fn advance(&mut self, stamp_ms: u64) -> Result<u64, StoreError> {
        self.pass_time(stamp_ms);
        if self.tables.counting() {
            self.count_expired()?;
        }
        Ok(self.tables.clock_ms)
    }

    /// Moves the clock to the stamp, never back, and counts nothing: what is expired by then is counted by the next entry.
    pub(super) fn pass_time(&mut self, stamp_ms: u64) -> u64 {
        self.tables.clock_ms = self.tables.clock_ms.max(stamp_ms);
        self.tables.clock_ms
    }

    fn count_expired(&mut self) -> Result<(), StoreError> {
        let ahead = self.tables.clock_ms.saturating_add(LOOK_AHEAD_MS);
        let (mut expired, mut next) = (Vec::new(), None);
        for row in self.rows.range(Keyspace::Ttl, self.tables.uncounted(ahead)) {
            let (row, _) = row?;
            let (expires, tenant, _) = tables::parse_ttl(&row)?;
            if expires > self.tables.clock_ms || expired.len() == COUNTED_PER_ENTRY {
                next = Some((expires, row));
                break;
            }
            expired.push(tenant);
        }
        self.touch(expired.len() + usize::from(next.is_some()), 0);
        for tenant in expired {
            self.note_usage(tenant);
            self.tables.count_expired(tenant);
        }
        let tables = &mut self.tables;
        tables.next_expiry_ms = next.as_ref().map_or(ahead.saturating_add(1), |(expires, _)| *expires);
        match next {
            Some((_, row)) if tables.counting() => tables.ttl_counted = row.to_vec(),
            _ => tables.all_counted(),
        }
        Ok(())
    }

    /// The next revision.
    pub(super) fn take_revision(&mut self) -> u64 {
        self.tables.revision += 1;
        self.tables.revision
    }

    pub(super) fn usage(&self, tenant: TenantId) -> Usage {
        self.tables.usage.get(tenant)
    }

    /// The row of a key, expired or not.
    pub(super) fn record(&mut self, tenant: TenantId, key: &str) -> Result<Option<Stored>, StoreError> {
        let row = self.rows.get(Keyspace::Records, &keys::record(tenant, key))?;
        self.touch(1, row.as_ref().map_or(0, |row| row.len() as u64));
        row.map(Stored::decode).transpose()
    }

    /// Writes a record in the place of `old`, which is what [`Draft::record`] answered. It must not be expired already.
    pub(super) fn put_record(&mut self, tenant: TenantId, key: &str, old: Option<&Stored>, new: &Record) {
        if let Some(old) = old {
            self.take_off(tenant, key, old);
        }
        if let Some(expires) = new.expires_at_ms {
            self.rows
                .put(Keyspace::Ttl, keys::ttl(expires, tenant, key), tables::encode_number(new.revision));
            self.tables.next_expiry_ms = self.tables.next_expiry_ms.min(expires);
        }
        let (row, value) = (keys::record(tenant, key), new.encode());
        self.touch(0, value.len() as u64);
        digest::replace_record(&mut self.tables.digest, &row, old.map(|old| &old.row), Some(&value));
        self.rows.put(Keyspace::Records, row, value);
        self.charge(tenant);
        self.change_usage(tenant, |usage| {
            usage.bytes = usage.bytes.saturating_add(new.charge(key));
            usage.rows += 1;
        });
    }

    /// Removes a record, expired or not.
    pub(super) fn remove_record(&mut self, tenant: TenantId, key: &str, old: &Stored) {
        self.take_off(tenant, key, old);
        let row = keys::record(tenant, key);
        digest::replace_record(&mut self.tables.digest, &row, Some(&old.row), None);
        self.rows.delete(Keyspace::Records, row);
    }

    /// Removes rows of a deleted tenant, from this one on. They are read for their hashes, one at a time, and none beyond the bound.
    pub(super) fn reap(&mut self, tenant: TenantId, from: Vec<u8>, limit: Bound) -> Result<Reaped, StoreError> {
        let mut gone = Vec::new();
        let mut bytes = 0;
        let mut rows = self.rows.range(Keyspace::Records, keys::records_of(tenant, from));
        let next = loop {
            if gone.len() >= limit.rows as usize || bytes >= limit.bytes {
                // Just behind the last one. Whether a row is there is for the next command to find: looking means reading it.
                break gone.last().map(|(row, _): &(Vec<u8>, _)| [row.as_slice(), &[0]].concat());
            }
            let Some(row) = rows.next() else { break None };
            let (row, value) = row?;
            bytes += value.len() as u64;
            let (_, key) = keys::parse_record(&row).ok_or_else(|| damaged(Keyspace::Records, "unknown key"))?;
            let record = Record::decode(&value).map_err(|error| damaged(Keyspace::Records, error))?;
            digest::replace_record(&mut self.tables.digest, &row, Some(&value), None);
            gone.push((row.to_vec(), record.expires_at_ms.map(|expires| keys::ttl(expires, tenant, key))));
        };
        drop(rows);
        let removed = u32::try_from(gone.len()).unwrap_or(u32::MAX);
        self.touch(gone.len(), bytes);
        for (row, ttl) in gone {
            self.rows.delete(Keyspace::Records, row);
            if let Some(ttl) = ttl {
                self.rows.delete(Keyspace::Ttl, ttl);
            }
        }
        Ok(Reaped {
            rows: removed,
            bytes,
            next,
        })
    }

    /// Takes a record's row in `ttl` away and its bytes off the counters; from those of the expired ones too, if it was counted there.
    fn take_off(&mut self, tenant: TenantId, key: &str, old: &Record) {
        let mut expired = 0;
        if let Some(expires) = old.expires_at_ms {
            let row = keys::ttl(expires, tenant, key);
            expired = u64::from(row < self.tables.ttl_counted);
            self.rows.delete(Keyspace::Ttl, row);
        }
        // A deleted tenant has no counters any more.
        if self.tables.tenants.by_id(tenant).is_none() {
            return;
        }
        self.tables.expired = self.tables.expired.saturating_sub(expired);
        self.charge(tenant);
        self.change_usage(tenant, |usage| {
            usage.bytes = usage.bytes.saturating_sub(old.charge(key));
            usage.rows = usage.rows.saturating_sub(1);
            usage.expired = usage.expired.saturating_sub(expired);
        });
    }

    /// Allocates an id; four billion of them last longer than the shard.
    pub(super) fn take_tenant_id(&mut self) -> TenantId {
        let id = self.tables.next_tenant;
        self.tables.next_tenant = id.saturating_add(1);
        self.rows.put(
            Keyspace::Meta,
            keys::NEXT_TENANT.to_vec(),
            tables::encode_number(self.tables.next_tenant.into()),
        );
        TenantId(id)
    }

    pub(super) fn put_tenant(&mut self, tenant: Tenant) {
        let old = self.tables.tenants.by_id(tenant.id).map(|old| old.encode());
        self.replace_tenant_row(keys::tenant_config(tenant.id), old, Some(tenant.encode()));
        Arc::make_mut(&mut self.tables.tenants).insert(tenant);
    }

    fn put_grave(&mut self, id: TenantId, first_row: Option<&[u8]>) {
        let old = self.tables.tenants.grave(id).map(Bytes::copy_from_slice);
        self.replace_tenant_row(keys::tenant_grave(id), old, first_row.map(Bytes::copy_from_slice));
    }

    /// A row of keyspace `tenants`, in the digest too.
    fn replace_tenant_row(&mut self, key: Vec<u8>, old: Option<Bytes>, value: Option<Bytes>) {
        let digest = &mut self.tables.digest;
        if let Some(old) = old {
            digest.take_off(Keyspace::Tenants, &key, &old);
        }
        match value {
            Some(value) => {
                digest.add(Keyspace::Tenants, &key, &value);
                self.rows.put(Keyspace::Tenants, key, value);
            }
            None => self.rows.delete(Keyspace::Tenants, key),
        }
    }

    /// Makes a tenant's name free and its rows invisible; they go later.
    pub(super) fn bury_tenant(&mut self, id: TenantId) {
        let first_row = keys::record(id, "");
        let config = self.tables.tenants.by_id(id).map(|old| old.encode());
        self.replace_tenant_row(keys::tenant_config(id), config, None);
        self.put_grave(id, Some(&first_row));
        Arc::make_mut(&mut self.tables.tenants).bury(id, first_row);
        self.tables.expired = self.tables.expired.saturating_sub(self.usage(id).expired);
        self.change_usage(id, |usage| *usage = Usage::default());
        self.charge(id);
    }

    /// The rows of a deleted tenant begin at `first_row` now.
    pub(super) fn shrink_grave(&mut self, id: TenantId, first_row: Vec<u8>) {
        self.put_grave(id, Some(&first_row));
        Arc::make_mut(&mut self.tables.tenants).set_grave(id, first_row);
    }

    /// The last row of a deleted tenant is gone.
    pub(super) fn close_grave(&mut self, id: TenantId) {
        self.put_grave(id, None);
        Arc::make_mut(&mut self.tables.tenants).close_grave(id);
    }

    /// The sweep goes on here.
    pub(super) fn set_ttl_cursor(&mut self, key: Vec<u8>) {
        self.rows
            .put(Keyspace::Meta, keys::TTL_CURSOR.to_vec(), Bytes::copy_from_slice(&key));
        self.tables.ttl_cursor = key;
    }

    /// Nothing is left that is expired at the clock. The next sweep begins behind it, and so walks no tombstone of what was deleted or
    /// refreshed before it expired.
    pub(super) fn all_swept(&mut self) {
        self.set_ttl_cursor(keys::ttl_end(self.tables.clock_ms));
        self.tables.all_counted();
    }

    /// The tables and the batch. What goes back together after a crash is written together here: rows, counters, revision, clock,
    /// membership, and how far the log is applied.
    pub(super) fn finish(mut self, applied: Applied, membership: Option<&(Applied, Bytes)>) -> (Tables, Vec<Write>) {
        for tenant in std::mem::take(&mut self.charged) {
            if self.tables.tenants.by_id(tenant).is_some() {
                let usage = self.usage(tenant);
                self.rows.put(Keyspace::Usage, keys::usage(tenant), usage.encode());
            } else {
                self.rows.delete(Keyspace::Usage, keys::usage(tenant));
            }
        }
        if self.tables.counting() {
            let counted = Bytes::copy_from_slice(&self.tables.ttl_counted);
            self.rows.put(Keyspace::Meta, keys::TTL_COUNTED.to_vec(), counted);
        } else if self.was_counting {
            self.rows.delete(Keyspace::Meta, keys::TTL_COUNTED.to_vec());
        }
        self.rows
            .put(Keyspace::Meta, keys::REVISION.to_vec(), tables::encode_number(self.tables.revision));
        self.rows
            .put(Keyspace::Meta, keys::CLOCK.to_vec(), tables::encode_number(self.tables.clock_ms));
        self.rows.put(Keyspace::Meta, keys::DIGEST.to_vec(), self.tables.digest.encode());
        if let Some((id, bytes)) = membership {
            self.rows
                .put(Keyspace::Meta, keys::MEMBERSHIP.to_vec(), tables::encode_membership(*id, bytes));
        }
        self.rows
            .put(Keyspace::Meta, keys::APPLIED.to_vec(), tables::encode_applied(applied));
        (self.tables, self.rows.into_batch())
    }
}
