//! A record, and the rows that it is kept in: a header with a small value in it, or a header and, beside it, a large value.
//!
//! Everything that decides about a record (conditions, quotas, expiry, lists of keys, the digest) needs the header alone. So background work
//! and limits read small rows however large the values are: the header has the value's length and, of a value that lies apart, its hash.

use std::ops::Deref;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128;

use super::{
    DecodeError, Kind,
    codec::{
        FORMAT, fields,
        numbered::{choice, message},
    },
};

/// Values up to this size are kept in their header. Below it a row of its own costs more than it saves: a second row to write, find and
/// remove (and, on 256-byte records, a third of the write rate); above it a compaction of headers would copy the value again and again.
pub const INLINE_BYTES: usize = 1 << 10;

/// One record of a tenant: its header and its value, wherever that lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Everything else.
    pub header: Header,
    /// The value as it was sent.
    pub value: Bytes,
}

impl Deref for Record {
    type Target = Header;

    fn deref(&self) -> &Header {
        &self.header
    }
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
    pub value: ValuePlace,
}

message!(Header {
    1 = kind,
    2 = revision,
    3 = create_revision,
    4 = created_at_ms,
    5 = updated_at_ms,
    6 = expires_at_ms,
    7 = content_type,
    8 = metadata,
    9 = value,
});

/// Where a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValuePlace {
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

choice!("place of a value", ValuePlace { 1 = Inline(bytes), 2 = Apart { 1 = length, 2 = hash } });

/// The rows of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rows {
    /// In keyspace `records`.
    pub(super) header: Bytes,
    /// In keyspace `values`, if there is one.
    pub(super) value: Option<Bytes>,
}

impl ValuePlace {
    /// Where a value is kept.
    pub fn of(value: &Bytes) -> Self {
        if value.len() > INLINE_BYTES {
            ValuePlace::Apart {
                length: value.len() as u64,
                hash: xxh3_128(value),
            }
        } else {
            ValuePlace::Inline(value.clone())
        }
    }
}

impl Record {
    pub(super) fn to_rows(&self) -> Rows {
        Rows {
            header: self.header.encode(),
            value: self.header.is_apart().then(|| self.value.clone()),
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
            ValuePlace::Inline(value) => value.len() as u64,
            ValuePlace::Apart { length, .. } => *length,
        }
    }

    /// Whether its value has a row of its own.
    pub fn is_apart(&self) -> bool {
        matches!(self.value, ValuePlace::Apart { .. })
    }

    /// What the record is charged: the key, the value, metadata names and values, in bytes.
    pub fn charge(&self, key: &str) -> u64 {
        (key.len() as u64 + metadata_bytes(&self.metadata)).saturating_add(self.value_length())
    }

    /// Why this is not the value that was written with it; none when it is.
    pub(super) fn refuse(&self, found: Option<&[u8]>) -> Option<String> {
        let (found, length, hash) = match (found, &self.value) {
            (None, ValuePlace::Inline(_)) => return None,
            (None, ValuePlace::Apart { .. }) => return Some("the value of a record is missing".to_owned()),
            (Some(_), ValuePlace::Inline(_)) => return Some("a value beside one in its header".to_owned()),
            (Some(found), ValuePlace::Apart { length, hash }) => (found, *length, *hash),
        };
        if found.len() as u64 != length {
            return Some(format!("a value of {} bytes was written with {length}", found.len()));
        }
        (xxh3_128(found) != hash).then(|| "a value is not the one that was written".to_owned())
    }

    /// The record, with the value that lies apart if there is one.
    pub(super) fn with(self, apart: Option<Bytes>) -> Record {
        let value = match &self.value {
            ValuePlace::Inline(value) => value.clone(),
            ValuePlace::Apart { .. } => apart.unwrap_or_default(),
        };
        Record { header: self, value }
    }

    pub(super) fn encode(&self) -> Bytes {
        fields::encode(FORMAT, self)
    }

    pub(super) fn decode(row: &Bytes) -> Result<Self, DecodeError> {
        fields::decode(FORMAT, "a record", row)
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
