use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::storage::Reader;

fn filled() -> Shard {
    let mut shard = Shard::with(TenantLimits::default());
    shard.run(put_tenant("other", TenantLimits::default()));
    for key in ["a", "a/1", "a/2", "a/2/x", "b", "é", "z"] {
        shard.put(key, "12345");
    }
    shard.run(Command::one(
        TenantId(2),
        Operation::Put(Put {
            key: "a/0".to_owned(),
            value: Bytes::new(),
            kind: Kind::Bytes,
            content_type: None,
            metadata: vec![],
            ttl: Ttl::Never,
            condition: Condition::None,
        }),
    ));
    shard
}

fn keys(shard: &Shard, range: &ScanRange, limits: ScanLimits) -> (String, Option<String>) {
    let (found, next) = page(&shard.view(), ACME, range, limits, shard.now_ms).unwrap();
    (found.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>().join(" "), next)
}

fn text(key: &str) -> Option<String> {
    Some(key.to_owned())
}

/// covers row 123
#[test]
fn ranges_are_bytewise_and_every_bound_holds() {
    let shard = filled();
    let all = |range: ScanRange| keys(&shard, &range, items(100)).0;
    assert_eq!(all(ScanRange::default()), "a a/1 a/2 a/2/x b z é");
    assert_eq!(
        all(ScanRange {
            prefix: text("a/"),
            ..Default::default()
        }),
        "a/1 a/2 a/2/x"
    );
    assert_eq!(
        all(ScanRange {
            prefix: text("a/"),
            reverse: true,
            ..Default::default()
        }),
        "a/2/x a/2 a/1"
    );
    assert_eq!(
        all(ScanRange {
            start: text("a/2"),
            end: text("b"),
            ..Default::default()
        }),
        "a/2 a/2/x"
    );
    assert_eq!(
        all(ScanRange {
            start: text("a/2"),
            end: text("b"),
            reverse: true,
            ..Default::default()
        }),
        "a/2/x a/2"
    );
    assert_eq!(
        all(ScanRange {
            start_after: text("a/2"),
            ..Default::default()
        }),
        "a/2/x b z é"
    );
    assert_eq!(
        all(ScanRange {
            start_after: text("a/2"),
            reverse: true,
            ..Default::default()
        }),
        "a/1 a"
    );
    assert_eq!(
        all(ScanRange {
            prefix: text("a"),
            start: text("a/1"),
            start_after: text("a/1"),
            end: text("a/2/x"),
            ..Default::default()
        }),
        "a/2"
    );
    assert_eq!(
        all(ScanRange {
            start: text("z"),
            end: text("a"),
            ..Default::default()
        }),
        "",
        "an empty interval is no error"
    );
    assert_eq!(
        all(ScanRange {
            prefix: text("nothing"),
            ..Default::default()
        }),
        ""
    );
}

#[test]
fn pages_join_without_gap_or_repetition() {
    let shard = filled();
    for reverse in [false, true] {
        let mut seen = Vec::new();
        let mut range = ScanRange {
            reverse,
            ..ScanRange::default()
        };
        loop {
            let (page, next) = keys(&shard, &range, items(2));
            seen.push(page);
            let Some(next) = next else { break };
            range.start_after = Some(next);
        }
        let expected = if reverse {
            ["é z", "b a/2/x", "a/2 a/1", "a"]
        } else {
            ["a a/1", "a/2 a/2/x", "b z", "é"]
        };
        assert_eq!(seen, expected);
    }
    assert_eq!(
        keys(&shard, &ScanRange::default(), items(7)).1,
        None,
        "a page that holds the last key has no next"
    );
}

#[test]
fn a_page_without_room_ends_before_the_record_that_did_not_fit() {
    /// Has room for so many.
    struct Room(usize);
    impl Collect for Room {
        fn add(&mut self, _: &str, _: &Record) -> bool {
            let fits = self.0 > 0;
            self.0 = self.0.saturating_sub(1);
            fits
        }
    }
    let shard = filled();
    let scan = |room| {
        let mut page = Room(room);
        let view = shard.view();
        view.scan(ACME, &ScanRange::default(), items(100), START, &|| true, &mut page)
            .unwrap()
    };
    assert_eq!(scan(0), Ended::NoRoom);
    assert_eq!(scan(2), Ended::After("a/1".to_owned()));
    assert_eq!(scan(7), Ended::AtTheEnd);
}

/// Counts what readers read.
struct Counting {
    reader: Arc<dyn Reader>,
    rows: Arc<AtomicUsize>,
}

impl Reader for Counting {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.reader.get(keyspace, key)
    }

    fn range(&self, keyspace: Keyspace, range: KeyRange, direction: Direction) -> crate::storage::Rows {
        let rows = Arc::clone(&self.rows);
        Box::new(self.reader.range(keyspace, range, direction).inspect(move |_| {
            rows.fetch_add(1, Ordering::SeqCst);
        }))
    }
}

#[test]
fn a_page_ends_when_it_has_cost_enough_and_the_next_goes_on() {
    let mut shard = Shard::with(TenantLimits::default());
    for number in 0..20 {
        // All but the last expire.
        let ttl = if number == 19 { Ttl::Never } else { Ttl::For(1_000) };
        shard.run(put_with(&format!("k{number:02}"), &"v".repeat(1_000), ttl, Condition::None));
    }
    shard.pass(1_000);
    let all = |limits: ScanLimits, reverse: bool| {
        let (mut pages, mut seen) = (0, Vec::new());
        let mut range = ScanRange {
            reverse,
            ..ScanRange::default()
        };
        loop {
            let (found, next) = keys(&shard, &range, limits);
            pages += 1;
            seen.extend(Some(found).filter(|found| !found.is_empty()));
            let Some(next) = next else { return (pages, seen.join(" ")) };
            range.start_after = Some(next);
        }
    };
    let few_rows = ScanLimits { rows: 7, ..items(100) };
    let few_bytes = ScanLimits {
        read_bytes: 3_500,
        ..items(100)
    };
    for reverse in [false, true] {
        assert_eq!(all(items(100), reverse), (1, "k19".to_owned()));
        assert_eq!(all(few_rows, reverse), (3, "k19".to_owned()), "two pages of 7 rows, and one of 6");
        // A row has its key, its value and some bytes about it: the fourth reaches the limit.
        assert_eq!(
            all(few_bytes, reverse),
            (6, "k19".to_owned()),
            "five pages of 4 rows, and one that finds nothing after them"
        );
    }
}

#[test]
fn a_scan_that_nobody_waits_for_ends_at_the_next_row() {
    let shard = filled();
    let rows = Arc::new(AtomicUsize::new(0));
    let view = shard.view().over(|reader| {
        let rows = Arc::clone(&rows);
        Arc::new(Counting { reader, rows })
    });
    let asked = AtomicUsize::new(0);
    let wanted = || asked.fetch_add(1, Ordering::SeqCst) < 2;
    let ended = view.scan(ACME, &ScanRange::default(), items(100), START, &wanted, &mut Items::default());
    assert_eq!(ended.unwrap(), Ended::Unwanted);
    assert_eq!(rows.load(Ordering::SeqCst), 2);
    let ended = view.scan(ACME, &ScanRange::default(), items(100), START, &|| false, &mut Items::default());
    assert_eq!(ended.unwrap(), Ended::Unwanted);
    assert_eq!(rows.load(Ordering::SeqCst), 2, "not one more");
}

#[test]
fn expired_records_are_skipped_and_end_no_page() {
    let mut shard = Shard::with(TenantLimits::default());
    for (key, ttl) in [
        ("a", Ttl::For(1_000)),
        ("b", Ttl::Never),
        ("c", Ttl::For(1_000)),
        ("d", Ttl::For(1_000)),
    ] {
        shard.run(put_with(key, "v", ttl, Condition::None));
    }
    shard.pass(1_000);
    assert_eq!(
        keys(&shard, &ScanRange::default(), items(1)),
        ("b".to_owned(), None),
        "nothing visible comes after it"
    );
}
