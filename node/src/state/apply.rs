//! What each command does to a draft. One file per noun; none of them knows of the log, of batches or of the store.

mod delete;
mod expiry;
mod join_tokens;
mod put;
mod settings;
mod tenants;

use std::sync::Arc;

use kvfleet_api::tenant::{Access, TenantState};

use super::{Command, Condition, Header, Refusal, Response, Tenant, TenantId, draft::Draft};
use crate::storage::StoreError;

/// Does what the command asks, at this moment. A refusal has changed nothing.
pub(super) fn apply(draft: &mut Draft, now_ms: u64, command: Command) -> Result<Response, StoreError> {
    let outcome = match command {
        Command::Put {
            tenant,
            key,
            value,
            kind,
            content_type,
            metadata,
            ttl,
            condition,
            mode,
        } => {
            let put = put::Put {
                tenant,
                key,
                value,
                kind,
                content_type,
                metadata,
                ttl,
                condition,
                mode,
            };
            put.apply(draft, now_ms)?
        }
        Command::Delete { tenant, key, condition } => delete::delete(draft, now_ms, tenant, &key, condition)?,
        Command::Sweep { limit } => Ok(expiry::sweep(draft, now_ms, limit)?),
        Command::SweepTenant { tenant, keys, bytes } => Ok(expiry::sweep_tenant(draft, now_ms, tenant, keys, bytes)?),
        Command::Reap { limit } => Ok(expiry::reap(draft, limit)?),
        Command::PutTenant { name, config } => tenants::put(draft, now_ms, name, config),
        Command::ReleaseTenant { name, uid } => tenants::release(draft, &name, &uid),
        Command::DeleteTenant { name, uid } => tenants::delete(draft, &name, &uid),
        Command::PutSettings(settings) => settings::put(draft, settings),
        Command::SpendToken {
            token,
            member,
            expires_at_ms,
        } => Ok(join_tokens::spend(draft, now_ms, token, member, expires_at_ms)),
    };
    Ok(outcome.unwrap_or_else(Response::Refused))
}

/// The tenant, if records of it may be written.
fn writable(draft: &Draft, tenant: TenantId) -> Result<Arc<Tenant>, Refusal> {
    let tenant = draft.tables.tenants.by_id(tenant).ok_or(Refusal::TenantUnknown)?;
    match (tenant.state, tenant.config.limits.access) {
        (TenantState::Released, _) => Err(Refusal::TenantUnknown),
        (TenantState::Active, Access::Suspended) => Err(Refusal::TenantSuspended),
        (TenantState::Active, Access::ReadOnly) => Err(Refusal::TenantReadOnly),
        (TenantState::Active, Access::ReadWrite) => Ok(Arc::clone(tenant)),
    }
}

/// Whether the condition holds of the record, which is none when it is absent or expired.
fn check(condition: Condition, record: Option<&Header>) -> Result<(), Refusal> {
    let current = record.map_or(0, |record| record.revision);
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
