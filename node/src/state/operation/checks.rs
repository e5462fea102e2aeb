//! What operations have in common to be refused for. The one copy of each rule: `app` asks the same before it proposes.

use std::sync::Arc;

use kvfleet_api::tenant::{Access, TenantLimits, TenantState, bounds};

use crate::state::{Condition, Refusal, Tenant, TenantId, Ttl, record::metadata_bytes, tables::Tables};

/// The tenant, if records of it may be written.
pub(in crate::state) fn writable(tables: &Tables, tenant: TenantId) -> Result<Arc<Tenant>, Refusal> {
    let tenant = tables.tenants.by_id(tenant).ok_or(Refusal::TenantUnknown)?;
    match (tenant.state, tenant.config.limits.access) {
        (TenantState::Released, _) => Err(Refusal::TenantUnknown),
        (TenantState::Active, Access::Suspended) => Err(Refusal::TenantSuspended),
        (TenantState::Active, Access::ReadOnly) => Err(Refusal::TenantReadOnly),
        (TenantState::Active, Access::ReadWrite) => Ok(Arc::clone(tenant)),
    }
}

/// Whether the condition holds of a record with this revision; none when it is absent or expired.
pub(in crate::state) fn condition(condition: Condition, revision: Option<u64>) -> Result<(), Refusal> {
    let current = revision.unwrap_or(0);
    let holds = match condition {
        Condition::None => true,
        Condition::Present => current != 0,
        Condition::Absent => current == 0,
        Condition::Revision(wanted) => current == wanted,
    };
    if holds {
        Ok(())
    } else {
        Err(Refusal::PreconditionFailed { current })
    }
}

/// Whether key and metadata are short enough, whatever is stored.
pub(crate) fn sizes(limits: &TenantLimits, key: &str, metadata: &[(String, String)]) -> Result<(), Refusal> {
    if key.chars().count() > limits.max_key_length as usize {
        return Err(Refusal::KeyTooLong {
            limit: limits.max_key_length,
        });
    }
    if key.len() > bounds::KEY_LENGTH_MAX as usize {
        return Err(Refusal::KeyTooLong {
            limit: bounds::KEY_LENGTH_MAX,
        });
    }
    if metadata_bytes(metadata) > limits.max_metadata_size {
        return Err(Refusal::MetadataTooLarge {
            limit: limits.max_metadata_size,
        });
    }
    Ok(())
}

/// Whether a value is short enough.
pub(in crate::state) fn value_size(limits: &TenantLimits, bytes: usize) -> Result<(), Refusal> {
    if bytes as u64 > limits.max_value_size {
        return Err(Refusal::ValueTooLarge {
            limit: limits.max_value_size,
        });
    }
    Ok(())
}

/// When a record is to expire. Always at least a second after the stamp: nothing is ever written expired, and no row of keyspace
/// `ttl` is ever written before one that a sweep has passed.
pub(in crate::state) fn expiry(ttl: Ttl, now_ms: u64, limits: &TenantLimits) -> Result<Option<u64>, Refusal> {
    let ceiling = limits
        .ttl_max_ms
        .map_or(bounds::TTL_MAX_MS, |maximum| maximum.clamp(bounds::TTL_MIN_MS, bounds::TTL_MAX_MS));
    let length = match ttl {
        Ttl::Default => match limits.ttl_default_ms.or(limits.ttl_max_ms) {
            None => return Ok(None),
            Some(length) => length.clamp(bounds::TTL_MIN_MS, ceiling),
        },
        Ttl::Never => match limits.ttl_max_ms {
            None => return Ok(None),
            Some(_) => return Err(Refusal::TtlAboveMaximum { limit_ms: ceiling }),
        },
        Ttl::For(length) => length,
        Ttl::Until(moment) => moment.saturating_sub(now_ms),
    };
    if length < bounds::TTL_MIN_MS {
        return Err(Refusal::TtlTooShort);
    }
    if length > ceiling {
        return Err(Refusal::TtlAboveMaximum { limit_ms: ceiling });
    }
    Ok(Some(now_ms.saturating_add(length)))
}

/// What a tenant has, as far as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Bytes charged, expired records included until they are swept.
    pub(crate) bytes: u64,
    /// Keys, those not counted that are known to have expired.
    pub(crate) keys: u64,
    /// How many rows are known to be of expired records.
    pub(crate) expired: u64,
    /// Whether there may be more of these.
    pub(crate) counting: bool,
}

/// The row that a write replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Replaced {
    /// What it is charged.
    pub(crate) charge: u64,
    /// Whether its record is visible still.
    pub(crate) live: bool,
}

/// Refused is only what is over a quota *and* larger than before: a tenant whose quota was lowered may still shrink.
pub(crate) fn quota(limits: &TenantLimits, has: Standing, replaced: Option<Replaced>, charge: u64) -> Result<(), Refusal> {
    if !replaced.is_some_and(|replaced| replaced.live) && has.keys >= limits.quota_keys {
        return Err(Refusal::KeyCountExceeded {
            limit: limits.quota_keys,
            expired_waiting: has.counting,
        });
    }
    let old = replaced.map_or(0, |replaced| replaced.charge);
    let wanted = has.bytes.saturating_sub(old).saturating_add(charge);
    if wanted > limits.quota_storage && wanted > has.bytes {
        // This key's own expired row is given back by the write itself: sweeping it would gain nothing.
        let own = u64::from(replaced.is_some_and(|replaced| !replaced.live));
        return Err(Refusal::StorageQuotaExceeded {
            limit: limits.quota_storage,
            used: has.bytes,
            wanted,
            expired_waiting: has.expired > own || has.counting,
        });
    }
    Ok(())
}
