//! Where a member stands in its group. In: openraft's metrics. Out: a status for people and probes, the leadership that proposals watch,
//! and news of failure. Absent: acting on any of it.

use std::{sync::Arc, time::Duration};

use kvfleet_api::admin::{MemberAddress, MemberState, Role};
use openraft::{Instant as _, RaftMetrics, ServerState, async_runtime::watch::WatchReceiver as _};

use super::{
    Inner,
    types::{Member, StoredMembership, Types},
};

/// A member's own view of its group.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupStatus {
    /// Where the member stands in its life.
    pub state: MemberState,
    /// Its role; none while blank, and once removed.
    pub role: Option<Role>,
    /// The current term.
    pub term: u64,
    /// The leader that it knows.
    pub leader: Option<MemberAddress>,
    /// The members as its log says, by id.
    pub members: Vec<MemberAddress>,
    /// The last log index on its disk (or on its way there).
    pub last_log_index: Option<u64>,
    /// The last index known to be committed in the group.
    pub committed_index: Option<u64>,
    /// The last applied log index.
    pub applied_index: Option<u64>,
    /// When a follower last heard its leader, a leader last heard a quorum: how long ago.
    pub last_heartbeat_age: Option<Duration>,
    /// How far the member's clock is ahead of the voters' median, milliseconds.
    pub clock_skew_ms: i64,
    /// Whether it has caught up with what it knew before it was started.
    pub recovered: bool,
}

impl GroupStatus {
    /// Before openraft has said anything.
    pub(super) fn unknown() -> Self {
        GroupStatus {
            state: MemberState::Blank,
            role: None,
            term: 0,
            leader: None,
            members: Vec::new(),
            last_log_index: None,
            committed_index: None,
            applied_index: None,
            last_heartbeat_age: None,
            clock_skew_ms: 0,
            recovered: false,
        }
    }
}

/// Who leads, as proposals need to know it. Changes rarely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leadership {
    pub(super) term: u64,
    pub(super) leader: Option<u64>,
    /// This member leads.
    pub(super) own: bool,
    /// While it leads: a quorum has been heard within the last two leases.
    pub(super) quorum: bool,
}

impl Leadership {
    /// Before anything is known.
    pub(super) const NONE: Leadership = Leadership {
        term: 0,
        leader: None,
        own: false,
        quorum: false,
    };

    /// The group has stopped here. Differs from every other value, so that whoever waits is woken.
    pub(super) const OVER: Leadership = Leadership {
        term: u64::MAX,
        ..Leadership::NONE
    };

    /// Whether somebody leads who can take commands, as far as is known here.
    pub(super) fn is_useful(&self) -> bool {
        self.leader.is_some() && (self.quorum || !self.own)
    }
}

pub(super) fn members(membership: &StoredMembership) -> Vec<MemberAddress> {
    let voters: Vec<u64> = membership.voter_ids().collect();
    let address = |(id, Member { name, peer }): (&u64, &Member)| MemberAddress {
        id: *id,
        name: name.clone(),
        peer: peer.clone(),
        voter: voters.contains(id),
    };
    membership.nodes().map(address).collect()
}

impl Inner {
    pub(super) fn read_status(&self) -> GroupStatus {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let members = members(&metrics.membership_config);
        let blank = metrics.last_log_index.is_none() && metrics.current_term == 0;
        let voter = members.iter().any(|member| member.id == self.settings.id && member.voter);
        let removed = self.is_removed();
        let state = match (self.is_draining(), blank) {
            (true, _) => MemberState::Draining,
            (false, true) => MemberState::Blank,
            (false, false) if removed => MemberState::Removed,
            (false, false) => MemberState::Member,
        };
        let role = match metrics.state {
            _ if blank || removed => None,
            ServerState::Leader => Some(Role::Primary),
            _ if voter => Some(Role::Follower),
            _ => Some(Role::Learner),
        };
        GroupStatus {
            state,
            role,
            term: metrics.current_term,
            leader: metrics
                .current_leader
                .and_then(|id| members.iter().find(|member| member.id == id).cloned()),
            last_log_index: metrics.last_log_index,
            committed_index: metrics.cluster_committed.map(|id| id.index),
            applied_index: metrics.last_applied.map(|id| id.index),
            last_heartbeat_age: match metrics.state {
                ServerState::Leader => metrics.last_quorum_acked.map(|at| at.elapsed()),
                _ => self.heard_leader().map(|at| at.elapsed()),
            },
            members,
            clock_skew_ms: self.transport.clock().skew_ms(),
            recovered: self.is_recovered(),
        }
    }

    /// Follows openraft until it stops: who leads, whose clocks count, whether it has failed.
    ///
    /// Woken by what changes rarely, and otherwise once per heartbeat: openraft's figures change with every batch of entries, and following
    /// each change cost a loaded leader a tenth of its time.
    pub(super) async fn watch_metrics(self: Arc<Self>) {
        let metrics = self.raft.metrics();
        let mut server = self.raft.server_metrics();
        let lease = self.settings.lease();
        let mut membership_at = None;
        let mut known = None;
        let mut ended = false;
        loop {
            server.borrow_and_update();
            {
                let now = metrics.borrow_watched();
                if let Err(fatal) = &now.running_state {
                    if !self.is_draining() {
                        self.fail(format!("consensus has stopped: {fatal}"));
                    }
                    ended = true;
                }
                if ended {
                    // Nobody leads from here any more, and whoever waits for an answer hears of it.
                    self.publish_leadership(Leadership::OVER);
                    return;
                }
                if membership_at != Some(*now.membership_config.log_id()) {
                    membership_at = Some(*now.membership_config.log_id());
                    self.transport.clock().set_voters(now.membership_config.voter_ids().collect());
                }
                let leadership = self.leadership(&now, lease);
                self.transport.clock().set_leading(leadership.own);
                self.publish_leadership(leadership);
            }
            let status = self.read_status();
            let coarse = (
                status.state,
                status.role,
                status.term,
                status.leader.clone(),
                status.members.clone(),
            );
            if known.as_ref() != Some(&coarse) {
                known = Some(coarse);
                self.status.send_replace(status);
            }
            // The end of the pause is what notices that a quorum is no longer heard.
            match tokio::time::timeout(self.settings.heartbeat_interval, server.changed()).await {
                Ok(Ok(())) | Err(_) => {}
                // The figures' last word says why.
                Ok(Err(_)) => ended = true,
            }
        }
    }

    fn leadership(&self, metrics: &RaftMetrics<Types>, lease: Duration) -> Leadership {
        let own = metrics.state == ServerState::Leader && metrics.current_leader == Some(self.settings.id);
        let alone = metrics.membership_config.voter_ids().count() == 1;
        // A leader that has just been elected has heard a quorum: of votes.
        let quorum = own && (alone || metrics.last_quorum_acked.is_none_or(|at| at.elapsed() < 2 * lease));
        Leadership {
            term: metrics.current_term,
            leader: metrics.current_leader,
            own,
            quorum,
        }
    }
}
