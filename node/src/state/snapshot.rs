//! The whole state as a stream of frames, for a member that the log can no longer bring up to date.
//!
//! In: a view on the one side, frames on the other. Out: frames, and a set of rows that is known to be whole and to be the sender's.
//! Absent: the way between the two (`raft` has it), and the moment at which the rows take the place of others ([`Machine::replace`]).
//!
//! A view never changes, so the stream is the state after one entry, data and counters alike, and whoever writes meanwhile is not held
//! up. The keyspaces come in a fixed order and the rows in the order of their keys, so equal states give equal streams.
//!
//! ```text
//! frame  kind u8 | length u32 of the body | body | crc32c u32 of all before it
//! 1      "KVSN" | format u16 | rows' format u64 | level u32 | cluster 16 B | shard u32 | applied | sections u8 | each: keyspace u8
//!        | flag u8, and if 1: membership's place | its bytes
//! 2      keyspace u8 | rows u32 | each: key's length u16, value's length u32, key, value
//! 3      sections u8 | each: keyspace u8, rows u64 | digest 16 B
//! ```
//! `applied` and the membership's place are term and index, a u64 each; all numbers are big-endian. The digest is XXH3-128 over
//! the first frame's body and then, for each section, over its code, its rows as they stand in the frames, and their number. A section is a
//! keyspace that has rows; the first frame names them all, so a reader that does not know one refuses before it has touched a row. The
//! sender compares each large value with the hash in its header: damage is not passed on.
//!
//! [`Machine::replace`]: super::Machine::replace

mod frame;
mod intake;
mod stream;

use bytes::Bytes;

pub use intake::{Intake, Received};
pub use stream::Frames;

use super::{Applied, Level};
use crate::{cluster_id::ClusterId, storage::StoreError};

/// The largest frame that is taken: the largest record, and room for the rows beside it.
pub const MAX_FRAME_BYTES: usize = 24 << 20;

/// Which shard of which cluster a snapshot is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The cluster.
    pub cluster: ClusterId,
    /// The shard.
    pub shard: u32,
}

/// What a snapshot says of itself at its beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heading {
    /// The last entry that it contains.
    pub applied: Applied,
    /// The feature level as of then.
    pub level: Level,
    /// The membership as of then, in raft's own encoding.
    pub membership: Option<(Applied, Bytes)>,
}

/// Why a snapshot cannot be sent or is not taken.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The bytes are not what a member of this version sends.
    #[error("the snapshot is refused at byte {at}: {reason}")]
    Refused {
        /// How many bytes of it came before.
        at: u64,
        /// What was found.
        reason: String,
    },
    /// Its rows are of a newer program.
    #[error("the snapshot has rows of format {found}, this program knows up to {known}: start a newer kvnode")]
    NewerFormat {
        /// What was found.
        found: u64,
        /// The newest known.
        known: u64,
    },
    /// Its rows are of a program from before formats could grow.
    #[error("the snapshot has rows of format {found}, this program reads {known}: upgrade the sender")]
    OlderFormat {
        /// What was found.
        found: u64,
        /// What is read.
        known: u64,
    },
    /// It is of another cluster or shard.
    #[error("the snapshot is of cluster {found} shard {found_shard}, this member of cluster {own} shard {own_shard}")]
    Foreign {
        /// Whose it is.
        found: ClusterId,
        /// Of which shard.
        found_shard: u32,
        /// Whose this member is.
        own: ClusterId,
        /// Of which shard.
        own_shard: u32,
    },
    /// The rows cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}
