//! A batch that is being made: a copy of the tables, and the rows that differ.
//!
//! If anything fails half way the draft is dropped, and rows and tables are as before. The rules that tie rows to one another (a record
//! to its value and its row in `ttl`, all to the counters) are kept here, so that a command cannot break them.

mod expiry;
mod records;
#[allow(dead_code)] // Lists of operations use it.
mod savepoint;
mod tenants;

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;

use super::{
    Applied, Change, TenantId,
    overlay::Overlay,
    tables::{self, Tables},
    usage::Usage,
};
use crate::storage::{Keyspace, Reader, Write, keys};

pub(super) use records::Reaped;
use savepoint::Savepoints;

/// A batch ends with the entry that has made it read or write this many rows …
const BATCH_ROWS: usize = 4_096;
/// … or this many bytes of them: what a batch costs and holds in memory depends on these, and not on how many entries it has.
const BATCH_BYTES: u64 = 16 << 20;

/// Work in progress.
pub(super) struct Draft {
    pub(super) tables: Tables,
    pub(super) rows: Overlay,
    charged: BTreeSet<TenantId>,
    /// Whether the rows before this batch say that expired ones are left uncounted.
    was_counting: bool,
    /// Rows that were read or written so far, and their bytes.
    touched: (usize, u64),
    /// What has happened to records, in the order of their revisions.
    changes: Vec<Change>,
    savepoints: Savepoints,
}

/// What a draft has come to.
pub(super) struct Finished {
    pub(super) tables: Tables,
    pub(super) batch: Vec<Write>,
    pub(super) changes: Vec<Change>,
}

impl Draft {
    pub(super) fn new(tables: Tables, base: Arc<dyn Reader>) -> Self {
        Draft {
            was_counting: tables.counting(),
            tables,
            rows: Overlay::new(base),
            charged: BTreeSet::new(),
            touched: (0, 0),
            changes: Vec::new(),
            savepoints: Savepoints::default(),
        }
    }

    /// Whether the batch has done enough for one write to the store.
    pub(super) fn is_large(&self) -> bool {
        let (rows, bytes) = self.touched;
        rows >= BATCH_ROWS || bytes >= BATCH_BYTES
    }

    pub(super) fn touch(&mut self, rows: usize, bytes: u64) {
        self.touched.0 += rows;
        self.touched.1 += bytes;
    }

    /// The next revision.
    pub(super) fn take_revision(&mut self) -> u64 {
        self.tables.revision += 1;
        self.tables.revision
    }

    pub(super) fn usage(&self, tenant: TenantId) -> Usage {
        self.tables.usage.get(tenant)
    }

    /// The tables and the batch. What goes back together after a crash is written together here: rows, counters, revision, clock,
    /// membership, and how far the log is applied.
    pub(super) fn finish(mut self, applied: Applied, membership: Option<&(Applied, Bytes)>) -> Finished {
        for tenant in std::mem::take(&mut self.charged) {
            if self.tables.tenants.by_id(tenant).is_some() {
                let usage = self.usage(tenant);
                self.rows.put(Keyspace::Usage, keys::usage(tenant), usage.encode());
            } else {
                self.rows.delete(Keyspace::Usage, keys::usage(tenant));
            }
        }
        if self.tables.counting() {
            let counted = Bytes::copy_from_slice(&self.tables.ttl_counted);
            self.rows.put(Keyspace::Meta, keys::TTL_COUNTED.to_vec(), counted);
        } else if self.was_counting {
            self.rows.delete(Keyspace::Meta, keys::TTL_COUNTED.to_vec());
        }
        self.rows
            .put(Keyspace::Meta, keys::REVISION.to_vec(), tables::encode_number(self.tables.revision));
        self.rows
            .put(Keyspace::Meta, keys::CLOCK.to_vec(), tables::encode_number(self.tables.clock_ms));
        self.rows.put(Keyspace::Meta, keys::DIGEST.to_vec(), self.tables.digest.encode());
        if let Some((id, bytes)) = membership {
            self.rows
                .put(Keyspace::Meta, keys::MEMBERSHIP.to_vec(), tables::encode_membership(*id, bytes));
        }
        self.rows
            .put(Keyspace::Meta, keys::APPLIED.to_vec(), tables::encode_applied(applied));
        Finished {
            tables: self.tables,
            batch: self.rows.into_batch(),
            changes: self.changes,
        }
    }
}
