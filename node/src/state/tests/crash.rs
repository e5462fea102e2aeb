//! What survives what: replay, other batch boundaries, a killed process, a power cut, a newer format.

use super::*;
use crate::storage::{Reader, StoreError, Write, keys};

/// A log with every kind of entry.
fn log() -> Vec<Input> {
    let mut log = vec![
        Input {
            id: Applied { term: 1, index: 0 },
            body: Body::Membership(Bytes::from_static(b"three voters")),
        },
        Input {
            id: Applied { term: 1, index: 1 },
            body: Body::Blank,
        },
    ];
    let mut stamp = START;
    let limits = TenantLimits {
        quota_storage: 100,
        ..TenantLimits::default()
    };
    let mut push = |stamp: u64, command| log.push(entry(log.len() as u64, stamp, command));
    push(stamp, put_tenant("acme", limits));
    push(stamp, put_tenant("doomed", TenantLimits::default()));
    for n in 0..60u64 {
        stamp += 300;
        let ttl = if n % 3 == 0 { Ttl::For(1_000 + n * 10) } else { Ttl::Never };
        push(
            stamp,
            put_with(&format!("k{}", n % 17), &"v".repeat(n as usize % 23), ttl, Condition::None),
        );
        if n % 5 == 0 {
            push(stamp - 200, delete(&format!("k{}", n % 7)));
        }
        if n % 11 == 0 {
            push(stamp, Command::Sweep { limit: Bound::rows(2) });
        }
        if n == 20 {
            push(
                stamp,
                Command::DeleteTenant {
                    name: "doomed".to_owned(),
                    uid: "uid-1".to_owned(),
                },
            );
        }
        if n == 40 {
            push(stamp, Command::Reap { limit: Bound::rows(100) });
            push(
                stamp,
                Command::ReleaseTenant {
                    name: "acme".to_owned(),
                    uid: "uid-1".to_owned(),
                },
            );
            push(stamp, put_tenant("acme", TenantLimits::default()));
        }
    }
    log
}

/// Applies `log` in batches of this length and answers what the directory then holds, with the answers.
fn run(directory: &Path, log: &[Input], batch: usize) -> Vec<Response> {
    let (mut machine, _views) = Machine::open(FjallStore::open(directory).unwrap()).unwrap();
    log.chunks(batch)
        .flat_map(|inputs| machine.apply(inputs.to_vec()).unwrap())
        .collect()
}

#[test]
fn batch_boundaries_leave_no_trace() {
    let log = log();
    let outcome = |batch| {
        let directory = tempfile::tempdir().unwrap();
        let answers = run(directory.path(), &log, batch);
        (answers, dump(directory.path()))
    };
    let one_by_one = outcome(1);
    assert!(
        one_by_one
            .0
            .iter()
            .any(|answer| matches!(alone(answer.clone()), Response::Refused(Refusal::StorageQuotaExceeded { .. })))
    );
    for batch in [2, 7, log.len()] {
        assert_eq!(outcome(batch), one_by_one, "batches of {batch}");
    }
}

#[test]
fn what_was_applied_is_skipped() {
    let log = log();
    let directory = tempfile::tempdir().unwrap();
    run(directory.path(), &log, 10);
    let before = dump(directory.path());
    let (mut machine, views) = Machine::open(FjallStore::open(directory.path()).unwrap()).unwrap();
    assert_eq!(machine.applied(), log.last().map(|input| input.id));
    assert_eq!(machine.membership(), Some((log[0].id, Bytes::from_static(b"three voters"))));
    let revision = views.latest().revision();
    assert!(machine.apply(log).unwrap().iter().all(|answer| *answer == Response::None));
    assert_eq!(views.latest().revision(), revision);
    drop((machine, views));
    assert_eq!(dump(directory.path()), before);
}

/// The machine is killed at each of several points (dropped, nothing persisted), or its disk goes back to what was durable there; the
/// whole log is then replayed.
#[test]
fn a_replay_after_a_crash_gives_the_same_rows() {
    let log = log();
    let straight = tempfile::tempdir().unwrap();
    run(straight.path(), &log, 5);
    let expected = dump(straight.path());
    for crash in [1, 13, 40, log.len() - 1] {
        let directory = tempfile::tempdir().unwrap();
        let durable = tempfile::tempdir().unwrap();
        let (mut machine, views) = Machine::open(FjallStore::open(directory.path()).unwrap()).unwrap();
        machine.apply(log[..crash].to_vec()).unwrap();
        machine.persist().unwrap();
        copy(directory.path(), durable.path());
        machine.apply(log[crash..].to_vec()).unwrap();
        drop((machine, views));
        assert_eq!(dump(directory.path()), expected);
        let answers = run(durable.path(), &log, 3);
        assert!(
            answers[..crash].iter().all(|answer| *answer == Response::None),
            "the copy had these"
        );
        assert_eq!(dump(durable.path()), expected, "crash after {crash} entries");
    }
}

/// The twin of the test above: without `applied` in the batch the replay is seen to go wrong.
#[test]
fn without_applied_in_the_batch_a_replay_goes_wrong() {
    struct Forgetful(FjallStore);

    impl Store for Forgetful {
        fn write(&mut self, mut batch: Vec<Write>) -> Result<(), StoreError> {
            batch.retain(|write| write.key != keys::APPLIED);
            self.0.write(batch)
        }
        fn reader(&self) -> Arc<dyn Reader> {
            self.0.reader()
        }
        fn persist(&mut self) -> Result<(), StoreError> {
            self.0.persist()
        }
        fn disk_bytes(&self) -> Result<u64, StoreError> {
            self.0.disk_bytes()
        }
    }

    let log = log();
    let directory = tempfile::tempdir().unwrap();
    let mut revisions = Vec::new();
    for _ in 0..2 {
        let (mut machine, views) = Machine::open(Forgetful(FjallStore::open(directory.path()).unwrap())).unwrap();
        machine.apply(log.clone()).unwrap();
        revisions.push(views.latest().revision());
    }
    assert_ne!(revisions[0], revisions[1]);
}

#[test]
fn after_a_failed_batch_nothing_of_it_is_visible_and_nothing_more_is_taken() {
    struct Full {
        store: FjallStore,
        left: usize,
    }

    impl Store for Full {
        fn write(&mut self, batch: Vec<Write>) -> Result<(), StoreError> {
            match self.left.checked_sub(1) {
                Some(left) => self.left = left,
                None => return Err(StoreError::Failed),
            }
            self.store.write(batch)
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
    }

    let directory = tempfile::tempdir().unwrap();
    let store = Full {
        store: FjallStore::open(directory.path()).unwrap(),
        left: 2,
    };
    let (mut machine, views) = Machine::open(store).unwrap();
    machine
        .apply(vec![entry(1, START, put_tenant("acme", TenantLimits::default()))])
        .unwrap();
    assert!(machine.apply(vec![entry(2, START, put("k", "v"))]).is_err());
    let view = views.latest();
    assert_eq!((view.revision(), view.applied().map(|applied| applied.index)), (1, Some(1)));
    assert_eq!(view.used(ACME, START).unwrap().keys, 0);
    assert!(matches!(
        machine.apply(vec![entry(2, START, put("k", "v"))]),
        Err(StoreError::Failed)
    ));
    assert!(matches!(machine.persist(), Err(StoreError::Failed)));
}

/// A member that drains goes on answering for seconds while its successor waits for the directory.
#[test]
fn a_machine_that_stops_lets_go_of_its_files_whoever_still_reads() {
    let mut shard = Shard::with(TenantLimits::default());
    shard.put("k", "v");
    let Shard {
        directory, machine, views, ..
    } = shard;
    drop(machine);
    let (machine, _) = Machine::open(FjallStore::open(directory.path()).unwrap()).unwrap();
    assert_eq!(machine.applied().map(|applied| applied.index), Some(2));
    let view = views.latest();
    assert!(
        matches!(view.get(ACME, "k", START), Err(StoreError::Closed)),
        "an error, not a key that is missing"
    );
    assert!(page(&view, ACME, &ScanRange::default(), items(1), START).is_err());
    assert_eq!(view.tenants().len(), 1, "what is in memory is still known");
}

fn format(value: u64) -> Vec<Write> {
    vec![Write {
        keyspace: Keyspace::Meta,
        key: keys::FORMAT.to_vec(),
        value: Some(Bytes::copy_from_slice(&value.to_be_bytes())),
    }]
}

#[test]
fn a_newer_format_is_refused_by_its_number() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = FjallStore::open(directory.path()).unwrap();
    store.write(format(3)).unwrap();
    let reason = "the state store has format 3, this program knows up to 2: start a newer kvnode";
    let error = Machine::open(store).err().unwrap();
    assert_eq!(error.to_string(), reason);
    assert_eq!(FjallStore::open(directory.path()).err().unwrap().to_string(), reason);
}

/// A directory of the program before is refused with what to do about it, and nothing is added to it.
#[test]
fn an_older_format_is_refused_and_its_directory_stays_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let keyspaces = |database: &fjall::Database| {
        let mut names: Vec<_> = database.list_keyspace_names().into_iter().map(|name| name.to_string()).collect();
        names.sort();
        names
    };
    let database = fjall::Database::builder(directory.path()).open().unwrap();
    for name in ["meta", "records", "tenants", "ttl", "usage"] {
        let keyspace = database.keyspace(name, fjall::KeyspaceCreateOptions::default).unwrap();
        if name == "meta" {
            keyspace.insert(keys::FORMAT, 1_u64.to_be_bytes()).unwrap();
        }
    }
    let before = keyspaces(&database);
    drop(database);
    let error = FjallStore::open(directory.path()).err().unwrap();
    assert!(matches!(error, StoreError::OlderFormat { found: 1 }), "{error}");
    assert!(!error.is_damage(), "it is not the disk's fault");
    assert_eq!(
        error.to_string(),
        "the state store has format 1, made by a version before formats could grow (0.1.0-dev): start with an empty directory, or use the \
         version that made it"
    );
    assert_eq!(keyspaces(&fjall::Database::builder(directory.path()).open().unwrap()), before);
}

#[test]
fn a_directory_in_use_is_refused_by_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let first = FjallStore::open(directory.path()).unwrap();
    let error = FjallStore::open(directory.path()).err().unwrap();
    assert!(error.to_string().contains(&directory.path().display().to_string()), "{error}");
    drop(first);
    FjallStore::open(directory.path()).unwrap();
}

pub(super) fn copy(from: &Path, to: &Path) {
    for item in std::fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy(&item.path(), &target);
        } else {
            std::fs::copy(item.path(), &target).unwrap();
        }
    }
}
