//! `quarantine.json`: a member that met damage in its own data while it ran says so to its next start. In: a reason. Out: the reason again.
//! Absent: what follows from it (`lifecycle`).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{durable, error::DataDirError};

#[derive(Serialize, Deserialize)]
struct QuarantineFile {
    reason: String,
}

pub(super) fn path(directory: &Path) -> PathBuf {
    directory.join("quarantine.json")
}

/// Has the next start of the member in `directory` quarantine it. The first reason is kept. Blocking.
///
/// # Errors
/// When the file cannot be written.
pub fn quarantine(directory: &Path, reason: &str) -> Result<(), DataDirError> {
    if path(directory).exists() {
        return Ok(());
    }
    let file = QuarantineFile { reason: reason.to_owned() };
    let text = serde_json::to_string_pretty(&file).expect("text serialises");
    durable::write_file(&path(directory), text.as_bytes())
}

/// Why the member is quarantined, if it is. A file that cannot be understood is a reason too.
pub(super) fn reason(directory: &Path) -> Result<Option<String>, DataDirError> {
    let Some(bytes) = durable::read_file(&path(directory))? else {
        return Ok(None);
    };
    Ok(Some(match serde_json::from_slice(&bytes) {
        Ok(QuarantineFile { reason }) => reason,
        Err(error) => format!("quarantine.json is there and cannot be read ({error})"),
    }))
}
