use super::*;

fn storage(quota: u64) -> TenantLimits {
    TenantLimits {
        quota_storage: quota,
        ..TenantLimits::default()
    }
}

fn exceeded(limit: u64, used: u64, wanted: u64, expired_waiting: bool) -> Response {
    refused(Refusal::StorageQuotaExceeded {
        limit,
        used,
        wanted,
        expired_waiting,
    })
}

fn too_many_keys(limit: u64) -> Response {
    refused(Refusal::KeyCountExceeded {
        limit,
        expired_waiting: false,
    })
}

fn revision(answer: &Response) -> u64 {
    match answer.done() {
        Some(Done::Put(written)) => written.revision,
        _ => panic!("{answer:?}"),
    }
}

/// covers row 9
#[test]
fn exactly_full_fits_and_one_byte_more_does_not() {
    let mut shard = Shard::with(storage(10));
    assert!(matches!(shard.put("abc", "1234567").done(), Some(Done::Put(_))));
    assert_eq!(shard.used(), (10, 1));
    assert_eq!(shard.put("d", ""), exceeded(10, 10, 11, false));
    assert_eq!(shard.value("d"), None);
    assert_eq!(shard.put("abc", "12345678"), exceeded(10, 10, 11, false));
    assert_eq!(shard.value("abc").as_deref(), Some("1234567"), "nothing is written");
    assert!(
        matches!(shard.put("abc", "7654321").done(), Some(Done::Put(Written { created: false, .. }))),
        "an overwrite that does not grow passes"
    );
    assert_eq!(shard.used(), (10, 1));
}

#[test]
fn a_lowered_quota_refuses_growth_and_lets_shrinking_pass() {
    let mut shard = Shard::with(storage(100));
    shard.put("a", &"x".repeat(49));
    shard.put("b", &"x".repeat(49));
    shard.run(put_tenant("acme", storage(20)));
    assert_eq!(shard.put("a", &"x".repeat(50)), exceeded(20, 100, 101, false));
    assert!(matches!(shard.put("a", &"y".repeat(49)).done(), Some(Done::Put(_))));
    assert!(
        matches!(shard.put("a", &"y".repeat(9)).done(), Some(Done::Put(_))),
        "still over the quota, but smaller"
    );
    assert_eq!(shard.used(), (60, 2));
    assert!(matches!(
        shard.run(delete("b")).done(),
        Some(Done::Deleted(Deletion { revision: Some(_) }))
    ));
    assert_eq!(shard.used(), (10, 1));
}

#[test]
fn metadata_is_charged_and_the_media_type_is_not() {
    let mut shard = Shard::with(TenantLimits::default());
    shard.run(Command::one(
        ACME,
        Operation::Put(Put {
            key: "é".to_owned(),
            value: Bytes::from_static(b"12345"),
            kind: Kind::Bytes,
            content_type: Some("application/octet-stream".to_owned()),
            metadata: vec![("ab".to_owned(), "cde".to_owned())],
            ttl: Ttl::Never,
            condition: Condition::None,
        }),
    ));
    assert_eq!(shard.used(), (2 + 5 + 5, 1));
    let shard = shard.reopen();
    assert_eq!(shard.used(), (12, 1));
}

#[test]
fn the_key_quota_counts_live_keys() {
    let mut shard = Shard::with(TenantLimits {
        quota_keys: 2,
        ..TenantLimits::default()
    });
    shard.run(put_with("a", "1", Ttl::For(1_000), Condition::None));
    shard.put("b", "1");
    assert_eq!(shard.put("c", "1"), too_many_keys(2));
    assert!(matches!(
        shard.put("b", "2").done(),
        Some(Done::Put(Written { created: false, .. }))
    ));
    shard.pass(1_000);
    assert_eq!(shard.used().1, 1);
    assert!(
        matches!(shard.put("c", "1").done(), Some(Done::Put(Written { created: true, .. }))),
        "an expired key leaves room at once, swept or not"
    );
    assert_eq!(shard.put("a", "2"), too_many_keys(2));
    assert_eq!(shard.used().1, 2);
    shard.run(Command::Sweep { limit: Bound::rows(10) });
    assert_eq!(shard.used(), (4, 2));
}

#[test]
fn a_refusal_says_whether_a_sweep_would_help() {
    let mut shard = Shard::with(storage(10));
    shard.run(put_with("a", "1234", Ttl::For(1_000), Condition::None));
    assert_eq!(shard.put("b", "12345"), exceeded(10, 5, 11, false));
    shard.pass(1_000);
    assert_eq!(shard.put("b", "12345"), exceeded(10, 5, 11, true));
    assert_eq!(
        shard.put("a", "1234567890"),
        exceeded(10, 5, 11, false),
        "its own expired row is given back by the write itself"
    );
    assert_eq!(
        shard.run(Command::Sweep { limit: Bound::rows(10) }),
        Response::Swept { removed: 1, more: false }
    );
    assert!(matches!(shard.put("b", "12345").done(), Some(Done::Put(_))));
    assert_eq!(shard.used(), (6, 1));
}

#[test]
fn overwriting_an_expired_record_gives_its_bytes_and_its_expiry_back() {
    let mut shard = Shard::with(storage(10));
    let old = revision(&shard.run(put_with("a", "123456789", Ttl::For(1_000), Condition::None)));
    shard.pass(5_000);
    let answer = shard.run(put_with("a", "987654321", Ttl::For(60_000), Condition::Absent));
    assert!(matches!(answer.done(), Some(Done::Put(Written { created: true, .. }))));
    let revision = revision(&answer);
    assert!(revision > old);
    let record = shard.view().get(ACME, "a", shard.now_ms).unwrap().unwrap();
    assert_eq!(
        (record.create_revision, record.created_at_ms),
        (revision, START + 5_000),
        "it is a new record"
    );
    assert_eq!(shard.used(), (10, 1));
    assert_eq!(
        shard.run(Command::Sweep { limit: Bound::rows(10) }),
        Response::Swept { removed: 0, more: false }
    );
    assert_eq!(shard.value("a").as_deref(), Some("987654321"));
    let ttl_rows = shard.dump().into_iter().filter(|(keyspace, ..)| *keyspace == Keyspace::Ttl).count();
    assert_eq!(ttl_rows, 1);
}

#[test]
fn racing_writes_of_one_batch_cannot_both_fit() {
    let mut shard = Shard::with(storage(10));
    let inputs = vec![entry(2, START, put("a", "12345")), entry(3, START, put("b", "12345"))];
    let answers = shard.machine.apply(inputs).unwrap();
    assert!(matches!(answers[0].done(), Some(Done::Put(_))));
    assert_eq!(alone(answers[1].clone()), exceeded(10, 6, 12, false));
}
