//! May a member put its data aside and come back as a new one? In: the question, from a member that is quarantined, blank, or not heard of
//! by its group any more; later the new member's wish for the place. Out: the leader's word, after a look at the group as it is at this
//! moment; the place. Absent: the change of members itself (`membership`), and what the asker does then (`lifecycle`).
//!
//! The damaged copy may be the last one of something. So it is put aside only while the group can do without it: at least three voters, all
//! the others heard within two heartbeats and with everything that was committed when they were asked, and nothing else being changed.

use std::sync::Arc;

use kvfleet_api::{admin::MemberAddress, token::JoinClaims};
use openraft::{Instant as _, RaftMetrics, async_runtime::watch::WatchReceiver as _};
use tokio::time::Instant;

use super::{
    Cost, Group, Inner,
    encoding::ReadAnswer,
    membership::{Change, MembershipError, MembershipRefusal},
    read::Barrier,
    status,
    types::{LogId, Types},
};
use crate::{
    peer::PeerAddress,
    state::{Command, Response},
};

/// With fewer voters a lost copy cannot be spared.
const LEAST_VOTERS: usize = 3;

/// What a member asks.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ReleaseRequest {
    /// The id that its data directory has or had; none when it cannot be read any more, or the directory is new.
    #[prost(fixed64, optional, tag = "1")]
    pub old: Option<u64>,
    /// Its name, by which the group knows whose place it had.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Only whether the member still belongs to the group.
    #[prost(bool, tag = "3")]
    pub only_ask: bool,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReleaseAnswer {
    /// It may put its data aside, and take the place of `replaces`.
    Granted {
        /// A voter.
        replaces: u64,
    },
    /// Its id does not belong to the group: it may put its data aside, and has no place to take.
    Left,
    /// It is a member and not to be replaced.
    Member,
    /// Ask the leader.
    Elsewhere(Option<PeerAddress>),
    /// Not now, and why.
    Refused(String),
}

/// What lets a blank member in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The place of this member, which a leader has released.
    Replaces(u64),
    /// A join token.
    Token(String),
}

/// Says what a join token says, or why it lets nobody in.
pub type Gatekeeper = Box<dyn Fn(&str) -> Result<JoinClaims, String> + Send + Sync>;

/// A blank member's wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRequest {
    /// What lets it in.
    pub by: Admission,
    /// The new member.
    pub itself: MemberAddress,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinAnswer {
    /// It votes, in the place of the other.
    Done,
    /// The other has left the group: there is no place to take.
    NoPlace,
    /// There is no leader to be found from here.
    Elsewhere,
    /// Not now, and why; while it catches up, how far it is.
    Refused(String),
    /// Not now and not later, and why.
    Never(String),
}

impl Group {
    /// From now on join tokens are looked at by this; before, nobody joins by one.
    pub fn admit_by(&self, gatekeeper: Gatekeeper) {
        // The first one stays: there is one set of keys.
        let _ = self.inner.gatekeeper.set(gatekeeper);
    }
}

impl Inner {
    /// Takes a new member in. May be asked for again and again.
    pub(super) async fn join(self: &Arc<Self>, request: JoinRequest, deadline: Instant) -> JoinAnswer {
        let JoinRequest { by, itself } = request;
        match by {
            Admission::Replaces(replaces) => self.take_into_place(replaces, itself, deadline).await,
            Admission::Token(token) => self.let_in(&token, itself, deadline).await,
        }
    }

    /// The log decides whom the token lets in, before anybody is let in: so it works once, whoever leads and whoever has left since. The
    /// member that it is for may show it again, after a crash on its way.
    async fn let_in(self: &Arc<Self>, token: &str, itself: MemberAddress, deadline: Instant) -> JoinAnswer {
        let Some(gatekeeper) = self.gatekeeper.get() else {
            return JoinAnswer::Elsewhere;
        };
        let JoinClaims { jti: token, exp, .. } = match gatekeeper(token) {
            Ok(claims) => claims,
            Err(reason) => return JoinAnswer::Never(reason),
        };
        let id = itself.id;
        let spend = Command::SpendToken {
            token,
            member: id,
            expires_at_ms: exp.saturating_mul(1_000),
        };
        match self.propose(spend, Cost::default(), deadline).await {
            Ok(Response::TokenSpent { member }) if member == id => {}
            Ok(Response::TokenSpent { member }) => {
                return JoinAnswer::Never(format!(
                    "the join token has been used, by member {member}, and this is member {id}; make another with `kvnode join-token`"
                ));
            }
            Ok(_) | Err(_) => return JoinAnswer::Elsewhere,
        }
        match self.change_members(Change::AddLearner(itself), deadline).await {
            Ok(()) => {}
            Err(MembershipError::Refused {
                refusal: MembershipRefusal::IdTaken | MembershipRefusal::AddressTaken | MembershipRefusal::NotBlank,
                detail,
            }) => return JoinAnswer::Never(detail),
            Err(error) => return answer_of(error),
        }
        match self.change_members(Change::Promote { id }, deadline).await {
            Ok(()) => JoinAnswer::Done,
            Err(error) => answer_of(error),
        }
    }

    async fn take_into_place(self: &Arc<Self>, replaces: u64, itself: MemberAddress, deadline: Instant) -> JoinAnswer {
        // A newcomer that was lost in its turn while it caught up: its name and address would stand in the way for ever.
        let left_over = |member: &MemberAddress| !member.voter && member.id != itself.id && member.name == itself.name;
        let left_over: Vec<u64> = self
            .read_status()
            .members
            .iter()
            .filter(|member| left_over(member))
            .map(|member| member.id)
            .collect();
        for id in left_over {
            if let Err(error) = self.change_members(Change::Remove { id }, deadline).await {
                return answer_of(error);
            }
        }
        let change = Change::Replace {
            old: replaces,
            new: itself,
        };
        match self.change_members(change, deadline).await {
            Ok(()) => JoinAnswer::Done,
            Err(MembershipError::Refused {
                refusal: MembershipRefusal::NoSuchMember,
                ..
            }) if !self.read_status().members.iter().any(|member| member.id == replaces) => JoinAnswer::NoPlace,
            Err(error) => answer_of(error),
        }
    }

    /// Answers a member's question. `asker` is the id that the asker has now.
    pub(super) async fn release(&self, asker: u64, request: ReleaseRequest) -> ReleaseAnswer {
        let leadership = *self.leadership.borrow();
        if !leadership.own {
            let leader = leadership.leader.filter(|leader| *leader != self.settings.id);
            return ReleaseAnswer::Elsewhere(leader.and_then(|leader| self.address_of(leader)));
        }
        // A leader that was replaced without noticing must not let anybody put data aside.
        let deadline = Instant::now() + self.settings.grace();
        if !matches!(
            tokio::time::timeout_at(deadline, self.read_index(Barrier::Quorum)).await,
            Ok(ReadAnswer::At { .. })
        ) {
            return ReleaseAnswer::Elsewhere(None);
        }
        let ReleaseRequest { old, name, only_ask } = request;
        let mut metrics = self.raft.metrics();
        let (old, committed) = {
            let now = metrics.borrow_and_update();
            if !is_settled(&now) {
                return ReleaseAnswer::Refused("the group's members are being changed at the moment".to_owned());
            }
            let members = status::members(&now.membership_config);
            let is_member = |id: u64| members.iter().any(|member| member.id == id);
            let found = match old {
                Some(old) if is_member(old) => Some(old),
                Some(_) => return ReleaseAnswer::Left,
                None if is_member(asker) => return ReleaseAnswer::Member,
                // A newcomer that was lost while it caught up has the same name, and no place.
                None => members
                    .iter()
                    .filter(|member| member.name == name)
                    .max_by_key(|member| member.voter)
                    .map(|member| member.id),
            };
            match found {
                None => return ReleaseAnswer::Left,
                Some(_) if only_ask => return ReleaseAnswer::Member,
                Some(old) if old == self.settings.id => {
                    return ReleaseAnswer::Refused(format!("the member named {name} leads the group: it is alive"));
                }
                Some(old) if !members.iter().any(|member| member.id == old && member.voter) => {
                    return ReleaseAnswer::Refused(format!("the member named {name} does not vote (yet); remove it instead"));
                }
                Some(old) => (old, now.cluster_committed),
            }
        };
        // A member that takes part is heard within the time of an election, also by a leader that is new.
        tokio::time::sleep(self.settings.election_timeout).await;
        let deadline = Instant::now() + self.settings.grace();
        loop {
            let problem = self.spares(&metrics.borrow_and_update(), old, committed);
            match problem {
                None => return ReleaseAnswer::Granted { replaces: old },
                Some(problem) if Instant::now() >= deadline => return ReleaseAnswer::Refused(problem),
                Some(_) => {}
            }
            let next = deadline.min(Instant::now() + self.settings.heartbeat_interval);
            if let Ok(Err(_)) = tokio::time::timeout_at(next, metrics.changed()).await {
                return ReleaseAnswer::Elsewhere(None);
            }
        }
    }

    /// Why the group cannot do without `old`; none if it can.
    fn spares(&self, now: &RaftMetrics<Types>, old: u64, committed: Option<LogId>) -> Option<String> {
        let (Some(matched), Some(heard)) = (&now.replication, &now.heartbeat) else {
            return Some("the member that was asked does not lead any more".to_owned());
        };
        if !is_settled(now) {
            return Some("the group's members are being changed at the moment".to_owned());
        }
        let voters: Vec<u64> = now.membership_config.voter_ids().collect();
        if voters.len() < LEAST_VOTERS {
            return Some(format!(
                "the group has {} voters: with fewer than {LEAST_VOTERS} no copy can be spared; restore this member's data",
                voters.len()
            ));
        }
        let fresh = 2 * self.settings.heartbeat_interval;
        let age = |id: &u64| heard.get(id).and_then(Option::as_ref).map(|at| at.elapsed());
        if age(&old).is_some_and(|age| age <= fresh) {
            return Some(format!("member {old:x} takes part: stop it before it is replaced"));
        }
        voters.iter().filter(|id| **id != old && **id != self.settings.id).find_map(|id| {
            if age(id).is_none_or(|age| age > fresh) {
                return Some(format!("member {id:x} is not heard: the group cannot spare another copy"));
            }
            let behind = matched.get(id).and_then(Option::as_ref).map(|matched| matched.index) < committed.map(|id| id.index);
            behind.then(|| format!("member {id:x} has not caught up: the group cannot spare another copy"))
        })
    }
}

fn answer_of(error: MembershipError) -> JoinAnswer {
    match error {
        MembershipError::Refused { detail, .. } => JoinAnswer::Refused(detail),
        MembershipError::StillRunning(progress) => JoinAnswer::Refused(progress),
        MembershipError::NoLeader | MembershipError::Draining | MembershipError::Failed(_) => JoinAnswer::Elsewhere,
    }
}

/// Whether the last change of the members is over.
fn is_settled(now: &RaftMetrics<Types>) -> bool {
    let membership = &now.membership_config;
    membership.membership().get_joint_config().len() == 1 && membership.log_id().as_ref() <= now.cluster_committed.as_ref()
}
