//! Deletes one record.

use super::{check, writable};
use crate::{
    state::{Condition, Refusal, Response, TenantId, draft::Draft},
    storage::StoreError,
};

/// A record that is absent or expired is no change: it takes no revision, and an expired row is left to the sweep.
pub(super) fn delete(
    draft: &mut Draft,
    now_ms: u64,
    tenant: TenantId,
    key: &str,
    condition: Condition,
) -> Result<Result<Response, Refusal>, StoreError> {
    if let Err(refusal) = writable(draft, tenant) {
        return Ok(Err(refusal));
    }
    let record = draft.record(tenant, key)?.filter(|record| !record.is_expired(now_ms));
    if let Err(refusal) = check(condition, record.as_deref()) {
        return Ok(Err(refusal));
    }
    let Some(record) = record else {
        return Ok(Ok(Response::Deleted { revision: None }));
    };
    let revision = draft.take_revision();
    draft.remove_record(tenant, key, &record);
    Ok(Ok(Response::Deleted { revision: Some(revision) }))
}
