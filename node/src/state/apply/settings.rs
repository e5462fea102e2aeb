//! Replaces the shard's settings.

use std::sync::Arc;

use kvfleet_api::admin::{Settings, SettingsStatus};

use crate::{
    state::{Refusal, Response, draft::Draft, tables::encode_settings},
    storage::{Keyspace, keys},
};

/// The generation may not go down; the settings in force again change nothing.
pub(super) fn put(draft: &mut Draft, settings: Settings) -> Result<Response, Refusal> {
    let stored = &draft.tables.settings;
    if settings.generation < stored.settings.generation {
        return Err(Refusal::StaleGeneration {
            field: "generation".to_owned(),
            stored: stored.settings.generation,
        });
    }
    if stored.revision == 0 || stored.settings != settings {
        let revision = draft.take_revision();
        draft.tables.settings = Arc::new(SettingsStatus { revision, settings });
        let row = encode_settings(&draft.tables.settings);
        draft.rows.put(Keyspace::Meta, keys::SETTINGS.to_vec(), row);
    }
    Ok(Response::Settings(Box::new(SettingsStatus::clone(&draft.tables.settings))))
}
