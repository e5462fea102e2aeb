//! Batches that meet a full disk.

use std::io::ErrorKind;

use super::*;
use crate::storage::{Reader, Space, StoreError, Write};

/// What the next write does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Works,
    Fails,
    /// The rows reach the disk, the news of it does not.
    FailsAfterwards,
}

/// A store on a disk that is full for a while.
struct Full {
    store: FjallStore,
    next: Next,
}

fn full() -> StoreError {
    StoreError::Write {
        rows: 1,
        source: fjall::Error::Io(ErrorKind::StorageFull.into()),
    }
}

impl Store for Full {
    fn write(&mut self, batch: Vec<Write>) -> Result<(), StoreError> {
        match std::mem::replace(&mut self.next, Next::Works) {
            Next::Works => self.store.write(batch),
            Next::Fails => Err(full()),
            Next::FailsAfterwards => self.store.write(batch).and(Err(full())),
        }
    }
    fn reader(&self) -> Arc<dyn Reader> {
        self.store.reader()
    }
    fn persist(&mut self) -> Result<(), StoreError> {
        self.store.persist()
    }
    fn disk_bytes(&self) -> Result<u64, StoreError> {
        self.store.disk_bytes()
    }
    fn reopen(&mut self) -> Result<(), StoreError> {
        self.store.reopen()
    }
    fn space(&self) -> Option<Space> {
        self.store.space()
    }
}

fn opened(next: Next) -> (TempDir, Machine<Full>, Views) {
    let directory = tempfile::tempdir().unwrap();
    let mut store = FjallStore::open(directory.path()).unwrap();
    let (mut machine, views) = Machine::open(store).unwrap();
    machine
        .apply(vec![
            entry(1, START, put_tenant("acme", TenantLimits::default())),
            entry(2, START, put("k", "old")),
        ])
        .unwrap();
    drop((machine, views));
    store = FjallStore::open(directory.path()).unwrap();
    let (machine, views) = Machine::open(Full { store, next }).unwrap();
    (directory, machine, views)
}

fn value(views: &Views) -> Result<Option<String>, StoreError> {
    let record = views.latest().get(ACME, "k", START)?;
    Ok(record.map(|record| String::from_utf8(record.value.to_vec()).unwrap()))
}

#[test]
fn a_batch_that_met_a_full_disk_is_applied_once_the_store_is_opened_again() {
    for next in [Next::Fails, Next::FailsAfterwards] {
        let (_directory, mut machine, views) = opened(next);
        let batch = || vec![entry(3, START, put("k", "new"))];
        let error = machine.apply(batch()).unwrap_err();
        assert!(error.is_full() && !error.is_poisoned() && !error.is_locked(), "{error}");
        assert_eq!(value(&views).unwrap().as_deref(), Some("old"), "readers keep the last view");
        machine.reopen().unwrap();
        let answers = machine.apply(batch()).unwrap();
        let Some(Done::Put(Written {
            revision, created: false, ..
        })) = answers[0].done()
        else {
            panic!("{answers:?}");
        };
        assert_eq!((revision, answers.len()), (3, 1));
        assert_eq!(value(&views).unwrap().as_deref(), Some("new"));
        assert_eq!(views.latest().revision(), 3, "applied once");
        machine.apply(vec![entry(4, START, put("k", "newer"))]).unwrap();
        assert_eq!(value(&views).unwrap().as_deref(), Some("newer"));
    }
}

/// The files go with the last reader: until then the store cannot be opened, and new readers are told to come back.
#[test]
fn opening_again_waits_for_the_readers() {
    let (_directory, mut machine, views) = opened(Next::Fails);
    let reading = views.latest();
    machine.apply(vec![entry(3, START, put("k", "new"))]).unwrap_err();
    let error = machine.reopen().unwrap_err();
    assert!(error.is_locked(), "{error}");
    assert!(reading.get(ACME, "k", START).unwrap().is_some(), "who reads already goes on");
    assert!(matches!(value(&views), Err(StoreError::Reopening)));
    drop(reading);
    machine.reopen().unwrap();
    assert_eq!(value(&views).unwrap().as_deref(), Some("old"));
    machine.apply(vec![entry(3, START, put("k", "new"))]).unwrap();
    assert_eq!(value(&views).unwrap().as_deref(), Some("new"));
}

#[test]
fn other_failures_are_not_taken_for_a_full_disk() {
    for source in [
        fjall::Error::Io(std::io::Error::other("input/output error")),
        fjall::Error::Io(std::io::Error::from_raw_os_error(5)),
        fjall::Error::Storage(fjall::LsmError::Unrecoverable),
    ] {
        let error = StoreError::Write { rows: 1, source };
        assert!(!error.is_full() && !error.is_poisoned() && !error.is_locked(), "{error}");
    }
    let failed = StoreError::Persist {
        source: fjall::Error::Poisoned,
    };
    assert!(failed.is_poisoned() && !failed.is_full());
    for code in [28, 122] {
        let error = StoreError::Persist {
            source: fjall::Error::Io(std::io::Error::from_raw_os_error(code)),
        };
        assert!(error.is_full(), "{error}");
    }
}

/// The answers of a batch whose rows had reached the disk are found again by its entries, however many answers each of them has.
#[test]
fn an_entry_of_many_writes_that_met_a_full_disk_is_applied_once() {
    for next in [Next::Fails, Next::FailsAfterwards] {
        let (_directory, mut machine, views) = opened(next);
        let writes = |keys: [&str; 2]| {
            keys.map(|key| Proposal {
                stamp_ms: START,
                command: put(key, "new"),
            })
            .to_vec()
        };
        let input = |index, keys| Input {
            id: Applied { term: 1, index },
            body: Body::Writes(writes(keys)),
        };
        let batch = || vec![input(3, ["k", "l"]), input(4, ["m", "n"])];
        assert!(machine.apply(batch()).unwrap_err().is_full());
        machine.reopen().unwrap();
        let answers = machine.apply(batch()).unwrap();
        assert!(
            answers.iter().all(|answer| matches!(answer.done(), Some(Done::Put(_)))),
            "{answers:?}"
        );
        assert_eq!((answers.len(), views.latest().revision()), (4, 6));
        views.latest().scrub().unwrap();
    }
}
