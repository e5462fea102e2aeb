//! The format of all rows together. It is looked at before anything else is opened: rows of another format are not touched.

use super::StoreError;

/// What this program writes and reads. A change of a layout that an older program cannot read raises it; a new field or keyspace does not.
pub const FORMAT: u64 = 2;

/// Whether this program can read rows of the format that this row of `meta` names; false when there is none.
///
/// # Errors
/// [`StoreError::OlderFormat`], [`StoreError::NewerFormat`], [`StoreError::Damaged`].
pub fn check(row: Option<&[u8]>) -> Result<bool, StoreError> {
    let Some(row) = row else { return Ok(false) };
    let damaged = |reason: &str| StoreError::Damaged {
        keyspace: "meta",
        reason: reason.to_owned(),
    };
    let bytes = <[u8; 8]>::try_from(row).map_err(|_| damaged("the format is not eight bytes"))?;
    match u64::from_be_bytes(bytes) {
        0 => Err(damaged("format 0 was never written")),
        FORMAT => Ok(true),
        found if found < FORMAT => Err(StoreError::OlderFormat { found }),
        found => Err(StoreError::NewerFormat { found, supported: FORMAT }),
    }
}
