use super::*;

fn filled() -> Shard {
    let mut shard = Shard::with(TenantLimits::default());
    shard.run(put_tenant("other", TenantLimits::default()));
    for key in ["a", "a/1", "a/2", "a/2/x", "b", "é", "z"] {
        shard.put(key, "12345");
    }
    shard.run(Command::Put {
        tenant: TenantId(2),
        key: "a/0".to_owned(),
        value: Bytes::new(),
        kind: Kind::Bytes,
        content_type: None,
        metadata: vec![],
        ttl: Ttl::Never,
        condition: Condition::None,
        mode: PutMode::Upsert,
    });
    shard
}

fn limits(items: usize) -> ScanLimits {
    ScanLimits {
        items,
        bytes: 1 << 20,
        keys_only: false,
    }
}

fn keys(shard: &Shard, range: &ScanRange, limits: ScanLimits) -> (String, Option<String>) {
    let page = shard.view().scan(ACME, range, limits, shard.now_ms).unwrap();
    (
        page.items.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>().join(" "),
        page.next,
    )
}

fn text(key: &str) -> Option<String> {
    Some(key.to_owned())
}

/// covers row 123
#[test]
fn ranges_are_bytewise_and_every_bound_holds() {
    let shard = filled();
    let all = |range: ScanRange| keys(&shard, &range, limits(100)).0;
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
            let (page, next) = keys(&shard, &range, limits(2));
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
        keys(&shard, &ScanRange::default(), limits(7)).1,
        None,
        "a page that holds the last key has no next"
    );
}

#[test]
fn bytes_bound_a_page_and_the_first_record_always_comes() {
    let shard = filled();
    let page = |bytes, keys_only| {
        keys(
            &shard,
            &ScanRange::default(),
            ScanLimits {
                items: 100,
                bytes,
                keys_only,
            },
        )
    };
    assert_eq!(page(14, false), ("a a/1".to_owned(), text("a/1")));
    assert_eq!(page(13, false), ("a".to_owned(), text("a")));
    assert_eq!(page(0, false), ("a".to_owned(), text("a")));
    assert_eq!(page(7, true), ("a a/1 a/2".to_owned(), text("a/2")));
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
        keys(&shard, &ScanRange::default(), limits(1)),
        ("b".to_owned(), None),
        "nothing visible comes after it"
    );
}
