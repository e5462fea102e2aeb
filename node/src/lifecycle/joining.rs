//! Taking the place of a lost member. In: a blank member that knows whom it replaces, or finds out: the group is formed, and has a member of
//! its name with another id; or one that was given a join token. Out: a voter. Absent: the change itself (`raft`), which may be asked for again and again; so a crash at any
//! point is followed by the same question.

use std::{path::PathBuf, time::Duration};

use kvfleet_api::admin::{MemberAddress, MemberState};
use tokio::time::Instant;

use crate::{
    config::{Config, JoinToken, Mode},
    data_dir::{self, DataDir, Identity},
    peer::Transport,
    raft::{self, Admission, Group, JoinAnswer, JoinRequest, ReleaseAnswer, ReleaseRequest},
    standalone::discovery,
};

/// Between two questions.
const PAUSE: Duration = Duration::from_secs(1);
/// How long the group may take to answer: the new member is caught up meanwhile, and asks again if that takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A member and its way to the others.
pub(super) struct Newcomer {
    pub(super) group: Group,
    pub(super) transport: Transport,
    pub(super) config: Config,
    pub(super) path: PathBuf,
    pub(super) identity: Identity,
    pub(super) peer_advertise: String,
    pub(super) self_replace: bool,
}

impl Newcomer {
    /// Until the member has the place, or there is none for it.
    pub(super) async fn take_place(self) {
        let token = match &self.config.mode {
            Mode::Cluster { join_token, .. } => join_token.clone(),
            Mode::Alone { .. } => None,
        };
        let replaces = match self.identity.replaces {
            Some(replaces) => replaces,
            // Who has lost its data and shows the token that once let it in gets its place back like anybody else.
            None if let Some(token) = token
                && (self.join_by(token).await || !self.self_replace) =>
            {
                return;
            }
            None if self.self_replace => match self.find_place().await {
                Some(replaces) => replaces,
                None => return,
            },
            None => return,
        };
        tracing::info!(replaces, "asking to take the place of a lost member");
        let mut told = None;
        while !self.votes() {
            match self.ask(Admission::Replaces(replaces)).await {
                JoinAnswer::Done => self.until_it_votes().await,
                JoinAnswer::NoPlace => {
                    tracing::warn!(replaces, "the lost member has left the group: there is no place to take");
                    break;
                }
                JoinAnswer::Refused(problem) | JoinAnswer::Never(problem) => {
                    if told.as_ref() != Some(&problem) {
                        tracing::warn!(problem, "not taken in yet");
                    }
                    told = Some(problem);
                    tokio::time::sleep(PAUSE).await;
                }
                JoinAnswer::Elsewhere => tokio::time::sleep(PAUSE).await,
            }
        }
        if self.votes() {
            tracing::info!(replaces, "the member has taken the place of the lost one, and votes");
        }
        // One small file; the task may be aborted, but never halfway through it.
        if let Err(error) = tokio::task::block_in_place(|| DataDir::set_replaces(&self.path, self.identity, None)) {
            tracing::warn!(%error, "identity.json still names the replaced member; the next start asks once more");
        }
    }

    /// A further voter; false when the group never lets it in.
    async fn join_by(&self, JoinToken(token): JoinToken) -> bool {
        let mut told = None;
        while !self.votes() {
            match self.ask(Admission::Token(token.clone())).await {
                JoinAnswer::Done => self.until_it_votes().await,
                JoinAnswer::Never(problem) => {
                    tracing::error!(problem, "the group does not let this member in");
                    return false;
                }
                JoinAnswer::Refused(problem) => {
                    if told.as_ref() != Some(&problem) {
                        tracing::warn!(problem, "not taken in yet");
                    }
                    told = Some(problem);
                    tokio::time::sleep(PAUSE).await;
                }
                JoinAnswer::NoPlace | JoinAnswer::Elsewhere => tokio::time::sleep(PAUSE).await,
            }
        }
        tracing::info!("the member has joined the group, and votes");
        true
    }

    fn votes(&self) -> bool {
        let members = self.group.status().members;
        members.iter().any(|member| member.id == self.identity.member && member.voter)
    }

    /// The group has said that it votes; its own log says so a moment later.
    async fn until_it_votes(&self) {
        let mut status = self.group.watch();
        let votes = status.wait_for(|status| {
            let own = |member: &MemberAddress| member.id == self.identity.member && member.voter;
            status.members.iter().any(own)
        });
        let _ = tokio::time::timeout(PAUSE, votes).await;
    }

    /// A blank directory under a name that the group knows by another id: whose place that is. None when this member takes part already.
    async fn find_place(&self) -> Option<u64> {
        let request = ReleaseRequest {
            old: None,
            name: self.config.name.clone(),
            only_ask: false,
        };
        let mut told = None;
        while self.group.status().state == MemberState::Blank {
            let addresses = discovery::peers(&self.config, &self.path).await;
            let answer = raft::release(&self.transport, &addresses, &request, self.config.raft.election_timeout).await;
            match answer {
                Ok(ReleaseAnswer::Granted { replaces }) => {
                    let kept = tokio::task::block_in_place(|| DataDir::set_replaces(&self.path, self.identity, Some(replaces)));
                    if let Err(error) = kept {
                        tracing::error!(%error, "the replaced member cannot be remembered; not joining");
                        return None;
                    }
                    return Some(replaces);
                }
                Ok(ReleaseAnswer::Member) => return None,
                Ok(ReleaseAnswer::Refused(problem)) if told.as_ref() != Some(&problem) => {
                    tracing::warn!(
                        problem,
                        "the group is formed and has this member's name; its place cannot be taken yet"
                    );
                    told = Some(problem);
                }
                // Nobody of this name, or no group yet: both may change.
                Ok(ReleaseAnswer::Refused(_) | ReleaseAnswer::Left | ReleaseAnswer::Elsewhere(_)) | Err(_) => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
        None
    }

    /// Asks the group to take this member in.
    async fn ask(&self, by: Admission) -> JoinAnswer {
        let addresses = discovery::peers(&self.config, &self.path).await;
        let request = JoinRequest {
            by,
            itself: MemberAddress {
                id: self.identity.member,
                name: self.config.name.clone(),
                peer: self.peer_advertise.clone(),
                voter: true,
            },
        };
        match raft::join(&self.transport, &addresses, &request, Instant::now() + PATIENCE).await {
            Ok(answer) => answer,
            Err(error) => JoinAnswer::Refused(error.to_string()),
        }
    }
}

/// Keeps `members.json` up to date, for the day on which the rest cannot be read.
pub(super) async fn remember(group: Group, path: PathBuf) {
    let mut known = data_dir::known_members(&path);
    let mut status = group.watch();
    loop {
        let members = status.borrow_and_update().members.clone();
        if !members.is_empty() && members != known {
            match tokio::task::block_in_place(|| data_dir::remember_members(&path, &members)) {
                Ok(()) => known = members,
                Err(error) => tracing::warn!(%error, "the group's members cannot be remembered"),
            }
        }
        if status.changed().await.is_err() {
            return;
        }
    }
}
