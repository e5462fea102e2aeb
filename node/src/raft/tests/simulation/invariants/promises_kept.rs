//! A log that opens holds what it has said to be durable, and its member is in no earlier term than the one that it has acted in. A vote
//! forgotten is two votes in one term.

use crate::log::{Wal, task::Promised};

pub(in crate::raft::tests::simulation) fn check(at: usize, promised: &Promised, term: u64, wal: &Wal) -> Result<(), String> {
    let recovered = wal.vote().map_or(0, |vote| vote.term);
    if recovered < term {
        return Err(format!(
            "promises kept: m{at} acted in term {term} and restarts in term {recovered}"
        ));
    }
    let vote = |vote: Option<crate::log::Vote>| vote.map(|vote| (vote.term, vote.voted_for));
    if let Some(promised) = promised.vote
        && vote(wal.vote()) < vote(Some(promised))
    {
        return Err(format!(
            "promises kept: m{at} has forgotten its vote {promised:?}, its log has {:?}",
            wal.vote()
        ));
    }
    // A later truncation is durable before it is told, so what was told last is the least there is.
    if let Some(promised) = promised.last
        && wal.last().is_none_or(|last| last.index < promised.index)
    {
        return Err(format!(
            "promises kept: m{at} has lost its log after {:?}, it had told of {promised:?}",
            wal.last()
        ));
    }
    Ok(())
}
