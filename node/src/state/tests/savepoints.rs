//! What is rolled back was never done: random changes, taken back, against a draft that never made them.

use super::{model::Random, *};
use crate::{
    state::{
        draft::{Draft, Finished},
        tables::Tables,
    },
    storage::{Reader, Write},
};

const TENANTS: u64 = 3;

/// A shard with three tenants, some records, and some that have expired and wait.
fn shard() -> (Shard, Tables, Arc<dyn Reader>) {
    let mut shard = Shard::with(TenantLimits::default());
    shard.run(put_tenant("second", TenantLimits::default()));
    shard.run(put_tenant("third", TenantLimits::default()));
    for number in 0..12 {
        let ttl = if number % 3 == 0 { Ttl::For(1_000 + number) } else { Ttl::Default };
        shard.run(put_with(&format!("k{number}"), "value", ttl, Condition::None));
    }
    let (tables, reader) = shard.machine.parts();
    (shard, tables, reader)
}

fn record(draft: &mut Draft, number: u64) -> Record {
    let revision = draft.take_revision();
    let now_ms = draft.tables.clock_ms;
    let value = Bytes::from(vec![b'v'; (number % 3_000) as usize]);
    let header = Header {
        value: ValuePlace::of(&value),
        kind: Kind::String,
        content_type: None,
        metadata: Vec::new(),
        revision,
        create_revision: revision,
        created_at_ms: now_ms,
        updated_at_ms: now_ms,
        expires_at_ms: number.is_multiple_of(2).then(|| now_ms + 1_000 + number % 5_000),
    };
    Record { header, value }
}

/// One change; which one follows from the number.
fn step(draft: &mut Draft, number: u64) {
    let tenant = TenantId(1 + u32::try_from(number / 16 % TENANTS).unwrap());
    let key = format!("k{}", number / 64 % 16);
    match number % 16 {
        0..8 if draft.tables.tenants.by_id(tenant).is_some() => {
            let old = draft.record(tenant, &key).unwrap();
            let new = record(draft, number / 1_024);
            draft.put_record(tenant, &key, old.as_ref(), &new);
        }
        8..10 => {
            if let Some(old) = draft.record(tenant, &key).unwrap() {
                draft.take_revision();
                draft.remove_record(tenant, &key, &old);
            }
        }
        10..12 => {
            if let Some(old) = draft.record(tenant, &key).unwrap() {
                draft.expire_record(tenant, &key, &old);
            }
        }
        12 => {
            let id = draft.take_tenant_id();
            let revision = draft.take_revision();
            draft.put_tenant(Tenant {
                id,
                name: format!("tenant-{}", id.0),
                state: kvfleet_api::tenant::TenantState::Active,
                config: config("uid-1", TenantLimits::default()),
                revision,
                credential_issued_at: number,
            });
        }
        13 => {
            let clock = draft.tables.clock_ms;
            draft.advance(clock + number / 16 % 3_000).unwrap();
        }
        14 if number.is_multiple_of(7) && draft.tables.tenants.by_id(tenant).is_some() => draft.bury_tenant(tenant),
        14 => draft.all_swept(),
        _ => {
            if let Some((id, from)) = draft.tables.tenants.first_grave() {
                let reaped = draft.reap(id, from, Bound { rows: 2, bytes: 1 << 20 }).unwrap();
                match reaped.next {
                    Some(next) => draft.shrink_grave(id, next),
                    None => draft.close_grave(id),
                }
            }
        }
    }
}

/// Everything that the draft has made.
fn outcome(draft: Draft) -> (Vec<Write>, Vec<Change>, String) {
    let Finished { tables, batch, changes } = draft.finish(Applied { term: 1, index: 99 }, None);
    let usage: Vec<_> = (0..64).map(|id| tables.usage.get(TenantId(id))).collect();
    let tenants: Vec<_> = tables.tenants.iter().collect();
    let counters = (tables.expired, &tables.ttl_counted, tables.next_expiry_ms, &tables.ttl_cursor);
    let rest = (
        tables.digest,
        tables.revision,
        tables.clock_ms,
        tables.next_tenant,
        tables.tenants.first_grave(),
    );
    (batch, changes, format!("{usage:?} {tenants:?} {counters:?} {rest:?}"))
}

#[test]
fn what_is_rolled_back_was_never_done() {
    let (_shard, tables, reader) = shard();
    let mut changed = 0;
    for seed in 0..400 {
        let mut random = Random(seed);
        let mut steps = |most: u64| -> Vec<u64> { (0..random.below(most)).map(|_| random.next()).collect() };
        let (before, undone, inner, after) = (steps(12), steps(12), steps(12), steps(12));
        let mut plain = Draft::new(tables.clone(), Arc::clone(&reader));
        let mut draft = Draft::new(tables.clone(), Arc::clone(&reader));
        before.iter().for_each(|number| step(&mut plain, *number));
        before.iter().for_each(|number| step(&mut draft, *number));

        let mark = draft.mark();
        undone.iter().for_each(|number| step(&mut draft, *number));
        let within = draft.mark();
        inner.iter().for_each(|number| step(&mut draft, *number));
        match seed % 3 {
            0 => draft.roll_back(within),
            1 => draft.keep(within),
            _ => drop(within),
        }
        undone.iter().rev().for_each(|number| step(&mut draft, *number));
        changed += u64::from(draft.tables.revision != plain.tables.revision);
        draft.roll_back(mark);

        after.iter().for_each(|number| step(&mut plain, *number));
        after.iter().for_each(|number| step(&mut draft, *number));
        assert_eq!(outcome(draft), outcome(plain), "seed {seed}");
    }
    assert!(changed > 300, "{changed}: most rounds have something to take back");
}

#[test]
fn an_inner_mark_goes_back_to_its_own_moment_and_a_kept_one_keeps() {
    let (_shard, tables, reader) = shard();
    for seed in 0..200 {
        let mut random = Random(seed);
        let mut steps = || -> Vec<u64> { (0..8).map(|_| random.next()).collect() };
        let (outer, inner, after) = (steps(), steps(), steps());
        let mut plain = Draft::new(tables.clone(), Arc::clone(&reader));
        let mut draft = Draft::new(tables.clone(), Arc::clone(&reader));
        outer.iter().chain(&after).for_each(|number| step(&mut plain, *number));
        let mark = draft.mark();
        outer.iter().for_each(|number| step(&mut draft, *number));
        let within = draft.mark();
        inner.iter().for_each(|number| step(&mut draft, *number));
        draft.roll_back(within);
        after.iter().for_each(|number| step(&mut draft, *number));
        draft.keep(mark);
        assert_eq!(outcome(draft), outcome(plain), "seed {seed}");
    }
}

#[test]
fn nothing_is_noted_without_a_mark() {
    let (_shard, tables, reader) = shard();
    let mut draft = Draft::new(tables, reader);
    let noted = |draft: &Draft| (draft.rows.noted(), draft.noted());
    (0..40).for_each(|number| step(&mut draft, number * 16));
    assert_eq!(noted(&draft), (0, 0));
    let mark = draft.mark();
    step(&mut draft, 0);
    assert!(noted(&draft).0 > 0 && noted(&draft).1 > 0, "{:?}", noted(&draft));
    draft.keep(mark);
    assert_eq!(noted(&draft), (0, 0));
    step(&mut draft, 0);
    assert_eq!(noted(&draft), (0, 0));
}
