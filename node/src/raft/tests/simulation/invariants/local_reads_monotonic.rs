//! What one member answers without asking anybody never goes back, across its restarts too, and is never ahead of what was asked for.

use std::collections::BTreeMap;

use super::super::history::{Answer, Asked, History};

pub(super) fn check(history: &History) -> Result<(), String> {
    let mut reads: Vec<_> = history
        .iter()
        .filter_map(|operation| match (&operation.asked, &operation.answered) {
            (Asked::LocalRead { .. }, Some((at, Answer::Found(seen)))) => Some((operation.member, operation.invoked, *at, seen)),
            _ => None,
        })
        .collect();
    reads.sort_by_key(|(_, invoked, ..)| *invoked);
    let mut newest: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
    for (member, invoked, answered, seen) in reads {
        let (revision, at) = newest.entry(member).or_default();
        if seen.revision < *revision && *at < invoked {
            return Err(format!(
                "local reads monotonic: m{member} answered with revision {revision} in millisecond {at} and with {} in millisecond {invoked}",
                seen.revision
            ));
        }
        if seen.revision >= *revision {
            (*revision, *at) = (seen.revision, answered);
        }
    }
    Ok(())
}
