//! A record, and the rows that it is kept in: a header with a small value in it, or a header and, beside it, a large value.
//!
//! Everything that decides about a record (conditions, quotas, expiry, lists of keys, the digest) needs the header alone. So background work
//! and limits read small rows however large the values are: the header has the value's length and, of a value that lies apart, its hash.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128;

use super::{DecodeError, Kind, codec::message};

/// Values up to this size are kept in their header. Below it a row of its own costs more than it saves: a second row to write, find and
/// remove (and, on 256-byte records, a third of the write rate); above it a compaction of headers would copy the value again and again.
pub const INLINE_BYTES: usize = 1 << 10;
/// The format byte of a header: no row of an earlier program began with it.
const FORMAT: u8 = 2;

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

/// Everything of a record but its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
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
    /// Where its value is.
    pub(super) value: Held,
}

/// Where a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// In the header's row.
    Inline(Bytes),
    /// In keyspace `values`, under the same key.
    Apart {
        /// Its length.
        length: u64,
        /// XXH3-128 of it.
        hash: u128,
    },
}

/// The rows of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rows {
    /// In keyspace `records`.
    pub(super) header: Bytes,
    /// In keyspace `values`, if there is one.
    pub(super) value: Option<Bytes>,
}

/// A header's row. A number is never used for another field; an older program skips what it does not know.
#[derive(Clone, PartialEq, prost::Message)]
struct HeaderRow {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(uint64, tag = "2")]
    revision: u64,
    #[prost(uint64, tag = "3")]
    create_revision: u64,
    #[prost(uint64, tag = "4")]
    created_at_ms: u64,
    #[prost(uint64, tag = "5")]
    updated_at_ms: u64,
    #[prost(uint64, optional, tag = "6")]
    expires_at_ms: Option<u64>,
    #[prost(string, optional, tag = "7")]
    content_type: Option<String>,
    #[prost(message, repeated, tag = "8")]
    metadata: Vec<MetadataRow>,
    #[prost(bytes = "bytes", tag = "9")]
    value: Bytes,
    #[prost(message, optional, tag = "10")]
    apart: Option<ApartRow>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MetadataRow {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// A value that lies apart; the hash in two halves.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct ApartRow {
    #[prost(uint64, tag = "1")]
    length: u64,
    #[prost(fixed64, tag = "2")]
    hash_high: u64,
    #[prost(fixed64, tag = "3")]
    hash_low: u64,
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

    pub(super) fn to_rows(&self) -> Rows {
        let apart = self.value.len() > INLINE_BYTES;
        let hash = if apart { xxh3_128(&self.value) } else { 0 };
        let row = HeaderRow {
            kind: code(self.kind),
            revision: self.revision,
            create_revision: self.create_revision,
            created_at_ms: self.created_at_ms,
            updated_at_ms: self.updated_at_ms,
            expires_at_ms: self.expires_at_ms,
            content_type: self.content_type.clone(),
            metadata: self
                .metadata
                .iter()
                .map(|(name, value)| MetadataRow {
                    name: name.clone(),
                    value: value.clone(),
                })
                .collect(),
            value: if apart { Bytes::new() } else { self.value.clone() },
            apart: apart.then_some(ApartRow {
                length: self.value.len() as u64,
                hash_high: (hash >> 64) as u64,
                hash_low: hash as u64,
            }),
        };
        Rows {
            header: message::encode(FORMAT, &row),
            value: apart.then(|| self.value.clone()),
        }
    }
}

impl Header {
    /// Whether it is absent at this moment.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_at_ms.is_some_and(|expires| expires <= now_ms)
    }

    /// How long its value is.
    pub fn value_length(&self) -> u64 {
        match &self.value {
            Held::Inline(value) => value.len() as u64,
            Held::Apart { length, .. } => *length,
        }
    }

    /// Whether its value has a row of its own.
    pub fn is_apart(&self) -> bool {
        matches!(self.value, Held::Apart { .. })
    }

    /// What the record is charged: the key, the value, metadata names and values, in bytes.
    pub fn charge(&self, key: &str) -> u64 {
        (key.len() as u64 + metadata_bytes(&self.metadata)).saturating_add(self.value_length())
    }

    /// Why this is not the value that was written with it; none when it is.
    pub(super) fn refuse(&self, found: Option<&[u8]>) -> Option<String> {
        let (found, length, hash) = match (found, &self.value) {
            (None, Held::Inline(_)) => return None,
            (None, Held::Apart { .. }) => return Some("the value of a record is missing".to_owned()),
            (Some(_), Held::Inline(_)) => return Some("a value beside one in its header".to_owned()),
            (Some(found), Held::Apart { length, hash }) => (found, *length, *hash),
        };
        if found.len() as u64 != length {
            return Some(format!("a value of {} bytes was written with {length}", found.len()));
        }
        (xxh3_128(found) != hash).then(|| "a value is not the one that was written".to_owned())
    }

    /// The record, with the value that lies apart if there is one.
    pub(super) fn with(self, apart: Option<Bytes>) -> Record {
        let Header {
            kind,
            content_type,
            metadata,
            revision,
            create_revision,
            created_at_ms,
            updated_at_ms,
            expires_at_ms,
            value,
        } = self;
        Record {
            value: match value {
                Held::Inline(value) => value,
                Held::Apart { .. } => apart.unwrap_or_default(),
            },
            kind,
            content_type,
            metadata,
            revision,
            create_revision,
            created_at_ms,
            updated_at_ms,
            expires_at_ms,
        }
    }

    pub(super) fn decode(row: &Bytes) -> Result<Self, DecodeError> {
        let HeaderRow {
            kind,
            revision,
            create_revision,
            created_at_ms,
            updated_at_ms,
            expires_at_ms,
            content_type,
            metadata,
            value,
            apart,
        } = message::decode(FORMAT, "record", row)?;
        Ok(Header {
            kind: of_code(kind)?,
            content_type,
            // In place: the parts of a pair lie as those of a row.
            metadata: metadata.into_iter().map(|MetadataRow { name, value }| (name, value)).collect(),
            revision,
            create_revision,
            created_at_ms,
            updated_at_ms,
            expires_at_ms,
            value: apart.map_or(Held::Inline(value), |apart| Held::Apart {
                length: apart.length,
                hash: u128::from(apart.hash_high) << 64 | u128::from(apart.hash_low),
            }),
        })
    }
}

fn code(kind: Kind) -> u32 {
    match kind {
        Kind::String => 1,
        Kind::Json => 2,
        Kind::Bytes => 3,
    }
}

fn of_code(code: u32) -> Result<Kind, DecodeError> {
    match code {
        1 => Ok(Kind::String),
        2 => Ok(Kind::Json),
        3 => Ok(Kind::Bytes),
        _ => Err(DecodeError::Unknown {
            field: "kind",
            value: code.into(),
        }),
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
