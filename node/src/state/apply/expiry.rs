//! Removes what nobody sees any more: expired records, and the rows of deleted tenants. A bounded number per command, because all
//! members wait while it is applied, and each from where the last one stopped, because an LSM tree walks the tombstones of all rows
//! that were deleted before.

use std::ops::Bound;

use crate::{
    state::{
        Record, Response, TenantId,
        draft::Draft,
        tables::{self, damaged},
    },
    storage::{KeyRange, Keyspace, StoreError, keys},
};

struct Due {
    row: Vec<u8>,
    tenant: TenantId,
    key: String,
    revision: u64,
}

/// Deletes expired records, earliest first. Each takes a revision, except those of deleted tenants.
pub(super) fn sweep(draft: &mut Draft, now_ms: u64, limit: u32) -> Result<Response, StoreError> {
    let (due, more) = due(draft, now_ms, limit)?;
    let mut removed = 0;
    for Due {
        row,
        tenant,
        key,
        revision,
    } in due
    {
        match draft.record(tenant, &key)?.filter(|record| record.revision == revision) {
            Some(record) => {
                if draft.tables.tenants.by_id(tenant).is_some() {
                    draft.take_revision();
                }
                draft.remove_record(tenant, &key, &record);
            }
            // The row of keyspace `ttl` goes with its record in every other place, so this one has been lost on disk.
            None => return Err(damaged(Keyspace::Ttl, "it names a revision that its record does not have")),
        }
        draft.set_ttl_cursor(row);
        removed += 1;
    }
    Ok(Response::Swept { removed, more })
}

fn due(draft: &Draft, now_ms: u64, limit: u32) -> Result<(Vec<Due>, bool), StoreError> {
    let waiting = KeyRange {
        start: Bound::Included(draft.tables.ttl_cursor.clone()),
        end: Bound::Unbounded,
    };
    let mut due = Vec::new();
    for row in draft.rows.range(Keyspace::Ttl, waiting) {
        let (row, value) = row?;
        let (expires, tenant, key) = keys::parse_ttl(&row).ok_or_else(|| damaged(Keyspace::Ttl, "unknown key"))?;
        if expires > now_ms {
            break;
        }
        if due.len() >= limit as usize {
            return Ok((due, true));
        }
        let revision = tables::decode_number(&value).map_err(|error| damaged(Keyspace::Ttl, error))?;
        due.push(Due {
            tenant,
            key: key.to_owned(),
            revision,
            row: row.to_vec(),
        });
    }
    Ok((due, false))
}

/// Deletes rows of deleted tenants, oldest tenant first. They take no revision: their tenant is gone.
pub(super) fn reap(draft: &mut Draft, limit: u32) -> Result<Response, StoreError> {
    let mut removed = 0;
    while let Some((tenant, from)) = draft.tables.tenants.first_grave() {
        let left = (limit - removed) as usize;
        let rows = draft
            .rows
            .range(Keyspace::Records, keys::records_of(tenant, from))
            .take(left.saturating_add(1))
            .collect::<Result<Vec<_>, _>>()?;
        let next = rows.get(left).map(|(row, _)| row.to_vec());
        for (row, value) in rows.into_iter().take(left) {
            let (_, key) = keys::parse_record(&row).ok_or_else(|| damaged(Keyspace::Records, "unknown key"))?;
            let record = Record::decode(&value).map_err(|error| damaged(Keyspace::Records, error))?;
            draft.remove_record(tenant, key, &record);
            removed += 1;
        }
        match next {
            Some(next) => {
                draft.shrink_grave(tenant, next);
                break;
            }
            None => draft.close_grave(tenant),
        }
    }
    Ok(Response::Swept {
        removed,
        more: draft.tables.tenants.has_graves(),
    })
}
