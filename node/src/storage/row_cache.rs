//! Rows that were read or written lately, in memory, so that reading a hot record touches neither the engine nor another thread.
//!
//! In: every batch that the store writes, and what readers found. Out: rows as of a reader's own moment. A cached row says from which batch
//! on it is right; a reader of an older moment does not get it. What a reader found is taken only while nothing newer was written near
//! it, so a slow reader never puts an old row over a newer one. A row is copied into memory of its own: what a reader found is a view of
//! the engine's block, and what was written one of its batch's buffer, and keeping the view would keep all of that. Absent: rows of large
//! values, and any row whose truth is not certain.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use quick_cache::{Equivalent, Weighter, unsync::Cache};

use super::Keyspace;

/// All rows together, their keys and what it costs to hold them included.
const BYTES: u64 = 48 << 20;
/// A larger row is not kept: it would push out many small ones, and reading it costs more than the way to it.
const LARGEST: usize = 32 << 10;
/// What a row costs beside its bytes: two allocations, and its place in the table.
const OVERHEAD: u64 = 128;
/// Readers on as many threads rarely meet.
const SHARDS: usize = 16;
/// A guess, for the first allocation only.
const USUAL_ROW: u64 = 512;

/// What is known of one row.
#[derive(Clone)]
struct Known {
    /// None: there is no such row.
    row: Option<Bytes>,
    /// From which batch on.
    since: u64,
}

/// Which row.
#[derive(PartialEq, Eq, Hash)]
struct Place {
    keyspace: Keyspace,
    key: Box<[u8]>,
}

/// The same, not yet owned. Its fields are hashed as those of [`Place`] are.
#[derive(Clone, Copy, Hash)]
struct Sought<'a> {
    keyspace: Keyspace,
    key: &'a [u8],
}

impl Equivalent<Place> for Sought<'_> {
    fn equivalent(&self, place: &Place) -> bool {
        self.keyspace == place.keyspace && self.key == place.key.as_ref()
    }
}

#[derive(Clone)]
struct Weight;

impl Weighter<Place, Known> for Weight {
    fn weight(&self, place: &Place, known: &Known) -> u64 {
        (place.key.len() + known.row.as_ref().map_or(0, Bytes::len)) as u64 + OVERHEAD
    }
}

struct Shard {
    rows: Cache<Place, Known, Weight>,
    /// The last batch that changed anything here.
    changed: u64,
}

/// The cache of the keyspaces that have one.
pub(super) struct RowCache {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
}

impl RowCache {
    pub(super) fn new() -> Self {
        let share = BYTES / SHARDS as u64;
        let shard = || Shard {
            rows: Cache::with_weighter(usize::try_from(share / USUAL_ROW).unwrap_or(1), share, Weight),
            changed: 0,
        };
        RowCache {
            shards: std::iter::repeat_with(|| Mutex::new(shard())).take(SHARDS).collect(),
            hasher: RandomState::new(),
        }
    }

    /// The row as of batch `at`; none when the cache does not know.
    #[allow(clippy::option_option)] // Not known, known to be absent, known.
    pub(super) fn get(&self, keyspace: Keyspace, key: &[u8], at: u64) -> Option<Option<Bytes>> {
        let sought = Sought { keyspace, key };
        let shard = self.shard(sought);
        shard
            .rows
            .get(&sought)
            .filter(|known| known.since <= at)
            .map(|known| known.row.clone())
    }

    /// Takes what a reader of batch `at` found.
    pub(super) fn found(&self, keyspace: Keyspace, key: &[u8], row: Option<&Bytes>, at: u64) {
        let sought = Sought { keyspace, key };
        let mut shard = self.shard(sought);
        if at >= shard.changed {
            keep(&mut shard, sought, row, at);
        }
    }

    /// Takes a row that batch `batch` wrote. Called when the batch is in the store, and before anybody reads as of it.
    pub(super) fn written(&self, keyspace: Keyspace, key: &[u8], row: Option<&Bytes>, batch: u64) {
        let sought = Sought { keyspace, key };
        let mut shard = self.shard(sought);
        shard.changed = batch;
        keep(&mut shard, sought, row, batch);
    }

    fn shard(&self, sought: Sought<'_>) -> MutexGuard<'_, Shard> {
        let at = self.hasher.hash_one(sought) as usize % SHARDS;
        let shard = self.shards.get(at).expect("the remainder is below the number of shards");
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keep(shard: &mut Shard, sought: Sought<'_>, row: Option<&Bytes>, since: u64) {
    match row {
        Some(row) if sought.key.len() + row.len() <= LARGEST => {
            let known = Known {
                row: Some(Bytes::copy_from_slice(row)),
                since,
            };
            let place = Place {
                keyspace: sought.keyspace,
                key: sought.key.into(),
            };
            shard.rows.insert(place, known);
        }
        // A row that is gone, or too large: what was known of it is no longer true. That many keys are absent is not worth the memory.
        _ => {
            shard.rows.remove(&sought);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"key";
    const ROWS: Keyspace = Keyspace::Records;

    fn row(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn a_reader_gets_rows_of_its_own_moment() {
        let cache = RowCache::new();
        assert_eq!(cache.get(ROWS, KEY, 1), None);
        cache.written(ROWS, KEY, Some(&row("new")), 5);
        assert_eq!(cache.get(ROWS, KEY, 4), None, "written later");
        assert_eq!(cache.get(ROWS, KEY, 5), Some(Some(row("new"))));
        assert_eq!(cache.get(ROWS, KEY, 9), Some(Some(row("new"))));
        cache.written(ROWS, KEY, None, 6);
        assert_eq!(cache.get(ROWS, KEY, 6), None, "deleted: the store is asked");
        cache.written(Keyspace::Values, KEY, Some(&row("value")), 7);
        assert_eq!(cache.get(ROWS, KEY, 7), None, "a row of another keyspace with the same key");
        assert_eq!(cache.get(Keyspace::Values, KEY, 7), Some(Some(row("value"))));
    }

    #[test]
    fn a_slow_reader_does_not_bring_an_old_row_back() {
        let cache = RowCache::new();
        cache.written(ROWS, KEY, Some(&row("new")), 5);
        cache.found(ROWS, KEY, Some(&row("old")), 4);
        assert_eq!(cache.get(ROWS, KEY, 5), Some(Some(row("new"))));
        cache.written(ROWS, KEY, None, 6);
        cache.found(ROWS, KEY, Some(&row("new")), 5);
        assert_eq!(cache.get(ROWS, KEY, 6), None);
        cache.found(ROWS, KEY, Some(&row("other")), 6);
        assert_eq!(
            cache.get(ROWS, KEY, 6),
            Some(Some(row("other"))),
            "as of the last change it is the truth"
        );
    }

    /// A block of the engine, with many rows in it.
    struct Block {
        bytes: Vec<u8>,
        _alive: std::sync::Arc<()>,
    }

    impl AsRef<[u8]> for Block {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }

    #[test]
    fn a_row_is_kept_without_what_it_was_read_from() {
        let cache = RowCache::new();
        let alive = std::sync::Arc::new(());
        for read in [true, false] {
            let key = [u8::from(read)];
            let block = Bytes::from_owner(Block {
                bytes: vec![7; 4 << 10],
                _alive: std::sync::Arc::clone(&alive),
            });
            let row = block.slice(100..200);
            if read {
                cache.found(ROWS, &key, Some(&row), 1);
            } else {
                cache.written(ROWS, &key, Some(&row), 1);
            }
            drop(row);
            drop(block);
            assert_eq!(std::sync::Arc::strong_count(&alive), 1, "the block is gone");
            assert_eq!(cache.get(ROWS, &key, 1), Some(Some(Bytes::from(vec![7; 100]))));
        }
    }

    #[test]
    fn memory_is_bounded_and_large_rows_stay_out() {
        let cache = RowCache::new();
        cache.written(ROWS, KEY, Some(&row("small")), 1);
        cache.written(ROWS, KEY, Some(&Bytes::from(vec![0; LARGEST])), 2);
        assert_eq!(cache.get(ROWS, KEY, 2), None, "and the small one is not true any more");
        let value = Bytes::from(vec![0; 1 << 10]);
        for number in 0..(2 * BYTES / 1024) {
            cache.written(ROWS, &number.to_be_bytes(), Some(&value), 3);
        }
        let held: u64 = cache.shards.iter().map(|shard| shard.lock().unwrap().rows.weight()).sum();
        assert!(held <= BYTES, "{held}");
        assert!(held > BYTES / 2, "{held}");
    }
}
