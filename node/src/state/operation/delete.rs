//! Deletes one record.

use super::{Stop, Tenant, checks};
use crate::state::{Condition, codec::numbered::message, draft::Draft};

/// Deletes one record, if it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delete {
    /// Which.
    pub key: String,
    /// What must hold before.
    pub condition: Condition,
}

message!(Delete { 1 = key, 2 = condition });

/// A record that is absent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// The revision that this took; none when there was nothing to delete.
    pub revision: Option<u64>,
}

message!(Deletion { 1 = revision });

impl Delete {
    /// A record that is absent or expired is no change: it takes no revision, and an expired row is left to the sweep.
    pub(super) fn apply(self, draft: &mut Draft, now_ms: u64, tenant: &Tenant) -> Result<Deletion, Stop> {
        let Delete { key, condition } = self;
        let record = draft.record(tenant.id, &key)?.filter(|record| !record.is_expired(now_ms));
        checks::condition(condition, record.as_ref().map(|record| record.revision))?;
        let Some(record) = record else {
            return Ok(Deletion { revision: None });
        };
        let revision = draft.take_revision();
        draft.remove_record(tenant.id, &key, &record);
        Ok(Deletion { revision: Some(revision) })
    }
}
