//! Whether what clients saw can be explained by one register per key, each operation taking effect at one moment between its call and its
//! answer (Herlihy and Wing 1990).
//!
//! In: a history of operations with one clock. Out: a [`Verdict`]; an illegal history comes with the shortest part of it that is illegal.
//! A history is linearizable exactly when each key's part is (locality), so keys are checked one by one. Within a key the search is Wing and
//! Gong's with Lowe's memory of visited configurations, as in Porcupine. Absent: anything about HTTP or processes.
//!
//! An operation without an answer may take effect at any time after its call, or never. Values are unique, which makes most of these exact:
//! a write whose value somebody saw took effect before that answer.

mod model;
mod prepare;
mod search;
mod shrink;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use model::{Answer, Call, Condition, Operation, Value};
use prepare::Unseen;
use search::Outcome;

/// What the checker says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order that explains every answer.
    Linearizable,
    /// There is none.
    Illegal(Counterexample),
    /// The search was given up; choose fewer operations per key.
    Undecided {
        /// The key at which.
        key: String,
    },
}

/// A part of a history that no order explains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counterexample {
    /// The key.
    pub key: String,
    /// Its operations up to the first moment at which no order is left, without the reads that are not needed to show it. By call time.
    pub operations: Vec<Operation>,
}

impl std::fmt::Display for Counterexample {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(formatter, "key {}: no order of these operations explains their answers", self.key)?;
        for operation in &self.operations {
            writeln!(formatter, "  {operation}")?;
        }
        Ok(())
    }
}

/// Checks a history. Values that are written must differ within a key.
pub fn check(operations: &[Operation]) -> Verdict {
    let mut keys: BTreeMap<&str, Vec<Operation>> = BTreeMap::new();
    for operation in operations {
        keys.entry(&operation.key).or_default().push(operation.clone());
    }
    for (key, mut operations) in keys {
        operations.sort_by_key(|operation| (operation.called, operation.answered));
        match check_key(&operations) {
            Outcome::Explained => {}
            Outcome::Illegal => {
                return Verdict::Illegal(Counterexample {
                    key: key.to_owned(),
                    operations: shrink::shrink(operations),
                });
            }
            Outcome::GivenUp => return Verdict::Undecided { key: key.to_owned() },
        }
    }
    Verdict::Linearizable
}

/// One key's operations, sorted by call. First as if writes without an answer whose value nobody saw had never happened: that explains most
/// histories, and keeps the search small. Only if it does not, they are tried.
fn check_key(operations: &[Operation]) -> Outcome {
    match search::search(&prepare::prepare(operations, Unseen::Dropped)) {
        Outcome::Explained => Outcome::Explained,
        Outcome::Illegal | Outcome::GivenUp => search::search(&prepare::prepare(operations, Unseen::Kept)),
    }
}
