//! What a leader sees of its group, as the rules of membership need it. In: openraft's metrics. Out: members, and how far and how long ago
//! each was heard. Absent: judging it (`check`).

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use kvfleet_api::admin::{MemberAddress, MemberStanding, Role};
use openraft::{Instant as _, async_runtime::watch::WatchReceiver as _};
use tokio::time::Instant;

use super::check;
use crate::{
    peer::{Lane, Method, PeerAddress},
    raft::{Group, Inner, status},
};

/// A group as its leader sees it.
#[derive(Clone, Debug)]
pub(super) struct Picture {
    /// The leader.
    pub(super) own: u64,
    /// By id; while two configurations hold, whoever votes in one of them is a voter.
    pub(super) members: Vec<MemberAddress>,
    /// The last log index of the leader.
    pub(super) last_log_index: u64,
    /// The others.
    pub(super) others: BTreeMap<u64, Seen>,
    /// Whoever was not heard for this long is not live.
    pub(super) alive_within: Duration,
}

/// What the leader knows of another member.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// The last log index that it is known to have stored.
    pub(super) matched: Option<u64>,
    /// How long ago it answered.
    pub(super) heard: Option<Duration>,
}

impl Picture {
    pub(super) fn member(&self, id: u64) -> Option<&MemberAddress> {
        self.members.iter().find(|member| member.id == id)
    }

    pub(super) fn voters(&self) -> impl Iterator<Item = u64> + '_ {
        self.members.iter().filter(|member| member.voter).map(|member| member.id)
    }

    pub(super) fn is_voter(&self, id: u64) -> bool {
        self.voters().any(|voter| voter == id)
    }

    pub(super) fn is_live(&self, id: u64) -> bool {
        let heard = || self.others.get(&id).and_then(|seen| seen.heard);
        id == self.own || heard().is_some_and(|age| age <= self.alive_within)
    }

    /// Entries that the member lacks; all of them while nothing is known.
    pub(super) fn lag(&self, id: u64) -> u64 {
        if id == self.own {
            return 0;
        }
        let matched = self.others.get(&id).and_then(|seen| seen.matched);
        // Indexes start at 0, so one that has nothing lacks one more than the last index.
        matched.map_or(self.last_log_index.saturating_add(1), |matched| {
            self.last_log_index.saturating_sub(matched)
        })
    }

    /// For a message: `name (id)`.
    pub(super) fn called(&self, id: u64) -> String {
        match self.member(id) {
            Some(member) => format!("{} ({id})", member.name),
            None => id.to_string(),
        }
    }
}

impl Group {
    /// The members with their roles; on the leader also how far each is behind and when it was heard.
    pub fn standings(&self) -> Vec<MemberStanding> {
        let status = self.status();
        let picture = self.inner.picture();
        let leader = status.leader.map(|leader| leader.id);
        let standing = |member: MemberAddress| MemberStanding {
            role: if leader == Some(member.id) {
                Role::Primary
            } else if member.voter {
                Role::Follower
            } else {
                Role::Learner
            },
            lag: picture.as_ref().map(|picture| picture.lag(member.id)),
            lag_bytes: None,
            caught_up: picture.as_ref().is_some_and(|picture| check::caught_up(picture, member.id).is_ok()),
            heard_ms: picture
                .as_ref()
                .and_then(|picture| picture.others.get(&member.id))
                .and_then(|seen| seen.heard)
                .map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            id: member.id,
            name: member.name,
            peer: member.peer,
            voter: member.voter,
        };
        status.members.into_iter().map(standing).collect()
    }
}

impl Inner {
    /// As [`Inner::picture`], with every member asked whether it is there: one that has just gone is still "heard" for a while, and a
    /// change that waits for its disk would stop all writes.
    pub(super) async fn fresh_picture(&self) -> Option<Picture> {
        let others = self.picture()?.members.into_iter().filter(|member| member.id != self.settings.id);
        let deadline = Instant::now() + self.settings.election_timeout;
        let pings = others.map(async |member| {
            let peer = PeerAddress {
                id: member.id,
                address: member.peer,
            };
            let answer = self
                .transport
                .call(&peer, Lane::Control, Method::Ping, Bytes::new(), deadline)
                .await;
            (member.id, answer.is_ok())
        });
        let answers = futures::future::join_all(pings).await;
        let mut picture = self.picture()?;
        for (id, _) in answers.into_iter().filter(|(_, there)| !there) {
            picture.others.entry(id).or_default().heard = None;
        }
        Some(picture)
    }

    /// None while this member does not lead.
    pub(super) fn picture(&self) -> Option<Picture> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let matched = metrics.replication.as_ref()?;
        let heard = metrics.heartbeat.as_ref()?;
        let members = status::members(&metrics.membership_config);
        let others = members.iter().filter(|member| member.id != self.settings.id).map(|member| {
            let seen = Seen {
                matched: matched.get(&member.id).and_then(|at| at.as_ref()).map(|at| at.index),
                heard: heard.get(&member.id).and_then(|at| at.as_ref()).map(|at| at.elapsed()),
            };
            (member.id, seen)
        });
        Some(Picture {
            own: self.settings.id,
            others: others.collect(),
            members,
            last_log_index: metrics.last_log_index.unwrap_or(0),
            alive_within: self.alive_within(),
        })
    }
}
