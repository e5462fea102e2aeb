//! What one entry, and one batch, may cost: rows, bytes of rows, and memory.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicUsize, Ordering},
};

use super::*;
use crate::storage::{Reader, Row, Rows, StoreError, Write, keys};

const MIB: usize = 1 << 20;

/// Bytes of values that were read, and how many of them were in memory at one time.
#[derive(Default)]
struct Meter {
    read: AtomicUsize,
    held: AtomicUsize,
    most_held: AtomicUsize,
}

struct Held(Bytes, Arc<Meter>);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.1.held.fetch_sub(self.0.len(), Ordering::Relaxed);
    }
}

impl Meter {
    fn hold(self: &Arc<Self>, value: Bytes) -> Bytes {
        self.read.fetch_add(value.len(), Ordering::Relaxed);
        let held = self.held.fetch_add(value.len(), Ordering::Relaxed) + value.len();
        self.most_held.fetch_max(held, Ordering::Relaxed);
        Bytes::from_owner(Held(value, Arc::clone(self)))
    }

    /// Read since the last time, and the most that was held at one time.
    fn take(&self) -> (usize, usize) {
        (self.read.swap(0, Ordering::Relaxed), self.most_held.swap(0, Ordering::Relaxed))
    }
}

struct Metered<T> {
    inner: T,
    meter: Arc<Meter>,
}

impl Reader for Metered<Arc<dyn Reader>> {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.inner.get(keyspace, key)?.map(|value| self.meter.hold(value)))
    }

    fn range(&self, keyspace: Keyspace, range: KeyRange, direction: Direction) -> Rows {
        let meter = Arc::clone(&self.meter);
        let hold = move |row: Result<Row, StoreError>| {
            row.map(|(key, value)| {
                meter.read.fetch_add(key.len(), Ordering::Relaxed);
                (key, meter.hold(value))
            })
        };
        Box::new(self.inner.range(keyspace, range, direction).map(hold))
    }
}

impl Store for Metered<FjallStore> {
    fn write(&mut self, batch: Vec<Write>) -> Result<(), StoreError> {
        self.inner.write(batch)
    }
    fn reader(&self) -> Arc<dyn Reader> {
        Arc::new(Metered {
            inner: self.inner.reader(),
            meter: Arc::clone(&self.meter),
        })
    }
    fn persist(&mut self) -> Result<(), StoreError> {
        self.inner.persist()
    }
    fn disk_bytes(&self) -> Result<u64, StoreError> {
        self.inner.disk_bytes()
    }
}

/// A machine whose reads are counted, with the tenant `acme`.
struct Scales {
    _directory: TempDir,
    machine: Machine<Metered<FjallStore>>,
    views: Views,
    meter: Arc<Meter>,
    index: u64,
    now_ms: u64,
}

impl Scales {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let meter = Arc::new(Meter::default());
        let store = Metered {
            inner: FjallStore::open(directory.path()).unwrap(),
            meter: Arc::clone(&meter),
        };
        let (machine, views) = Machine::open(store).unwrap();
        let mut scales = Scales {
            _directory: directory,
            machine,
            views,
            meter,
            index: 0,
            now_ms: START,
        };
        let limits = TenantLimits {
            max_value_size: 8 << 20,
            max_metadata_size: 8 << 20,
            ..TenantLimits::default()
        };
        scales.run(put_tenant("acme", limits));
        scales
    }

    fn entry(&mut self, command: Command) -> Input {
        self.index += 1;
        entry(self.index, self.now_ms, command)
    }

    fn run(&mut self, command: Command) -> Response {
        let input = self.entry(command);
        self.machine.apply(vec![input]).unwrap().remove(0)
    }

    /// Runs a command until nothing is left, and answers what each run removed. Each reads no more than the bound and one value, and holds no
    /// more than one value and what lies beside it.
    fn weigh(&mut self, command: &Command, value: usize) -> Vec<u32> {
        let mut steps = Vec::new();
        loop {
            self.meter.take();
            let Response::Swept { removed, more } = self.run(command.clone()) else {
                panic!("{command:?}")
            };
            let (read, held) = self.meter.take();
            let slack = 64 << 10;
            assert!(read <= Bound::STEP.bytes as usize + value + slack, "one entry read {read} bytes");
            assert!(held <= value + slack, "one entry held {held} bytes at one time");
            steps.push(removed);
            if !more {
                self.views.latest().scrub().unwrap();
                return steps;
            }
        }
    }
}

/// A record whose header is large: what is bounded in bytes is what is read, and only headers are.
fn heavy(key: &str, bytes: usize, ttl: Ttl) -> Command {
    Command::one(
        ACME,
        Operation::Put(Put {
            key: key.to_owned(),
            value: Bytes::new(),
            kind: Kind::Bytes,
            content_type: None,
            metadata: vec![("m".to_owned(), "v".repeat(bytes))],
            ttl,
            condition: Condition::None,
        }),
    )
}

fn remove() -> Command {
    Command::DeleteTenant {
        name: "acme".to_owned(),
        uid: "uid-1".to_owned(),
    }
}

#[test]
fn a_reap_reads_so_many_bytes_and_one_header_at_a_time() {
    let mut scales = Scales::new();
    for n in 0..7 {
        scales.run(heavy(&format!("k{n}"), MIB, Ttl::Never));
    }
    scales.run(remove());
    let steps = scales.weigh(&Command::Reap { limit: Bound::STEP }, MIB);
    assert_eq!(steps, [2, 2, 2, 1]);
}

#[test]
fn a_header_above_the_bound_goes_alone() {
    let mut scales = Scales::new();
    for n in 0..3 {
        scales.run(heavy(&format!("k{n}"), 4 * MIB, Ttl::Never));
    }
    scales.run(remove());
    let steps = scales.weigh(&Command::Reap { limit: Bound::STEP }, 4 * MIB);
    assert_eq!(steps, [1, 1, 1, 0]);
}

#[test]
fn a_reap_removes_so_many_rows_and_closes_so_many_graves() {
    let mut scales = Scales::new();
    let puts = (0..1_200).map(|n| scales.entry(put(&format!("k{n:04}"), "v"))).collect();
    scales.machine.apply(puts).unwrap();
    scales.run(remove());
    assert_eq!(scales.weigh(&Command::Reap { limit: Bound::STEP }, 0), [500, 500, 200]);
    for n in 0..12 {
        let name = format!("empty-{n}");
        scales.run(put_tenant(&name, TenantLimits::default()));
        scales.run(Command::DeleteTenant {
            name,
            uid: "uid-1".to_owned(),
        });
    }
    let left = |more| Response::Swept { removed: 0, more };
    let answers = [(); 2].map(|()| scales.run(Command::Reap { limit: Bound::rows(6) }));
    assert_eq!(answers, [left(true), left(false)]);
}

#[test]
fn a_sweep_reads_so_many_bytes_and_one_header_at_a_time() {
    let mut scales = Scales::new();
    for n in 0..5 {
        scales.run(heavy(&format!("k{n}"), MIB, Ttl::For(1_000)));
    }
    scales.now_ms += 1_000;
    let steps = scales.weigh(&Command::Sweep { limit: Bound::STEP }, MIB);
    assert_eq!(steps, [2, 2, 1]);
}

#[test]
fn a_batch_ends_when_it_has_touched_enough_whatever_the_number_of_its_entries() {
    let mut scales = Scales::new();
    let mut large: VecDeque<_> = (0..10).map(|n| scales.entry(put(&format!("k{n}"), &"v".repeat(4 * MIB)))).collect();
    assert_eq!(scales.machine.apply_some(&mut large).unwrap().len(), 4);
    assert_eq!(large.len(), 6);
    scales.machine.apply(large.into()).unwrap();
    // Small writes over large values read none of them, those over large headers read as much.
    let small = |scales: &mut Scales| -> VecDeque<_> { (0..10).map(|n| scales.entry(put(&format!("k{n}"), "v"))).collect() };
    let mut over_values = small(&mut scales);
    assert_eq!(scales.machine.apply_some(&mut over_values).unwrap().len(), 10);
    let mut large: VecDeque<_> = (0..10)
        .map(|n| scales.entry(heavy(&format!("k{n}"), 4 * MIB, Ttl::Never)))
        .collect();
    assert_eq!(scales.machine.apply_some(&mut large).unwrap().len(), 4);
    scales.machine.apply(large.into()).unwrap();
    let mut over_headers = small(&mut scales);
    assert_eq!(scales.machine.apply_some(&mut over_headers).unwrap().len(), 4);
    scales.machine.apply(over_headers.into()).unwrap();

    let rows: Vec<_> = (0..8_000)
        .map(|n| scales.entry(put_with(&format!("r{n:04}"), "v", Ttl::Until(START + 5_000), Condition::None)))
        .collect();
    scales.machine.apply(rows).unwrap();
    scales.now_ms += 5_000;
    let mut sweeps: VecDeque<_> = (0..100).map(|_| scales.entry(Command::Sweep { limit: Bound::STEP })).collect();
    let answers = scales.machine.apply_some(&mut sweeps).unwrap();
    assert!((1..=5).contains(&answers.len()), "{} sweeps in one batch", answers.len());
    scales.machine.apply(sweeps.into()).unwrap();
    assert_eq!(scales.views.latest().used(ACME, scales.now_ms).unwrap().keys, 10);
    scales.views.latest().scrub().unwrap();
}

/// Takes keys and no values.
#[derive(Default)]
struct Keys(Vec<String>);

impl Collect for Keys {
    fn takes_values(&self) -> bool {
        false
    }

    fn add(&mut self, key: &str, _: &Record) -> bool {
        self.0.push(key.to_owned());
        true
    }
}

/// A sweep, a reap, a page of keys, counts, a replacement and a scrub read headers, however large the values are.
#[test]
fn background_work_and_limits_never_read_a_large_value() {
    const RECORDS: usize = 200;
    const EACH: usize = 2 << 10;
    let mut scales = Scales::new();
    let value = "v".repeat(MIB);
    for n in 0..RECORDS {
        let ttl = if n % 2 == 0 { Ttl::For(1_000) } else { Ttl::Never };
        scales.run(put_with(&format!("k{n:03}"), &value, ttl, Condition::None));
    }
    let read = |scales: &Scales, records: usize, what: &str| {
        let (read, _) = scales.meter.take();
        // Tables, cursors and rows of expiry lie beside the headers.
        assert!(read <= records * EACH, "{what}: {read} bytes for {records} records");
    };
    scales.meter.take();
    let view = scales.views.latest();
    let mut keys = Keys::default();
    let ended = view.scan(ACME, &ScanRange::default(), items(1_000), scales.now_ms, &|| true, &mut keys);
    assert_eq!((ended.unwrap(), keys.0.len()), (Ended::AtTheEnd, RECORDS));
    read(&scales, RECORDS, "a page of keys");
    assert_eq!(view.used(ACME, scales.now_ms).unwrap().keys, RECORDS as u64);
    assert_eq!(view.used(ACME, scales.now_ms + 1_000).unwrap().keys, RECORDS as u64 / 2);
    read(&scales, RECORDS, "a count");
    view.scrub().unwrap();
    read(&scales, RECORDS, "a scrub");
    drop(view);
    scales.run(put("k001", &value));
    scales.run(put("k003", "small"));
    scales.run(delete("k005"));
    read(&scales, 3, "replacements");
    scales.now_ms += 1_000;
    let swept = scales.run(Command::Sweep { limit: Bound::STEP });
    assert_eq!(
        swept,
        Response::Swept {
            removed: RECORDS as u32 / 2,
            more: false
        }
    );
    read(&scales, RECORDS / 2, "a sweep");
    scales.run(remove());
    let reaped = scales.run(Command::Reap { limit: Bound::STEP });
    assert_eq!(
        reaped,
        Response::Swept {
            removed: RECORDS as u32 / 2 - 1,
            more: false
        }
    );
    read(&scales, RECORDS / 2, "a reap");
    for keyspace in [Keyspace::Records, Keyspace::Values, Keyspace::Ttl] {
        assert_eq!(scales.views.latest().rows(keyspace).count(), 0, "{keyspace:?}");
    }
}

/// Records that expire at one moment are absent at once, and are counted a few per entry, on every member alike.
#[test]
fn many_expiries_of_one_moment_are_counted_in_steps() {
    let mut shard = Shard::with(TenantLimits {
        quota_keys: 300,
        ..TenantLimits::default()
    });
    let puts = (0..300).map(|n| {
        entry(
            2 + n,
            START,
            put_with(&format!("k{n:03}"), "v", Ttl::Until(START + 5_000), Condition::None),
        )
    });
    shard.machine.apply(puts.collect()).unwrap();
    shard.index = 301;
    shard.pass(5_000);
    let counted = |shard: &Shard| 300 - shard.view().standing(ACME).keys;
    assert_eq!(shard.run(delete("k299")), deleted(None), "absent, counted or not");
    assert_eq!(counted(&shard), 64);
    assert_eq!(shard.used(), (5 * 300, 0), "readers see none of them");
    assert_eq!(shard.due(), Some(shard.now_ms));
    let mut shard = shard.reopen();
    assert_eq!(counted(&shard), 64, "a restarted member has counted no more than the others");
    shard.run(delete("k299"));
    assert_eq!(counted(&shard), 128);
    // Counted rows and uncounted ones go alike.
    shard.run(Command::SweepTenant {
        tenant: ACME,
        keys: vec!["k000".to_owned(), "k200".to_owned(), "k000".to_owned()],
        bytes: u64::MAX,
    });
    assert_eq!(shard.used(), (5 * 298, 0));
    for _ in 0..3 {
        shard.run(delete("k299"));
    }
    assert_eq!(shard.view().standing(ACME).keys, 0);
    assert_eq!(
        shard.run(Command::Sweep { limit: Bound::STEP }),
        Response::Swept { removed: 298, more: false }
    );
    assert_eq!((shard.used(), shard.due()), ((0, 0), None));
    let rows = shard.dump();
    let left: Vec<_> = rows.iter().filter(|(_, key, _)| key == keys::TTL_COUNTED).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_quota_says_that_expired_keys_may_be_left_uncounted() {
    let mut shard = Shard::with(TenantLimits {
        quota_keys: 200,
        ..TenantLimits::default()
    });
    let puts = (0..200).map(|n| {
        entry(
            2 + n,
            START,
            put_with(&format!("k{n:03}"), "v", Ttl::Until(START + 5_000), Condition::None),
        )
    });
    shard.machine.apply(puts.collect()).unwrap();
    shard.index = 201;
    shard.run(put_tenant("other", TenantLimits::default()));
    shard.pass(5_000);
    let elsewhere = |key: &str| {
        Command::one(
            TenantId(2),
            Operation::Put(Put {
                key: key.to_owned(),
                value: Bytes::new(),
                kind: Kind::Bytes,
                content_type: None,
                metadata: Vec::new(),
                ttl: Ttl::Never,
                condition: Condition::None,
            }),
        )
    };
    shard.run(put_tenant(
        "acme",
        TenantLimits {
            quota_keys: 50,
            ..TenantLimits::default()
        },
    ));
    let waiting = refused(Refusal::KeyCountExceeded {
        limit: 50,
        expired_waiting: true,
    });
    assert_eq!(shard.put("new", "v"), waiting, "128 of 200 are counted");
    let expired = shard.view().expired_of(ACME, shard.now_ms).unwrap();
    assert_eq!((expired.keys.len(), expired.whole), (200, true));
    shard.run(elsewhere("a"));
    assert!(matches!(
        shard.put("new", "v").done(),
        Some(Done::Put(Written { created: true, .. }))
    ));
}

/// The same log in batches of all kinds and with restarts in between, while more expires than is counted: the same answers and rows.
#[test]
fn counting_in_steps_leaves_no_trace_of_batches_or_restarts() {
    let mut log = vec![entry(
        1,
        START,
        put_tenant(
            "acme",
            TenantLimits {
                quota_keys: 400,
                ..TenantLimits::default()
            },
        ),
    )];
    for n in 0..380 {
        let put = put_with(&format!("k{n:03}"), "v", Ttl::Until(START + 2_000 + n % 3), Condition::None);
        log.push(entry(log.len() as u64 + 1, START, put));
    }
    for n in 0..30u64 {
        let command = match n % 5 {
            0 => Command::Sweep { limit: Bound::rows(7) },
            1 => Command::SweepTenant {
                tenant: ACME,
                keys: (0..4).map(|k| format!("k{:03}", (n * 11 + k * 90) % 380)).collect(),
                bytes: 16,
            },
            2 => delete(&format!("k{:03}", n * 3)),
            _ => put_with(&format!("n{n}"), "v", Ttl::For(1_000 + n), Condition::None),
        };
        log.push(entry(log.len() as u64 + 1, START + 2_000 + n * 50, command));
    }
    let run = |batch: usize, restart: bool| {
        let directory = tempfile::tempdir().unwrap();
        let mut answers = Vec::new();
        let mut opened = Some(Machine::open(FjallStore::open(directory.path()).unwrap()).unwrap());
        for inputs in log.chunks(batch) {
            let (mut machine, views) = opened.take().unwrap();
            answers.append(&mut machine.apply(inputs.to_vec()).unwrap());
            opened = Some(if restart {
                drop((machine, views));
                Machine::open(FjallStore::open(directory.path()).unwrap()).unwrap()
            } else {
                (machine, views)
            });
        }
        drop(opened);
        (answers, dump(directory.path()))
    };
    let expected = run(log.len(), false);
    for (batch, restart) in [(1, false), (5, false), (190, true), (13, true)] {
        assert!(run(batch, restart) == expected, "batches of {batch}, restarts: {restart}");
    }
}

/// What others have left behind does not keep a tenant's own expired records from making room.
#[test]
fn a_tenants_own_expired_records_are_found_behind_those_of_others() {
    let mut shard = Shard::with(TenantLimits {
        quota_storage: 100,
        ..TenantLimits::default()
    });
    shard.run(put_tenant("other", TenantLimits::default()));
    let mut puts = VecDeque::new();
    for n in 0..20_000 {
        shard.index += 1;
        let mut put = put_with(&format!("k{n:05}"), "v", Ttl::Until(START + 1_000), Condition::None);
        if let Command::Write(write) = &mut put {
            write.tenant = TenantId(2);
        }
        puts.push_back(entry(shard.index, START, put));
    }
    shard.machine.apply(puts.into()).unwrap();
    shard.run(put_with("old", &"v".repeat(90), Ttl::Until(START + 1_001), Condition::None));
    shard.pass(2_000);
    let refusal = shard.put("new", &"v".repeat(90));
    assert!(
        matches!(
            refusal,
            Response::Refused(Refusal::StorageQuotaExceeded { expired_waiting: true, .. })
        ),
        "{refusal:?}"
    );
    let expired = shard.view().expired_of(ACME, shard.now_ms).unwrap();
    assert_eq!((expired.keys.as_slice(), expired.whole), (["old".to_owned()].as_slice(), true));
    let standing = shard.view().standing_at(ACME, shard.now_ms).unwrap();
    assert!(standing.counting, "a look at the usage is bounded");
    let revision = shard.view().revision();
    let swept = shard.run(Command::SweepTenant {
        tenant: ACME,
        keys: expired.keys,
        bytes: Bound::STEP.bytes,
    });
    assert_eq!(swept, Response::Swept { removed: 1, more: false });
    assert_eq!(shard.view().revision(), revision + 1);
    assert!(matches!(
        shard.put("new", &"v".repeat(90)).done(),
        Some(Done::Put(Written { created: true, .. }))
    ));
    shard.view().scrub().unwrap();
}

#[test]
fn a_sweep_of_one_tenant_removes_what_is_expired_and_stops_at_its_bytes() {
    let mut shard = Shard::with(TenantLimits::default());
    for key in ["a", "b", "c"] {
        shard.run(put_with(key, &"v".repeat(100), Ttl::For(1_000), Condition::None));
    }
    shard.put("live", "v");
    shard.pass(1_000);
    let keys = || ["live", "absent", "a", "b", "c"].map(str::to_owned).to_vec();
    let sweep = |tenant, bytes| Command::SweepTenant {
        tenant,
        keys: keys(),
        bytes,
    };
    assert_eq!(shard.run(sweep(TenantId(9), 1_000)), Response::Swept { removed: 0, more: false });
    assert_eq!(shard.run(sweep(ACME, 200)), Response::Swept { removed: 2, more: true });
    assert_eq!(shard.run(sweep(ACME, 1_000)), Response::Swept { removed: 1, more: false });
    assert_eq!(shard.used(), (5, 1));
    assert_eq!(
        shard.run(Command::Sweep { limit: Bound::STEP }),
        Response::Swept { removed: 0, more: false }
    );
}
