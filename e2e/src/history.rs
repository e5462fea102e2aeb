//! What clients did and saw, for the checker.
//!
//! In: operations as REST answered them, with revisions. Out: operations as [`crate::linearizability`] takes them, with values, and what revisions
//! alone betray. All times are of one monotonic clock: the test's own.

mod load;
mod record;
mod revisions;

pub use load::{Keys, Load, Mix, Plan, read_all};
pub use record::{Record, Recorder, Seen};
pub use revisions::Contradiction;

use std::collections::HashMap;

use crate::linearizability::{self, Call, Verdict};

/// A run's records.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// By client, each client's in its order.
    pub records: Vec<Record>,
}

/// What a history amounts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Every answer can be explained.
    Sound,
    /// Not.
    Unsound(String),
}

impl History {
    /// Checks revisions, then linearizability.
    pub fn judge(&self) -> Judgement {
        let by_revision = match revisions::values(&self.records) {
            Ok(by_revision) => by_revision,
            Err(contradiction) => return Judgement::Unsound(contradiction.to_string()),
        };
        if let Err(contradiction) = revisions::in_order(&self.records) {
            return Judgement::Unsound(contradiction.to_string());
        }
        let operations: Vec<_> = self.records.iter().map(|record| record.operation(&by_revision)).collect();
        match linearizability::check(&operations) {
            Verdict::Linearizable => Judgement::Sound,
            Verdict::Illegal(counterexample) => Judgement::Unsound(counterexample.to_string()),
            Verdict::Undecided { key } => Judgement::Unsound(format!("key {key}: the search was given up")),
        }
    }

    /// Acknowledged writes to keys that nobody wrote again, whose value the last read did not find.
    pub fn lost(&self) -> Vec<&Record> {
        let mut last_read = HashMap::new();
        let reads = self
            .records
            .iter()
            .filter(|record| matches!(record.seen, Seen::Found { .. } | Seen::Absent));
        for read in reads {
            let latest = last_read.entry(&read.key).or_insert(read);
            if latest.called < read.called {
                *latest = read;
            }
        }
        let mut writes: HashMap<&String, Vec<&Record>> = HashMap::new();
        for write in self
            .records
            .iter()
            .filter(|record| record.call != Call::Get && record.seen != Seen::Nothing)
        {
            writes.entry(&write.key).or_default().push(write);
        }
        let alone = writes.values().filter_map(|writes| match writes.as_slice() {
            [write] if matches!(write.seen, Seen::Written { .. }) => Some(*write),
            _ => None,
        });
        alone
            .filter(|write| {
                let found = last_read.get(&write.key).filter(|read| read.called > write.answered);
                found.is_some_and(|read| match (read.seen, write.call) {
                    (Seen::Found { value, .. }, Call::Put(written, _)) => value != written,
                    _ => true,
                })
            })
            .collect()
    }

    /// Every write that was acknowledged.
    pub fn acknowledged(&self) -> impl Iterator<Item = &Record> {
        self.records
            .iter()
            .filter(|record| matches!(record.seen, Seen::Written { .. } | Seen::Deleted { .. }))
    }
}
