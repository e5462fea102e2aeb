//! Removes what is visible to no reader: expired records, and the rows of deleted tenants. A bounded number of rows and of their bytes per
//! command, because all members wait while it is applied, and each from where the last one stopped, because an LSM tree walks the
//! tombstones of all rows that were deleted before. A header is read once, for its hash, and one at a time; a large value is not read.

use crate::{
    state::{
        Bound, Response, TenantId,
        draft::{Draft, Reaped},
        tables::{self, damaged},
    },
    storage::{Keyspace, StoreError, keys},
};

struct Due {
    row: Vec<u8>,
    tenant: TenantId,
    key: String,
    revision: u64,
}

/// Deletes expired records, earliest first. Each takes a revision, except those of deleted tenants.
pub(super) fn sweep(draft: &mut Draft, now_ms: u64, limit: Bound) -> Result<Response, StoreError> {
    let (due, mut more) = due(draft, now_ms, limit.rows)?;
    let (mut removed, mut bytes) = (0, 0);
    let mut last = None;
    for Due {
        row,
        tenant,
        key,
        revision,
    } in due
    {
        if bytes >= limit.bytes {
            more = true;
            break;
        }
        match draft.record(tenant, &key)?.filter(|record| record.revision == revision) {
            Some(record) => {
                bytes += record.bytes();
                draft.expire_record(tenant, &key, &record);
            }
            // The row of keyspace `ttl` goes with its record in every other place, so this one has been lost on disk.
            None => return Err(damaged(Keyspace::Ttl, "it names a revision that its record does not have")),
        }
        last = Some(row);
        removed += 1;
    }
    if !more {
        draft.all_swept();
    } else if let Some(last) = last {
        draft.set_ttl_cursor(last);
    }
    Ok(Response::Swept { removed, more })
}

fn due(draft: &mut Draft, now_ms: u64, limit: u32) -> Result<(Vec<Due>, bool), StoreError> {
    let waiting = keys::ttl_until(draft.tables.ttl_cursor.clone(), now_ms);
    let (mut due, mut more) = (Vec::new(), false);
    for row in draft.rows.range(Keyspace::Ttl, waiting) {
        if due.len() >= limit as usize {
            more = true;
            break;
        }
        let (row, value) = row?;
        let (_, tenant, key) = tables::parse_ttl(&row)?;
        let revision = tables::decode_number(&value).map_err(|error| damaged(Keyspace::Ttl, error))?;
        due.push(Due {
            tenant,
            key: key.to_owned(),
            revision,
            row: row.to_vec(),
        });
    }
    draft.touch(due.len(), 0);
    Ok((due, more))
}

/// Deletes those of a tenant's records that are expired. Each takes a revision.
pub(super) fn sweep_tenant(
    draft: &mut Draft,
    now_ms: u64,
    tenant: TenantId,
    keys: Vec<String>,
    limit: u64,
) -> Result<Response, StoreError> {
    let (mut removed, mut bytes) = (0, 0);
    // The rows of a deleted tenant are left to `Reap`.
    if draft.tables.tenants.by_id(tenant).is_none() {
        return Ok(Response::Swept { removed, more: false });
    }
    for key in keys {
        if bytes >= limit {
            return Ok(Response::Swept { removed, more: true });
        }
        let Some(record) = draft.record(tenant, &key)? else { continue };
        bytes += record.bytes();
        if record.is_expired(now_ms) {
            draft.expire_record(tenant, &key, &record);
            removed += 1;
        }
    }
    Ok(Response::Swept { removed, more: false })
}

/// Deletes rows of deleted tenants, oldest tenant first. They take no revision: their tenant is gone.
pub(super) fn reap(draft: &mut Draft, limit: Bound) -> Result<Response, StoreError> {
    let (mut removed, mut bytes, mut graves) = (0, 0, 0);
    // A tenant without rows counts as one, so that many of them are no unbounded work either.
    while removed + graves < limit.rows
        && bytes < limit.bytes
        && let Some((tenant, from)) = draft.tables.tenants.first_grave()
    {
        let left = Bound {
            rows: limit.rows - removed,
            bytes: limit.bytes - bytes,
        };
        let reaped = draft.reap(tenant, from, left)?;
        let Reaped { rows, next, .. } = reaped;
        removed += rows;
        bytes += reaped.bytes;
        graves += 1;
        match next {
            Some(next) => draft.shrink_grave(tenant, next),
            None => draft.close_grave(tenant),
        }
    }
    Ok(Response::Swept {
        removed,
        more: draft.tables.tenants.has_graves(),
    })
}
