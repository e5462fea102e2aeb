//! One number for all records and tenants: members that have applied the same entries have the same number.
//!
//! It is the sum of a hash per row. Replacing a row takes the old hash off and adds the new one, so a batch costs two hashes per record
//! and no look at the others; and the sum of a whole scan must give the same number again, which is how a member finds that a row has
//! changed under it. A record counts by its header, and the header has the hash of a value that lies apart: so neither the sum nor the scan
//! reads large values, and members with other values have other sums all the same. Whether a value is the one that its header names is
//! looked at when it is read (`View::get`, a page, a snapshot). In: rows, old and new. Out: the sum, and [`Checkpoint`]s at fixed places of the log, where members compare.
//! Absent: comparing (`raft`), and any protection against somebody who forges rows on purpose: the hash is fast, not cryptographic.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128, xxh3_128_with_seed};

use super::{
    DecodeError,
    codec::{FORMAT, fields},
    tables::Tables,
};
use crate::storage::{Direction, KeyRange, Keyspace, Reader, StoreError};

/// A checkpoint is taken at every index that this divides: often enough to find damage soon, and seldom enough to cost nothing.
pub(super) const CHECKPOINT_ENTRIES: u64 = 4096;
/// Members are at different places in the log when they compare: this many are kept, which is a few seconds of the fastest load.
const CHECKPOINTS_KEPT: usize = 16;
/// What the digest covers. Everything else follows from these rows, or stands in every checkpoint by itself.
const COVERED: [Keyspace; 2] = [Keyspace::Tenants, Keyspace::Records];

/// The sum over all rows covered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest(u128);

impl Digest {
    /// Adds a row.
    pub(super) fn add(&mut self, keyspace: Keyspace, key: &[u8], value: &[u8]) {
        self.0 = self.0.wrapping_add(hash(keyspace, key, value));
    }

    /// Takes a row off that was added before.
    pub(super) fn take_off(&mut self, keyspace: Keyspace, key: &[u8], value: &[u8]) {
        self.0 = self.0.wrapping_sub(hash(keyspace, key, value));
    }

    /// The sum of the rows that are there.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) fn of_rows(reader: &dyn Reader) -> Result<Self, StoreError> {
        let mut digest = Digest::default();
        for keyspace in COVERED {
            for row in reader.range(keyspace, KeyRange::ALL, Direction::Ascending) {
                let (key, value) = row?;
                digest.add(keyspace, &key, &value);
            }
        }
        Ok(digest)
    }

    /// Whether rows of a keyspace are part of it.
    pub(super) fn covers(keyspace: Keyspace) -> bool {
        COVERED.contains(&keyspace)
    }

    pub(super) fn encode(self) -> Bytes {
        fields::encode(FORMAT, &(self.0,))
    }

    pub(super) fn decode(row: &Bytes) -> Result<Self, DecodeError> {
        fields::decode(FORMAT, "a digest", row).map(|(number,)| Digest(number))
    }

    /// As a number, for messages between members.
    pub fn number(self) -> u128 {
        self.0
    }
}

/// Hexadecimal, as people compare it.
impl std::fmt::Display for Digest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}

/// Key and value are hashed apart, so that bytes which move from the one to the other make a difference.
fn hash(keyspace: Keyspace, key: &[u8], value: &[u8]) -> u128 {
    xxh3_128_with_seed(value, xxh3_64_with_seed(key, keyspace.code().into()))
}

/// What a record's row counts.
pub(super) fn replace_record(digest: &mut Digest, key: &[u8], old: Option<&Bytes>, new: Option<&Bytes>) {
    if let Some(old) = old {
        digest.take_off(Keyspace::Records, key, old);
    }
    if let Some(new) = new {
        digest.add(Keyspace::Records, key, new);
    }
}

/// The state after one entry, as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The entry's index.
    pub index: u64,
    /// The revision then.
    pub revision: u64,
    /// Over the rows' digest, the revision, the clock, the next tenant's id and the settings' revision.
    pub digest: Digest,
}

impl Checkpoint {
    /// Of the tables as they are after the entry with this index.
    pub(super) fn of(tables: &Tables, index: u64) -> Self {
        let mut bytes = [0; 52];
        let fields = [
            tables.digest.0.to_be_bytes().as_slice(),
            &tables.revision.to_be_bytes(),
            &tables.clock_ms.to_be_bytes(),
            &index.to_be_bytes(),
            &tables.settings.revision.to_be_bytes(),
            &tables.next_tenant.to_be_bytes(),
        ]
        .concat();
        bytes.copy_from_slice(&fields);
        Checkpoint {
            index,
            revision: tables.revision,
            digest: Digest(xxh3_128(&bytes)),
        }
    }
}

/// The last checkpoints, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Checkpoints(Arc<VecDeque<Checkpoint>>);

impl Checkpoints {
    pub(super) fn push(&mut self, checkpoint: Checkpoint) {
        let kept = Arc::make_mut(&mut self.0);
        if kept.len() == CHECKPOINTS_KEPT {
            kept.pop_front();
        }
        kept.push_back(checkpoint);
    }

    pub(super) fn to_vec(&self) -> Vec<Checkpoint> {
        self.0.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Golden: members of two versions compare these numbers.
    #[test]
    fn the_number_of_a_row_stays() {
        let mut digest = Digest::default();
        digest.add(Keyspace::Records, b"key", b"value");
        assert_eq!(digest.to_string(), "b0589c5a103e96efd2186b1797b9bf37");
    }

    #[test]
    fn a_sum_knows_neither_order_nor_history() {
        let (mut one, mut other) = (Digest::default(), Digest::default());
        one.add(Keyspace::Records, b"a", b"1");
        one.add(Keyspace::Records, b"b", b"2");
        other.add(Keyspace::Records, b"b", b"0");
        other.add(Keyspace::Records, b"a", b"1");
        assert_ne!(one, other);
        other.take_off(Keyspace::Records, b"b", b"0");
        other.add(Keyspace::Records, b"b", b"2");
        assert_eq!(one, other);
        let mut moved = Digest::default();
        moved.add(Keyspace::Records, b"a1", b"");
        moved.add(Keyspace::Records, b"b", b"2");
        assert_ne!(one, moved);
    }
}
