//! What each tenant uses, in memory, so that a quota costs no read.
//!
//! A view must keep the counters of its own moment while later batches change them, and a batch touches few tenants. So the table is
//! cut into chunks that are shared until one is written to: copying the table copies pointers, and a batch copies the chunks it
//! touches. Ids are small and dense (they are counted up), so a chunk is found by division.

use std::sync::Arc;

use bytes::Bytes;
use kvfleet_api::usage::Used;

use super::{
    DecodeError, TenantId,
    codec::{FORMAT, fields},
};

const CHUNK: usize = 64;

/// The counters of one tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Bytes charged, expired records included until they are swept.
    pub(super) bytes: u64,
    /// Rows, expired ones included until they are swept.
    pub(super) rows: u64,
    /// Of these rows, how many are expired at the clock. Follows from the rows of keyspace `ttl`, so it is not stored.
    pub(super) expired: u64,
}

impl Usage {
    /// As others see it: records past their expiry are not counted as keys.
    pub(super) fn used(self) -> Used {
        Used {
            storage: self.bytes,
            keys: self.live(),
        }
    }

    pub(super) fn live(self) -> u64 {
        self.rows.saturating_sub(self.expired)
    }

    pub(super) fn encode(self) -> Bytes {
        fields::encode(FORMAT, &(self.bytes, self.rows))
    }

    pub(super) fn decode(row: &Bytes) -> Result<Self, DecodeError> {
        let (bytes, rows) = fields::decode(FORMAT, "a usage", row)?;
        Ok(Usage { bytes, rows, expired: 0 })
    }
}

/// The counters of all tenants. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub(super) struct UsageTable {
    chunks: Vec<Arc<[Usage; CHUNK]>>,
}

impl UsageTable {
    pub(super) fn get(&self, tenant: TenantId) -> Usage {
        let (chunk, offset) = place(tenant);
        self.chunks
            .get(chunk)
            .and_then(|chunk| chunk.get(offset))
            .copied()
            .unwrap_or_default()
    }

    pub(super) fn change(&mut self, tenant: TenantId, change: impl FnOnce(&mut Usage)) {
        let (chunk, offset) = place(tenant);
        if self.chunks.len() <= chunk {
            self.chunks.resize_with(chunk + 1, || Arc::new([Usage::default(); CHUNK]));
        }
        if let Some(usage) = self.chunks.get_mut(chunk).and_then(|chunk| Arc::make_mut(chunk).get_mut(offset)) {
            change(usage);
        }
    }
}

fn place(tenant: TenantId) -> (usize, usize) {
    let id = tenant.0 as usize;
    (id / CHUNK, id % CHUNK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_keeps_its_moment() {
        let mut table = UsageTable::default();
        table.change(TenantId(200), |usage| usage.bytes = 5);
        let before = table.clone();
        table.change(TenantId(200), |usage| usage.bytes = 9);
        assert_eq!(before.get(TenantId(200)).bytes, 5);
        assert_eq!(table.get(TenantId(200)).bytes, 9);
        assert_eq!(table.get(TenantId(u32::MAX)), Usage::default());
        assert!(
            Arc::ptr_eq(before.chunks.first().unwrap(), table.chunks.first().unwrap()),
            "untouched chunks are shared"
        );
    }
}
