//! Short names for content.

use ring::digest::{SHA256, digest};

/// The first 64 bits of SHA-256 in hexadecimal: 16 characters, equal for equal bytes. Not a defence against forgery.
#[must_use]
pub fn short(bytes: &[u8]) -> String {
    digest(&SHA256, bytes)
        .as_ref()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
