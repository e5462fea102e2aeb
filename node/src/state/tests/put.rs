use kvfleet_api::tenant::Access;

use super::*;

fn written(revision: u64, created: bool) -> Response {
    super::written(Written {
        revision,
        created,
        expires_at_ms: None,
    })
}

#[test]
fn writes_take_revisions_and_no_ops_and_refusals_take_none() {
    let mut shard = Shard::with(TenantLimits::default());
    assert_eq!(shard.view().revision(), 1, "the tenant took the first revision");
    assert_eq!(shard.put("a", "1"), written(2, true));
    assert_eq!(
        shard.put("a", "1"),
        written(3, false),
        "an overwrite is a change even when the value is the same"
    );
    assert_eq!(shard.run(delete("none")), deleted(None));
    assert_eq!(
        shard.run(put_with("a", "2", Ttl::Default, Condition::Revision(2))),
        refused(Refusal::PreconditionFailed { current: 3 })
    );
    assert_eq!(shard.run(delete("a")), deleted(Some(4)));
    assert_eq!(shard.value("a"), None);
    assert_eq!(
        shard.put("a", "3"),
        written(5, true),
        "no revision is used again, also not after delete and recreate"
    );
    assert_eq!(shard.view().revision(), 5);
}

#[test]
fn a_record_comes_back_as_it_was_written() {
    let mut shard = Shard::with(TenantLimits::default());
    let metadata = vec![("author".to_owned(), "ada".to_owned())];
    let value = Bytes::from((0..=255).cycle().take(5_000).collect::<Vec<u8>>());
    let command = Command::one(
        ACME,
        Operation::Put(Put {
            key: "dir/é".to_owned(),
            value: value.clone(),
            kind: Kind::Bytes,
            content_type: Some("image/png".to_owned()),
            metadata: metadata.clone(),
            ttl: Ttl::For(60_000),
            condition: Condition::Absent,
        }),
    );
    shard.run(command.clone());
    shard.pass(10);
    shard.run(Command::one(
        ACME,
        Operation::Put(Put {
            key: "other".to_owned(),
            value: Bytes::new(),
            kind: Kind::Json,
            content_type: None,
            metadata: vec![],
            ttl: Ttl::Never,
            condition: Condition::None,
        }),
    ));
    let shard = shard.reopen();
    let record = shard.view().get(ACME, "dir/é", shard.now_ms).unwrap().unwrap();
    let header = Header {
        value: ValuePlace::of(&value),
        kind: Kind::Bytes,
        content_type: Some("image/png".to_owned()),
        metadata,
        revision: 2,
        create_revision: 2,
        created_at_ms: START,
        updated_at_ms: START,
        expires_at_ms: Some(START + 60_000),
    };
    assert_eq!(record, Record { header, value });
    assert_eq!(
        shard.view().get(ACME, "other", shard.now_ms).unwrap().unwrap().value,
        Bytes::new(),
        "an empty value is a value"
    );
}

#[test]
fn an_overwrite_keeps_the_birth_and_moves_the_rest() {
    let mut shard = Shard::with(TenantLimits::default());
    shard.run(put_with("a", "1", Ttl::For(5_000), Condition::None));
    shard.pass(100);
    shard.run(put_with("a", "2", Ttl::Never, Condition::Present));
    let record = shard.view().get(ACME, "a", shard.now_ms).unwrap().unwrap();
    assert_eq!((record.create_revision, record.created_at_ms), (2, START));
    assert_eq!(
        (record.revision, record.updated_at_ms, record.expires_at_ms),
        (3, START + 100, None)
    );
    shard.pass(10_000);
    assert_eq!(shard.value("a").as_deref(), Some("2"), "the first expiry is forgotten");
    assert_eq!(
        shard.run(Command::Sweep { limit: Bound::rows(10) }),
        Response::Swept { removed: 0, more: false }
    );
}

#[test]
fn conditions_compare_with_what_is_visible() {
    let mut shard = Shard::with(TenantLimits::default());
    let mut attempt = |key: &str, condition| shard.run(put_with(key, "v", Ttl::Never, condition));
    assert_eq!(
        attempt("a", Condition::Present),
        refused(Refusal::PreconditionFailed { current: 0 })
    );
    assert_eq!(
        attempt("a", Condition::Revision(9)),
        refused(Refusal::PreconditionFailed { current: 0 })
    );
    assert_eq!(attempt("a", Condition::Absent), written(2, true));
    assert_eq!(attempt("a", Condition::Absent), refused(Refusal::PreconditionFailed { current: 2 }));
    assert_eq!(
        attempt("a", Condition::Revision(0)),
        refused(Refusal::PreconditionFailed { current: 2 })
    );
    assert_eq!(attempt("a", Condition::Revision(2)), written(3, false));
    assert_eq!(attempt("b", Condition::Revision(0)), written(4, true));
    let guarded = Command::one(
        ACME,
        Operation::Delete(Delete {
            key: "a".to_owned(),
            condition: Condition::Revision(2),
        }),
    );
    assert_eq!(shard.run(guarded), refused(Refusal::PreconditionFailed { current: 3 }));
    assert_eq!(shard.value("a").as_deref(), Some("v"));
}

#[test]
fn lengths_are_refused_one_past_the_limit() {
    let limits = TenantLimits {
        max_key_length: 4,
        max_value_size: 5,
        max_metadata_size: 6,
        ..TenantLimits::default()
    };
    let mut shard = Shard::with(limits);
    assert_eq!(shard.put("äöüß", "12345"), written(2, true), "a key is counted in characters");
    assert_eq!(shard.put("abcde", "1"), refused(Refusal::KeyTooLong { limit: 4 }));
    assert_eq!(shard.put("a", "123456"), refused(Refusal::ValueTooLarge { limit: 5 }));
    let with_metadata = |value: &str| {
        let Operation::Put(put) = put("m", "1").operation().cloned().unwrap() else {
            panic!("a put")
        };
        let metadata = vec![("abc".to_owned(), value.to_owned())];
        Command::one(ACME, Operation::Put(Put { metadata, ..put }))
    };
    assert_eq!(shard.run(with_metadata("123")), written(3, true));
    assert_eq!(shard.run(with_metadata("1234")), refused(Refusal::MetadataTooLarge { limit: 6 }));
}

#[test]
fn a_key_never_has_more_than_2048_bytes() {
    let limits = TenantLimits {
        max_key_length: 2_048,
        ..TenantLimits::default()
    };
    let mut shard = Shard::with(limits);
    assert_eq!(shard.put(&"é".repeat(1_024), "v"), written(2, true));
    assert_eq!(shard.put(&"é".repeat(1_025), "v"), refused(Refusal::KeyTooLong { limit: 2_048 }));
}

#[test]
fn a_value_of_eight_mebibytes_fits() {
    let limits = TenantLimits {
        max_value_size: 8 << 20,
        ..TenantLimits::default()
    };
    let mut shard = Shard::with(limits);
    let value = "x".repeat(8 << 20);
    assert_eq!(shard.put("big", &value), written(2, true));
    assert_eq!(shard.reopen().value("big"), Some(value));
}

#[test]
fn access_modes_refuse_writes_and_leave_reads_alone() {
    let mut shard = Shard::with(TenantLimits::default());
    shard.put("a", "1");
    for (access, refusal) in [
        (Access::ReadOnly, Refusal::TenantReadOnly),
        (Access::Suspended, Refusal::TenantSuspended),
    ] {
        shard.run(put_tenant(
            "acme",
            TenantLimits {
                access,
                ..TenantLimits::default()
            },
        ));
        assert_eq!(shard.put("a", "2"), refused(refusal.clone()));
        assert_eq!(shard.run(delete("a")), refused(refusal));
    }
    shard.run(put_tenant("acme", TenantLimits::default()));
    assert_eq!(shard.value("a").as_deref(), Some("1"));
    let foreign = Command::one(
        TenantId(99),
        Operation::Delete(Delete {
            key: "a".to_owned(),
            condition: Condition::None,
        }),
    );
    assert_eq!(shard.run(foreign), refused(Refusal::TenantUnknown));
}

/// covers row 104
#[test]
fn tenants_do_not_see_each_other() {
    let mut shard = Shard::with(TenantLimits::default());
    shard.run(put_tenant("other", TenantLimits::default()));
    shard.put("k", "mine");
    shard.run(Command::one(
        TenantId(2),
        Operation::Put(Put {
            key: "k".to_owned(),
            value: Bytes::from_static(b"theirs"),
            kind: Kind::String,
            content_type: None,
            metadata: vec![],
            ttl: Ttl::Never,
            condition: Condition::Absent,
        }),
    ));
    shard.run(delete("k"));
    assert_eq!(shard.value("k"), None);
    assert_eq!(shard.view().get(TenantId(2), "k", shard.now_ms).unwrap().unwrap().value, "theirs");
    assert_eq!(shard.used(), (0, 0));
}

#[test]
fn entries_of_one_batch_see_each_other() {
    let mut shard = Shard::with(TenantLimits::default());
    let commands = [
        put_with("a", "1", Ttl::Never, Condition::Absent),
        put_with("a", "2", Ttl::Never, Condition::Revision(2)),
        delete("a"),
        put_with("a", "3", Ttl::Never, Condition::Present),
        put_with("a", "4", Ttl::Never, Condition::Absent),
    ];
    let inputs = commands
        .into_iter()
        .zip(2..)
        .map(|(command, index)| entry(index, START, command))
        .collect();
    let answers: Vec<_> = shard.machine.apply(inputs).unwrap().into_iter().map(alone).collect();
    let expected = [
        written(2, true),
        written(3, false),
        deleted(Some(4)),
        refused(Refusal::PreconditionFailed { current: 0 }),
        written(5, true),
    ];
    assert_eq!(answers, expected);
    assert_eq!(shard.value("a").as_deref(), Some("4"));
    assert_eq!(shard.used(), (2, 1));
}

#[tokio::test]
async fn a_view_keeps_its_moment_and_news_of_the_next_arrives() {
    let mut shard = Shard::with(TenantLimits::default());
    shard.put("a", "1");
    let before = shard.view();
    let waiting = tokio::spawn({
        let views = shard.views.clone();
        async move { views.wait_applied(3).await.map(|view| view.revision()) }
    });
    shard.put("a", "2");
    assert_eq!(waiting.await.unwrap(), Ok(3));
    assert_eq!(before.get(ACME, "a", START).unwrap().unwrap().value, "1");
    assert_eq!(before.revision(), 2);
    let views = shard.views.clone();
    drop(shard);
    assert_eq!(
        views.wait_applied(4).await.err(),
        Some(Stopped),
        "nobody waits for a machine that is gone"
    );
    assert!(views.wait_applied(3).await.is_ok());
}

/// Counts how often it is polled until it is done.
async fn polls(future: impl Future<Output = Result<(), Stopped>>) -> usize {
    let mut future = std::pin::pin!(future);
    let mut polls = 0;
    std::future::poll_fn(|context| {
        polls += 1;
        future.as_mut().poll(context)
    })
    .await
    .unwrap();
    polls
}

#[tokio::test]
async fn a_batch_wakes_only_who_waits_for_it() {
    let mut shard = Shard::with(TenantLimits::default());
    let wait = |views: Views, number: u64, by_index: bool| {
        tokio::spawn(polls(async move {
            if by_index {
                views.wait_applied(number).await.map(drop)
            } else {
                views.wait_revision(number).await
            }
        }))
    };
    // The tenant is entry 1 and took revision 1; puts follow.
    let waiting: Vec<_> = [false, true]
        .into_iter()
        .flat_map(|by_index| [20, 100].map(|number| wait(shard.views.clone(), number, by_index)))
        .collect();
    tokio::task::yield_now().await;
    for number in 2..=100 {
        shard.put("a", &number.to_string());
        tokio::task::yield_now().await;
    }
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap(), 2, "once when it began, once when its number was reached");
    }
}
