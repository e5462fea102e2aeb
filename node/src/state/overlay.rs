//! The rows of a batch that is being made, laid over the rows before it: a later entry of the batch reads what an earlier one wrote,
//! although nothing is in the store yet (a fjall batch cannot be read back).

use std::{
    collections::{BTreeMap, btree_map},
    iter::Peekable,
    sync::Arc,
};

use bytes::Bytes;

use crate::storage::{Direction, KeyRange, Keyspace, PerKeyspace, Reader, Row, Rows, StoreError, Write};

type Changes = BTreeMap<Vec<u8>, Option<Bytes>>;

/// Pending rows over a reader.
pub(super) struct Overlay {
    base: Arc<dyn Reader>,
    changes: PerKeyspace<Changes>,
    /// What was replaced since the first open mark; none while there is no mark.
    replaced: Option<Vec<Replaced>>,
}

/// A key, and what was pending for it: nothing, a deletion, a row.
#[allow(clippy::option_option)]
struct Replaced {
    keyspace: Keyspace,
    key: Vec<u8>,
    old: Option<Option<Bytes>>,
}

impl Overlay {
    pub(super) fn new(base: Arc<dyn Reader>) -> Self {
        Overlay {
            base,
            changes: PerKeyspace::new(|_| Changes::new()),
            replaced: None,
        }
    }

    pub(super) fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.changes.get(keyspace).get(key) {
            Some(pending) => Ok(pending.clone()),
            None => self.base.get(keyspace, key),
        }
    }

    pub(super) fn put(&mut self, keyspace: Keyspace, key: Vec<u8>, value: Bytes) {
        self.change(keyspace, key, Some(value));
    }

    pub(super) fn delete(&mut self, keyspace: Keyspace, key: Vec<u8>) {
        self.change(keyspace, key, None);
    }

    fn change(&mut self, keyspace: Keyspace, key: Vec<u8>, value: Option<Bytes>) {
        if self.replaced.is_none() {
            self.changes.get_mut(keyspace).insert(key, value);
            return;
        }
        let old = self.changes.get_mut(keyspace).insert(key.clone(), value);
        self.replaced.get_or_insert_default().push(Replaced { keyspace, key, old });
    }

    /// From now on what is replaced is noted; answers where the notes stand.
    pub(super) fn note(&mut self) -> usize {
        self.replaced.get_or_insert_default().len()
    }

    /// Puts back what was replaced since the notes stood there.
    pub(super) fn take_back(&mut self, notes: usize) {
        while let Some(replaced) = self.replaced.as_mut().filter(|noted| noted.len() > notes).and_then(Vec::pop) {
            let Replaced { keyspace, key, old } = replaced;
            match old {
                Some(old) => self.changes.get_mut(keyspace).insert(key, old),
                None => self.changes.get_mut(keyspace).remove(&key),
            };
        }
    }

    /// How much is noted.
    #[cfg(test)]
    pub(super) fn noted(&self) -> usize {
        self.replaced.as_ref().map_or(0, Vec::len)
    }

    /// Nothing is noted any more.
    pub(super) fn forget(&mut self) {
        self.replaced = None;
    }

    /// The rows of an interval, ascending.
    pub(super) fn range(&self, keyspace: Keyspace, range: KeyRange) -> Merged<'_> {
        let pending = if range.is_empty() {
            BTreeMap::range(self.changes.get(keyspace), ..=vec![])
        } else {
            self.changes.get(keyspace).range((range.start.clone(), range.end.clone()))
        };
        Merged {
            pending: pending.peekable(),
            base: self.base.range(keyspace, range, Direction::Ascending).peekable(),
        }
    }

    /// The batch, in the order of keyspaces and keys.
    pub(super) fn into_batch(self) -> Vec<Write> {
        self.changes
            .into_iter()
            .flat_map(|(keyspace, changes)| changes.into_iter().map(move |(key, value)| Write { keyspace, key, value }))
            .collect()
    }
}

/// Two ascending streams as one; where both have a key, the pending row wins.
pub(super) struct Merged<'a> {
    pending: Peekable<btree_map::Range<'a, Vec<u8>, Option<Bytes>>>,
    base: Peekable<Rows>,
}

impl Iterator for Merged<'_> {
    type Item = Result<Row, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some((key, _)) = self.pending.peek() else {
                return self.base.next();
            };
            let order = match self.base.peek() {
                None => std::cmp::Ordering::Greater,
                Some(Err(_)) => return self.base.next(),
                Some(Ok((stored, _))) => stored.as_ref().cmp(key.as_slice()),
            };
            if order == std::cmp::Ordering::Less {
                return self.base.next();
            }
            if order == std::cmp::Ordering::Equal {
                self.base.next();
            }
            if let Some((key, Some(value))) = self.pending.next() {
                return Some(Ok((Bytes::copy_from_slice(key), value.clone())));
            }
        }
    }
}
