//! Writes one record. The deciding check of every limit is here: two racing writes cannot both fit.

use bytes::Bytes;
use kvfleet_api::tenant::{TenantLimits, bounds};

use super::{check, writable};
use crate::{
    state::{
        Condition, Header, Kind, PutMode, Record, Refusal, Response, TenantId, Ttl,
        draft::Draft,
        record::{charge, metadata_bytes},
    },
    storage::StoreError,
};

/// The fields of the command.
pub(super) struct Put {
    pub(super) tenant: TenantId,
    pub(super) key: String,
    pub(super) value: Bytes,
    pub(super) kind: Kind,
    pub(super) content_type: Option<String>,
    pub(super) metadata: Vec<(String, String)>,
    pub(super) ttl: Ttl,
    pub(super) condition: Condition,
    pub(super) mode: PutMode,
}

impl Put {
    pub(super) fn apply(self, draft: &mut Draft, now_ms: u64) -> Result<Result<Response, Refusal>, StoreError> {
        let tenant = match writable(draft, self.tenant) {
            Ok(tenant) => tenant,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let limits = &tenant.config.limits;
        let expires_at_ms = match self.check_sizes(limits).and_then(|()| expiry(self.ttl, now_ms, limits)) {
            Ok(expires) => expires,
            Err(refusal) => return Ok(Err(refusal)),
        };
        // `stored` is what lies in the row, `live` what anybody can see of it.
        let stored = draft.record(self.tenant, &self.key)?;
        let live = stored.as_deref().filter(|record| !record.is_expired(now_ms));
        let allowed = check(self.condition, live).and_then(|()| match self.mode {
            PutMode::Upsert => self.check_quota(limits, draft, stored.as_deref(), live),
        });
        if let Err(refusal) = allowed {
            return Ok(Err(refusal));
        }
        let created = live.is_none();
        let revision = draft.take_revision();
        let (create_revision, created_at_ms) = live.map_or((revision, now_ms), |live| (live.create_revision, live.created_at_ms));
        let Put {
            tenant,
            key,
            value,
            kind,
            content_type,
            metadata,
            ttl: _,
            condition: _,
            mode: _,
        } = self;
        let record = Record {
            value,
            kind,
            content_type,
            metadata,
            revision,
            create_revision,
            created_at_ms,
            updated_at_ms: now_ms,
            expires_at_ms,
        };
        draft.put_record(tenant, &key, stored.as_ref(), &record);
        Ok(Ok(Response::Put {
            revision,
            created,
            expires_at_ms,
        }))
    }

    fn check_sizes(&self, limits: &TenantLimits) -> Result<(), Refusal> {
        if self.key.chars().count() > limits.max_key_length as usize {
            return Err(Refusal::KeyTooLong {
                limit: limits.max_key_length,
            });
        }
        if self.key.len() > bounds::KEY_LENGTH_MAX as usize {
            return Err(Refusal::KeyTooLong {
                limit: bounds::KEY_LENGTH_MAX,
            });
        }
        if self.value.len() as u64 > limits.max_value_size {
            return Err(Refusal::ValueTooLarge {
                limit: limits.max_value_size,
            });
        }
        if metadata_bytes(&self.metadata) > limits.max_metadata_size {
            return Err(Refusal::MetadataTooLarge {
                limit: limits.max_metadata_size,
            });
        }
        Ok(())
    }

    /// Refused is only what is over a quota *and* larger than before: a tenant whose quota was lowered may still shrink.
    fn check_quota(&self, limits: &TenantLimits, draft: &Draft, stored: Option<&Header>, live: Option<&Header>) -> Result<(), Refusal> {
        let (usage, counting) = (draft.usage(self.tenant), draft.tables.counting());
        if live.is_none() && usage.live() >= limits.quota_keys {
            return Err(Refusal::KeyCountExceeded {
                limit: limits.quota_keys,
                expired_waiting: counting,
            });
        }
        let old = stored.map_or(0, |stored| stored.charge(&self.key));
        let new = charge(&self.key, self.value.len(), &self.metadata);
        let wanted = usage.bytes.saturating_sub(old).saturating_add(new);
        if wanted > limits.quota_storage && wanted > usage.bytes {
            // This key's own expired row is given back by the write itself: sweeping it would gain nothing.
            let own = u64::from(stored.is_some() && live.is_none());
            return Err(Refusal::StorageQuotaExceeded {
                limit: limits.quota_storage,
                used: usage.bytes,
                wanted,
                expired_waiting: usage.expired > own || counting,
            });
        }
        Ok(())
    }
}

/// When the record is to expire. Always at least a second after the stamp: nothing is ever written expired, and no row of keyspace
/// `ttl` is ever written before one that a sweep has passed.
fn expiry(ttl: Ttl, now_ms: u64, limits: &TenantLimits) -> Result<Option<u64>, Refusal> {
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
