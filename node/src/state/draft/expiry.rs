//! The clock of a draft, what has expired by it, and how far the sweep has come.

use bytes::Bytes;

use super::Draft;
use crate::{
    state::tables,
    storage::{Keyspace, StoreError, keys},
};

/// How many expired rows one entry counts. The rest is left to the next entries: when a million records expire at once, no entry may
/// keep every member, and every write behind it, for the second that counting them takes.
const COUNTED_PER_ENTRY: usize = 64;
/// How far ahead of the clock the next expiry is looked for, milliseconds: so often is looked, at most, and so wide is what is looked at.
const LOOK_AHEAD_MS: u64 = 1_000;

impl Draft {
    /// Moves the clock to the stamp, never back, and counts what has expired, up to a bound. Answers the moment that is in force.
    pub(in crate::state) fn advance(&mut self, stamp_ms: u64) -> Result<u64, StoreError> {
        self.pass_time(stamp_ms);
        if self.tables.counting() {
            self.count_expired()?;
        }
        Ok(self.tables.clock_ms)
    }

    /// Moves the clock to the stamp, never back, and counts nothing: what is expired by then is counted by the next entry.
    pub(in crate::state) fn pass_time(&mut self, stamp_ms: u64) -> u64 {
        self.tables.clock_ms = self.tables.clock_ms.max(stamp_ms);
        self.tables.clock_ms
    }

    fn count_expired(&mut self) -> Result<(), StoreError> {
        let ahead = self.tables.clock_ms.saturating_add(LOOK_AHEAD_MS);
        let (mut expired, mut next) = (Vec::new(), None);
        for row in self.rows.range(Keyspace::Ttl, self.tables.uncounted(ahead)) {
            let (row, _) = row?;
            let (expires, tenant, _) = tables::parse_ttl(&row)?;
            if expires > self.tables.clock_ms || expired.len() == COUNTED_PER_ENTRY {
                next = Some((expires, row));
                break;
            }
            expired.push(tenant);
        }
        self.touch(expired.len() + usize::from(next.is_some()), 0);
        for tenant in expired {
            self.note_usage(tenant);
            self.tables.count_expired(tenant);
        }
        let tables = &mut self.tables;
        tables.next_expiry_ms = next.as_ref().map_or(ahead.saturating_add(1), |(expires, _)| *expires);
        match next {
            Some((_, row)) if tables.counting() => tables.ttl_counted = row.to_vec(),
            _ => tables.all_counted(),
        }
        Ok(())
    }

    /// The sweep goes on here.
    pub(in crate::state) fn set_ttl_cursor(&mut self, key: Vec<u8>) {
        self.rows
            .put(Keyspace::Meta, keys::TTL_CURSOR.to_vec(), Bytes::copy_from_slice(&key));
        self.tables.ttl_cursor = key;
    }

    /// Nothing is left that is expired at the clock. The next sweep begins behind it, and so walks no tombstone of what was deleted or
    /// refreshed before it expired.
    pub(in crate::state) fn all_swept(&mut self) {
        self.set_ttl_cursor(keys::ttl_end(self.tables.clock_ms));
        self.tables.all_counted();
    }
}
