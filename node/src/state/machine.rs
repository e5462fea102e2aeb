//! Applies committed entries, a batch at a time.
//!
//! Owned by one thread, apart from the log's and the heartbeats' (a write to the store may stall for 100 ms). The order in `apply` is
//! what makes a crash harmless and a read consistent: first all rows and `applied` in one batch, then the view, then the answers.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;

use super::{
    Applied, Body, Input, Level, Proposal, Response, apply,
    draft::{Draft, Finished},
    tables::{self, Loaded, Tables},
    view::{Publisher, View, Views},
};
use crate::storage::{Calls, Counted, FORMAT, Keyspace, NoReader, Reader, Space, Store, StoreError, Stores, Write, keys};

/// The state machine over a store.
pub struct Machine<S: Store> {
    store: S,
    reader: Arc<dyn Reader>,
    tables: Tables,
    applied: Option<Applied>,
    membership: Option<(Applied, Bytes)>,
    publisher: Publisher,
    calls: Arc<Calls>,
    /// Bytes written since the last flush.
    unflushed: u64,
    failed: bool,
    /// The answers of a batch whose write failed, and what it would have applied: the rows may be on disk all the same.
    unconfirmed: Option<(Applied, Vec<Response>)>,
}

impl<S: Store> Machine<S> {
    /// Opens the state in `store` and builds the tables from its rows. Blocks.
    ///
    /// # Errors
    /// [`StoreError::NewerFormat`] and [`StoreError::OlderFormat`] when another program wrote the rows, [`StoreError::Damaged`] when a row
    /// makes no sense, and those of the store.
    pub fn open(store: S) -> Result<(Self, Views), StoreError> {
        Self::open_knowing(store, Level::NEWEST)
    }

    /// The same for a program that knows feature levels up to `known`.
    ///
    /// # Errors
    /// [`StoreError::NewerLevel`] when the state is of a level above it: nothing was written then. Those of [`Machine::open`].
    pub fn open_knowing(mut store: S, known: Level) -> Result<(Self, Views), StoreError> {
        if tables::check_format(store.reader().as_ref())? {
            let format = Bytes::copy_from_slice(&FORMAT.to_be_bytes());
            store.write(vec![Write {
                keyspace: Keyspace::Meta,
                key: keys::FORMAT.to_vec(),
                value: Some(format),
            }])?;
            store.persist()?;
        }
        let calls = Arc::default();
        store.counted_by(&calls);
        let reader = store.reader();
        let Loaded {
            tables,
            applied,
            membership,
        } = Tables::load(reader.as_ref(), known)?;
        let (publisher, views) = Publisher::new(View::new(applied, membership.clone(), tables.clone(), Arc::clone(&reader)));
        Ok((
            Machine {
                store,
                reader,
                tables,
                applied,
                membership,
                publisher,
                calls,
                unflushed: 0,
                failed: false,
                unconfirmed: None,
            },
            views,
        ))
    }

    /// The last applied entry; none when there never was one.
    pub fn applied(&self) -> Option<Applied> {
        self.applied
    }

    /// The newest feature level that this program knows.
    pub fn known(&self) -> Level {
        self.tables.known
    }

    /// The last applied membership, in raft's own encoding.
    pub fn membership(&self) -> Option<(Applied, Bytes)> {
        self.membership.clone()
    }

    /// Applies all of these entries, in as many batches as [`Machine::apply_some`] makes of them. For a caller that does not go on after
    /// an error: the answers of the batches before are lost then.
    ///
    /// # Errors
    /// As [`Machine::apply_some`].
    pub fn apply(&mut self, inputs: Vec<Input>) -> Result<Vec<Response>, StoreError> {
        let mut inputs = VecDeque::from(inputs);
        let mut answers = Vec::with_capacity(inputs.len());
        while !inputs.is_empty() {
            answers.append(&mut self.apply_some(&mut inputs)?);
        }
        Ok(answers)
    }

    /// Takes entries from the front and applies them in one atomic batch, at least one and as many as make a batch of bounded work, and
    /// publishes the view of it before it returns the answers: one per entry taken, and of an entry of many writes one per write
    /// ([`Body::answers`]). An entry that was applied before is skipped and answered [`Response::None`]. Blocks. The batch is in memory: 16 MiB of rows that were read or written, 4,096 of them, and what the last entry
    /// adds to that.
    ///
    /// # Errors
    /// Those of the store. Nothing of the batch is visible then, and the machine takes no more: the member must restart.
    pub fn apply_some(&mut self, inputs: &mut VecDeque<Input>) -> Result<Vec<Response>, StoreError> {
        if self.failed {
            return Err(StoreError::Failed);
        }
        let outcome = self.apply_batch(inputs);
        self.failed = outcome.is_err();
        outcome
    }

    fn apply_batch(&mut self, inputs: &mut VecDeque<Input>) -> Result<Vec<Response>, StoreError> {
        if let Some((through, answers)) = self.unconfirmed.take()
            && self.applied == Some(through)
            && let Some(last) = inputs.iter().position(|input| input.id == through)
            && inputs.iter().take(last + 1).map(|input| input.body.answers()).sum::<usize>() == answers.len()
        {
            inputs.drain(..=last);
            return Ok(answers);
        }
        let reader = Counted {
            reader: Arc::clone(&self.reader),
            calls: Arc::clone(&self.calls),
        };
        let mut draft = Draft::new(self.tables.clone(), Arc::new(reader));
        let mut applied = self.applied;
        let mut membership = None;
        let mut answers = Vec::with_capacity(inputs.len());
        while let Some(Input { id, body }) = inputs.pop_front() {
            if applied.is_some_and(|applied| id.index <= applied.index) {
                answers.extend(std::iter::repeat_n(Response::None, body.answers()));
                continue;
            }
            match body {
                Body::Blank => answers.push(Response::None),
                Body::Membership(bytes) => {
                    membership = Some((id, bytes));
                    answers.push(Response::None);
                }
                Body::Proposal(proposal) => answers.push(apply_one(&mut draft, proposal, true)?),
                Body::Writes(writes) => {
                    draft.tables.known.admits(Level::MANY_WRITES)?;
                    for (place, write) in writes.into_iter().enumerate() {
                        answers.push(apply_one(&mut draft, write, place == 0)?);
                    }
                }
            }
            draft.tables.pass(id.index);
            applied = Some(id);
            if draft.is_large() {
                break;
            }
        }
        let Some(last) = applied.filter(|_| applied != self.applied) else {
            return Ok(answers);
        };
        let Finished {
            mut tables,
            batch,
            changes,
        } = draft.finish(last, membership.as_ref());
        let bytes = batch.iter().map(|row| row.key.len() + row.value.as_ref().map_or(0, Bytes::len));
        self.unflushed += bytes.sum::<usize>() as u64;
        let (calls, store) = (&self.calls, &mut self.store);
        if let Err(error) = calls.during(|| store.write(batch)) {
            self.unconfirmed = Some((last, answers));
            return Err(error);
        }
        self.reader = self.store.reader();
        tables.changes.add(&changes);
        self.tables = tables;
        self.applied = applied;
        self.membership = membership.or_else(|| self.membership.take());
        self.publish();
        Ok(answers)
    }

    fn publish(&self) {
        let (tables, reader) = (self.tables.clone(), Arc::clone(&self.reader));
        self.publisher
            .publish(View::new(self.applied, self.membership.clone(), tables, reader));
    }

    /// Its calls into the store, as they are made.
    pub fn calls(&self) -> Arc<Calls> {
        Arc::clone(&self.calls)
    }

    /// Where readers find its views.
    pub fn views(&self) -> Views {
        self.publisher.views()
    }

    /// Where a whole other state can be received; none when the store stands alone.
    pub fn stores(&self) -> Option<Arc<dyn Stores<Store = S>>> {
        self.store.stores()
    }

    /// Puts a received state in the place of this one, durably, and publishes its view. A crash leaves the one or the other. Views of the
    /// old state stay readable; its files go with the last of them. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Received`] when the received rows are not the state after `expected`; this state is as before then. Those of the
    /// store; the machine takes no more entries after them.
    pub fn replace(&mut self, set: u64, expected: Applied) -> Result<(), StoreError> {
        if self.failed {
            return Err(StoreError::Failed);
        }
        let stores = self.store.stores().ok_or(StoreError::Alone)?;
        let mut store = stores.open(set)?;
        store.counted_by(&self.calls);
        let reader = store.reader();
        let received = |reason: String| StoreError::Received { reason };
        if tables::check_format(reader.as_ref())? {
            return Err(received("they have no format".to_owned()));
        }
        let Loaded {
            mut tables,
            applied,
            membership,
        } = Tables::load(reader.as_ref(), self.tables.known)?;
        if applied != Some(expected) {
            return Err(received(format!("they are the state after {applied:?}, not after {expected:?}")));
        }
        if let Err(error) = stores.make_current(set) {
            self.failed = true;
            return Err(error);
        }
        std::mem::replace(&mut self.store, store).retire();
        self.reader = reader;
        tables.changes = self.tables.changes;
        self.tables = tables;
        self.applied = applied;
        self.membership = membership;
        self.unconfirmed = None;
        self.publish();
        Ok(())
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
        let (calls, store) = (&self.calls, &mut self.store);
        let outcome = calls.flushing(std::mem::take(&mut self.unflushed), || store.persist());
        self.failed = outcome.is_err();
        outcome
    }

    /// Opens the store anew after a batch met a full disk, and goes on from what it has applied. Then the batch must be given once more:
    /// it is applied, or, if its rows had reached the disk all the same, only answered. Readers that come meanwhile are refused with
    /// [`StoreError::Reopening`]. Blocks.
    ///
    /// # Errors
    /// Those of the store: call again where [`StoreError::is_locked`] or [`StoreError::is_full`]. [`StoreError::Damaged`] when the rows
    /// are of another moment than the batch or the one before it.
    pub fn reopen(&mut self) -> Result<(), StoreError> {
        self.reader = Arc::new(NoReader);
        self.publish();
        self.store.reopen()?;
        let reader = self.store.reader();
        let Loaded {
            mut tables,
            applied,
            membership,
        } = Tables::load(reader.as_ref(), self.tables.known)?;
        let unconfirmed = self.unconfirmed.as_ref().map(|(through, _)| *through);
        if applied != self.applied && (applied.is_none() || applied != unconfirmed) {
            return Err(tables::damaged(
                Keyspace::Meta,
                format!(
                    "applied is {applied:?} after the store was opened again, and was {:?}",
                    self.applied
                ),
            ));
        }
        tables.changes = self.tables.changes;
        (self.tables, self.applied, self.membership, self.reader) = (tables, applied, membership, reader);
        self.publish();
        self.failed = false;
        Ok(())
    }

    /// The file system that the store is on.
    pub fn space(&self) -> Option<Space> {
        self.store.space()
    }

    /// What a draft is made of.
    #[cfg(test)]
    pub(super) fn parts(&self) -> (Tables, Arc<dyn Reader>) {
        (self.tables.clone(), Arc::clone(&self.reader))
    }

    #[cfg(test)]
    pub(crate) fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }

    /// Bytes of the store on disk.
    ///
    /// # Errors
    /// Those of the store.
    pub fn disk_bytes(&self) -> Result<u64, StoreError> {
        self.store.disk_bytes()
    }
}

/// The `first` command of an entry counts what has expired, within the bound of an entry; the others only move the clock.
fn apply_one(draft: &mut Draft, proposal: Proposal, first: bool) -> Result<Response, StoreError> {
    let now_ms = if first {
        draft.advance(proposal.stamp_ms)?
    } else {
        draft.pass_time(proposal.stamp_ms)
    };
    apply::apply(draft, now_ms, proposal.command)
}
