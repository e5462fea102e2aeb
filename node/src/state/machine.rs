//! Applies committed entries, a batch at a time.
//!
//! Owned by one thread, apart from the log's and the heartbeats' (a write to the store may stall for 100 ms). The order in `apply` is
//! what makes a crash harmless and a read consistent: first all rows and `applied` in one batch, then the view, then the answers.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    Applied, Body, Input, Response, apply,
    draft::Draft,
    tables::{self, Tables},
    view::{Publisher, View, Views},
};
use crate::storage::{Keyspace, Reader, Store, StoreError, Write, keys};

/// The state machine over a store.
pub struct Machine<S: Store> {
    store: S,
    reader: Arc<dyn Reader>,
    tables: Tables,
    applied: Option<Applied>,
    membership: Option<(Applied, Bytes)>,
    publisher: Publisher,
    failed: bool,
}

impl<S: Store> Machine<S> {
    /// Opens the state in `store` and builds the tables from its rows. Blocks.
    ///
    /// # Errors
    /// [`StoreError::NewerFormat`] when a newer program wrote the rows, [`StoreError::Damaged`] when a row makes no sense, and those of
    /// the store.
    pub fn open(mut store: S) -> Result<(Self, Views), StoreError> {
        if tables::check_format(store.reader().as_ref())? {
            let format = Bytes::copy_from_slice(&tables::FORMAT.to_be_bytes());
            store.write(vec![Write {
                keyspace: Keyspace::Meta,
                key: keys::FORMAT.to_vec(),
                value: Some(format),
            }])?;
            store.persist()?;
        }
        let reader = store.reader();
        let tables::Loaded {
            tables,
            applied,
            membership,
        } = Tables::load(reader.as_ref())?;
        let (publisher, views) = Publisher::new(View::new(applied, tables.clone(), Arc::clone(&reader)));
        Ok((
            Machine {
                store,
                reader,
                tables,
                applied,
                membership,
                publisher,
                failed: false,
            },
            views,
        ))
    }

    /// The last applied entry; none when there never was one.
    pub fn applied(&self) -> Option<Applied> {
        self.applied
    }

    /// The last applied membership, in raft's own encoding.
    pub fn membership(&self) -> Option<(Applied, Bytes)> {
        self.membership.clone()
    }

    /// Applies entries in one atomic batch and publishes the view of it before it returns the answers, one per entry. An entry that was
    /// applied before is skipped and answered [`Response::None`]. Blocks. The whole batch is in memory: the caller bounds it.
    ///
    /// # Errors
    /// Those of the store. Nothing of the batch is visible then, and the machine takes no more: the member must restart.
    pub fn apply(&mut self, inputs: Vec<Input>) -> Result<Vec<Response>, StoreError> {
        if self.failed {
            return Err(StoreError::Failed);
        }
        let outcome = self.apply_batch(inputs);
        self.failed = outcome.is_err();
        outcome
    }

    fn apply_batch(&mut self, inputs: Vec<Input>) -> Result<Vec<Response>, StoreError> {
        let mut draft = Draft::new(self.tables.clone(), Arc::clone(&self.reader));
        let mut applied = self.applied;
        let mut membership = None;
        let mut answers = Vec::with_capacity(inputs.len());
        for Input { id, body } in inputs {
            if applied.is_some_and(|applied| id.index <= applied.index) {
                answers.push(Response::None);
                continue;
            }
            answers.push(match body {
                Body::Blank => Response::None,
                Body::Membership(bytes) => {
                    membership = Some((id, bytes));
                    Response::None
                }
                Body::Proposal(proposal) => {
                    let now_ms = draft.advance(proposal.stamp_ms)?;
                    apply::apply(&mut draft, now_ms, proposal.command)?
                }
            });
            applied = Some(id);
        }
        let Some(last) = applied.filter(|_| applied != self.applied) else {
            return Ok(answers);
        };
        let (tables, batch) = draft.finish(last, membership.as_ref());
        self.store.write(batch)?;
        self.reader = self.store.reader();
        self.tables = tables;
        self.applied = applied;
        self.membership = membership.or_else(|| self.membership.take());
        self.publisher
            .publish(View::new(applied, self.tables.clone(), Arc::clone(&self.reader)));
        Ok(answers)
    }

    /// Makes everything applied so far survive a power cut. The log may drop only entries up to what [`Machine::applied`] was before
    /// the call. Blocks.
    ///
    /// # Errors
    /// Those of the store; the machine takes no more entries after it.
    pub fn persist(&mut self) -> Result<(), StoreError> {
        if self.failed {
            return Err(StoreError::Failed);
        }
        let outcome = self.store.persist();
        self.failed = outcome.is_err();
        outcome
    }

    /// Bytes of the store on disk.
    ///
    /// # Errors
    /// Those of the store.
    pub fn disk_bytes(&self) -> Result<u64, StoreError> {
        self.store.disk_bytes()
    }
}
