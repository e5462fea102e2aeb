//! What happens to records, as it is told: one event per change of a record, noted at the one place where records change.
//!
//! In: the events of a batch, in the order of their revisions. Out: how many of each kind there were; a batch has a bounded number of rows,
//! and so of events. Absent: keeping them, and the rows of deleted tenants, which no reader can see when they go.

use super::TenantId;

/// What happened to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was written.
    Put,
    /// It was deleted.
    Delete,
    /// It had expired and was removed.
    Expire,
}

impl ChangeKind {
    /// Every kind.
    pub const ALL: [ChangeKind; 3] = [ChangeKind::Put, ChangeKind::Delete, ChangeKind::Expire];

    /// As metrics name it.
    pub const fn name(self) -> &'static str {
        match self {
            ChangeKind::Put => "put",
            ChangeKind::Delete => "delete",
            ChangeKind::Expire => "expire",
        }
    }
}

/// One change of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Whose record.
    pub tenant: TenantId,
    /// Its key.
    pub key: Box<str>,
    /// The revision that the change took.
    pub revision: u64,
    /// What happened.
    pub kind: ChangeKind,
}

/// How many changes this member has applied since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangeCounts([u64; ChangeKind::ALL.len()]);

impl ChangeCounts {
    /// Takes the changes of a batch that is in the store.
    pub(super) fn add(&mut self, changes: &[Change]) {
        for change in changes {
            if let Some(count) = self.0.get_mut(change.kind as usize) {
                *count += 1;
            }
        }
    }

    /// How many of a kind.
    pub fn of(&self, kind: ChangeKind) -> u64 {
        self.0.get(kind as usize).copied().unwrap_or_default()
    }
}
