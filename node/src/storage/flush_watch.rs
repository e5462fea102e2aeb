//! Whether the engine still flushes. In: what the memtables and the journals of the store in use hold. Out: their size for a scrape, and why
//! the member should get no more requests once they grow and nothing is flushed. Absent: a cure; a start of the process is one, since the
//! memtables are written again from the journals.
//!
//! fjall's worker threads take their work from a queue that they also put work into, and wait when it is full. All of them waiting is a
//! deadlock (fjall pull request 323): nothing is flushed any more, and memory and disk fill up without a word. With three threads
//! ([`super::fjall_store`]) that takes three keyspaces whose memtables are full at once while the queue of 1,000 is full; should it happen all
//! the same, or flushing end for a reason that is not known yet, this says so while there is memory left.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::fjall_store::{JOURNAL_BYTES, Keyspaces};

/// How often the engine is looked at: five figures, and the sizes of at most a few files.
const LOOK: Duration = Duration::from_secs(1);
/// For how long a memtable may be over its limit and written to. A worker takes it over within milliseconds, on a bad disk within seconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// What the journals may hold. Above [`JOURNAL_BYTES`] the engine flushes whatever holds them back.
const MOST_JOURNAL_BYTES: u64 = 2 * JOURNAL_BYTES;

/// The memtable that a keyspace is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memtable {
    /// Whose.
    pub(super) keyspace: &'static str,
    /// Which: another one once it was handed to a flush.
    pub(super) number: u64,
    /// What it holds.
    pub(super) bytes: u64,
    /// What it may hold.
    pub(super) limit: u64,
}

/// The engine at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Held {
    memtables: Vec<Memtable>,
    journal_bytes: u64,
}

/// What a scrape shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlushFigures {
    /// In the memtables that are written to.
    pub memtable_bytes: u64,
    /// In the journals.
    pub journal_bytes: u64,
    /// Whether flushing has stopped.
    pub stalled: bool,
}

/// A member's watch over its engine. A clone is the same watch.
#[derive(Clone, Default)]
pub struct FlushWatch {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    store: Mutex<Option<(Weak<Keyspaces>, PathBuf)>>,
    trouble: Mutex<Option<String>>,
    memtable_bytes: AtomicU64,
    journal_bytes: AtomicU64,
}

/// Looks at the engine until it is dropped.
pub struct Looking(Arc<AtomicBool>);

impl Drop for Looking {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FlushWatch {
    /// From now on this is the store in use. It is not kept open by the watch.
    pub(super) fn follow(&self, keyspaces: &Arc<Keyspaces>, directory: &Path) {
        *lock(&self.shared.store) = Some((Arc::downgrade(keyspaces), directory.to_owned()));
    }

    /// Starts the thread that looks.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(&self) -> std::io::Result<Looking> {
        let over = Arc::new(AtomicBool::new(false));
        let (watch, ended) = (self.clone(), Arc::clone(&over));
        std::thread::Builder::new().name("flush-watch".to_owned()).spawn(move || {
            let mut judge = Judge::default();
            while !ended.load(Ordering::Relaxed) {
                std::thread::sleep(LOOK);
                if let Some(held) = watch.held() {
                    watch.note(&mut judge, &held, Instant::now());
                }
            }
        })?;
        Ok(Looking(over))
    }

    /// What it saw last.
    pub fn figures(&self) -> FlushFigures {
        FlushFigures {
            memtable_bytes: self.shared.memtable_bytes.load(Ordering::Relaxed),
            journal_bytes: self.shared.journal_bytes.load(Ordering::Relaxed),
            stalled: lock(&self.shared.trouble).is_some(),
        }
    }

    /// Whether the engine flushes.
    ///
    /// # Errors
    /// Why it seems not to, for a person.
    pub fn check(&self) -> Result<(), String> {
        lock(&self.shared.trouble).clone().map_or(Ok(()), Err)
    }

    fn held(&self) -> Option<Held> {
        let (keyspaces, directory) = lock(&self.shared.store).clone()?;
        // Nothing while the store is replaced or opened again.
        let memtables = keyspaces.upgrade()?.memtables();
        Some(Held {
            memtables,
            journal_bytes: journal_bytes(&directory),
        })
    }

    fn note(&self, judge: &mut Judge, held: &Held, now: Instant) {
        let bytes = held.memtables.iter().map(|memtable| memtable.bytes).sum();
        self.shared.memtable_bytes.store(bytes, Ordering::Relaxed);
        self.shared.journal_bytes.store(held.journal_bytes, Ordering::Relaxed);
        let found = judge.judge(held, now);
        let mut known = lock(&self.shared.trouble);
        match (&found, known.is_some()) {
            (Some(reason), false) => tracing::error!(reason, "the storage engine has stopped flushing"),
            (None, true) => tracing::info!("the storage engine flushes again"),
            _ => {}
        }
        *known = found;
    }
}

/// The files' names are the engine's: `0.jnl`, `1.jnl`, … It is not asked, because it answers behind the lock that writers hold.
fn journal_bytes(directory: &Path) -> u64 {
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let journals = files.filter(|file| file.path().extension().is_some_and(|extension| extension == "jnl"));
    journals.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
}

/// Tells a queue from a standstill. At most one entry per keyspace.
#[derive(Default)]
struct Judge {
    /// Memtables that are over their limit: as they were first seen so, and when.
    over: Vec<(Memtable, Instant)>,
    journals_since: Option<Instant>,
}

impl Judge {
    /// Why flushing seems to have stopped, if it does.
    fn judge(&mut self, held: &Held, now: Instant) -> Option<String> {
        let before = std::mem::take(&mut self.over);
        for memtable in held.memtables.iter().filter(|memtable| memtable.bytes > memtable.limit) {
            let same = |(first, _): &&(Memtable, Instant)| first.keyspace == memtable.keyspace && first.number == memtable.number;
            self.over.push(before.iter().find(same).copied().unwrap_or((*memtable, now)));
        }
        let much = held.journal_bytes > MOST_JOURNAL_BYTES;
        self.journals_since = if much { self.journals_since.or(Some(now)) } else { None };

        let lasts = |since: Instant| now.saturating_duration_since(since) >= PATIENCE;
        let cure = "restart this member before its memory or its volume is full, and look at the volume";
        // Each write to a full memtable asks for a flush again. One that no write follows may wait, and grows no further.
        let stuck = held.memtables.iter().find(|memtable| {
            let of = |(first, since): &(Memtable, Instant)| {
                first.keyspace == memtable.keyspace && first.number == memtable.number && first.bytes < memtable.bytes && lasts(*since)
            };
            self.over.iter().any(of)
        });
        if let Some(Memtable {
            keyspace, bytes, limit, ..
        }) = stuck
        {
            return Some(format!(
                "the storage engine has not taken over the full memtable of {keyspace} for {} s: it holds {bytes} bytes, and may hold {limit}; \
                 {cure}",
                PATIENCE.as_secs()
            ));
        }
        self.journals_since.filter(|since| lasts(*since)).map(|_| {
            format!(
                "the journals of the storage engine hold {} bytes, and should hold {JOURNAL_BYTES} at most: what they wait for is not flushed; \
                 {cure}",
                held.journal_bytes
            )
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::storage::{FjallStore, Keyspace, Store as _, Write};

    fn held(number: u64, bytes: u64, journal_bytes: u64) -> Held {
        let memtable = Memtable {
            keyspace: "records",
            number,
            bytes,
            limit: 100,
        };
        Held {
            memtables: vec![memtable],
            journal_bytes,
        }
    }

    /// What the watch says after one look per second.
    fn looks(figures: impl Fn(u64) -> Held) -> (FlushWatch, Vec<bool>) {
        let (watch, mut judge, begun) = (FlushWatch::default(), Judge::default(), Instant::now());
        let told = (0..30).map(|second| {
            watch.note(&mut judge, &figures(second), begun + Duration::from_secs(second));
            watch.check().is_err()
        });
        let told = told.collect();
        (watch, told)
    }

    #[test]
    fn a_full_memtable_that_grows_and_is_not_flushed_is_told_after_ten_seconds_until_it_is() {
        let (watch, told) = looks(|second| {
            if second < 5 {
                held(1, 90, 0)
            } else if second < 25 {
                held(1, 100 + second, 7)
            } else {
                held(2, 10, 7)
            }
        });
        let expected: Vec<bool> = (0..30).map(|second| (15..25).contains(&second)).collect();
        assert_eq!(told, expected);
        assert_eq!(
            watch.figures(),
            FlushFigures {
                memtable_bytes: 10,
                journal_bytes: 7,
                stalled: false
            }
        );
    }

    #[test]
    fn what_is_slow_but_goes_on_and_what_nobody_writes_to_is_no_standstill() {
        let (_, told) = looks(|second| held(second / 9, 200 + second, MOST_JOURNAL_BYTES));
        assert!(!told.contains(&true), "another memtable every nine seconds: {told:?}");
        let (_, told) = looks(|_| held(1, 101, 0));
        assert!(!told.contains(&true), "no write has come: {told:?}");
    }

    #[test]
    fn journals_that_are_not_let_go_are_told_and_the_remedy_with_them() {
        let (watch, told) = looks(|second| held(second, 10, MOST_JOURNAL_BYTES + u64::from(second >= 10)));
        assert_eq!(told.iter().position(|told| *told), Some(20));
        let reason = watch.check().unwrap_err();
        assert!(
            reason.contains("268435457 bytes") && reason.contains("restart this member"),
            "{reason}"
        );
        assert!(watch.figures().stalled);
    }

    #[test]
    fn the_figures_are_the_engines() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = FjallStore::open(directory.path()).unwrap();
        let watch = store.flushes();
        let write = |key: &str| Write {
            keyspace: Keyspace::Records,
            key: key.as_bytes().to_vec(),
            value: Some(bytes::Bytes::from(vec![7; 4_096])),
        };
        let before = watch.held().unwrap();
        store.write((0..100).map(|number| write(&format!("{number}"))).collect()).unwrap();
        let after = watch.held().unwrap();
        let bytes = |held: &Held| held.memtables.iter().map(|memtable| memtable.bytes).sum::<u64>();
        assert!(bytes(&after) >= bytes(&before) + 409_600, "{before:?}, {after:?}");
        assert!(after.journal_bytes > 0, "{after:?}");
        assert_eq!(after.memtables.len(), Keyspace::ALL.len());
        store.reopen().unwrap();
        assert!(watch.held().is_some(), "it follows the store that was opened again");
        drop(store);
        assert!(watch.held().is_none(), "and keeps none open");
    }
}
