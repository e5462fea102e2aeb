//! Batches that take long, and calls that hang: only the latter is a stall. And batches that meet a full disk half way.

use std::{
    io::ErrorKind,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use kvfleet_api::tenant::{TenantConfig, TenantLimits};

use super::{
    Progress,
    space::{self, Patience},
};
use crate::{
    raft::types::{Data, Entry, Payload, log_id},
    state::{Command, Condition, Done, Kind, Machine, Operation, Proposal, Put, Response, TenantId, Ttl, Views, codec},
    storage::{Calls, Direction, FjallStore, KeyRange, Keyspace, Reader, Rows, Store, StoreError, Write},
};

/// Takes its time for each call, and fails a write when it is told to.
struct Slow {
    store: FjallStore,
    get: Duration,
    write: Duration,
    /// The write that fails, counted down.
    fails: Option<u32>,
}

struct SlowReader(Arc<dyn Reader>, Duration);

impl Reader for SlowReader {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        std::thread::sleep(self.1);
        self.0.get(keyspace, key)
    }
    fn range(&self, keyspace: Keyspace, range: KeyRange, direction: Direction) -> Rows {
        self.0.range(keyspace, range, direction)
    }
}

impl Store for Slow {
    fn write(&mut self, batch: Vec<Write>) -> Result<(), StoreError> {
        std::thread::sleep(self.write);
        match self.fails {
            Some(0) => {
                self.fails = None;
                Err(StoreError::Write {
                    rows: batch.len(),
                    source: fjall::Error::Io(ErrorKind::StorageFull.into()),
                })
            }
            left => {
                self.fails = left.map(|left| left - 1);
                self.store.write(batch)
            }
        }
    }
    fn reader(&self) -> Arc<dyn Reader> {
        Arc::new(SlowReader(self.store.reader(), self.get))
    }
    fn persist(&mut self) -> Result<(), StoreError> {
        self.store.persist()
    }
    fn counted_by(&mut self, calls: &Arc<Calls>) {
        self.store.counted_by(calls);
    }
    fn reopen(&mut self) -> Result<(), StoreError> {
        self.store.reopen()
    }
    fn disk_bytes(&self) -> Result<u64, StoreError> {
        self.store.disk_bytes()
    }
}

fn entry(index: u64, command: Command) -> Entry {
    let proposal = Proposal {
        stamp_ms: 1_700_000_000_000,
        command,
    };
    Entry {
        log_id: log_id(1, index),
        payload: Payload::Normal(Data(proposal.encode())),
    }
}

fn list(index: u64, commands: impl Iterator<Item = Command>) -> Entry {
    let proposals: Vec<_> = commands.map(|command| Proposal { stamp_ms: 0, command }.encode()).collect();
    let writes = proposals.iter().map(|proposal| (1_700_000_000_000, proposal));
    Entry {
        log_id: log_id(1, index),
        payload: Payload::Normal(Data(codec::entry::encode(writes))),
    }
}

fn tenant() -> Command {
    Command::PutTenant {
        name: "t".to_owned(),
        config: TenantConfig {
            uid: "u".to_owned(),
            owner: "tests/t".to_owned(),
            generation: 1,
            cluster_generation: 1,
            credential_generation: 1,
            limits: TenantLimits {
                max_value_size: 8 << 20,
                ..TenantLimits::default()
            },
        },
    }
}

fn put(key: &str, bytes: usize) -> Command {
    Command::one(
        TenantId(1),
        Operation::Put(Put {
            key: key.to_owned(),
            value: Bytes::from(vec![b'v'; bytes]),
            kind: Kind::Bytes,
            content_type: None,
            metadata: Vec::new(),
            ttl: Ttl::Never,
            condition: Condition::None,
        }),
    )
}

/// Applies so many entries over a slow store; answers how long that took, and the longest stall that was seen meanwhile.
fn apply(get: Duration, write: Duration, entries: u64) -> (Duration, Duration) {
    let directory = tempfile::tempdir().unwrap();
    let (mut machine, _views) = Machine::open(Slow {
        store: FjallStore::open(directory.path()).unwrap(),
        get: Duration::ZERO,
        write: Duration::ZERO,
        fails: None,
    })
    .unwrap();
    let progress = Arc::new(Progress::new(machine.calls()));
    let mut patience = Patience::NEW;
    space::apply(&mut machine, &[entry(1, tenant())], &progress, &mut patience).unwrap();
    (machine.store_mut().get, machine.store_mut().write) = (get, write);
    // So that the machine takes the slow reader.
    space::apply(&mut machine, &[entry(2, put("k", 1))], &progress, &mut patience).unwrap();

    let over = Arc::new(AtomicBool::new(false));
    let watch = {
        let (over, progress) = (Arc::clone(&over), Arc::clone(&progress));
        std::thread::spawn(move || {
            let mut longest = Duration::ZERO;
            while !over.load(Ordering::Relaxed) {
                longest = longest.max(progress.under_way().unwrap_or_default());
                std::thread::sleep(Duration::from_millis(5));
            }
            longest
        })
    };
    let entries: Vec<_> = (0..entries).map(|n| entry(3 + n, put(&format!("k{n}"), 1))).collect();
    let begun = Instant::now();
    let answers = space::apply(&mut machine, &entries, &progress, &mut patience).unwrap();
    let took = begun.elapsed();
    over.store(true, Ordering::Relaxed);
    assert_eq!(answers.len(), entries.len());
    (took, watch.join().unwrap())
}

#[test]
fn a_long_batch_of_short_calls_is_no_stall() {
    let (took, stall) = apply(Duration::from_millis(20), Duration::ZERO, 75);
    assert!(took > Duration::from_millis(1_400), "the batch took {took:?}");
    assert!(
        stall < took / 2,
        "a batch that took {took:?} passed for a disk that hangs, for {stall:?}"
    );
}

#[test]
fn a_call_that_does_not_return_is_a_stall() {
    let (_, read) = apply(Duration::from_millis(600), Duration::ZERO, 1);
    assert!(read > Duration::from_millis(400), "a read that took 600 ms was seen for {read:?}");
    let (_, write) = apply(Duration::ZERO, Duration::from_millis(600), 1);
    assert!(
        write > Duration::from_millis(400),
        "a write that took 600 ms was seen for {write:?}"
    );
}

/// Applies entries of puts to a store of which the write of one batch finds no space; answers the views, and the revisions of the puts.
fn apply_failing(entries: &[Entry], fails: u32) -> (Views, Vec<u64>) {
    let directory = tempfile::tempdir().unwrap();
    let (mut machine, views) = Machine::open(Slow {
        store: FjallStore::open(directory.path()).unwrap(),
        get: Duration::ZERO,
        write: Duration::ZERO,
        fails: None,
    })
    .unwrap();
    let progress = Progress::new(machine.calls());
    let mut patience = Patience::NEW;
    space::apply(&mut machine, &[entry(1, tenant())], &progress, &mut patience).unwrap();
    machine.store_mut().fails = Some(fails);
    let answers = space::apply(&mut machine, entries, &progress, &mut patience).unwrap();
    assert!(
        machine.store_mut().fails.is_none(),
        "three batches were written, and one of them failed"
    );
    let revision = |answer: &Response| match answer.done() {
        Some(Done::Put(written)) => written.revision,
        _ => panic!("{answer:?}"),
    };
    views.latest().scrub().unwrap();
    (views, answers.iter().map(revision).collect())
}

/// The batches before keep their answers, and what had no space is applied once.
#[test]
fn a_batch_that_is_cut_and_finds_no_space_half_way_answers_everything() {
    for fails in 0..3 {
        let entries: Vec<_> = (0..10).map(|n| entry(2 + n, put(&format!("k{n}"), 4 << 20))).collect();
        let (views, revisions) = apply_failing(&entries, fails);
        assert_eq!(revisions, (2..12).collect::<Vec<_>>());
        assert_eq!(views.latest().revision(), 11);
    }
}

/// Entries of many writes beside entries of one, with a failure before, between and behind them: the batch that met the full disk is given
/// again in whole entries.
#[test]
fn entries_of_many_writes_that_find_no_space_are_applied_once() {
    for fails in 0..3 {
        let entries: Vec<_> = (0..9)
            .map(|n| match n % 2 {
                0 => list(2 + n, (0..4).map(|m| put(&format!("k{n}/{m}"), 1 << 20))),
                _ => entry(2 + n, put(&format!("k{n}"), 4 << 20)),
            })
            .collect();
        let (views, revisions) = apply_failing(&entries, fails);
        assert_eq!(revisions, (1..=5 * 4 + 4).map(|n| revisions[0] - 1 + n).collect::<Vec<_>>());
        assert_eq!(views.latest().revision(), *revisions.last().unwrap());
    }
}
