//! The replicated state machine: what every member does with a committed entry.
//!
//! In: committed entries, in order, from `raft`. Out: one answer per command for its proposer, rows in `storage`, and a [`View`] of the
//! state between two batches for readers. Equal entries give equal rows and equal answers on every member: the only clock is the
//! entry's stamp, the only configuration is what came through the log. Absent by design: clocks, randomness, sockets, openraft, axum,
//! the free space of the disk.
//!
//! The rows are not fsynced batch by batch. `applied` is part of each batch, so after a power cut rows and `applied` go back together
//! and the log replays the rest; the log may drop entries only after [`Machine::persist`].

mod apply;
mod change;
pub mod codec;
pub mod command;
mod digest;
mod draft;
pub mod level;
mod machine;
mod operation;
mod overlay;
mod record;
pub mod response;
pub mod snapshot;
mod tables;
mod tenant;
#[cfg(test)]
mod tests;
mod usage;
mod view;
mod write;

use bytes::Bytes;

pub use change::{Change, ChangeCounts, ChangeKind};
pub use codec::DecodeError;
pub use command::{Bound, Command, Condition, Kind, Proposal, TenantId, Ttl};
pub use digest::{Checkpoint, Digest};
pub use level::{Level, Supported};
pub use machine::Machine;
pub(crate) use operation::checks;
pub use operation::{Delete, Deletion, Done, Operation, Put, Written};
pub use record::{Header, INLINE_BYTES, Record, ValuePlace};
pub use response::{Refusal, Response};
pub use tenant::Tenant;
pub use view::{Collect, Ended, Expired, ScanLimits, ScanRange, Stopped, View, Views};
pub use write::{Answer, Check, Part, Write};

/// Where in the log something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The term of the entry's leader.
    pub term: u64,
    /// The entry's index.
    pub index: u64,
}

codec::numbered::message!(Applied { 1 = term, 2 = index });

/// What a log entry carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Nothing: a new leader's first entry.
    Blank,
    /// A membership in raft's own encoding, kept as it is.
    Membership(Bytes),
    /// A command with its stamp.
    Proposal(Proposal),
    /// Writes, each with its stamp, in order. All of them are in one batch: `applied` names entries, so no batch ends inside of one.
    Writes(Vec<Proposal>),
}

impl Body {
    /// How many answers it is given.
    pub fn answers(&self) -> usize {
        match self {
            Body::Blank | Body::Membership(_) | Body::Proposal(_) => 1,
            Body::Writes(writes) => writes.len(),
        }
    }
}

/// A committed entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Where it stands in the log.
    pub id: Applied,
    /// What it carries.
    pub body: Body,
}
