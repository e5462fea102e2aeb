#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::{Duration, Instant};

use super::{Answer, Call, Condition, Counterexample, Operation, Value, Verdict, check};
use crate::dice::Dice;

/// An operation on the key `k`, from one time to another.
fn operation(client: u32, called: u64, answered: u64, call: Call, answer: Answer) -> Operation {
    Operation {
        client,
        key: "k".to_owned(),
        call,
        answer,
        called,
        answered,
    }
}

fn put(called: u64, answered: u64, value: Value) -> Operation {
    operation(0, called, answered, Call::Put(value, Condition::None), Answer::Written)
}

fn get(called: u64, answered: u64, found: Option<Value>) -> Operation {
    operation(1, called, answered, Call::Get, Answer::Found(found))
}

fn swap(called: u64, answered: u64, held: Value, value: Value) -> Operation {
    operation(2, called, answered, Call::Put(value, Condition::Holds(held)), Answer::Written)
}

fn delete(called: u64, answered: u64, existed: bool) -> Operation {
    operation(3, called, answered, Call::Delete, Answer::Deleted { existed })
}

fn unknown(mut operation: Operation) -> Operation {
    operation.answer = Answer::Unknown;
    operation
}

#[track_caller]
fn legal(history: &[Operation]) {
    assert_eq!(check(history), Verdict::Linearizable);
}

#[track_caller]
fn illegal(history: &[Operation]) -> Counterexample {
    match check(history) {
        Verdict::Illegal(counterexample) => counterexample,
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_after_the_other() {
    legal(&[
        get(0, 1, None),
        put(2, 3, 7),
        get(4, 5, Some(7)),
        delete(6, 7, true),
        get(8, 9, None),
        delete(10, 11, false),
    ]);
}

#[test]
fn side_by_side_either_order_will_do() {
    for found in [1, 2] {
        legal(&[put(0, 10, 1), put(0, 10, 2), get(11, 12, Some(found))]);
    }
    for found in [None, Some(1)] {
        legal(&[put(0, 10, 1), get(3, 4, found)]);
    }
}

#[test]
fn a_stale_read_is_found() {
    let found = illegal(&[
        put(0, 1, 1),
        put(2, 3, 2),
        get(4, 5, Some(2)),
        get(6, 7, Some(1)),
        get(8, 9, Some(2)),
    ]);
    // The later read is not needed to show it, nor is the earlier one.
    assert_eq!(found.operations, [put(0, 1, 1), put(2, 3, 2), get(6, 7, Some(1))]);
    assert!(found.to_string().contains("get -> 1"), "{found}");
}

#[test]
fn two_reads_that_go_back_during_one_write_are_found() {
    illegal(&[put(0, 1, 1), put(2, 20, 2), get(3, 4, Some(2)), get(5, 6, Some(1))]);
}

#[test]
fn a_lost_write_is_found() {
    illegal(&[put(0, 1, 1), get(2, 3, None)]);
    illegal(&[put(0, 1, 1), put(2, 3, 2), get(4, 5, Some(1))]);
}

#[test]
fn a_deleted_record_that_comes_back_is_found() {
    illegal(&[put(0, 1, 1), delete(2, 3, true), get(4, 5, None), get(6, 7, Some(1))]);
    illegal(&[put(0, 1, 1), delete(2, 3, true), delete(4, 5, true)]);
}

#[test]
fn one_state_that_two_conditions_consumed_is_found() {
    illegal(&[put(0, 1, 1), swap(2, 10, 1, 2), swap(2, 10, 1, 3)]);
    legal(&[put(0, 1, 1), swap(2, 10, 1, 2), swap(2, 10, 2, 3)]);
    let create = |client, value| operation(client, 0, 10, Call::Put(value, Condition::Absent), Answer::Written);
    illegal(&[create(1, 5), create(2, 6)]);
}

#[test]
fn a_refusal_without_a_reason_is_found() {
    let refused = |found| operation(4, 2, 3, Call::Put(9, Condition::Holds(1)), Answer::Refused(found));
    illegal(&[put(0, 1, 1), refused(None)]);
    legal(&[put(0, 1, 2), refused(None), get(4, 5, Some(2))]);
    legal(&[put(0, 1, 2), refused(Some(Some(2)))]);
    illegal(&[put(0, 1, 2), refused(Some(None))]);
}

#[test]
fn a_write_without_an_answer_may_come_late_or_never() {
    let open = unknown(put(0, 5, 1));
    legal(&[open.clone(), get(6, 7, None)]);
    legal(&[open.clone(), get(6, 7, None), get(8, 9, Some(1))]);
    // Once it was seen it cannot be undone.
    illegal(&[open.clone(), get(6, 7, Some(1)), get(8, 9, None)]);
    // Nor come twice.
    illegal(&[open.clone(), get(6, 7, Some(1)), put(8, 9, 2), get(10, 11, Some(1))]);
    // A value that nobody saw may still be why something else was as it was.
    legal(&[open.clone(), delete(6, 7, true)]);
    illegal(&[open, delete(6, 7, true), delete(8, 9, true)]);
}

#[test]
fn a_delete_without_an_answer_may_come_late_or_never() {
    let open = unknown(delete(2, 3, true));
    legal(&[put(0, 1, 1), open.clone(), get(4, 5, Some(1)), get(6, 7, None)]);
    legal(&[put(0, 1, 1), open.clone(), get(4, 5, Some(1))]);
    illegal(&[put(0, 1, 1), open.clone(), get(4, 5, None), get(6, 7, Some(1))]);
}

#[test]
fn a_condition_without_an_answer_holds_or_does_nothing() {
    let open = unknown(swap(2, 3, 1, 2));
    legal(&[put(0, 1, 1), open.clone(), get(4, 5, Some(2))]);
    legal(&[put(0, 1, 1), open.clone(), put(4, 5, 3), get(6, 7, Some(3))]);
    let late = unknown(swap(4, 5, 1, 2));
    illegal(&[put(0, 1, 1), put(2, 3, 4), late, get(6, 7, Some(2))]);
}

#[test]
fn keys_are_checked_apart() {
    let mut other = put(0, 1, 1);
    other.key = "other".to_owned();
    legal(&[other.clone(), get(2, 3, None)]);
    let mut stale = get(2, 3, None);
    stale.key = "other".to_owned();
    assert_eq!(illegal(&[put(0, 1, 5), get(2, 3, Some(5)), other, stale]).key, "other");
}

/// A register that is really atomic, asked by clients whose calls and answers are spread around the moment of effect.
fn simulated(seed: u64, count: usize, clients: u32, keys: u64) -> Vec<Operation> {
    let mut dice = Dice::new(seed);
    let mut free = vec![0_u64; clients as usize];
    let mut moments = Vec::new();
    for number in 0..count {
        let client = dice.index(clients as usize);
        let called = free[client] + dice.below(50);
        let effect = called + dice.below(100);
        let answered = effect + dice.below(100);
        free[client] = answered + 1;
        moments.push((
            effect,
            number as u64,
            client as u32,
            called,
            answered,
            number as u64 / 3_000 * keys + dice.below(keys),
        ));
    }
    moments.sort_unstable();
    let mut registers = std::collections::HashMap::new();
    let mut history = Vec::new();
    for (_, value, client, called, answered, key) in moments {
        let register: &mut Option<Value> = registers.entry(key).or_default();
        let (call, answer) = match dice.below(10) {
            0..5 => (Call::Get, Answer::Found(*register)),
            5..8 => (Call::Put(value, Condition::None), Answer::Written),
            8 => {
                let held = (*register).filter(|_| dice.percent(70)).unwrap_or(u64::MAX);
                let answer = if *register == Some(held) {
                    Answer::Written
                } else {
                    Answer::Refused(Some(*register))
                };
                (Call::Put(value, Condition::Holds(held)), answer)
            }
            _ => (
                Call::Delete,
                Answer::Deleted {
                    existed: register.is_some(),
                },
            ),
        };
        match (call, answer) {
            (Call::Put(value, _), Answer::Written) => *register = Some(value),
            (Call::Delete, _) => *register = None,
            _ => {}
        }
        // The client of some never hears of it; some of those never take effect (their effect was taken back at once, before anyone looked).
        let lost = dice.percent(3) && call != Call::Get;
        history.push(Operation {
            client,
            key: key.to_string(),
            call,
            answer: if lost { Answer::Unknown } else { answer },
            called,
            answered,
        });
    }
    history
}

#[test]
fn twenty_thousand_operations_take_seconds() {
    let history = simulated(11, 25_000, 32, 8);
    let begun = Instant::now();
    legal(&history);
    let took = begun.elapsed();
    println!("{} operations of 32 clients on keys of about 370: {took:?}", history.len());
    assert!(took < Duration::from_secs(60), "{took:?}");
}

/// The twin of the test above: one wrong answer among many is found wherever it is.
#[test]
fn one_stale_read_among_thousands_is_found() {
    for seed in 0..6 {
        let mut history = simulated(seed, 4_000, 16, 8);
        legal(&history);
        let mut dice = Dice::new(seed);
        // A read gets the value that another read of its key, answered long before it was called, had found, when a write came between.
        let victim = std::iter::repeat_with(|| dice.index(history.len()))
            .find(|index| matches!(history[*index].answer, Answer::Found(Some(_))) && stale(&history, *index).is_some())
            .unwrap();
        history[victim].answer = Answer::Found(stale(&history, victim));
        let found = illegal(&history);
        assert_eq!(found.key, history[victim].key, "seed {seed}");
        assert!(
            found.operations.iter().any(|operation| *operation == history[victim]),
            "seed {seed}: {found}"
        );
    }
}

/// A value of the key that was certainly overwritten before the operation was called.
fn stale(history: &[Operation], index: usize) -> Option<Value> {
    let reader = &history[index];
    let earlier = |operation: &&Operation| operation.key == reader.key && operation.answered < reader.called;
    let overwriting = history
        .iter()
        .filter(earlier)
        .filter(|operation| matches!((operation.call, operation.answer), (Call::Put(_, Condition::None), Answer::Written)))
        .max_by_key(|operation| operation.called)?;
    history
        .iter()
        .filter(|operation| operation.key == reader.key && operation.answered < overwriting.called)
        .find_map(|operation| match (operation.call, operation.answer) {
            (Call::Put(value, _), Answer::Written) => Some(value),
            _ => None,
        })
}
