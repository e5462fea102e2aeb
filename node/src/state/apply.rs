//! What each command does to a draft. One file per noun; none of them knows of the log, of batches or of the store. What a write does to a
//! record: `operation`.

mod expiry;
mod join_tokens;
mod level;
mod settings;
mod tenants;

use super::{Command, Refusal, Response, draft::Draft};
use crate::storage::StoreError;

/// What ends a command before it is done.
#[derive(Debug)]
pub(super) enum Stop {
    /// It is refused: it has changed nothing, and its proposer is told.
    Refused(Refusal),
    /// Rows could not be read: the member must restart.
    Store(StoreError),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Stop::Refused(refusal)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Stop::Store(error)
    }
}

/// Does what the command asks, at this moment. A refusal has changed nothing.
pub(super) fn apply(draft: &mut Draft, now_ms: u64, command: Command) -> Result<Response, StoreError> {
    match run(draft, now_ms, command) {
        Ok(response) => Ok(response),
        Err(Stop::Refused(refusal)) => Ok(Response::Refused(refusal)),
        Err(Stop::Store(error)) => Err(error),
    }
}

fn run(draft: &mut Draft, now_ms: u64, command: Command) -> Result<Response, Stop> {
    Ok(match command {
        Command::Write(write) => write.apply(draft, now_ms)?,
        Command::Sweep { limit } => expiry::sweep(draft, now_ms, limit)?,
        Command::SweepTenant { tenant, keys, bytes } => expiry::sweep_tenant(draft, now_ms, tenant, keys, bytes)?,
        Command::Reap { limit } => expiry::reap(draft, limit)?,
        Command::PutTenant { name, config } => tenants::put(draft, now_ms, name, config)?,
        Command::ReleaseTenant { name, uid } => tenants::release(draft, &name, &uid)?,
        Command::DeleteTenant { name, uid } => tenants::delete(draft, &name, &uid)?,
        Command::PutSettings(settings) => settings::put(draft, settings)?,
        Command::SpendToken {
            token,
            member,
            expires_at_ms,
        } => join_tokens::spend(draft, now_ms, token, member, expires_at_ms),
        Command::RaiseLevel { level } => level::raise(draft, level)?,
    })
}
