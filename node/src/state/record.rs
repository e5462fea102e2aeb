//! A record and the row it is kept in.

use bytes::Bytes;

use super::{
    DecodeError, Kind,
    codec::{Decoder, Encoder},
};

/// One record of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The value as it was sent.
    pub value: Bytes,
    /// Its kind.
    pub kind: Kind,
    /// `Content-Type` as it was sent.
    pub content_type: Option<String>,
    /// `KV-Meta-*`, names lower case without the prefix, sorted.
    pub metadata: Vec<(String, String)>,
    /// The revision of its last change: its entity tag.
    pub revision: u64,
    /// The revision at which it came into being.
    pub create_revision: u64,
    /// When it came into being, Unix milliseconds.
    pub created_at_ms: u64,
    /// When it was last changed, Unix milliseconds.
    pub updated_at_ms: u64,
    /// From when on it is absent, Unix milliseconds; none = never.
    pub expires_at_ms: Option<u64>,
}

impl Record {
    /// Whether it is absent at this moment.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_at_ms.is_some_and(|expires| expires <= now_ms)
    }

    /// What it is charged: the key, the value, metadata names and values, in bytes.
    pub fn charge(&self, key: &str) -> u64 {
        charge(key, self.value.len(), &self.metadata)
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut row = Encoder::new(64 + self.value.len());
        row.kind(self.kind);
        row.number(self.revision);
        row.number(self.create_revision);
        row.number(self.created_at_ms);
        row.number(self.updated_at_ms);
        row.optional(self.expires_at_ms);
        row.content_type(self.content_type.as_deref());
        row.metadata(&self.metadata);
        row.rest(&self.value);
        row.finish()
    }

    pub(crate) fn decode(row: &Bytes) -> Result<Self, DecodeError> {
        let mut row = Decoder::new(row)?;
        Ok(Record {
            kind: row.kind()?,
            revision: row.number("revision")?,
            create_revision: row.number("createRevision")?,
            created_at_ms: row.number("createdAtMs")?,
            updated_at_ms: row.number("updatedAtMs")?,
            expires_at_ms: row.optional("expiresAtMs")?,
            content_type: row.content_type()?,
            metadata: row.metadata()?,
            value: row.rest(),
        })
    }
}

/// The bytes of metadata names and values.
pub(crate) fn metadata_bytes(metadata: &[(String, String)]) -> u64 {
    metadata.iter().map(|(name, value)| (name.len() + value.len()) as u64).sum()
}

/// What a record of these parts is charged.
pub(crate) fn charge(key: &str, value: usize, metadata: &[(String, String)]) -> u64 {
    (key.len() + value) as u64 + metadata_bytes(metadata)
}
