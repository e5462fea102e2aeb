//! A member that was removed and may not know: a leader stops sending to whoever is not in the new configuration, often before that one
//! has heard of it. In: what the other members say is committed. Out: the certainty that this member has left, for good. Absent: what a
//! removed member does (`lifecycle`).

use std::{sync::Arc, time::Duration};

use kvfleet_api::admin::{MemberState, Role};
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::time::Instant;

use crate::{
    peer::{Lane, Method, PeerAddress},
    raft::{
        Group, Inner,
        encoding::{KnownMembership, MembershipCall},
    },
};

/// Between two rounds of asking, and how long one answer may take.
const PAUSE: Duration = Duration::from_secs(1);

impl Group {
    /// Returns when this member knows that it was removed from its group. It stands for no election then and is not ready.
    pub async fn removed(&self) {
        let mut removed = self.inner.removed.subscribe();
        if removed.wait_for(|removed| *removed).await.is_err() {
            std::future::pending().await
        }
    }
}

impl Inner {
    /// What this member knows to be committed, for another that asks.
    pub(in crate::raft) fn tell_membership(&self) -> KnownMembership {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let committed = &metrics.committed_membership_config;
        KnownMembership {
            at: *committed.log_id(),
            membership: committed.membership().clone(),
        }
    }

    /// While no leader is heard, asks the others whether this member still belongs to them.
    pub(in crate::raft) async fn learn_of_removal(self: Arc<Self>) {
        loop {
            tokio::time::sleep(PAUSE).await;
            if !self.is_forgotten() {
                continue;
            }
            for peer in self.companions() {
                let call = MembershipCall::Ask.encode();
                let answer = self
                    .transport
                    .call(&peer, Lane::Calls, Method::Membership, call, Instant::now() + PAUSE)
                    .await;
                let Ok(Ok(known)) = answer.map(KnownMembership::decode) else {
                    continue;
                };
                if self.has_left(&known) {
                    tracing::warn!(
                        told_by = format_args!("{:x}", peer.id),
                        "this member was removed from its group; its data is of no use to it any more"
                    );
                    self.raft.runtime_config().elect(false);
                    self.removed.send_replace(true);
                    self.status.send_replace(self.read_status());
                    return;
                }
            }
        }
    }

    fn is_forgotten(&self) -> bool {
        let status = self.read_status();
        status.state == MemberState::Member
            && status.role != Some(Role::Primary)
            && status.last_heartbeat_age.is_none_or(|age| age > self.alive_within())
    }

    fn companions(&self) -> Vec<PeerAddress> {
        let others = self
            .read_status()
            .members
            .into_iter()
            .filter(|member| member.id != self.settings.id);
        others
            .map(|member| PeerAddress {
                id: member.id,
                address: member.peer,
            })
            .collect()
    }

    /// A committed membership without this member, not older than the last one known here, in which it may still be: a blank member has no
    /// companions to ask, so it cannot be one from before this member came; and who has left never comes back.
    fn has_left(&self, known: &KnownMembership) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        known.at.is_some() && known.at >= *metrics.membership_config.log_id() && known.membership.get_node(&self.settings.id).is_none()
    }
}
