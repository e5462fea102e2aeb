//! What unique values tell about operations without an answer, before anything is searched.

use std::collections::HashMap;

use super::model::{Answer, Call, Operation};

/// What becomes of writes without an answer whose value nobody saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unseen {
    /// Taken as never done.
    Dropped,
    /// They may have been done at any time.
    Kept,
}

/// An operation as the search takes it.
#[derive(Clone, Debug)]
pub(super) struct Span {
    /// The operation; its answer is what it must have been.
    pub(super) operation: Operation,
    /// Until when it took effect; none = at any time after the call, or never.
    pub(super) end: Option<u64>,
}

/// One key's operations, sorted by call.
pub(super) fn prepare(operations: &[Operation], unseen: Unseen) -> Vec<Span> {
    let mut seen_by = HashMap::new();
    for operation in operations {
        if let Some(value) = operation.witnessed() {
            let end = seen_by.entry(value).or_insert(operation.answered);
            *end = operation.answered.min(*end);
        }
    }
    let span = |operation: &Operation| {
        let mut operation = operation.clone();
        if operation.answer != Answer::Unknown {
            let end = Some(operation.answered);
            return Some(Span { operation, end });
        }
        match operation.call {
            // A read without an answer says nothing.
            Call::Get => None,
            Call::Delete => Some(Span { operation, end: None }),
            Call::Put(value, _) => match seen_by.get(&value) {
                // Somebody saw it: it was written, and before that answer.
                Some(end) => {
                    operation.answer = Answer::Written;
                    // (Not before its own call: then the answer is what is wrong, and the search will say so.)
                    let end = Some((*end).max(operation.called));
                    Some(Span { operation, end })
                }
                None if unseen == Unseen::Kept => Some(Span { operation, end: None }),
                None => None,
            },
        }
    };
    operations.iter().filter_map(span).collect()
}
