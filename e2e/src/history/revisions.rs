//! What revisions alone betray: one revision for two values, one value at two revisions, a later write with a lower revision.

use std::{collections::HashMap, fmt};

use super::record::{Record, Seen};
use crate::linearizability::{Call, Value};

/// Two records that cannot both be true.
#[derive(Clone, Debug)]
pub struct Contradiction {
    what: &'static str,
    first: Box<Record>,
    second: Box<Record>,
}

impl fmt::Display for Contradiction {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:\n  {:?}\n  {:?}", self.what, self.first, self.second)
    }
}

/// The value and revision of a record that an answer speaks of.
fn stated(record: &Record) -> Option<(Value, u64)> {
    match (record.call, record.seen) {
        (Call::Put(value, _), Seen::Written { revision }) | (_, Seen::Found { value, revision }) => Some((value, revision)),
        _ => None,
    }
}

/// Which value each revision stands for. Revisions are the cluster's: no two records share one.
pub(super) fn values(records: &[Record]) -> Result<HashMap<u64, Value>, Contradiction> {
    let mut by_revision: HashMap<u64, (Value, &Record)> = HashMap::new();
    let mut by_value: HashMap<Value, (u64, &Record)> = HashMap::new();
    for record in records {
        let Some((value, revision)) = stated(record) else { continue };
        let contradiction = |what, first: &Record| Contradiction {
            what,
            first: Box::new(first.clone()),
            second: Box::new(record.clone()),
        };
        let (other, first) = by_revision.entry(revision).or_insert((value, record));
        if *other != value {
            return Err(contradiction("one revision stands for two values", first));
        }
        let (other, first) = by_value.entry(value).or_insert((revision, record));
        if *other != revision {
            return Err(contradiction("one write has two revisions", first));
        }
    }
    Ok(by_revision.into_iter().map(|(revision, (value, _))| (revision, value)).collect())
}

/// A write that was called after another was answered has the higher revision, whatever the keys.
pub(super) fn in_order(records: &[Record]) -> Result<(), Contradiction> {
    let mut writes: Vec<(u64, &Record)> = records
        .iter()
        .filter_map(|record| match record.seen {
            Seen::Written { revision } => Some((revision, record)),
            _ => None,
        })
        .collect();
    let mut answered = writes.clone();
    writes.sort_by_key(|(_, record)| record.called);
    answered.sort_by_key(|(_, record)| record.answered);
    let mut answered = answered.into_iter().peekable();
    let mut highest: Option<(u64, &Record)> = None;
    for (revision, record) in writes {
        while let Some(before) = answered.next_if(|(_, before)| before.answered < record.called) {
            highest = highest.filter(|highest| highest.0 > before.0).or(Some(before));
        }
        if let Some((_, first)) = highest.filter(|(higher, _)| *higher >= revision) {
            return Err(Contradiction {
                what: "a write has a lower revision than one that was acknowledged before it was asked for",
                first: Box::new(first.clone()),
                second: Box::new(record.clone()),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::linearizability::Condition;

    fn written(called: u64, answered: u64, value: Value, revision: u64) -> Record {
        Record {
            client: 0,
            member: 0,
            key: value.to_string(),
            call: Call::Put(value, Condition::None),
            seen: Seen::Written { revision },
            called,
            answered,
        }
    }

    fn found(value: Value, revision: u64) -> Record {
        Record {
            call: Call::Get,
            seen: Seen::Found { value, revision },
            ..written(0, 1, value, revision)
        }
    }

    #[test]
    fn a_revision_stands_for_one_value() {
        assert_eq!(values(&[written(0, 1, 7, 3), found(7, 3)]).unwrap().get(&3), Some(&7));
        assert!(
            values(&[written(0, 1, 7, 3), found(8, 3)])
                .unwrap_err()
                .to_string()
                .contains("two values")
        );
        assert!(
            values(&[written(0, 1, 7, 3), found(7, 4)])
                .unwrap_err()
                .to_string()
                .contains("two revisions")
        );
    }

    #[test]
    fn revisions_follow_time() {
        assert!(in_order(&[written(0, 10, 1, 5), written(5, 15, 2, 4)]).is_ok(), "side by side");
        assert!(in_order(&[written(0, 10, 1, 5), written(11, 15, 2, 6)]).is_ok());
        assert!(in_order(&[written(0, 10, 1, 5), written(11, 15, 2, 4)]).is_err());
        assert!(in_order(&[written(11, 15, 2, 4), written(0, 10, 1, 5), written(0, 9, 3, 1)]).is_err());
    }
}
