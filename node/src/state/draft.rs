//! A batch that is being made: a copy of the tables, and the rows that differ.
//!
//! If anything fails half way the draft is dropped, and rows and tables are as before. The rules that tie rows to one another (a record
//! to its row in `ttl`, both to the counters) are kept here, so that a command cannot break them.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;

use super::{
    Applied, Record, Tenant, TenantId, digest,
    overlay::Overlay,
    tables::{self, Tables, damaged},
    usage::Usage,
};
use crate::storage::{Keyspace, Reader, StoreError, Write, keys};

/// Work in progress.
pub(super) struct Draft {
    pub(super) tables: Tables,
    pub(super) rows: Overlay,
    charged: BTreeSet<TenantId>,
}

impl Draft {
    pub(super) fn new(tables: Tables, base: Arc<dyn Reader>) -> Self {
        Draft {
            tables,
            rows: Overlay::new(base),
            charged: BTreeSet::new(),
        }
    }

    /// Moves the clock to the stamp, never back, and counts what expired on the way. Answers the moment that is in force.
    pub(super) fn advance(&mut self, stamp_ms: u64) -> Result<u64, StoreError> {
        let before = self.tables.clock_ms;
        if stamp_ms <= before {
            return Ok(before);
        }
        self.tables.clock_ms = stamp_ms;
        if self.tables.next_expiry_ms.is_some_and(|next| next <= stamp_ms) {
            self.tables.next_expiry_ms = None;
            for row in self.rows.range(Keyspace::Ttl, keys::ttl_after(before)) {
                if !self.tables.meet_expiry(&row?.0)? {
                    break;
                }
            }
        }
        Ok(stamp_ms)
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
    pub(super) fn record(&self, tenant: TenantId, key: &str) -> Result<Option<Record>, StoreError> {
        let row = self.rows.get(Keyspace::Records, &keys::record(tenant, key))?;
        row.map(|row| Record::decode(&row))
            .transpose()
            .map_err(|error| damaged(Keyspace::Records, error))
    }

    /// Writes a record in the place of `old`, which is what [`Draft::record`] answered. It must not be expired already.
    pub(super) fn put_record(&mut self, tenant: TenantId, key: &str, old: Option<&Record>, new: &Record) {
        if let Some(old) = old {
            self.take_off(tenant, key, old);
        }
        if let Some(expires) = new.expires_at_ms {
            self.rows
                .put(Keyspace::Ttl, keys::ttl(expires, tenant, key), tables::encode_number(new.revision));
            let next = self.tables.next_expiry_ms.map_or(expires, |next| next.min(expires));
            self.tables.next_expiry_ms = Some(next);
        }
        let (row, value) = (keys::record(tenant, key), new.encode());
        digest::replace_record(&mut self.tables.digest, &row, old, Some(&value));
        self.rows.put(Keyspace::Records, row, value);
        self.charged.insert(tenant);
        self.tables.usage.change(tenant, |usage| {
            usage.bytes = usage.bytes.saturating_add(new.charge(key));
            usage.rows += 1;
        });
    }

    /// Removes a record, expired or not.
    pub(super) fn remove_record(&mut self, tenant: TenantId, key: &str, old: &Record) {
        self.take_off(tenant, key, old);
        let row = keys::record(tenant, key);
        digest::replace_record(&mut self.tables.digest, &row, Some(old), None);
        self.rows.delete(Keyspace::Records, row);
    }

    /// Takes a record's row in `ttl` away and its bytes off the counters; an expired one that no sweep has met, too.
    fn take_off(&mut self, tenant: TenantId, key: &str, old: &Record) {
        if let Some(expires) = old.expires_at_ms {
            self.rows.delete(Keyspace::Ttl, keys::ttl(expires, tenant, key));
        }
        // A deleted tenant has no counters any more.
        if self.tables.tenants.by_id(tenant).is_none() {
            return;
        }
        let expired = u64::from(old.is_expired(self.tables.clock_ms));
        self.tables.expired = self.tables.expired.saturating_sub(expired);
        self.charged.insert(tenant);
        self.tables.usage.change(tenant, |usage| {
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
        self.tables.usage.change(id, |usage| *usage = Usage::default());
        self.charged.insert(id);
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
