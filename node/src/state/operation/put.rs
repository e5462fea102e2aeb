//! Writes one record. The deciding check of every limit is here: two racing writes cannot both fit.

use bytes::Bytes;

use super::{
    Refusal, Stop, Tenant,
    checks::{self, Replaced},
};
use crate::{
    state::{Condition, Header, Kind, Record, Ttl, ValuePlace, View, codec::numbered::message, draft::Draft, record::charge},
    storage::StoreError,
};

/// Writes one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// UTF-8, no NUL, 1 ..= 2,048 bytes (checked before proposing).
    pub key: String,
    /// The value as sent.
    pub value: Bytes,
    /// Its kind.
    pub kind: Kind,
    /// `Content-Type` as sent; none = none was sent.
    pub content_type: Option<String>,
    /// `KV-Meta-*`, names lower case without the prefix, sorted.
    pub metadata: Vec<(String, String)>,
    /// How long it lives.
    pub ttl: Ttl,
    /// What must hold before.
    pub condition: Condition,
}

message!(Put {
    1 = key,
    2 = value,
    3 = kind,
    4 = content_type,
    5 = metadata,
    6 = ttl,
    7 = condition,
});

/// A record that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its revision.
    pub revision: u64,
    /// Whether it was absent before.
    pub created: bool,
    /// When it expires, Unix milliseconds.
    pub expires_at_ms: Option<u64>,
}

message!(Written {
    1 = revision,
    2 = created,
    3 = expires_at_ms,
});

impl Put {
    pub(super) fn apply(self, draft: &mut Draft, now_ms: u64, tenant: &Tenant) -> Result<Written, Stop> {
        let limits = &tenant.config.limits;
        checks::sizes(limits, &self.key, &self.metadata)?;
        checks::value_size(limits, self.value.len())?;
        let expires_at_ms = checks::expiry(self.ttl, now_ms, limits)?;
        // `stored` is what lies in the row, `live` what anybody can see of it.
        let stored = draft.record(tenant.id, &self.key)?;
        let live = stored.as_ref().filter(|record| !record.is_expired(now_ms));
        checks::condition(self.condition, live.map(|record| record.revision))?;
        let replaced = stored.as_ref().map(|stored| Replaced {
            charge: stored.charge(&self.key),
            live: live.is_some(),
        });
        checks::quota(limits, draft.tables.standing(tenant.id), replaced, self.charge())?;
        let created = live.is_none();
        let revision = draft.take_revision();
        let (create_revision, created_at_ms) = live.map_or((revision, now_ms), |live| (live.create_revision, live.created_at_ms));
        let Put {
            key,
            value,
            kind,
            content_type,
            metadata,
            ttl: _,
            condition: _,
        } = self;
        let header = Header {
            value: ValuePlace::of(&value),
            kind,
            content_type,
            metadata,
            revision,
            create_revision,
            created_at_ms,
            updated_at_ms: now_ms,
            expires_at_ms,
        };
        draft.put_record(tenant.id, &key, stored.as_ref(), &Record { header, value });
        Ok(Written {
            revision,
            created,
            expires_at_ms,
        })
    }

    /// What the state machine would say of the tenant's quotas now, as far as this view and its memory tell; that of the record which
    /// would be replaced is not known. Costs nothing.
    pub(crate) fn glance_at_quota(&self, view: &View, tenant: &Tenant) -> Result<(), Refusal> {
        checks::quota(&tenant.config.limits, view.standing(tenant.id), None, self.charge())
    }

    /// What the state machine would say of the tenant's quotas at this moment. Blocks.
    ///
    /// # Errors
    /// The refusal; those of the store.
    pub(crate) fn look_at_quota(&self, view: &View, tenant: &Tenant, now_ms: u64) -> Result<Result<(), Refusal>, StoreError> {
        // What has expired in the log stays expired.
        let now_ms = now_ms.max(view.stamp_ms());
        let standing = view.standing_at(tenant.id, now_ms)?;
        let replaced = view.stored(tenant.id, &self.key)?.map(|stored| Replaced {
            charge: stored.charge(&self.key),
            live: !stored.is_expired(now_ms),
        });
        Ok(checks::quota(&tenant.config.limits, standing, replaced, self.charge()))
    }

    /// What the record counts against its tenant's quota.
    pub(crate) fn charge(&self) -> u64 {
        charge(&self.key, self.value.len(), &self.metadata)
    }
}
