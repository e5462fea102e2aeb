use super::*;
use crate::storage::keys;

fn expiring(shard: &mut Shard, key: &str, ttl: Ttl) -> Result<Option<u64>, Refusal> {
    match shard.run(put_with(key, "v", ttl, Condition::None)) {
        Response::Refused(refusal) => Err(refusal),
        answer => match answer.done() {
            Some(Done::Put(written)) => Ok(written.expires_at_ms.map(|expires| expires - START)),
            _ => panic!("{answer:?}"),
        },
    }
}

#[test]
fn each_way_to_say_it_against_each_configuration() {
    let limits = |default, maximum| TenantLimits {
        ttl_default_ms: default,
        ttl_max_ms: maximum,
        ..TenantLimits::default()
    };
    let above = |limit_ms| Err(Refusal::TtlAboveMaximum { limit_ms });
    let ten_years = 315_360_000_000;
    let mut plain = Shard::with(limits(None, None));
    assert_eq!(expiring(&mut plain, "k", Ttl::Default), Ok(None));
    assert_eq!(expiring(&mut plain, "k", Ttl::Never), Ok(None));
    assert_eq!(expiring(&mut plain, "k", Ttl::For(1_000)), Ok(Some(1_000)));
    assert_eq!(expiring(&mut plain, "k", Ttl::For(999)), Err(Refusal::TtlTooShort));
    assert_eq!(expiring(&mut plain, "k", Ttl::For(ten_years)), Ok(Some(ten_years)));
    assert_eq!(expiring(&mut plain, "k", Ttl::For(ten_years + 1)), above(ten_years));
    assert_eq!(expiring(&mut plain, "k", Ttl::For(u64::MAX)), above(ten_years));
    assert_eq!(expiring(&mut plain, "k", Ttl::Until(START + 1_000)), Ok(Some(1_000)));
    assert_eq!(expiring(&mut plain, "k", Ttl::Until(START + 999)), Err(Refusal::TtlTooShort));
    assert_eq!(expiring(&mut plain, "k", Ttl::Until(5)), Err(Refusal::TtlTooShort));
    assert_eq!(expiring(&mut plain, "k", Ttl::Until(u64::MAX)), above(ten_years));

    let mut default = Shard::with(limits(Some(5_000), None));
    assert_eq!(expiring(&mut default, "k", Ttl::Default), Ok(Some(5_000)));
    assert_eq!(
        expiring(&mut default, "k", Ttl::Never),
        Ok(None),
        "an explicit never overrides a default"
    );

    let mut maximum = Shard::with(limits(None, Some(9_000)));
    assert_eq!(
        expiring(&mut maximum, "k", Ttl::Default),
        Ok(Some(9_000)),
        "absent without a default takes the maximum"
    );
    assert_eq!(expiring(&mut maximum, "k", Ttl::Never), above(9_000));
    assert_eq!(expiring(&mut maximum, "k", Ttl::For(9_000)), Ok(Some(9_000)));
    assert_eq!(expiring(&mut maximum, "k", Ttl::For(9_001)), above(9_000));
    assert_eq!(expiring(&mut maximum, "k", Ttl::Until(START + 9_001)), above(9_000));

    let mut both = Shard::with(limits(Some(5_000), Some(9_000)));
    assert_eq!(expiring(&mut both, "k", Ttl::Default), Ok(Some(5_000)));
    both.run(put_tenant("acme", limits(Some(1_000), Some(2_000))));
    let record = both.view().get(ACME, "k", START).unwrap().unwrap();
    assert_eq!(record.expires_at_ms, Some(START + 5_000), "a lowered maximum leaves records alone");
}

#[test]
fn an_expired_record_is_absent_before_any_sweep() {
    let mut shard = Shard::with(TenantLimits::default());
    shard.run(put_with("a", "v", Ttl::For(2_000), Condition::None));
    shard.put("b", "v");
    shard.pass(1_999);
    assert_eq!((shard.value("a").is_some(), shard.used()), (true, (4, 2)));
    shard.pass(1);
    assert_eq!(shard.value("a"), None, "from the very moment on, although the log has not moved");
    assert_eq!(shard.used(), (4, 1), "its key is not counted, its bytes are until the sweep");
    let (found, _) = page(&shard.view(), ACME, &ScanRange::default(), items(10), shard.now_ms).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(shard.run(delete("a")), deleted(None));
    let absent = Condition::Present;
    assert_eq!(
        shard.run(put_with("a", "w", Ttl::Never, absent)),
        refused(Refusal::PreconditionFailed { current: 0 })
    );
    let status = shard.view().tenant_status("acme").unwrap();
    assert_eq!((status.usage.storage, status.usage.keys), (4, 1));
    let shard = shard.reopen();
    assert_eq!(shard.used(), (4, 1), "the count of expired rows is found again after a restart");
}

#[test]
fn a_stamp_that_goes_back_does_not_bring_anything_back() {
    let mut shard = Shard::with(TenantLimits::default());
    shard.run(put_with("a", "v", Ttl::For(1_000), Condition::None));
    shard.pass(1_000);
    shard.run(Command::Sweep { limit: Bound::rows(0) });
    shard.now_ms -= 900;
    assert_eq!(shard.value("a"), None, "a reader whose clock is behind the log's");
    assert_eq!(
        shard.run(put_with("b", "v", Ttl::For(1_000), Condition::None)),
        written(Written {
            revision: 3,
            created: true,
            expires_at_ms: Some(START + 2_000)
        })
    );
    assert_eq!(shard.view().stamp_ms(), START + 1_000);
}

#[test]
fn a_sweep_returns_bytes_earliest_first_and_takes_a_revision_each() {
    let mut shard = Shard::with(TenantLimits::default());
    for (key, seconds) in [("c", 3), ("a", 1), ("b", 2), ("d", 60)] {
        shard.run(put_with(key, "v", Ttl::For(seconds * 1_000), Condition::None));
    }
    shard.put("e", "v");
    assert_eq!(shard.due(), Some(START + 1_000));
    shard.pass(5_000);
    assert_eq!(
        shard.run(Command::Sweep { limit: Bound::rows(2) }),
        Response::Swept { removed: 2, more: true }
    );
    assert_eq!(shard.view().revision(), 8);
    assert!(shard.due().is_some_and(|due| due <= shard.now_ms), "more is due at once");
    assert_eq!(shard.used(), (6, 2));
    assert_eq!(
        shard.run(Command::Sweep { limit: Bound::rows(2) }),
        Response::Swept { removed: 1, more: false }
    );
    assert_eq!(shard.used(), (4, 2));
    assert_eq!(shard.due(), Some(START + 60_000));
    assert_eq!(
        shard.run(Command::Sweep { limit: Bound::rows(2) }),
        Response::Swept { removed: 0, more: false }
    );
    assert_eq!(shard.view().revision(), 9);
    let mut shard = shard.reopen();
    assert_eq!(shard.due(), Some(START + 60_000));
    shard.run(put_with("early", "v", Ttl::For(1_000), Condition::None));
    shard.pass(1_000);
    assert_eq!(
        shard.run(Command::Sweep { limit: Bound::rows(2) }),
        Response::Swept { removed: 1, more: false },
        "the cursor did not run ahead"
    );
}

/// Without the cursor each sweep would walk the tombstones of all earlier ones: after a million, 24 to 171 ms to find the first row.
#[test]
fn a_sweep_leaves_off_where_the_next_begins() {
    let mut shard = Shard::with(TenantLimits::default());
    for key in ["a", "b", "c"] {
        shard.run(put_with(key, "v", Ttl::Until(START + 1_000), Condition::None));
    }
    shard.pass(1_000);
    shard.run(Command::Sweep { limit: Bound::rows(2) });
    let row = |key| (Keyspace::Meta, keys::TTL_CURSOR.to_vec(), keys::ttl(START + 1_000, ACME, key));
    assert!(shard.dump().contains(&row("b")));
}

#[test]
fn many_records_of_one_moment_are_swept_in_steps() {
    let mut shard = Shard::with(TenantLimits::default());
    let inputs = (0..250).map(|n| {
        entry(
            2 + n,
            START,
            put_with(&format!("k{n:03}"), "v", Ttl::Until(START + 5_000), Condition::None),
        )
    });
    shard.machine.apply(inputs.collect()).unwrap();
    shard.index = 251;
    shard.pass(5_000);
    let mut steps = Vec::new();
    while let Response::Swept { removed, more } = shard.run(Command::Sweep { limit: Bound::rows(100) }) {
        steps.push(removed);
        if !more {
            break;
        }
    }
    assert_eq!(steps, [100, 100, 50]);
    assert_eq!(shard.used(), (0, 0));
    assert_eq!(shard.due(), None);
    let rows = shard.dump();
    assert!(
        rows.iter()
            .all(|(keyspace, ..)| !matches!(keyspace, Keyspace::Ttl | Keyspace::Records)),
        "nothing is left behind"
    );
}
