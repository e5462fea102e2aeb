//! What a write does to one record: a file per operation, with its fields, its bytes, its rules and its answer. Another one is added here,
//! in a file of its own, and where `docs/contributing/add-an-operation.md` says.

pub(crate) mod checks;
mod delete;
mod put;

pub use delete::{Delete, Deletion};
pub use put::{Put, Written};

use super::{Refusal, Tenant, apply::Stop, codec::numbered::choice, draft::Draft};

/// One operation of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Writes a record.
    Put(Put),
    /// Deletes a record.
    Delete(Delete),
}

choice!("operation", Operation { 1 = Put(put), 2 = Delete(delete) });

/// The answer to one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// A record was written.
    Put(Written),
    /// A record is absent now.
    Deleted(Deletion),
}

choice!("answer to an operation", Done { 1 = Put(written), 2 = Deleted(deletion) });

impl Done {
    /// The revision that it took; none when it changed nothing.
    pub fn revision(self) -> Option<u64> {
        match self {
            Done::Put(written) => Some(written.revision),
            Done::Deleted(deletion) => deletion.revision,
        }
    }
}

impl Operation {
    /// Whether it may add data: it is refused while the disks are full.
    pub(crate) fn grows(&self) -> bool {
        match self {
            Operation::Put(_) => true,
            Operation::Delete(_) => false,
        }
    }

    /// Whether it makes all its decisions before its first change, so that there is nothing to take back when it is refused: going back
    /// costs the notes of what was there before.
    pub(super) fn decides_first(&self) -> bool {
        match self {
            Operation::Put(_) | Operation::Delete(_) => true,
        }
    }

    /// Does it, at this moment. What it has changed before it is refused, the caller takes back.
    pub(super) fn apply(self, draft: &mut Draft, now_ms: u64, tenant: &Tenant) -> Result<Done, Stop> {
        match self {
            Operation::Put(put) => put.apply(draft, now_ms, tenant).map(Done::Put),
            Operation::Delete(delete) => delete.apply(draft, now_ms, tenant).map(Done::Deleted),
        }
    }
}
