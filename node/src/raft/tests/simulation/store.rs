//! Rows in memory that behave as fjall's do: a batch is whole or absent, a killed process loses nothing, and a power cut takes the rows
//! back to some batch boundary that is not before the last persisted one.

use std::{
    collections::BTreeMap,
    hash::{Hash, Hasher},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;

use crate::{
    log::fake::Dice,
    storage::{Direction, KeyRange, Keyspace, Reader, Rows, Store, StoreError, Write},
};

/// One member's rows; clones share them.
#[derive(Clone, Default)]
pub(super) struct MemoryStore(Arc<Mutex<Versions>>);

#[derive(Default)]
struct Versions {
    /// The value as of each batch that changed it.
    rows: BTreeMap<(Keyspace, Vec<u8>), Vec<(u64, Option<Bytes>)>>,
    last: u64,
    persisted: u64,
}

impl MemoryStore {
    fn versions(&self) -> MutexGuard<'_, Versions> {
        self.0.lock().unwrap()
    }

    /// Cuts the power.
    pub(super) fn power_cycle(&self, dice: &mut Dice) {
        let mut versions = self.versions();
        let kept = versions.last - dice.roll(versions.last - versions.persisted + 1);
        versions.last = kept;
        for history in versions.rows.values_mut() {
            history.retain(|(version, _)| *version <= kept);
        }
        versions.rows.retain(|_, history| !history.is_empty());
    }

    /// A hash of all rows.
    pub(super) fn digest(&self) -> u64 {
        let versions = self.versions();
        let mut hasher = std::hash::DefaultHasher::new();
        for ((keyspace, key), history) in &versions.rows {
            if let Some((_, Some(value))) = history.last() {
                (keyspace, key, value).hash(&mut hasher);
            }
        }
        hasher.finish()
    }
}

fn at(history: &[(u64, Option<Bytes>)], version: u64) -> Option<Bytes> {
    let end = history.partition_point(|(changed, _)| *changed <= version);
    history[..end].last().and_then(|(_, value)| value.clone())
}

impl Store for MemoryStore {
    fn write(&mut self, batch: Vec<Write>) -> Result<(), StoreError> {
        let mut versions = self.versions();
        versions.last += 1;
        let version = versions.last;
        for Write { keyspace, key, value } in batch {
            let history = versions.rows.entry((keyspace, key)).or_default();
            match history.last_mut() {
                Some((last, held)) if *last == version => *held = value,
                _ => history.push((version, value)),
            }
        }
        Ok(())
    }

    fn reader(&self) -> Arc<dyn Reader> {
        Arc::new(Picture {
            version: self.versions().last,
            store: self.clone(),
        })
    }

    fn persist(&mut self) -> Result<(), StoreError> {
        let mut versions = self.versions();
        versions.persisted = versions.last;
        Ok(())
    }

    fn disk_bytes(&self) -> Result<u64, StoreError> {
        Ok(0)
    }
}

/// The rows as of one batch.
struct Picture {
    version: u64,
    store: MemoryStore,
}

impl Reader for Picture {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let versions = self.store.versions();
        Ok(versions
            .rows
            .get(&(keyspace, key.to_vec()))
            .and_then(|history| at(history, self.version)))
    }

    fn range(&self, keyspace: Keyspace, range: KeyRange, direction: Direction) -> Rows {
        if range.is_empty() {
            return Box::new(std::iter::empty());
        }
        let within = |key: &Vec<u8>| {
            let after = match &range.start {
                Bound::Included(start) => key >= start,
                Bound::Excluded(start) => key > start,
                Bound::Unbounded => true,
            };
            let before = match &range.end {
                Bound::Included(end) => key <= end,
                Bound::Excluded(end) => key < end,
                Bound::Unbounded => true,
            };
            after && before
        };
        let versions = self.store.versions();
        let found = versions.rows.iter().filter(|((held, key), _)| *held == keyspace && within(key));
        let mut rows: Vec<_> = found
            .filter_map(|((_, key), history)| Some(Ok((Bytes::from(key.clone()), at(history, self.version)?))))
            .collect();
        if direction == Direction::Descending {
            rows.reverse();
        }
        Box::new(rows.into_iter())
    }
}
