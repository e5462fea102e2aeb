//! Large values lie beside their headers, and come and go with them.

use super::*;
use crate::{
    cluster_id::ClusterId,
    state::snapshot::{Frames, Origin, SnapshotError},
    storage::{Write, keys},
};

fn large(fill: &str) -> String {
    fill.repeat(INLINE_BYTES + 1)
}

/// The keys of the values that lie apart.
fn apart(shard: &Shard) -> Vec<String> {
    let rows = shard.view().rows(Keyspace::Values).map(Result::unwrap);
    rows.map(|(key, _)| keys::parse_record(&key).unwrap().1.to_owned()).collect()
}

#[test]
fn the_border_is_where_it_is() {
    let mut shard = Shard::with(TenantLimits::default());
    shard.put("at", &"v".repeat(INLINE_BYTES));
    shard.put("empty", "");
    assert_eq!(apart(&shard), [] as [&str; 0]);
    shard.put("above", &large("v"));
    assert_eq!(apart(&shard), ["above"]);
    let shard = shard.reopen();
    assert_eq!(shard.value("above"), Some(large("v")));
    assert_eq!(shard.value("at"), Some("v".repeat(INLINE_BYTES)));
    assert_eq!(shard.value("empty"), Some(String::new()));
    shard.view().scrub().unwrap();
}

/// Whatever takes a record away or replaces it, no value is left behind and none is lost.
#[test]
fn a_value_goes_with_its_record() {
    let mut shard = Shard::with(TenantLimits::default());
    shard.put("replaced", &large("a"));
    shard.put("replaced", &large("b"));
    assert_eq!(shard.value("replaced"), Some(large("b")));
    shard.put("shrunk", &large("a"));
    shard.put("shrunk", "small");
    shard.put("grown", "small");
    shard.put("grown", &large("a"));
    shard.put("deleted", &large("a"));
    shard.run(delete("deleted"));
    for key in ["swept", "swept by name", "refreshed"] {
        shard.run(put_with(key, &large("a"), Ttl::For(1_000), Condition::None));
    }
    assert_eq!(apart(&shard), ["grown", "refreshed", "replaced", "swept", "swept by name"]);
    shard.pass(1_000);
    shard.run(Command::SweepTenant {
        tenant: ACME,
        keys: vec!["swept by name".to_owned()],
        bytes: 1 << 20,
    });
    shard.put("refreshed", "small");
    shard.run(Command::Sweep { limit: Bound::STEP });
    assert_eq!(apart(&shard), ["grown", "replaced"]);
    let expected: u64 = ["shrunk", "grown", "replaced", "refreshed"]
        .map(|key| key.len() as u64)
        .iter()
        .sum();
    assert_eq!(shard.used(), (expected + 2 * (INLINE_BYTES as u64 + 1) + 10, 4));
    let mut shard = shard.reopen();
    shard.view().scrub().unwrap();
    shard.run(Command::DeleteTenant {
        name: "acme".to_owned(),
        uid: "uid-1".to_owned(),
    });
    shard.run(Command::Reap { limit: Bound::STEP });
    assert_eq!(apart(&shard), [] as [&str; 0]);
}

#[test]
fn a_view_keeps_the_value_of_its_moment() {
    let mut shard = Shard::with(TenantLimits::default());
    shard.put("k", &large("a"));
    let (now_ms, before) = (shard.now_ms, shard.view());
    let value = |view: &View| view.get(ACME, "k", now_ms).unwrap().map(|record| record.value);
    let recalled = |view: &View| view.recall(ACME, "k", now_ms).unwrap().flatten().map(|record| record.value);
    assert_eq!(recalled(&before), Some(Bytes::from(large("a"))), "written lately: from memory");
    shard.put("k", &large("b"));
    assert_eq!(recalled(&before), None);
    assert_eq!(value(&before), Some(Bytes::from(large("a"))));
    assert_eq!(recalled(&shard.view()), Some(Bytes::from(large("b"))));
    let between = shard.view();
    shard.put("k", "small");
    assert_eq!(value(&between), Some(Bytes::from(large("b"))));
    assert_eq!(recalled(&shard.view()), Some(Bytes::from("small")));
    let very_large = "c".repeat(1 << 20);
    shard.put("k", &very_large);
    assert_eq!(
        shard.view().recall(ACME, "k", now_ms).unwrap(),
        None,
        "too large to be kept: the store is asked"
    );
    assert_eq!(value(&shard.view()), Some(Bytes::from(very_large)));
    shard.run(delete("k"));
    assert_eq!(value(&shard.view()), None);
}

/// A page reads a large value only when it takes it, and counts what it has read.
#[test]
fn a_page_of_large_values_ends_at_its_bytes() {
    let mut shard = Shard::with(TenantLimits::default());
    for n in 0..10 {
        shard.put(&format!("k{n}"), &large("v"));
    }
    let limits = ScanLimits {
        items: 100,
        rows: 100,
        read_bytes: 3 * (INLINE_BYTES as u64 + 1),
    };
    let (records, next) = page(&shard.view(), ACME, &ScanRange::default(), limits, shard.now_ms).unwrap();
    assert_eq!(records.len(), 3);
    assert!(records.iter().all(|(_, record)| record.value == large("v")));
    assert_eq!(next.as_deref(), Some("k2"));
}

const OWN: Origin = Origin {
    cluster: ClusterId::from_bytes([7; 16]),
    shard: 0,
};

/// The digest is of headers. Whether a value is the one that was written is seen when it is read: it is not shown and not passed on.
#[test]
fn a_damaged_value_is_neither_shown_nor_passed_on() {
    let mut damaged = large("v").into_bytes();
    damaged[700] ^= 1;
    for (change, reason) in [
        (Some(damaged), "a value is not the one that was written"),
        (Some(b"short".to_vec()), "a value of 5 bytes was written with 1025"),
        (None, "the value of a record is missing"),
    ] {
        let mut shard = Shard::with(TenantLimits::default());
        shard.put("a", &large("v"));
        shard.put("b", &large("v"));
        shard.put("c", &large("v"));
        let digest = shard.view().digest();
        let Shard {
            directory, machine, views, ..
        } = shard;
        drop((machine, views));
        let mut store = FjallStore::open(directory.path()).unwrap();
        let row = Write {
            keyspace: Keyspace::Values,
            key: keys::record(ACME, "b"),
            value: change.map(Bytes::from),
        };
        store.write(vec![row]).unwrap();
        drop(store);
        let (_machine, views) = Machine::open(FjallStore::open(directory.path()).unwrap()).unwrap();
        let view = views.latest();
        let error = view.get(ACME, "b", START).unwrap_err();
        assert!(error.is_damage() && error.to_string().contains(reason), "{error}");
        // Rows that were read are in memory now.
        assert_eq!(view.recall(ACME, "b", START).unwrap(), None);
        assert!(view.get(ACME, "b", START).unwrap_err().is_damage());
        assert!(view.get(ACME, "a", START).unwrap().is_some(), "the others are as they were");
        assert!(page(&view, ACME, &ScanRange::default(), items(9), START).is_err());
        view.scrub().unwrap();
        assert_eq!(view.digest(), digest);
        let sent: Vec<_> = Frames::new(view, OWN).unwrap().collect();
        let Some(Err(SnapshotError::Store(error))) = sent.last() else {
            panic!("it has an end")
        };
        assert!(
            error.to_string().contains(reason) || error.to_string().contains("is missing"),
            "{error}"
        );
    }
}

/// Members with other values have other digests, although no value is part of the sum.
#[test]
fn the_digest_tells_values_apart() {
    let digest = |value: &str| {
        let mut shard = Shard::with(TenantLimits::default());
        shard.put("k", value);
        shard.view().digest()
    };
    assert_eq!(digest(&large("a")), digest(&large("a")));
    assert_ne!(digest(&large("a")), digest(&large("b")));
}

/// Every change of a record is told once, with its revision; what changes nothing is not told.
#[test]
fn changes_are_counted_by_kind() {
    let mut shard = Shard::with(TenantLimits {
        quota_keys: 4,
        ..TenantLimits::default()
    });
    let counts = |shard: &Shard| ChangeKind::ALL.map(|kind| shard.view().changes().of(kind));
    assert_eq!(counts(&shard), [0, 0, 0]);
    shard.put("a", "1");
    shard.put("a", "2");
    for key in ["x", "y", "z"] {
        shard.run(put_with(key, "v", Ttl::For(1_000), Condition::None));
    }
    assert!(matches!(shard.put("fifth", "v"), Response::Refused(_)));
    shard.run(delete("absent"));
    shard.run(delete("a"));
    assert_eq!(counts(&shard), [5, 1, 0]);
    shard.pass(1_000);
    shard.run(Command::SweepTenant {
        tenant: ACME,
        keys: vec!["x".to_owned()],
        bytes: 1 << 20,
    });
    assert_eq!(counts(&shard), [5, 1, 1]);
    shard.run(Command::Sweep { limit: Bound::STEP });
    assert_eq!(counts(&shard), [5, 1, 3]);
    shard.put("b", "v");
    shard.run(Command::DeleteTenant {
        name: "acme".to_owned(),
        uid: "uid-1".to_owned(),
    });
    shard.run(Command::Reap { limit: Bound::STEP });
    assert_eq!(counts(&shard), [6, 1, 3], "no reader sees how the rows of a deleted tenant go");
    assert_eq!(counts(&shard.reopen()), [0, 0, 0], "since the start");
}
