//! The shard's time does not go back for linearizable reads, whoever leads, so a record that was absent because it had expired does not
//! return; and no read finds a record past its expiry.
//!
//! A member that crashes forgets the stamps that only reads have heard: it restarts from the last one that is in its log. So time may go
//! back, as far as to the last write, when a quorum is lost from memory while a clock is behind. Reads with a crash between them are not
//! compared (docs/proof.md).

use super::super::history::{Answer, Asked, History};

struct Read {
    invoked: u64,
    answered: u64,
    now_ms: u64,
}

pub(super) fn check(history: &History, crashes: &[u64]) -> Result<(), String> {
    let mut reads = Vec::new();
    for operation in history.iter() {
        let Some((answered, Answer::Found(seen))) = &operation.answered else {
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
            reads.push(Read {
                invoked: operation.invoked,
                answered: *answered,
                now_ms: seen.now_ms,
            });
        }
    }
    for earlier in &reads {
        let crash = crashes.iter().filter(|crash| **crash >= earlier.invoked).min();
        let until = crash.copied().unwrap_or(u64::MAX);
        let back = reads
            .iter()
            .find(|later| earlier.answered < later.invoked && later.answered < until && later.now_ms < earlier.now_ms);
        if let Some(later) = back {
            return Err(format!(
                "expired stays absent: a read asked in millisecond {} is as of {}, one answered in millisecond {} was as of {}",
                later.invoked, later.now_ms, earlier.answered, earlier.now_ms
            ));
        }
    }
    Ok(())
}
