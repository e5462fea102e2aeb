//! A state as frames, and back; and everything that must not pass for one.

use super::*;
use crate::{
    cluster_id::ClusterId,
    state::snapshot::{Frames, Intake, MAX_FRAME_BYTES, Origin, Received, SnapshotError},
    storage::{FjallStores, Incoming, Row, StoreError, Write, keys},
};

const OWN: Origin = Origin {
    cluster: ClusterId::from_bytes([7; 16]),
    shard: 3,
};

/// A shard with records, expiring ones, a deleted tenant and a membership.
fn full() -> Shard {
    let mut shard = Shard::with(TenantLimits::default());
    let membership = Input {
        id: Applied {
            term: 1,
            index: shard.index + 1,
        },
        body: Body::Membership(Bytes::from_static(b"three voters")),
    };
    shard.machine.apply(vec![membership]).unwrap();
    shard.index += 1;
    for n in 0..300 {
        let ttl = if n % 3 == 0 { Ttl::For(1_000 + n) } else { Ttl::Never };
        shard.run(put_with(&format!("k{n:03}"), &"v".repeat(n as usize * 30), ttl, Condition::None));
    }
    shard.run(put_tenant("doomed", TenantLimits::default()));
    shard.run(Command::DeleteTenant {
        name: "doomed".to_owned(),
        uid: "uid-1".to_owned(),
    });
    shard
}

fn frames(view: &Arc<View>) -> Vec<Bytes> {
    Frames::new(Arc::clone(view), OWN).unwrap().map(Result::unwrap).collect()
}

/// Rows that are kept in memory: what is tested here comes before the disk.
struct Kept(Vec<(Keyspace, Row)>);

impl Incoming for Kept {
    fn write(&mut self, keyspace: Keyspace, rows: Vec<Row>) -> Result<(), StoreError> {
        self.0.extend(rows.into_iter().map(|row| (keyspace, row)));
        Ok(())
    }
    fn finish(self: Box<Self>) -> Result<u64, StoreError> {
        Ok(0)
    }
}

fn take(frames: &[Bytes], own: Origin) -> Result<Received, SnapshotError> {
    let (first, rest) = frames.split_first().unwrap();
    let mut intake = Intake::begin(first, own, Level::NEWEST, || Ok(Box::new(Kept(Vec::new()))), Arc::new(|_| ()))?;
    for frame in rest {
        intake.take(frame)?;
    }
    intake.finish()
}

/// covers row 67
#[test]
fn a_state_comes_out_as_it_went_in() {
    let source = full();
    let view = source.view();
    let folder = tempfile::tempdir().unwrap();
    let store = FjallStores::open(folder.path()).unwrap();
    let stores = store.stores().unwrap();
    let (mut machine, views) = Machine::open(store).unwrap();
    let all = frames(&view);
    let (first, rest) = all.split_first().unwrap();
    let mut intake = Intake::begin(first, OWN, Level::NEWEST, || stores.create_next(), Arc::new(|_| ())).unwrap();
    assert_eq!(intake.heading().applied, view.applied().unwrap());
    for frame in rest {
        intake.take(frame).unwrap();
    }
    let received = intake.finish().unwrap();
    machine.replace(received.set(), received.heading.applied).unwrap();
    received.keep();

    assert_eq!(machine.applied(), view.applied());
    assert_eq!(machine.membership(), view.membership());
    let installed = views.latest();
    assert_eq!(installed.digest(), view.digest());
    assert_eq!(installed.whole_digest(OWN).unwrap(), view.whole_digest(OWN).unwrap());
    let due = |view: &View| view.sweep_due(0, START + 3_600_000).unwrap();
    assert_eq!(due(&installed), due(&view));
    assert_eq!(installed.reap_due(), view.reap_due());
    installed.scrub().unwrap();

    // Both go on alike, also after a restart.
    let index = source.index + 1;
    let mut source = source;
    let more = |index| {
        vec![
            entry(index, START + 5_000, put("more", "1")),
            entry(index + 1, START + 5_000, Command::Sweep { limit: Bound::rows(50) }),
        ]
    };
    assert_eq!(machine.apply(more(index)).unwrap(), source.machine.apply(more(index)).unwrap());
    drop((installed, machine, views, stores, view));
    let rows = dump_of(FjallStores::open(folder.path()).unwrap());
    assert_eq!(rows, source.dump());
}

fn dump_of(store: FjallStore) -> Vec<(Keyspace, Vec<u8>, Vec<u8>)> {
    let reader = store.reader();
    let rows = |keyspace| {
        reader
            .range(keyspace, KeyRange::ALL, Direction::Ascending)
            .map(Result::unwrap)
            .map(move |(key, value)| (keyspace, key.to_vec(), value.to_vec()))
    };
    Keyspace::ALL.into_iter().flat_map(rows).collect()
}

#[test]
fn what_is_not_whole_is_refused() {
    let view = full().view();
    let whole = frames(&view);
    assert!(whole.len() > 4, "there have to be several frames of rows");
    take(&whole, OWN).unwrap();
    let refused = |frames: &[Bytes], what: &str| {
        let error = take(frames, OWN).expect_err(what).to_string();
        assert!(error.starts_with("the snapshot is refused at byte "), "{what}: {error}");
        error
    };
    for end in 1..whole.len() {
        refused(&whole[..end], "cut");
    }
    for gone in 0..whole.len() {
        let mut frames = whole.clone();
        frames.remove(gone);
        refused(&frames, "a frame is missing");
        let mut frames = whole.clone();
        frames.insert(gone, whole[gone].clone());
        refused(&frames, "a frame comes twice");
    }
    for at in 1..whole.len() {
        let mut frames = whole.clone();
        frames.swap(at - 1, at);
        refused(&frames, "frames out of order");
    }
    for (at, frame) in whole.iter().enumerate() {
        for cut in [0, 1, frame.len() / 2, frame.len() - 1] {
            let mut frames = whole.clone();
            frames[at] = frame.slice(..cut);
            refused(&frames, "a frame is cut");
        }
        for bit in (0..frame.len() * 8).step_by(frame.len() / 8 + 61) {
            let mut bytes = frame.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let mut frames = whole.clone();
            frames[at] = bytes.into();
            let error = refused(&frames, "a bit is flipped");
            assert!(error.contains("checksum"), "{error}");
        }
    }
    let mut frames = whole.clone();
    frames[1] = vec![2; MAX_FRAME_BYTES + 1].into();
    assert!(refused(&frames, "too large").contains("at most"));
}

/// Each frame is good by itself, and the row is none that the state keeps a digest of: only the digest of the whole shows it.
#[test]
fn a_row_that_was_changed_and_sealed_again_is_refused() {
    let mut frames = frames(&full().view());
    let (at, place) = frames
        .iter()
        .enumerate()
        .find_map(|(at, frame)| Some((at, frame.windows(keys::REVISION.len()).position(|bytes| bytes == keys::REVISION)?)))
        .unwrap();
    let mut bytes = frames[at].to_vec();
    bytes[place + keys::REVISION.len()] ^= 1;
    let sealed = bytes.len() - 4;
    let checksum = crc32c::crc32c(&bytes[..sealed]);
    bytes[sealed..].copy_from_slice(&checksum.to_be_bytes());
    frames[at] = bytes.into();
    let error = take(&frames, OWN).map(drop).unwrap_err().to_string();
    assert!(error.contains("its digest is"), "{error}");
}

#[test]
fn another_shards_state_is_refused_by_its_name() {
    let view = full().view();
    let frames = frames(&view);
    let shard = Origin { shard: 4, ..OWN };
    assert_eq!(
        take(&frames, shard).unwrap_err().to_string(),
        format!(
            "the snapshot is of cluster {0} shard 3, this member of cluster {0} shard 4",
            OWN.cluster
        )
    );
    let cluster = Origin {
        cluster: ClusterId::from_bytes([8; 16]),
        ..OWN
    };
    assert!(matches!(take(&frames, cluster), Err(SnapshotError::Foreign { .. })));
}

/// covers rows 64, 111
#[test]
fn one_changed_byte_is_found_and_not_passed_on() {
    let shard = full();
    let applied = shard.machine.applied();
    let Shard {
        directory, machine, views, ..
    } = shard;
    drop((machine, views));
    let mut store = FjallStore::open(directory.path()).unwrap();
    let row = keys::record(ACME, "k007");
    let mut value = store.reader().get(Keyspace::Records, &row).unwrap().unwrap().to_vec();
    *value.last_mut().unwrap() ^= 1;
    store
        .write(vec![Write {
            keyspace: Keyspace::Records,
            key: row,
            value: Some(value.into()),
        }])
        .unwrap();
    let (machine, views) = Machine::open(store).unwrap();
    assert_eq!(machine.applied(), applied);
    let view = views.latest();
    let error = view.scrub().unwrap_err();
    assert!(matches!(error, StoreError::Digest { .. }), "{error}");
    let sent: Vec<_> = Frames::new(view, OWN).unwrap().collect();
    assert!(
        matches!(sent.last(), Some(Err(SnapshotError::Store(StoreError::Digest { .. })))),
        "it has no end"
    );
}

#[test]
fn a_state_that_is_empty_is_not_sent() {
    let directory = tempfile::tempdir().unwrap();
    let (_machine, views) = Machine::open(FjallStore::open(directory.path()).unwrap()).unwrap();
    assert!(Frames::new(views.latest(), OWN).is_err());
}

/// The digest of a store that was written before there was one follows from its rows.
#[test]
fn rows_without_a_digest_get_theirs() {
    let shard = full();
    let expected = shard.view().digest();
    let Shard {
        directory, machine, views, ..
    } = shard;
    drop((machine, views));
    let mut store = FjallStore::open(directory.path()).unwrap();
    store
        .write(vec![Write {
            keyspace: Keyspace::Meta,
            key: keys::DIGEST.to_vec(),
            value: None,
        }])
        .unwrap();
    let (_machine, views) = Machine::open(store).unwrap();
    assert_eq!(views.latest().digest(), expected);
}

/// Members apply the same log in other batches, and compare all the same.
#[test]
fn checkpoints_do_not_depend_on_batches() {
    let log: Vec<Input> = std::iter::once(entry(1, START, put_tenant("acme", TenantLimits::default())))
        .chain((2..9_000).map(|index| entry(index, START + index, put(&format!("k{}", index % 50), &format!("{index}")))))
        .collect();
    let checkpoints = |batch| {
        let directory = tempfile::tempdir().unwrap();
        let (mut machine, views) = Machine::open(FjallStore::open(directory.path()).unwrap()).unwrap();
        for inputs in log.chunks(batch) {
            machine.apply(inputs.to_vec()).unwrap();
        }
        views.latest().checkpoints()
    };
    let found = checkpoints(1000);
    assert_eq!(
        found.iter().map(|checkpoint| checkpoint.index).collect::<Vec<_>>(),
        [4096, 8192, 8999]
    );
    assert_eq!(checkpoints(777), found);
    assert_ne!(found[0].digest, found[1].digest);
}

/// covers row 63
/// What a start finds at each point of an installation: the old state or the new one, whole, and nothing beside it.
#[test]
fn a_crash_while_a_state_is_installed_leaves_the_old_or_the_new() {
    let source = full();
    let folder = tempfile::tempdir().unwrap();
    let store = FjallStores::open(folder.path()).unwrap();
    let stores = store.stores().unwrap();
    let (mut machine, views) = Machine::open(store).unwrap();
    machine
        .apply(vec![
            entry(1, START, put_tenant("acme", TenantLimits::default())),
            entry(2, START, put("old", "1")),
        ])
        .unwrap();
    machine.persist().unwrap();
    let old = Some(Applied { term: 1, index: 2 });
    let new = source.view().applied();
    let images = tempfile::tempdir().unwrap();
    let image = |name: &str| {
        let to = images.path().join(name);
        std::fs::create_dir(&to).unwrap();
        crash::copy(folder.path(), &to);
        to
    };
    let all = frames(&source.view());
    let (first, rest) = all.split_first().unwrap();
    let mut intake = Intake::begin(first, OWN, Level::NEWEST, || stores.create_next(), Arc::new(|_| ())).unwrap();
    let mut steps = Vec::new();
    for (at, frame) in rest.iter().enumerate() {
        if at == rest.len() / 2 {
            steps.push((image("half received"), old));
        }
        intake.take(frame).unwrap();
    }
    let received = intake.finish().unwrap();
    let set = received.set();
    received.keep();
    steps.push((image("received"), old));
    std::fs::write(folder.path().join("CURRENT.tmp"), set.to_string()).unwrap();
    steps.push((image("before the rename"), old));
    std::fs::write(folder.path().join("CURRENT.tmp"), "").unwrap();
    steps.push((image("a pointer that is not written"), old));

    // Whoever reads the old state goes on, so its files are there until then.
    let reader = views.latest();
    machine.replace(set, new.unwrap()).unwrap();
    steps.push((image("after the rename"), new));
    assert_eq!(reader.applied(), old);
    assert!(reader.get(ACME, "old", START).unwrap().is_some());
    assert!(reader.get(ACME, "k007", START).unwrap().is_none());
    assert!(views.latest().get(ACME, "k007", START).unwrap().is_some());
    drop(reader);
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while folder.path().join("0").exists() {
        assert!(std::time::Instant::now() < limit, "the old files stay");
        std::thread::yield_now();
    }
    steps.push((image("after the removal"), new));
    machine.persist().unwrap();

    for (path, expected) in steps {
        let what = path.display().to_string();
        let (machine, views) = Machine::open(FjallStores::open(&path).unwrap()).unwrap();
        assert_eq!(machine.applied(), expected, "{what}");
        views.latest().scrub().unwrap();
        let sets = std::fs::read_dir(&path)
            .unwrap()
            .filter(|item| item.as_ref().unwrap().path().is_dir())
            .count();
        assert_eq!(sets, 1, "{what}");
    }
}

#[test]
fn a_transfer_that_is_given_up_leaves_nothing() {
    let view = full().view();
    let folder = tempfile::tempdir().unwrap();
    let store = FjallStores::open(folder.path()).unwrap();
    let stores = store.stores().unwrap();
    let all = frames(&view);
    let discard = {
        let stores = Arc::clone(&stores);
        Arc::new(move |set| stores.discard(set))
    };
    let begin = || Intake::begin(&all[0], OWN, Level::NEWEST, || stores.create_next(), discard.clone()).unwrap();
    let mut half = begin();
    half.take(&all[1]).unwrap();
    let mut whole = begin();
    for frame in &all[1..] {
        whole.take(frame).unwrap();
    }
    assert!(folder.path().join("2").exists());
    drop((half, whole));
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while folder.path().join("1").exists() || folder.path().join("2").exists() {
        assert!(std::time::Instant::now() < limit, "what was received stays");
        std::thread::yield_now();
    }
}

#[test]
fn received_rows_of_another_moment_change_nothing() {
    let view = full().view();
    let folder = tempfile::tempdir().unwrap();
    let store = FjallStores::open(folder.path()).unwrap();
    let stores = store.stores().unwrap();
    let (mut machine, views) = Machine::open(store).unwrap();
    let all = frames(&view);
    let mut intake = Intake::begin(&all[0], OWN, Level::NEWEST, || stores.create_next(), Arc::new(|_| ())).unwrap();
    for frame in &all[1..] {
        intake.take(frame).unwrap();
    }
    let received = intake.finish().unwrap();
    let other = Applied {
        index: 1,
        ..view.applied().unwrap()
    };
    let error = machine.replace(received.set(), other).unwrap_err();
    assert!(matches!(error, StoreError::Received { .. }), "{error}");
    assert_eq!(views.latest().applied(), None);
}

#[test]
fn a_pointer_that_leads_nowhere_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(FjallStores::open(folder.path()).unwrap());
    for found in ["../elsewhere", "", "9", "00", "x"] {
        std::fs::write(folder.path().join("CURRENT"), found).unwrap();
        let error = FjallStores::open(folder.path()).err().unwrap();
        assert!(matches!(error, StoreError::BadPointer { .. }), "{found}: {error}");
    }
    std::fs::write(folder.path().join("CURRENT"), [0xff, 0]).unwrap();
    assert!(FjallStores::open(folder.path()).err().unwrap().is_damage());
    std::fs::remove_file(folder.path().join("CURRENT")).unwrap();
    let error = FjallStores::open(folder.path()).err().unwrap();
    assert!(error.to_string().contains("there is a directory 0"), "{error}");
    std::fs::write(folder.path().join("CURRENT"), "0\n").unwrap();
    FjallStores::open(folder.path()).unwrap();
}
