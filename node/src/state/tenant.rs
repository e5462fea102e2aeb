//! A tenant as the state machine knows it, and all of them together.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use kvfleet_api::{
    tenant::{TenantConfig, TenantState, TenantStatus},
    usage::Used,
};

use super::{
    DecodeError, TenantId,
    codec::{FORMAT, fields, numbered::message},
};

/// One tenant. Replaced whole when its configuration changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Never used again after it.
    pub id: TenantId,
    /// The name in URLs.
    pub name: String,
    /// Served or released.
    pub state: TenantState,
    /// What is enforced.
    pub config: TenantConfig,
    /// The revision that this configuration took.
    pub revision: u64,
    /// Unix seconds of the stamp with which the current credential generation came.
    pub credential_issued_at: u64,
}

message!(Tenant {
    1 = id,
    2 = name,
    3 = state,
    4 = config,
    5 = revision,
    6 = credential_issued_at,
});

impl Tenant {
    pub(super) fn status(&self, usage: Used) -> TenantStatus {
        TenantStatus {
            name: self.name.clone(),
            id: self.id.0,
            state: self.state,
            revision: self.revision,
            config: self.config.clone(),
            credential_issued_at: self.credential_issued_at,
            usage,
        }
    }

    pub(super) fn encode(&self) -> Bytes {
        fields::encode(FORMAT, self)
    }

    /// Its id is in the row's key.
    pub(super) fn decode(id: TenantId, row: &Bytes) -> Result<Self, DecodeError> {
        let tenant = fields::decode(FORMAT, "a tenant", row)?;
        Ok(Tenant { id, ..tenant })
    }
}

/// All tenants of the shard, by name and by id, and those deleted ones whose rows are not all gone.
#[derive(Clone, Debug, Default)]
pub(super) struct Tenants {
    names: BTreeMap<String, TenantId>,
    tenants: BTreeMap<TenantId, Arc<Tenant>>,
    graves: BTreeMap<TenantId, Vec<u8>>,
}

impl Tenants {
    pub(super) fn by_name(&self, name: &str) -> Option<&Arc<Tenant>> {
        self.names.get(name).and_then(|id| self.tenants.get(id))
    }

    pub(super) fn by_id(&self, id: TenantId) -> Option<&Arc<Tenant>> {
        self.tenants.get(&id)
    }

    /// In the order of their names.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Tenant>> {
        self.names.values().filter_map(|id| self.tenants.get(id))
    }

    pub(super) fn insert(&mut self, tenant: Tenant) {
        self.names.insert(tenant.name.clone(), tenant.id);
        self.tenants.insert(tenant.id, Arc::new(tenant));
    }

    /// Forgets the tenant and remembers that its rows, from `first_row` on, are still there.
    pub(super) fn bury(&mut self, id: TenantId, first_row: Vec<u8>) {
        if let Some(tenant) = self.tenants.remove(&id) {
            self.names.remove(&tenant.name);
        }
        self.graves.insert(id, first_row);
    }

    /// The oldest deleted tenant with rows left, and where they begin.
    pub(super) fn first_grave(&self) -> Option<(TenantId, Vec<u8>)> {
        self.graves.first_key_value().map(|(id, from)| (*id, from.clone()))
    }

    pub(super) fn has_graves(&self) -> bool {
        !self.graves.is_empty()
    }

    /// Its rows now begin here.
    pub(super) fn set_grave(&mut self, id: TenantId, first_row: Vec<u8>) {
        self.graves.insert(id, first_row);
    }

    /// Where the rows of a deleted tenant begin.
    pub(super) fn grave(&self, id: TenantId) -> Option<&[u8]> {
        self.graves.get(&id).map(Vec::as_slice)
    }

    pub(super) fn close_grave(&mut self, id: TenantId) {
        self.graves.remove(&id);
    }
}
