//! Records in a draft: the one door through which every change of a record goes. A header, its value, its row in `ttl`, the counters, the
//! digest and the event change together here, so that no operation can forget one of them. No value is read.

use std::ops::Deref;

use bytes::Bytes;

use super::Draft;
use crate::{
    state::{
        Bound, Change, ChangeKind, Record, TenantId, digest,
        record::Header,
        tables::{self, damaged},
    },
    storage::{Keyspace, StoreError, keys},
};

/// A record's header, and the row that it was read from: the digest counts that row's own bytes.
pub(in crate::state) struct Stored {
    row: Bytes,
    header: Header,
}

impl Stored {
    fn decode(row: Bytes) -> Result<Self, StoreError> {
        let header = Header::decode(&row).map_err(|error| damaged(Keyspace::Records, error))?;
        Ok(Stored { row, header })
    }

    /// How long its row is; a value that lies apart is not part of it.
    pub(in crate::state) fn bytes(&self) -> u64 {
        self.row.len() as u64
    }
}

impl Deref for Stored {
    type Target = Header;

    fn deref(&self) -> &Header {
        &self.header
    }
}

/// What [`Draft::reap`] has done.
pub(in crate::state) struct Reaped {
    pub(in crate::state) rows: u32,
    pub(in crate::state) bytes: u64,
    /// Where the next row may be; none when there is none.
    pub(in crate::state) next: Option<Vec<u8>>,
}

impl Draft {
    /// The header of a key's record, expired or not.
    pub(in crate::state) fn record(&mut self, tenant: TenantId, key: &str) -> Result<Option<Stored>, StoreError> {
        let row = self.rows.get(Keyspace::Records, &keys::record(tenant, key))?;
        self.touch(1, row.as_ref().map_or(0, |row| row.len() as u64));
        row.map(Stored::decode).transpose()
    }

    /// Writes a record in the place of `old`, which is what [`Draft::record`] answered. It must not be expired already.
    pub(in crate::state) fn put_record(&mut self, tenant: TenantId, key: &str, old: Option<&Stored>, new: &Record) {
        if let Some(old) = old {
            self.take_off(tenant, key, old);
        }
        if let Some(expires) = new.expires_at_ms {
            self.rows
                .put(Keyspace::Ttl, keys::ttl(expires, tenant, key), tables::encode_number(new.revision));
            self.tables.next_expiry_ms = self.tables.next_expiry_ms.min(expires);
        }
        let (row, rows) = (keys::record(tenant, key), new.to_rows());
        self.touch(0, (rows.header.len() + rows.value.as_ref().map_or(0, Bytes::len)) as u64);
        digest::replace_record(&mut self.tables.digest, &row, old.map(|old| &old.row), Some(&rows.header));
        match rows.value {
            Some(value) => self.rows.put(Keyspace::Values, row.clone(), value),
            None => self.remove_value(&row, old),
        }
        self.rows.put(Keyspace::Records, row, rows.header);
        self.charge(tenant);
        self.change_usage(tenant, |usage| {
            usage.bytes = usage.bytes.saturating_add(new.charge(key));
            usage.rows += 1;
        });
        self.tell(tenant, key, new.revision, ChangeKind::Put);
    }

    /// Removes a record that a tenant deletes. The change has the last revision taken.
    pub(in crate::state) fn remove_record(&mut self, tenant: TenantId, key: &str, old: &Stored) {
        self.remove(tenant, key, old);
        self.tell(tenant, key, self.tables.revision, ChangeKind::Delete);
    }

    /// Removes a record that has expired. That of a deleted tenant goes unseen: it takes no revision and is no change.
    pub(in crate::state) fn expire_record(&mut self, tenant: TenantId, key: &str, old: &Stored) {
        if self.tables.tenants.by_id(tenant).is_some() {
            self.take_revision();
            self.tell(tenant, key, self.tables.revision, ChangeKind::Expire);
        }
        self.remove(tenant, key, old);
    }

    fn remove(&mut self, tenant: TenantId, key: &str, old: &Stored) {
        self.take_off(tenant, key, old);
        let row = keys::record(tenant, key);
        digest::replace_record(&mut self.tables.digest, &row, Some(&old.row), None);
        self.remove_value(&row, Some(old));
        self.rows.delete(Keyspace::Records, row);
    }

    /// The value goes with its header. The header says whether there is one: nothing is read.
    fn remove_value(&mut self, row: &[u8], old: Option<&Stored>) {
        if old.is_some_and(|old| old.is_apart()) {
            self.rows.delete(Keyspace::Values, row.to_vec());
        }
    }

    fn tell(&mut self, tenant: TenantId, key: &str, revision: u64, kind: ChangeKind) {
        self.changes.push(Change {
            tenant,
            key: key.into(),
            revision,
            kind,
        });
    }

    /// Takes a record's row in `ttl` away and its bytes off the counters; from those of the expired ones too, if it was counted there.
    fn take_off(&mut self, tenant: TenantId, key: &str, old: &Header) {
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

    /// Removes rows of a deleted tenant, from this one on. Their headers are read, one at a time, and none beyond the bound.
    pub(in crate::state) fn reap(&mut self, tenant: TenantId, from: Vec<u8>, limit: Bound) -> Result<Reaped, StoreError> {
        let mut gone = Vec::new();
        let mut bytes = 0;
        let mut rows = self.rows.range(Keyspace::Records, keys::records_of(tenant, from));
        let next = loop {
            if gone.len() >= limit.rows as usize || bytes >= limit.bytes {
                // Just behind the last one. Whether a row is there is for the next command to find: looking means reading it.
                break gone.last().map(|(row, ..): &(Vec<u8>, _, _)| [row.as_slice(), &[0]].concat());
            }
            let Some(row) = rows.next() else { break None };
            let (row, header) = row?;
            bytes += header.len() as u64;
            let (_, key) = keys::parse_record(&row).ok_or_else(|| damaged(Keyspace::Records, "unknown key"))?;
            let stored = Stored::decode(header)?;
            digest::replace_record(&mut self.tables.digest, &row, Some(&stored.row), None);
            let ttl = stored.expires_at_ms.map(|expires| keys::ttl(expires, tenant, key));
            gone.push((row.to_vec(), ttl, stored.is_apart()));
        };
        drop(rows);
        let removed = u32::try_from(gone.len()).unwrap_or(u32::MAX);
        self.touch(gone.len(), bytes);
        for (row, ttl, apart) in gone {
            if apart {
                self.rows.delete(Keyspace::Values, row.clone());
            }
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
}
