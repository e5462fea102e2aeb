//! Tenants in a draft: their rows, their place in the tables, and what is left of deleted ones.

use std::sync::Arc;

use bytes::Bytes;

use super::Draft;
use crate::{
    state::{Tenant, TenantId, tables, usage::Usage},
    storage::{Keyspace, keys},
};

impl Draft {
    /// Allocates an id; four billion of them last longer than the shard.
    pub(in crate::state) fn take_tenant_id(&mut self) -> TenantId {
        let id = self.tables.next_tenant;
        self.tables.next_tenant = id.saturating_add(1);
        self.rows.put(
            Keyspace::Meta,
            keys::NEXT_TENANT.to_vec(),
            tables::encode_number(self.tables.next_tenant.into()),
        );
        TenantId(id)
    }

    pub(in crate::state) fn put_tenant(&mut self, tenant: Tenant) {
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
    pub(in crate::state) fn bury_tenant(&mut self, id: TenantId) {
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
    pub(in crate::state) fn shrink_grave(&mut self, id: TenantId, first_row: Vec<u8>) {
        self.put_grave(id, Some(&first_row));
        Arc::make_mut(&mut self.tables.tenants).set_grave(id, first_row);
    }

    /// The last row of a deleted tenant is gone.
    pub(in crate::state) fn close_grave(&mut self, id: TenantId) {
        self.put_grave(id, None);
        Arc::make_mut(&mut self.tables.tenants).close_grave(id);
    }
}
