//! The rows in a fjall database: one directory, one journal, an LSM tree per keyspace.
//!
//! What fjall does not do is done elsewhere: the Raft log and the vote are not kept here (fjall drops acknowledged records after some
//! damage to its journal), and no reader asks the database for its newest rows (see [`super`]).

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use fjall::{AbstractTree as _, Database, KeyspaceCreateOptions, KvSeparationOptions, PersistMode, Readable, Snapshot};

use super::{
    Calls, Direction, FjallStores, KeyRange, Keyspace, NoReader, PerKeyspace, Reader, Row, Rows, Space, Store, StoreError, Stores, Write,
    check_format,
    flush_watch::{FlushWatch, Memtable},
    keys,
    row_cache::RowCache,
    space,
};
use crate::descriptors::Shares;

/// Beyond it a read goes to the files' pages. It is no bound on resident memory when values are large.
const BLOCK_CACHE_BYTES: u64 = 16 << 20;
/// All journals together; a memtable that holds one back is flushed. Bounds recovery after a crash to about a second.
pub(super) const JOURNAL_BYTES: u64 = 128 << 20;
/// However few processors there are: a single worker waits for room in the queue that it alone empties, for good. Of several the first only
/// flushes, and spins while all others compact; so one flushes and two compact. What is left of the danger: [`super::flush_watch`].
const WORKER_THREADS: usize = 3;
const _: () = assert!(WORKER_THREADS >= 2, "a single worker can wait for itself");

/// A fjall database with the state machine's keyspaces.
pub struct FjallStore {
    /// None while it is opened again, and after that has failed.
    opened: Option<Opened>,
    directory: PathBuf,
    stores: Option<FjallStores>,
    calls: Arc<Calls>,
    flushes: FlushWatch,
}

struct Opened {
    database: Database,
    keyspaces: Arc<Keyspaces>,
    cache: Arc<RowCache>,
    /// Counts batches, for the cache.
    batch: u64,
}

impl FjallStore {
    /// Opens or creates the database in `directory` and makes durable what recovery found, so that nothing read from now on can be
    /// lost by a power cut.
    ///
    /// # Errors
    /// [`StoreError::Open`] when another process holds the directory or its files are damaged, [`StoreError::Persist`] when the first
    /// fsync fails.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let mut store = FjallStore {
            opened: Some(Opened::new(directory)?),
            directory: directory.to_owned(),
            stores: None,
            calls: Arc::default(),
            flushes: FlushWatch::default(),
        };
        store.show_flushes();
        store.persist()?;
        Ok(store)
    }

    /// As one of several sets.
    pub(super) fn among(self, stores: FjallStores) -> Self {
        let store = FjallStore {
            flushes: stores.flushes(),
            stores: Some(stores),
            ..self
        };
        store.show_flushes();
        store
    }

    /// The watch over its engine, and over that of each store that takes its place.
    pub fn flushes(&self) -> FlushWatch {
        self.flushes.clone()
    }

    fn show_flushes(&self) {
        if let Some(opened) = &self.opened {
            self.flushes.follow(&opened.keyspaces, &self.directory);
        }
    }

    /// The directory that it lives in.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn tree(&self, keyspace: Keyspace) -> Result<&fjall::Keyspace, StoreError> {
        Ok(self.opened()?.keyspaces.get(keyspace))
    }

    fn opened(&self) -> Result<&Opened, StoreError> {
        self.opened.as_ref().ok_or(StoreError::Reopening)
    }
}

impl Opened {
    fn new(directory: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Open {
            path: directory.to_owned(),
            source,
        };
        let database = Database::builder(directory)
            .cache_size(BLOCK_CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .worker_threads(WORKER_THREADS)
            .max_cached_files(Some(Shares::now().store))
            .open()
            .map_err(failed)?;
        let keyspaces = Arc::new(Keyspaces::open(&database, directory)?);
        Ok(Opened {
            database,
            keyspaces,
            cache: Arc::new(RowCache::new()),
            batch: 0,
        })
    }
}

impl Store for FjallStore {
    fn write(&mut self, batch: Vec<Write>) -> Result<(), StoreError> {
        let rows = batch.len();
        let Opened {
            database,
            keyspaces,
            cache,
            batch: number,
        } = self.opened.as_mut().ok_or(StoreError::Reopening)?;
        // `Buffer` hands the batch to the operating system: a killed process loses nothing, and an fsync per batch is not paid.
        let mut pending = database.batch().durability(Some(PersistMode::Buffer));
        for Write { keyspace, key, value } in &batch {
            let tree = keyspaces.get(*keyspace);
            match value {
                Some(value) => pending.insert(tree, key.as_slice(), value.as_ref()),
                None => pending.remove(tree, key.as_slice()),
            }
        }
        // fjall makes a batch visible when it is in the journal. What `commit` does after that is to wait, if flushes or compactions are
        // behind, which may take many seconds.
        let (before, visible) = (database.visible_seqno(), database.clone());
        let committed = self.calls.until(move || visible.visible_seqno() > before, || pending.commit());
        committed.map_err(|source| StoreError::Write { rows, source })?;
        *number += 1;
        for Write { keyspace, key, value } in batch.iter().filter(|write| write.keyspace.options().cached) {
            cache.written(*keyspace, key, value.as_ref(), *number);
        }
        Ok(())
    }

    fn reader(&self) -> Arc<dyn Reader> {
        match &self.opened {
            Some(opened) => Arc::new(FjallReader {
                snapshot: opened.database.snapshot(),
                keyspaces: Arc::clone(&opened.keyspaces),
                cache: Arc::clone(&opened.cache),
                batch: opened.batch,
            }),
            None => Arc::new(NoReader),
        }
    }

    fn persist(&mut self) -> Result<(), StoreError> {
        let persisted = self.opened()?.database.persist(PersistMode::SyncAll);
        persisted.map_err(|source| StoreError::Persist { source })
    }

    fn counted_by(&mut self, calls: &Arc<Calls>) {
        self.calls = Arc::clone(calls);
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        // fjall locks its directory, against this process too.
        self.opened = None;
        self.opened = Some(Opened::new(&self.directory)?);
        self.show_flushes();
        let persisted = self.persist();
        if persisted.is_err() {
            self.opened = None;
        }
        persisted
    }

    fn space(&self) -> Option<Space> {
        space(&self.directory).ok()
    }

    fn disk_bytes(&self) -> Result<u64, StoreError> {
        self.opened()?
            .database
            .disk_space()
            .map_err(|source| StoreError::Read { keyspace: "all", source })
    }

    fn stores(&self) -> Option<Arc<dyn Stores<Store = Self>>> {
        let stores = self.stores.clone()?;
        Some(Arc::new(stores))
    }

    fn retire(self) {
        if let Some(opened) = &self.opened {
            opened.keyspaces.home.retired.store(true, Ordering::Release);
        }
    }
}

/// The directory of a database. Retired, it is removed when nothing reads from it any more.
struct Home {
    directory: PathBuf,
    retired: AtomicBool,
}

impl Drop for Home {
    fn drop(&mut self) {
        if !self.retired.load(Ordering::Acquire) {
            return;
        }
        let directory = std::mem::take(&mut self.directory);
        // The last reader may be on an async thread, and this takes a while. Left undone, the next start does it.
        let removal = std::thread::Builder::new().name("remove-store".to_owned());
        let _ = removal.spawn(move || drop(std::fs::remove_dir_all(directory)));
    }
}

/// The handles, opened once.
pub(super) struct Keyspaces {
    handles: PerKeyspace<fjall::Keyspace>,
    // Last, so that it goes when the files are closed.
    home: Home,
}

impl Keyspaces {
    /// `meta` first: when its rows are of another format, nothing else is made beside them.
    fn open(database: &Database, directory: &Path) -> Result<Self, StoreError> {
        let handles = PerKeyspace::try_new(|keyspace| {
            let open = database.keyspace(keyspace.name(), || options(keyspace));
            let handle = open.map_err(|source| StoreError::Open {
                path: directory.to_owned(),
                source,
            })?;
            if keyspace == Keyspace::Meta {
                let format = handle.get(keys::FORMAT).map_err(|source| StoreError::Read {
                    keyspace: keyspace.name(),
                    source,
                })?;
                check_format(format.as_deref())?;
            }
            Ok::<_, StoreError>(handle)
        })?;
        Ok(Keyspaces {
            handles,
            home: Home {
                directory: directory.to_owned(),
                retired: AtomicBool::new(false),
            },
        })
    }

    /// The memtables that are written to.
    pub(super) fn memtables(&self) -> Vec<Memtable> {
        let memtable = |keyspace: Keyspace| {
            let active = self.get(keyspace).tree.active_memtable();
            Memtable {
                keyspace: keyspace.name(),
                number: active.id(),
                bytes: active.size(),
                limit: keyspace.options().memtable_bytes,
            }
        };
        Keyspace::ALL.into_iter().map(memtable).collect()
    }

    fn get(&self, keyspace: Keyspace) -> &fjall::Keyspace {
        self.handles.get(keyspace)
    }
}

/// How a keyspace is made. fjall stores this with it: a change here reaches only directories made later.
fn options(keyspace: Keyspace) -> KeyspaceCreateOptions {
    let options = keyspace.options();
    // Reads mostly find their key, so the last level goes without a filter.
    let base = KeyspaceCreateOptions::default()
        .max_memtable_size(options.memtable_bytes)
        .expect_point_read_hits(true);
    let separated = |from| KvSeparationOptions::default().separation_threshold(from);
    base.with_kv_separation(options.separate_from_bytes.map(separated))
}

/// The database as it was between two batches.
struct FjallReader {
    snapshot: Snapshot,
    keyspaces: Arc<Keyspaces>,
    cache: Arc<RowCache>,
    /// The last batch that it sees.
    batch: u64,
}

impl Reader for FjallReader {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        if let Some(known) = self.recall(keyspace, key) {
            return Ok(known);
        }
        let found = self
            .snapshot
            .get(self.keyspaces.get(keyspace), key)
            .map_err(|source| StoreError::Read {
                keyspace: keyspace.name(),
                source,
            })?;
        let row = found.map(Bytes::from_owner);
        if keyspace.options().cached {
            self.cache.found(keyspace, key, row.as_ref(), self.batch);
        }
        Ok(row)
    }

    fn recall(&self, keyspace: Keyspace, key: &[u8]) -> Option<Option<Bytes>> {
        if keyspace.options().cached {
            self.cache.get(keyspace, key, self.batch)
        } else {
            None
        }
    }

    fn range(&self, keyspace: Keyspace, range: KeyRange, direction: Direction) -> Rows {
        if range.is_empty() {
            return Box::new(std::iter::empty());
        }
        let rows = self.snapshot.range(self.keyspaces.get(keyspace), (range.start, range.end));
        // The rows may outlive their reader, and the files must outlive the rows.
        let open = Arc::clone(&self.keyspaces);
        let row = move |guard| {
            let _open = &open;
            row(keyspace, guard)
        };
        match direction {
            Direction::Ascending => Box::new(rows.map(row)),
            Direction::Descending => Box::new(rows.rev().map(row)),
        }
    }
}

fn row(keyspace: Keyspace, guard: fjall::Guard) -> Result<Row, StoreError> {
    let (key, value) = guard.into_inner().map_err(|source| StoreError::Read {
        keyspace: keyspace.name(),
        source,
    })?;
    Ok((Bytes::from_owner(key), Bytes::from_owner(value)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A single worker can wait for itself, and `taskset -c 0`, or a pod with less than two processors, must not make it one.
    #[test]
    fn the_engine_has_more_than_one_worker_however_few_processors_there_are() {
        let directory = tempfile::tempdir().unwrap();
        let named = || {
            let tasks = std::fs::read_dir("/proc/self/task").unwrap();
            let names = tasks
                .flatten()
                .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
            names.filter(|name| name.trim_end() == "fjall:worker").count()
        };
        // Other tests' engines come and go meanwhile, but none of them has less.
        let store = FjallStore::open(directory.path()).unwrap();
        assert!(named() >= WORKER_THREADS);
        drop(store);
    }
}
