//! Reads a page of a tenant's records in key order.

use std::ops::Bound;

use bytes::Bytes;

use super::View;
use crate::{
    state::{Header, Record, TenantId, tables::damaged},
    storage::{Direction, KeyRange, Keyspace, StoreError, keys},
};

/// Which keys, and from which end. Everything that is set must hold; the order is bytewise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanRange {
    /// Keys that begin with it.
    pub prefix: Option<String>,
    /// Keys from it on, itself included.
    pub start: Option<String>,
    /// Keys below it, itself excluded; also with `reverse`.
    pub end: Option<String>,
    /// Keys that come after it in the order of the scan: where the last page ended.
    pub start_after: Option<String>,
    /// Largest first.
    pub reverse: bool,
}

/// How much one page may hold, and what it may cost. What it may cost counts what is not shown as well: expired records, and small values
/// that are read with their headers for a page of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanLimits {
    /// Records, at least 1.
    pub items: usize,
    /// Rows that are looked at, at least 1.
    pub rows: usize,
    /// Bytes of rows that are read, large values with them. The record that reaches it is the last one: it is exceeded by one at most.
    pub read_bytes: u64,
}

/// Takes the records of a page, in the order of the scan.
pub trait Collect {
    /// Whether it takes values. For a page without them records come with an empty value where it is large, and no large one is read.
    fn takes_values(&self) -> bool {
        true
    }

    /// Whether there may be room for a record with this header: asked before a large value is read.
    fn may_fit(&self, _header: &Header) -> bool {
        true
    }

    /// Adds a record; false when there is no room for it.
    fn add(&mut self, key: &str, record: &Record) -> bool;
}

/// How a scan ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything in the range has been looked at.
    AtTheEnd,
    /// There may be more after this key, which was looked at last: the next page's `start_after`.
    After(String),
    /// There was no room for the first record.
    NoRoom,
    /// No request waits for the page any more.
    Unwanted,
}

impl View {
    /// Gives the records of a range that are not expired to `page`, until it has no more room or a limit is reached. `is_wanted` is asked
    /// before each row. Blocks on the store: keep it off the async threads.
    ///
    /// # Errors
    /// Those of the store.
    pub fn scan(
        &self,
        tenant: TenantId,
        range: &ScanRange,
        limits: ScanLimits,
        now_ms: u64,
        is_wanted: &dyn Fn() -> bool,
        page: &mut dyn Collect,
    ) -> Result<Ended, StoreError> {
        if self.tables.tenants.by_id(tenant).is_none() {
            return Ok(Ended::AtTheEnd);
        }
        let now_ms = self.moment(now_ms);
        let direction = if range.reverse {
            Direction::Descending
        } else {
            Direction::Ascending
        };
        let mut left = limits;
        let mut last = None;
        let mut rows = self.reader.range(Keyspace::Records, key_range(tenant, range), direction);
        loop {
            if !is_wanted() {
                return Ok(Ended::Unwanted);
            }
            if let Some(last) = &last
                && (left.rows == 0 || left.read_bytes == 0)
            {
                return after(last);
            }
            let Some(row) = rows.next() else {
                return Ok(Ended::AtTheEnd);
            };
            let (row, value) = row?;
            left.rows = left.rows.saturating_sub(1);
            left.read_bytes = left.read_bytes.saturating_sub((row.len() + value.len()) as u64);
            let header = Header::decode(&value).map_err(|error| damaged(Keyspace::Records, error))?;
            if !header.is_expired(now_ms) {
                // Only now it is certain that there are more.
                let mut added = left.items > 0 && page.may_fit(&header);
                if added {
                    let record = if header.is_apart() && page.takes_values() {
                        left.read_bytes = left.read_bytes.saturating_sub(header.value_length());
                        self.whole(&row, header)?
                    } else {
                        header.with(None)
                    };
                    added = page.add(key_of(&row)?, &record);
                }
                if !added {
                    return last.as_ref().map_or(Ok(Ended::NoRoom), after);
                }
                left.items -= 1;
            }
            last = Some(row);
        }
    }
}

fn after(row: &Bytes) -> Result<Ended, StoreError> {
    Ok(Ended::After(key_of(row)?.to_owned()))
}

fn key_of(row: &Bytes) -> Result<&str, StoreError> {
    let (_, key) = keys::parse_record(row).ok_or_else(|| damaged(Keyspace::Records, "unknown key"))?;
    Ok(key)
}

/// The interval of rows, as an inclusive start and an exclusive end: the key right after `k` in bytewise order is `k` and a zero byte.
fn key_range(tenant: TenantId, range: &ScanRange) -> KeyRange {
    let ScanRange {
        prefix,
        start,
        end,
        start_after,
        reverse,
    } = range;
    let (after, before) = if *reverse {
        (None, start_after.as_deref())
    } else {
        (start_after.as_deref(), None)
    };
    let after = after.map(|key| [key.as_bytes(), &[0]].concat());
    let lowest = [
        prefix.as_deref().map(str::as_bytes),
        start.as_deref().map(str::as_bytes),
        after.as_deref(),
    ]
    .into_iter()
    .flatten()
    .max();
    let prefix_end = prefix.as_deref().and_then(|prefix| keys::after_prefix(prefix.as_bytes()));
    let highest = [prefix_end.as_deref(), end.as_deref().map(str::as_bytes), before.map(str::as_bytes)]
        .into_iter()
        .flatten()
        .min();
    let row = |key: &[u8]| [tenant.0.to_be_bytes().as_slice(), key].concat();
    KeyRange {
        start: Bound::Included(row(lowest.unwrap_or_default())),
        end: highest.map_or_else(|| keys::tenant_end(tenant), |key| Bound::Excluded(row(key))),
    }
}
