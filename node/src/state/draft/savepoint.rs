//! Savepoints: a draft as it was, to go back to when an operation of a list is refused half way.
//!
//! While a mark is open the draft notes what each change replaces; without one it notes nothing. In: the changes of a draft. Out: the draft
//! as it was at the mark: rows, counters, tables and events. Absent: what the work cost ([`Draft::is_large`] counts
//! rows that were read for an operation that was refused, because they were read).

use super::Draft;
use crate::state::{TenantId, tables::Counters, usage::Usage};

/// A moment of a draft. Marks may lie inside each other; going back to one takes back those that were set after it.
#[must_use = "a mark that is not given back keeps the draft noting every change"]
pub(in crate::state) struct Mark {
    rows: usize,
    replaced: usize,
    changes: usize,
    open: usize,
    counters: Counters,
}

/// What was replaced beside rows.
enum Replaced {
    /// What a tenant used.
    Usage(TenantId, Usage),
    /// A tenant whose counters had not changed before.
    Charged(TenantId),
}

/// What a draft notes while marks are open.
#[derive(Default)]
pub(super) struct Savepoints {
    open: usize,
    replaced: Vec<Replaced>,
}

impl Draft {
    /// Remembers this moment. It ends with [`Draft::roll_back`] or [`Draft::keep`]; one that is dropped costs memory until the batch ends.
    pub(in crate::state) fn mark(&mut self) -> Mark {
        let open = self.savepoints.open;
        self.savepoints.open += 1;
        Mark {
            rows: self.rows.note(),
            replaced: self.savepoints.replaced.len(),
            changes: self.changes.len(),
            open,
            counters: self.tables.counters(),
        }
    }

    /// Goes back to the mark: nothing is left of what was done since.
    pub(in crate::state) fn roll_back(&mut self, mark: Mark) {
        self.rows.take_back(mark.rows);
        self.changes.truncate(mark.changes);
        while self.savepoints.replaced.len() > mark.replaced {
            match self.savepoints.replaced.pop() {
                Some(Replaced::Usage(tenant, old)) => self.tables.usage.change(tenant, |usage| *usage = old),
                Some(Replaced::Charged(tenant)) => {
                    self.charged.remove(&tenant);
                }
                None => break,
            }
        }
        self.tables.restore(mark.counters);
        self.close(mark.open);
    }

    /// What was done since the mark stays.
    pub(in crate::state) fn keep(&mut self, mark: Mark) {
        self.close(mark.open);
    }

    fn close(&mut self, open: usize) {
        self.savepoints.open = open;
        if open == 0 {
            self.savepoints.replaced.clear();
            self.rows.forget();
        }
    }

    /// How much is noted beside rows.
    #[cfg(test)]
    pub(in crate::state) fn noted(&self) -> usize {
        self.savepoints.replaced.len()
    }

    /// Every change of a tenant's counters goes through here.
    pub(super) fn change_usage(&mut self, tenant: TenantId, change: impl FnOnce(&mut Usage)) {
        self.note_usage(tenant);
        self.tables.usage.change(tenant, change);
    }

    /// What a tenant uses is about to change.
    pub(super) fn note_usage(&mut self, tenant: TenantId) {
        if self.savepoints.open > 0 {
            let old = self.tables.usage.get(tenant);
            self.savepoints.replaced.push(Replaced::Usage(tenant, old));
        }
    }

    /// The tenant's row of counters is written with the batch.
    pub(super) fn charge(&mut self, tenant: TenantId) {
        if self.charged.insert(tenant) && self.savepoints.open > 0 {
            self.savepoints.replaced.push(Replaced::Charged(tenant));
        }
    }
}
