//! The shard's time never goes back for linearizable reads, whoever leads and however wrong its clock is, so a record that was absent
//! because it had expired does not return; and no read finds a record past its expiry.

use super::super::history::{Answer, Asked, History};

pub(super) fn check(history: &History) -> Result<(), String> {
    let mut reads = Vec::new();
    for operation in history.iter() {
        let Some((at, Answer::Found(seen))) = &operation.answered else {
            continue;
        };
        if let Some((value, _, Some(expires))) = &seen.record
            && *expires <= seen.now_ms
        {
            return Err(format!(
                "expired stays absent: a read as of {} found {value}, which expired at {expires}",
                seen.now_ms
            ));
        }
        if matches!(operation.asked, Asked::Read { .. }) {
            reads.push((operation.invoked, *at, seen.now_ms));
        }
    }
    reads.sort_unstable();
    let mut answered = reads.clone();
    answered.sort_unstable_by_key(|(_, at, _)| *at);
    let mut before = answered.into_iter().peekable();
    let mut latest = 0;
    for (invoked, _, now_ms) in reads {
        while let Some((_, _, earlier)) = before.next_if(|(_, at, _)| *at < invoked) {
            latest = latest.max(earlier);
        }
        if now_ms < latest {
            return Err(format!(
                "expired stays absent: a read asked in millisecond {invoked} is as of {now_ms}, an earlier one was as of {latest}"
            ));
        }
    }
    Ok(())
}
