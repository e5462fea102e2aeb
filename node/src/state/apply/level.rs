//! Raises the feature level.

use super::Stop;
use crate::{
    state::{Level, Refusal, Response, draft::Draft, tables::encode_number},
    storage::{Keyspace, keys},
};

/// By one, or not at all. A program that does not know the level must not go on: what follows in the log may be what it cannot read.
pub(super) fn raise(draft: &mut Draft, level: Level) -> Result<Response, Stop> {
    let current = draft.tables.level;
    if level <= current {
        return Ok(Response::Level(current));
    }
    if level > current.next() {
        return Err(Refusal::LevelSkipped { level: current }.into());
    }
    draft.tables.level = draft.tables.known.admits(level)?;
    draft.rows.put(Keyspace::Meta, keys::LEVEL.to_vec(), encode_number(level.0.into()));
    Ok(Response::Level(level))
}
