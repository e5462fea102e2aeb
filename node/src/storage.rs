//! Where the state machine keeps its rows: a few ordered keyspaces, written in atomic batches, read through consistent pictures.
//!
//! In: batches of rows from `state`. Out: rows, by key or by range, as of a moment between two batches. Absent by design: what a row
//! means (only [`keys`] knows the shape of the keys, and `state` the values), and any way to read the newest rows while a batch is
//! being written: fjall 3.1 shows parts of it then, so a reader is opened between batches and lives on unchanged.

mod calls;
mod damage;
mod fjall_store;
mod flush_watch;
mod format;
mod generations;
pub mod keys;
mod keyspace;
mod loading;
mod row_cache;
mod space;

use std::{ops::Bound, path::PathBuf, sync::Arc};

use bytes::Bytes;

use crate::{descriptors, state::Level};

pub(crate) use calls::Counted;
pub use calls::{Call, Calls};
pub use fjall_store::FjallStore;
pub use flush_watch::{FlushFigures, FlushWatch, Looking};
pub use format::{FORMAT, check as check_format};
pub use generations::FjallStores;
pub use keyspace::{Keyspace, MEMTABLE_BYTES, PerKeyspace};
pub use space::{Space, space};

/// A row as it is read.
pub type Row = (Bytes, Bytes);

/// Rows in key order, ascending or descending as asked.
pub type Rows = Box<dyn Iterator<Item = Result<Row, StoreError>> + Send>;

/// An interval of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// Where it starts.
    pub start: Bound<Vec<u8>>,
    /// Where it ends.
    pub end: Bound<Vec<u8>>,
}

impl KeyRange {
    /// Everything.
    pub const ALL: KeyRange = KeyRange {
        start: Bound::Unbounded,
        end: Bound::Unbounded,
    };

    /// Whether no key can lie in it (an engine may panic on such an interval).
    pub fn is_empty(&self) -> bool {
        match (&self.start, &self.end) {
            (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
            (Bound::Included(start), Bound::Included(end)) => start > end,
            (Bound::Included(start) | Bound::Excluded(start), Bound::Excluded(end)) | (Bound::Excluded(start), Bound::Included(end)) => {
                start >= end
            }
        }
    }
}

/// Which end of a range comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Smallest key first.
    Ascending,
    /// Largest key first.
    Descending,
}

/// One row of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Where.
    pub keyspace: Keyspace,
    /// Which row.
    pub key: Vec<u8>,
    /// Its new value; none deletes it.
    pub value: Option<Bytes>,
}

/// A consistent picture of all keyspaces, as of the moment it was opened. Its calls block: keep them off the async threads.
pub trait Reader: Send + Sync + 'static {
    /// One row.
    ///
    /// # Errors
    /// [`StoreError::Read`] when the engine cannot read.
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// One row, if it is in memory: never blocks. None when it is not known without asking the engine.
    #[allow(clippy::option_option)] // Not known, known to be absent, known.
    fn recall(&self, _keyspace: Keyspace, _key: &[u8]) -> Option<Option<Bytes>> {
        None
    }

    /// The rows of an interval.
    fn range(&self, keyspace: Keyspace, range: KeyRange, direction: Direction) -> Rows;
}

/// Stands for the rows while their store is opened again.
pub struct NoReader;

impl Reader for NoReader {
    fn get(&self, _: Keyspace, _: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Err(StoreError::Reopening)
    }

    fn range(&self, _: Keyspace, _: KeyRange, _: Direction) -> Rows {
        Box::new(std::iter::once(Err(StoreError::Reopening)))
    }
}

/// The rows of one state machine. Owned by the apply thread; every call blocks.
pub trait Store: Send + 'static {
    /// Writes all rows or none; survives the death of the process, not a power cut (see [`Store::persist`]).
    ///
    /// # Errors
    /// [`StoreError::Write`]; the store takes no more batches after it and must be opened anew.
    fn write(&mut self, batch: Vec<Write>) -> Result<(), StoreError>;

    /// The rows as they are now. Called between batches by the thread that writes them, and only there.
    fn reader(&self) -> Arc<dyn Reader>;

    /// Makes everything written so far survive a power cut.
    ///
    /// # Errors
    /// [`StoreError::Persist`]: what is on disk is unknown; stop serving and recover.
    fn persist(&mut self) -> Result<(), StoreError>;

    /// Its owner counts its calls here. A store whose writes may wait for its own threads, with their rows on disk, says so with
    /// `Calls::until`.
    fn counted_by(&mut self, _calls: &Arc<Calls>) {}

    /// Lets go of the files and opens them again: after a full disk an engine may take nothing more until then. Readers that were handed
    /// out go on working, and hold the files until they are dropped.
    ///
    /// # Errors
    /// As for opening; the store takes nothing until another call succeeds. [`StoreError::is_locked`] while a reader still holds the
    /// files, [`StoreError::is_full`] while there is no space. A store that cannot do it answers [`StoreError::Failed`].
    fn reopen(&mut self) -> Result<(), StoreError> {
        Err(StoreError::Failed)
    }

    /// The file system that the rows are on; none when it does not answer, or there is none.
    fn space(&self) -> Option<Space> {
        None
    }

    /// Bytes on disk.
    ///
    /// # Errors
    /// [`StoreError::Read`] when the engine cannot tell.
    fn disk_bytes(&self) -> Result<u64, StoreError>;

    /// Where a whole other set of rows is made that takes the place of this one; none when this store stands alone.
    fn stores(&self) -> Option<Arc<dyn Stores<Store = Self>>>
    where
        Self: Sized,
    {
        None
    }

    /// Another store has taken its place: its files go when the last reader does.
    fn retire(self)
    where
        Self: Sized,
    {
    }
}

/// The sets of rows that a member has: the one in use, and one that is being received. Every call blocks.
pub trait Stores: Send + Sync + 'static {
    /// One set.
    type Store: Store;

    /// Begins an empty set beside the one in use.
    ///
    /// # Errors
    /// [`StoreError::Files`].
    fn create_next(&self) -> Result<Box<dyn Incoming>, StoreError>;

    /// Opens a set that [`Incoming::finish`] has made.
    ///
    /// # Errors
    /// Those of opening a store.
    fn open(&self, set: u64) -> Result<Self::Store, StoreError>;

    /// From now on, also after a power cut, a start finds this set. Before it returns a start finds the old one or this one, whole.
    ///
    /// # Errors
    /// [`StoreError::Files`]: which of the two a start would find is unknown; stop and recover.
    fn make_current(&self, set: u64) -> Result<(), StoreError>;

    /// Removes a set that was never made current.
    fn discard(&self, set: u64);
}

/// A set of rows that is being made. Dropped before it is finished, it leaves nothing behind.
pub trait Incoming: Send {
    /// Adds rows. Keyspaces come in the order of [`Keyspace::ALL`], rows in ascending order of their keys. Blocks while earlier rows are
    /// being written.
    ///
    /// # Errors
    /// Why the set cannot be made.
    fn write(&mut self, keyspace: Keyspace, rows: Vec<Row>) -> Result<(), StoreError>;

    /// Makes all of it durable, and answers the name that [`Stores::open`] takes. Blocks.
    ///
    /// # Errors
    /// Why the set cannot be made.
    fn finish(self: Box<Self>) -> Result<u64, StoreError>;
}

/// Why the rows cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it, the disk failed, or the files are damaged.
    #[error("cannot open the state store in {}: stop any other kvnode that uses this directory, or look at the cause", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// The engine's reason.
        source: fjall::Error,
    },
    /// A read failed.
    #[error("cannot read keyspace {keyspace}")]
    Read {
        /// Which.
        keyspace: &'static str,
        /// The engine's reason.
        source: fjall::Error,
    },
    /// A batch could not be written.
    #[error("cannot write a batch of {rows} rows to the state store")]
    Write {
        /// How many rows it had.
        rows: usize,
        /// The engine's reason.
        source: fjall::Error,
    },
    /// An fsync failed.
    #[error("cannot make the state store durable")]
    Persist {
        /// The engine's reason.
        source: fjall::Error,
    },
    /// A row is not what this program writes.
    #[error("keyspace {keyspace}: a row is damaged ({reason}); replace this member")]
    Damaged {
        /// Where.
        keyspace: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The rows are not those that were written.
    #[error("the rows have digest {found}, and {kept} was written with them: the disk has changed them; replace this member")]
    Digest {
        /// Of what is there.
        found: String,
        /// What was kept.
        kept: String,
    },
    /// The rows were written by a program from before formats could grow.
    #[error(
        "the state store has format {found}, made by a version before formats could grow (0.1.0-dev): start with an empty directory, or use the \
         version that made it"
    )]
    OlderFormat {
        /// What was found.
        found: u64,
    },
    /// The rows were written by a newer program.
    #[error("the state store has format {found}, this program knows up to {supported}: start a newer kvnode")]
    NewerFormat {
        /// What was found.
        found: u64,
        /// The newest known.
        supported: u64,
    },
    /// Its members use what this program does not know.
    #[error("this data is of feature level {found}, this program knows up to {known}: run kvnode of a version that knows level {found}")]
    NewerLevel {
        /// What was found.
        found: Level,
        /// The newest known.
        known: Level,
    },
    /// The file system refused.
    #[error("state store: cannot {action} {}", path.display())]
    Files {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// `CURRENT` names no directory.
    #[error("state store: {} names `{found}`, which is no directory of ours; restore it from the directories beside it", path.display())]
    BadPointer {
        /// The pointer file.
        path: PathBuf,
        /// Its content.
        found: String,
    },
    /// Rows that another member sent are not what they were said to be.
    #[error("the received rows are refused: {reason}")]
    Received {
        /// What was found.
        reason: String,
    },
    /// This store has no place for another one.
    #[error("the state store stands alone: nothing can take its place")]
    Alone,
    /// The state machine has stopped and let go of its files.
    #[error("the state store is closed: this member is shutting down, ask another")]
    Closed,
    /// An earlier batch failed.
    #[error("the state store failed earlier: restart the member to recover")]
    Failed,
    /// There was no disk space, and now there is.
    #[error("the state store is being opened again after the disk was full: try again in a moment")]
    Reopening,
}

/// Whether an error, or a cause of it, says that the volume, or this user's share of it, is full, or that no file can be opened at the moment.
pub fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>()
            && (matches!(error.kind(), StorageFull | QuotaExceeded) || descriptors::ran_out(error))
        {
            return true;
        }
        cause = error.source();
    }
    false
}

impl StoreError {
    /// Whether the volume, or this user's share of it, is full, or no file can be opened, as far as the error itself says.
    pub fn is_full(&self) -> bool {
        is_full(self)
    }

    /// Whether the engine refuses because something failed in the background, and does not say what.
    pub fn is_poisoned(&self) -> bool {
        let (StoreError::Write { source, .. } | StoreError::Persist { source } | StoreError::Open { source, .. }) = self else {
            return false;
        };
        matches!(source, fjall::Error::Poisoned)
    }

    /// Whether somebody else (a reader of our own, perhaps) still holds the files.
    pub fn is_locked(&self) -> bool {
        matches!(
            self,
            StoreError::Open {
                source: fjall::Error::Locked,
                ..
            }
        )
    }
}
