//! Reads a page of a tenant's records in key order.

use std::ops::Bound;

use bytes::Bytes;

use super::View;
use crate::{
    state::{Record, TenantId, tables::damaged},
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

/// How much one page may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanLimits {
    /// Records, at least 1.
    pub items: usize,
    /// Bytes of keys, values and metadata. The first record comes whatever its size, so that a scan gets on.
    pub bytes: u64,
    /// Leave values and metadata out, of the page and of its bytes.
    pub keys_only: bool,
}

/// A page of records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Keys and records, in the order of the scan.
    pub items: Vec<(String, Record)>,
    /// Where there are more: the last key of this page, the next one's `start_after`.
    pub next: Option<String>,
}

impl View {
    /// The first records of a range that are not expired. Blocks on the store: keep it off the async threads.
    ///
    /// # Errors
    /// Those of the store.
    pub fn scan(&self, tenant: TenantId, range: &ScanRange, limits: ScanLimits, now_ms: u64) -> Result<Page, StoreError> {
        let mut page = Page {
            items: Vec::new(),
            next: None,
        };
        if self.tables.tenants.by_id(tenant).is_none() {
            return Ok(page);
        }
        let now_ms = self.moment(now_ms);
        let direction = if range.reverse {
            Direction::Descending
        } else {
            Direction::Ascending
        };
        let mut bytes = 0u64;
        for row in self.reader.range(Keyspace::Records, key_range(tenant, range), direction) {
            let (row, value) = row?;
            let mut record = Record::decode(&value).map_err(|error| damaged(Keyspace::Records, error))?;
            if record.is_expired(now_ms) {
                continue;
            }
            let (_, key) = keys::parse_record(&row).ok_or_else(|| damaged(Keyspace::Records, "unknown key"))?;
            if limits.keys_only {
                record.value = Bytes::new();
                record.metadata = Vec::new();
            }
            bytes = bytes.saturating_add(record.charge(key));
            if let Some((last, _)) = page.items.last()
                && (page.items.len() >= limits.items || bytes > limits.bytes)
            {
                page.next = Some(last.clone());
                break;
            }
            page.items.push((key.to_owned(), record));
        }
        Ok(page)
    }
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
