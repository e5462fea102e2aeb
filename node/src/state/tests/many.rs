//! Entries of many writes.

use std::collections::VecDeque;

use super::*;

fn writes(index: u64, stamps: impl IntoIterator<Item = (u64, Command)>) -> Input {
    let writes = stamps.into_iter().map(|(stamp_ms, command)| Proposal { stamp_ms, command });
    Input {
        id: Applied { term: 1, index },
        body: Body::Writes(writes.collect()),
    }
}

fn opened() -> (TempDir, Machine<FjallStore>, Views) {
    let directory = tempfile::tempdir().unwrap();
    let limits = TenantLimits {
        max_value_size: 8 << 20,
        ..TenantLimits::default()
    };
    let (mut machine, views) = Machine::open(FjallStore::open(directory.path()).unwrap()).unwrap();
    machine.apply(vec![entry(1, START, put_tenant("acme", limits))]).unwrap();
    (directory, machine, views)
}

fn revisions(answers: &[Response]) -> Vec<u64> {
    let revision = |answer: &Response| match answer.done() {
        Some(Done::Put(written)) => written.revision,
        _ => panic!("{answer:?}"),
    };
    answers.iter().map(revision).collect()
}

#[test]
fn each_write_has_its_own_stamp_revision_and_answer() {
    let (_directory, mut machine, views) = opened();
    let answers = machine
        .apply(vec![
            writes(
                2,
                [(START + 1, put("a", "1")), (START + 5, put("b", "2")), (START + 3, put("a", "3"))],
            ),
            entry(3, START + 6, put("c", "4")),
        ])
        .unwrap();
    assert_eq!(revisions(&answers), [2, 3, 4, 5]);
    assert!(
        matches!(answers[2].done(), Some(Done::Put(Written { created: false, .. }))),
        "a write sees those before it"
    );
    let view = views.latest();
    assert_eq!(view.stamp_ms(), START + 6);
    let of = |key: &str| view.get(ACME, key, START).unwrap().unwrap();
    assert_eq!((of("a").revision, of("b").revision), (4, 3));
}

/// As one entry, or one write per entry: the rows are the same but for how far the log is applied.
#[test]
fn the_writes_of_an_entry_make_what_they_make_one_by_one() {
    let commands = || (0..50).map(|n| (START + n, put(&format!("k{}", n % 7), &n.to_string())));
    let (_together, mut machine, views) = opened();
    let at_once = machine.apply(vec![writes(2, commands())]).unwrap();
    let (_apart, mut machine, others) = opened();
    let entries = commands().zip(2..).map(|((stamp, command), index)| entry(index, stamp, command));
    assert_eq!(machine.apply(entries.collect()).unwrap(), at_once);
    assert_eq!(views.latest().digest(), others.latest().digest());
    assert_eq!(views.latest().stamp_ms(), others.latest().stamp_ms());
}

/// `applied` names entries: a batch that is large enough ends behind the entry that has made it so, never inside of it.
#[test]
fn an_entry_is_in_one_batch() {
    let (_directory, mut machine, views) = opened();
    let large = || (0..6).map(|n| (START, put(&format!("large{n}"), &"v".repeat(3 << 20))));
    let mut inputs = VecDeque::from([writes(2, large()), writes(3, [(START, put("b", "1")), (START, put("c", "1"))])]);
    assert_eq!(machine.apply_some(&mut inputs).unwrap().len(), 6);
    assert_eq!((views.latest().applied().map(|applied| applied.index), inputs.len()), (Some(2), 1));
    assert_eq!(revisions(&machine.apply_some(&mut inputs).unwrap()), [8, 9]);
}

#[test]
fn an_entry_that_was_applied_before_is_skipped_with_as_many_answers() {
    let (_directory, mut machine, views) = opened();
    let both = || writes(2, [(START, put("a", "1")), (START, put("b", "1"))]);
    machine.apply(vec![both()]).unwrap();
    let answers = machine.apply(vec![both(), entry(3, START, put("c", "1"))]).unwrap();
    assert_eq!(&answers[..2], [Response::None, Response::None]);
    assert_eq!(revisions(&answers[2..]), [4]);
    assert_eq!(views.latest().revision(), 4);
}

/// However many writes an entry holds, it counts as many expired records as an entry of one.
#[test]
fn an_entry_counts_what_expired_once() {
    let (_directory, mut machine, _views) = opened();
    let puts = (0..200).map(|n| {
        (
            START,
            put_with(&format!("k{n:03}"), "v", Ttl::Until(START + 5_000), Condition::None),
        )
    });
    let limits = TenantLimits {
        quota_keys: 50,
        ..TenantLimits::default()
    };
    machine
        .apply(vec![writes(2, puts), entry(3, START + 1, put_tenant("acme", limits))])
        .unwrap();
    let absent = (0..10).map(|n| (START + 5_000, delete(&format!("absent{n}"))));
    machine.apply(vec![writes(4, absent)]).unwrap();
    let answers = machine.apply(vec![entry(5, START + 5_000, put("new", "v"))]).unwrap();
    let waiting = Refusal::KeyCountExceeded {
        limit: 50,
        expired_waiting: true,
    };
    assert_eq!(
        answers.into_iter().map(Response::only).collect::<Vec<_>>(),
        [Err(Response::Refused(waiting))],
        "128 of 200 are counted"
    );
}
