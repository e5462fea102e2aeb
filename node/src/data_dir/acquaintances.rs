//! `members.json`: the members of the group as this one last knew them. In: the members whenever they change. Out: whom to ask when log and
//! state machine cannot be read any more, and that this directory has been part of a group. Absent: authority; the log says who votes.

use std::path::{Path, PathBuf};

use kvfleet_api::admin::MemberAddress;

use super::{durable, error::DataDirError};

fn path(directory: &Path) -> PathBuf {
    directory.join("members.json")
}

/// Keeps the members for the next start. Blocking.
///
/// # Errors
/// When the file cannot be written.
pub fn remember_members(directory: &Path, members: &[MemberAddress]) -> Result<(), DataDirError> {
    let text = serde_json::to_string_pretty(members).expect("numbers and text serialise");
    durable::write_file(&path(directory), text.as_bytes())
}

/// The members as they were last known; empty if there were none, or the file cannot be read. Blocking.
pub fn known_members(directory: &Path) -> Vec<MemberAddress> {
    let text = std::fs::read(path(directory)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Whether the member of this directory has ever been part of a group.
pub fn was_member(directory: &Path) -> bool {
    path(directory).exists()
}
