//! Fills a new database with rows that come sorted. In: rows, keyspace by keyspace. Out: a directory with all of them on disk, or none.
//! Absent: where the rows come from, and whether they are whole.
//!
//! The rows go straight into tables and past the journal. That is right for a new database and for no other one: fjall loses ingested
//! rows at the next start when the keyspace was cleared before (docs/adr/0001). The database has a thread of its own, because it can
//! only be filled from one place; the few batches that wait for it are what holds up the sender.

use std::{
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
};

use super::{FjallStore, Incoming, Keyspace, Row, Store, StoreError, generations};

/// Batches that may wait for the disk.
const WAITING: usize = 2;

enum Step {
    Rows(Keyspace, Vec<Row>),
    Finish(mpsc::Sender<Result<(), StoreError>>),
}

/// A database that is being filled.
pub(super) struct Loading {
    set: u64,
    steps: mpsc::SyncSender<Step>,
    failure: mpsc::Receiver<StoreError>,
}

impl Loading {
    pub(super) fn start(directory: &Path, set: u64) -> Result<Self, StoreError> {
        let (steps, taken) = mpsc::sync_channel(WAITING);
        let (failed, failure) = mpsc::channel();
        let directory = directory.to_owned();
        let path = directory.clone();
        thread::Builder::new()
            .name("load-store".to_owned())
            .spawn(move || {
                let finished = match fill(&directory, &taken) {
                    Ok(finished) => finished,
                    Err(error) => {
                        // Whoever has gone needs no reason.
                        let _ = failed.send(error);
                        None
                    }
                };
                match finished {
                    Some(finished) => drop(finished.send(Ok(()))),
                    // Given up, or failed: the directory is of no use to anybody.
                    None => drop(std::fs::remove_dir_all(&directory)),
                }
            })
            .map_err(|source| StoreError::Files {
                action: "start a thread to fill",
                path,
                source,
            })?;
        Ok(Loading { set, steps, failure })
    }

    fn reason(&self) -> StoreError {
        self.failure.recv().unwrap_or(StoreError::Failed)
    }
}

impl Incoming for Loading {
    fn write(&mut self, keyspace: Keyspace, rows: Vec<Row>) -> Result<(), StoreError> {
        self.steps.send(Step::Rows(keyspace, rows)).map_err(|_| self.reason())
    }

    fn finish(self: Box<Self>) -> Result<u64, StoreError> {
        let (finish, finished) = mpsc::channel();
        self.steps.send(Step::Finish(finish)).map_err(|_| self.reason())?;
        match finished.recv() {
            Ok(outcome) => outcome.map(|()| self.set),
            Err(_) => Err(self.reason()),
        }
    }
}

/// Answers who waits for the end; none when the rows ended before.
fn fill(directory: &Path, steps: &mpsc::Receiver<Step>) -> Result<Option<mpsc::Sender<Result<(), StoreError>>>, StoreError> {
    let mut store = FjallStore::open(directory)?;
    let mut next = steps.recv().ok();
    let finished = loop {
        match next.take() {
            Some(Step::Rows(keyspace, rows)) => next = fill_keyspace(&store, keyspace, rows, steps)?,
            Some(Step::Finish(finished)) => break Some(finished),
            None => break None,
        }
    };
    if finished.is_some() {
        store.persist()?;
        drop(store);
        make_durable(directory)?;
    }
    Ok(finished)
}

/// Takes the rows of one keyspace; answers the first step that is not of them.
fn fill_keyspace(
    store: &FjallStore,
    keyspace: Keyspace,
    mut rows: Vec<Row>,
    steps: &mpsc::Receiver<Step>,
) -> Result<Option<Step>, StoreError> {
    let count = rows.len();
    let failed = |source| StoreError::Write { rows: count, source };
    let mut ingestion = store.tree(keyspace)?.start_ingestion().map_err(failed)?;
    let next = loop {
        for (key, value) in rows {
            ingestion.write(key.as_ref(), value.as_ref()).map_err(failed)?;
        }
        match steps.recv() {
            Ok(Step::Rows(same, more)) if same == keyspace => rows = more,
            Ok(other) => break Some(other),
            // Given up: what was not finished is removed with its directory.
            Err(_) => return Ok(None),
        }
    };
    ingestion.finish().map_err(failed)?;
    Ok(next)
}

/// The database's own flushes cover its tables and its journal; this covers the rest, and the names.
fn make_durable(directory: &Path) -> Result<(), StoreError> {
    generations::flush_all(directory)?;
    let folder: PathBuf = directory.parent().map_or_else(|| PathBuf::from("."), Path::to_owned);
    generations::flush_directory(&folder)
}
