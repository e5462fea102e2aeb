//! From a key's illegal history to the part of it that a person has to read.

use super::{
    check_key,
    model::{Answer, Call, Operation},
    search::Outcome,
};

/// An illegal history of one key, sorted by call. Only what leaves the rest meaningful is taken away: what came after the first moment at which no
/// order is left, and reads.
pub(super) fn shrink(mut operations: Vec<Operation>) -> Vec<Operation> {
    let mut moments: Vec<u64> = operations.iter().map(|operation| operation.answered).collect();
    moments.sort_unstable();
    // An illegal history stays illegal when it goes on, so the first illegal moment can be found by halving.
    let first = moments.partition_point(|moment| check_key(&until(&operations, *moment)) != Outcome::Illegal);
    if let Some(moment) = moments.get(first) {
        operations = until(&operations, *moment);
    }
    for index in (0..operations.len()).rev() {
        let without: Vec<Operation> = operations
            .iter()
            .enumerate()
            .filter(|(other, operation)| *other != index || operation.call != Call::Get)
            .map(|(_, operation)| operation.clone())
            .collect();
        if without.len() < operations.len() && check_key(&without) == Outcome::Illegal {
            operations = without;
        }
    }
    operations
}

/// The history as it stood at that moment: what was not answered yet has no answer.
fn until(operations: &[Operation], moment: u64) -> Vec<Operation> {
    let known = |operation: &Operation| {
        let mut operation = operation.clone();
        if operation.answered > moment {
            operation.answer = Answer::Unknown;
        }
        operation
    };
    operations
        .iter()
        .filter(|operation| operation.called <= moment)
        .map(known)
        .collect()
}
