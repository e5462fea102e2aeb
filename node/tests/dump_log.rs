//! What `kvnode dump-log` prints: golden lines for every kind of entry, and a damaged log as far as it goes.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test may panic; its helper functions are not seen as tests"
)]

use std::{path::Path, sync::mpsc};

use bytes::Bytes;
use kvfleet_api::{
    admin::Settings,
    tenant::{TenantConfig, TenantLimits},
};
use kvfleet_node::{
    dump_log::{self, DumpError},
    log::{Done, Entry, LogId, OpenError, Options, Vote, Wal},
    state::{Bound, Check, Command, Condition, Delete, Kind, Operation, Proposal, Put, TenantId, Ttl, Write},
};

fn wait(request: impl FnOnce(Done)) {
    let (sender, receiver) = mpsc::channel();
    request(Box::new(move |outcome| drop(sender.send(outcome))));
    receiver.recv().expect("the log answers").expect("the log writes");
}

fn put(key: &str, value: &'static [u8], kind: Kind, ttl: Ttl, condition: Condition) -> Command {
    Command::one(
        TenantId(1),
        Operation::Put(Put {
            key: key.to_owned(),
            value: Bytes::from_static(value),
            kind,
            content_type: (kind == Kind::Json).then(|| "application/json".to_owned()),
            metadata: match kind {
                Kind::Bytes => vec![("owner".to_owned(), "me".to_owned())],
                _ => Vec::new(),
            },
            ttl,
            condition,
        }),
    )
}

fn commands() -> Vec<Command> {
    let config = TenantConfig {
        uid: "u-1".to_owned(),
        owner: "apps/acme".to_owned(),
        generation: 1,
        cluster_generation: 2,
        credential_generation: 3,
        limits: TenantLimits::default(),
    };
    let settings = Settings {
        generation: 4,
        log_level: "info".to_owned(),
        sweep_interval_ms: 1_000,
        scan_items: 100,
        scan_bytes: 1 << 20,
        request_timeout_ms: 5_000,
        max_request_timeout_ms: 60_000,
        hold_level: false,
    };
    let name = || "acme".to_owned();
    vec![
        Command::PutTenant { name: name(), config },
        put("text", b"hello", Kind::String, Ttl::Default, Condition::None),
        put("json", br#"{"a":1}"#, Kind::Json, Ttl::For(60_000), Condition::Revision(42)),
        put("bytes", &[0, 255], Kind::Bytes, Ttl::Until(1_800_000_000_000), Condition::Absent),
        Command::one(
            TenantId(1),
            Operation::Delete(Delete {
                key: "text".to_owned(),
                condition: Condition::Present,
            }),
        ),
        Command::Write(Write {
            tenant: TenantId(1),
            checks: vec![Check {
                key: "other".to_owned(),
                condition: Condition::Revision(7),
            }],
            operations: vec![
                Operation::Delete(Delete {
                    key: "a".to_owned(),
                    condition: Condition::None,
                }),
                Operation::Delete(Delete {
                    key: "b".to_owned(),
                    condition: Condition::None,
                }),
            ],
            all_or_nothing: true,
        }),
        Command::Sweep { limit: Bound::STEP },
        Command::Reap { limit: Bound::STEP },
        Command::ReleaseTenant {
            name: name(),
            uid: "u-1".to_owned(),
        },
        Command::DeleteTenant {
            name: name(),
            uid: "u-1".to_owned(),
        },
        Command::PutSettings(settings),
    ]
}

/// A membership of voters 1 and 2 and a learner 3, in the bytes that `raft` has golden tests for.
fn membership() -> Bytes {
    let mut bytes = vec![0x82, 0x0a, 18, 0x0a, 16];
    bytes.extend(1_u64.to_le_bytes());
    bytes.extend(2_u64.to_le_bytes());
    for (id, name) in [(1_u64, b'a'), (2, b'b'), (3, b'c')] {
        bytes.extend([0x12, 20, 0x09]);
        bytes.extend(id.to_le_bytes());
        bytes.extend([0x12, 1, name, 0x1a, 6, name]);
        bytes.extend(b":7400");
    }
    bytes.into()
}

/// A log with one entry of every kind, each in a group of its own.
fn write_log(data_dir: &Path) {
    let wal = Wal::open(&data_dir.join("raft"), Options::default()).expect("a new log");
    let stamped = |(step, command)| {
        Proposal {
            stamp_ms: 1_700_000_000_000 + step as u64,
            command,
        }
        .encode()
    };
    let payloads = [membership(), Bytes::new()]
        .into_iter()
        .chain(commands().into_iter().enumerate().map(stamped))
        .chain([Bytes::from_static(&[0x7f, 1])]);
    let vote = Vote {
        term: 1,
        voted_for: Some(2),
        committed: true,
    };
    wait(|done| wal.save_vote(vote, done));
    for (index, payload) in payloads.enumerate() {
        let id = LogId {
            term: 1,
            leader: 0,
            index: index as u64,
        };
        wait(|done| wal.append(vec![Entry { id, payload }], done));
    }
    wal.close().expect("closed");
}

fn dump(data_dir: &Path, range: std::ops::RangeInclusive<u64>, values: bool) -> (String, Result<(), DumpError>) {
    let mut out = Vec::new();
    let outcome = dump_log::write(data_dir, range, values, &mut out);
    (String::from_utf8(out).unwrap(), outcome)
}

fn indexes(lines: &str) -> Vec<(u64, bool)> {
    let lines = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines
        .filter_map(|line| Some((line["index"].as_u64()?, line["behindDamage"].as_bool().unwrap_or(false))))
        .collect()
}

/// covers row 39
#[test]
fn every_kind_of_entry_has_its_line() {
    let directory = tempfile::tempdir().unwrap();
    write_log(directory.path());
    let (lines, outcome) = dump(directory.path(), 0..=u64::MAX, true);
    outcome.expect("the log is whole");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/dump-log.ndjson");
    if std::env::var_os("KVNODE_BLESS").is_some() {
        std::fs::write(&golden, &lines).unwrap();
    }
    assert_eq!(
        lines,
        std::fs::read_to_string(golden).unwrap(),
        "KVNODE_BLESS=1 cargo test -p kvfleet-node --test dump_log"
    );
    // Values are shown only when they are asked for.
    let (hidden, _) = dump(directory.path(), 0..=u64::MAX, false);
    assert!(lines.contains("hello") && !hidden.contains("hello"), "{hidden}");
}

#[test]
fn a_range_is_a_range() {
    let directory = tempfile::tempdir().unwrap();
    write_log(directory.path());
    assert_eq!(
        indexes(&dump(directory.path(), 3..=5, false).0),
        [(3, false), (4, false), (5, false)]
    );
    assert_eq!(indexes(&dump(directory.path(), RANGE_UPSIDE_DOWN, false).0), []);
    assert_eq!(indexes(&dump(directory.path(), 100..=200, false).0), []);
}

#[allow(clippy::reversed_empty_ranges, reason = "what a user may write")]
const RANGE_UPSIDE_DOWN: std::ops::RangeInclusive<u64> = 5..=3;

/// covers rows 39, 111
#[test]
fn a_damaged_log_is_printed_with_the_place_of_the_damage() {
    let directory = tempfile::tempdir().unwrap();
    write_log(directory.path());
    let offset = {
        let (lines, _) = dump(directory.path(), 4..=4, false);
        let line: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
        line["offset"].as_u64().unwrap()
    };
    let segment = std::fs::read_dir(directory.path().join("raft"))
        .unwrap()
        .map(|item| item.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[offset as usize + 30] ^= 0x40;
    std::fs::write(&segment, &bytes).unwrap();

    let (lines, outcome) = dump(directory.path(), 0..=u64::MAX, false);
    let wanted: Vec<(u64, bool)> = (0..4)
        .map(|index| (index, false))
        .chain((5..14).map(|index| (index, true)))
        .collect();
    assert_eq!(indexes(&lines), wanted, "all but entry 4");
    let Err(DumpError::Log(OpenError::Damaged { file, offset: byte, .. })) = outcome else {
        panic!("damage, not {outcome:?}");
    };
    assert_eq!((Path::new(&file), byte), (segment.as_path(), offset));
    assert_eq!(std::fs::read(&segment).unwrap(), bytes, "reading changes nothing");
}

#[test]
fn a_directory_in_use_and_one_without_a_log_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (_, outcome) = dump(directory.path(), 0..=1, false);
    assert!(matches!(outcome, Err(DumpError::NoLog { .. })), "{outcome:?}");
    write_log(directory.path());
    let lock = std::fs::File::create(directory.path().join("lock")).unwrap();
    lock.lock().unwrap();
    let (lines, outcome) = dump(directory.path(), 0..=1, false);
    assert!(matches!(outcome, Err(DumpError::InUse { .. })), "{outcome:?}");
    assert_eq!(lines, "");
}
