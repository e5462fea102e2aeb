//! Waiting for all voters. In: a revision that a majority has, and a deadline. Out: every voter has applied it, or how many have not.
//! Absent: what was written, and the majority's word on it (`propose`).
//!
//! The member that the writer asked asks the others itself, leader or not: a revision means the same everywhere, and each voter knows best
//! what it has applied. What it cannot be asked it is asked again, until the deadline: it may be restarting.

use std::{collections::BTreeSet, time::Duration};

use futures::future::join_all;
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::time::Instant;

use super::{
    Group, Inner, NotEverywhere,
    encoding::{WaitAnswer, WaitCall},
};
use crate::peer::{Lane, Method};

/// How long a voter is left alone that could not be asked, or has just said no.
const PAUSE: Duration = Duration::from_millis(20);

impl Group {
    /// Returns when every voter has applied this revision: from then on local reads see it on every one of them.
    ///
    /// # Errors
    /// [`NotEverywhere`] at the deadline. The write stands nevertheless.
    pub async fn wait_everywhere(&self, revision: u64, deadline: Instant) -> Result<(), NotEverywhere> {
        self.inner.wait_everywhere(revision, deadline).await
    }
}

impl Inner {
    async fn wait_everywhere(&self, revision: u64, deadline: Instant) -> Result<(), NotEverywhere> {
        let mut reached = BTreeSet::new();
        loop {
            // This member, too, whether it votes or not: once it has applied the write, its log has every change of the membership that
            // came before, and no voter of that time is overlooked.
            let mut voters = self.every_voter();
            let count = voters.len();
            voters.insert(self.settings.id);
            let missing: Vec<u64> = voters.difference(&reached).copied().collect();
            if missing.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(NotEverywhere {
                    missing: missing.len(),
                    voters: count,
                });
            }
            let asked = missing
                .into_iter()
                .map(async |member| (member, self.wait_on(member, revision, deadline).await));
            let answers = join_all(asked).await;
            reached.extend(answers.into_iter().filter_map(|(member, there)| there.then_some(member)));
        }
    }

    fn every_voter(&self) -> BTreeSet<u64> {
        self.raft.metrics().borrow_watched().membership_config.voter_ids().collect()
    }

    /// Whether the member has got there before the deadline, or is no voter any more.
    async fn wait_on(&self, member: u64, revision: u64, deadline: Instant) -> bool {
        if member == self.settings.id {
            return self.has_applied(revision, deadline).await;
        }
        while Instant::now() < deadline {
            let Some(peer) = self.address_of(member).filter(|_| self.every_voter().contains(&member)) else {
                return true;
            };
            let patience = deadline.saturating_duration_since(Instant::now());
            let call = WaitCall {
                patience_ms: u32::try_from(patience.as_millis()).unwrap_or(u32::MAX),
                revision,
            };
            let answer = self
                .transport
                .call(&peer, Lane::Calls, Method::WaitApplied, call.encode(), deadline)
                .await;
            if answer.is_ok_and(|body| WaitAnswer::decode(body).is_ok_and(|WaitAnswer { applied: there }| there)) {
                return true;
            }
            tokio::time::sleep_until(deadline.min(Instant::now() + PAUSE)).await;
        }
        false
    }

    /// Whether this member applies the revision before the deadline.
    pub(super) async fn has_applied(&self, revision: u64, deadline: Instant) -> bool {
        let waited = tokio::time::timeout_at(deadline, self.views.wait_revision(revision)).await;
        matches!(waited, Ok(Ok(())))
    }
}
