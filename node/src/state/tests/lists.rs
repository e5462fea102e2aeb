//! Writes of many operations: what a refusal leaves, who sees whom, and how the answers say it. The model has them at random.

use super::*;
use crate::state::{draft::Draft, write::attempt};

fn list(operations: Vec<Command>, all_or_nothing: bool) -> Command {
    Command::Write(Write {
        tenant: ACME,
        checks: Vec::new(),
        operations: operations.into_iter().filter_map(|one| one.operation().cloned()).collect(),
        all_or_nothing,
    })
}

fn check(key: &str, condition: Condition) -> Check {
    Check {
        key: key.to_owned(),
        condition,
    }
}

fn absent(key: &str) -> Command {
    put_with(key, "v", Ttl::Never, Condition::Absent)
}

fn put_at(revision: u64) -> Answer {
    Ok(Done::Put(Written {
        revision,
        created: true,
        expires_at_ms: None,
    }))
}

/// One operation is refused; the others are done, each with its revision, and each sees those before it.
#[test]
fn operations_are_refused_one_by_one() {
    let mut shard = Shard::with(TenantLimits::default());
    let answer = shard.run(list(vec![absent("a"), absent("a"), absent("b"), delete("a")], false));
    let answers = vec![
        put_at(2),
        Err(Refusal::PreconditionFailed { current: 2 }),
        put_at(3),
        Ok(Done::Deleted(Deletion { revision: Some(4) })),
    ];
    assert_eq!(answer, Response::Written { answers });
    assert_eq!((shard.value("a"), shard.value("b").as_deref()), (None, Some("v")));
    assert_eq!(shard.view().revision(), 4);
    shard.view().scrub().unwrap();
}

#[test]
fn a_refused_write_leaves_nothing_of_its_beginning() {
    let mut shard = Shard::with(TenantLimits::default());
    shard.run(put_with("old", "v", Ttl::For(60_000), Condition::None));
    let before = (shard.view().revision(), shard.view().digest(), shard.used(), shard.due());
    let short = put_with("brief", "v", Ttl::For(1_000), Condition::None);
    let answer = shard.run(list(vec![absent("new"), delete("old"), short, absent("new")], true));
    assert_eq!(
        answer,
        Response::NotWritten {
            part: Part::Operation(3),
            refusal: Refusal::PreconditionFailed { current: 3 }
        }
    );
    assert_eq!((shard.view().revision(), shard.view().digest(), shard.used(), shard.due()), before);
    assert_eq!((shard.value("new"), shard.value("old").as_deref()), (None, Some("v")));
    let mut shard = shard.reopen();
    assert_eq!(
        shard.put("next", "v"),
        written(Written {
            revision: 3,
            created: true,
            expires_at_ms: None
        })
    );
    shard.view().scrub().unwrap();
}

#[test]
fn what_all_agree_on_is_done_as_a_whole() {
    let mut shard = Shard::with(TenantLimits::default());
    let answer = shard.run(list(vec![absent("a"), absent("b")], true));
    let answers = vec![put_at(2), put_at(3)];
    assert_eq!(answer, Response::Written { answers });
    assert_eq!(shard.used(), (4, 2));
}

#[test]
fn checks_come_before_everything() {
    let mut shard = Shard::with(TenantLimits::default());
    shard.put("a", "v");
    let write = |checks| {
        Command::Write(Write {
            tenant: ACME,
            checks,
            operations: vec![absent("b").operation().cloned().unwrap()],
            all_or_nothing: false,
        })
    };
    let holds = check("a", Condition::Revision(2));
    assert_eq!(
        shard.run(write(vec![holds.clone(), check("b", Condition::Present)])),
        Response::NotWritten {
            part: Part::Check(1),
            refusal: Refusal::PreconditionFailed { current: 0 }
        }
    );
    assert_eq!(shard.value("b"), None);
    assert_eq!(
        shard.run(write(vec![holds, check("b", Condition::Absent)])),
        Response::Written { answers: vec![put_at(3)] }
    );
}

/// The refusal of an operation is told apart from that of the write: `Shard::run` does not show it.
#[test]
fn a_tenant_refuses_the_write_and_a_record_the_operation() {
    let mut shard = Shard::with(TenantLimits::default());
    let mut apply = |tenant, key: &str| {
        let command = Command::one(tenant, absent(key).operation().cloned().unwrap());
        shard.index += 1;
        shard.machine.apply(vec![entry(shard.index, START, command)]).unwrap().remove(0)
    };
    assert_eq!(apply(ACME, "a"), Response::Written { answers: vec![put_at(2)] });
    let refusal = Refusal::PreconditionFailed { current: 2 };
    assert_eq!(
        apply(ACME, "a"),
        Response::Written {
            answers: vec![Err(refusal)]
        }
    );
    assert_eq!(apply(TenantId(99), "a"), Response::Refused(Refusal::TenantUnknown));
}

#[test]
fn a_write_has_a_bounded_number_of_parts() {
    let mut shard = Shard::with(TenantLimits::default());
    let some = |count| list((0..count).map(|_| delete("a")).collect(), false);
    let limit = Write::PARTS as u64;
    assert_eq!(shard.run(some(Write::PARTS + 1)), refused(Refusal::TooManyOperations { limit }));
    assert!(matches!(shard.run(some(Write::PARTS)), Response::Written { answers } if answers.len() == Write::PARTS));
}

/// An operation that finds only after its first change that it cannot be done.
#[test]
fn a_late_refusal_leaves_no_change() {
    let mut shard = Shard::with(TenantLimits::default());
    shard.put("a", "v");
    let (tables, reader) = shard.machine.parts();
    let mut draft = Draft::new(tables, reader);
    let before = (draft.tables.revision, draft.tables.digest, draft.usage(ACME));
    let refused = attempt(&mut draft, |draft| {
        let record = draft.record(ACME, "a")?.unwrap();
        draft.take_revision();
        draft.remove_record(ACME, "a", &record);
        Err::<(), _>(Refusal::TtlTooShort.into())
    });
    assert_eq!(refused.unwrap(), Err(Refusal::TtlTooShort));
    assert_eq!((draft.tables.revision, draft.tables.digest, draft.usage(ACME)), before);
    assert!(draft.record(ACME, "a").unwrap().is_some());
    assert_eq!(draft.noted(), 0, "nothing is noted any more");
}
