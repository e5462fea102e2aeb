//! A change, carried out by the leader. In: a change that keeps the rules. Out: its outcome, to everybody who asked for it, and how far it
//! is. Absent: what happens when leadership is lost halfway: whoever asked asks the next leader.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use kvfleet_api::admin::{ChangeKind, ChangeStage, MembershipChange};
use openraft::{
    ChangeMembers,
    async_runtime::watch::WatchReceiver as _,
    errors::{ChangeMembershipError, ClientWriteError, RaftError},
};
use tokio::{sync::watch, time::Instant};

use super::{
    Attempt, Change, MembershipError, MembershipRefusal as Refusal,
    check::{self, Verdict, refuse},
    picture::Behind,
};
use crate::{
    raft::{Group, Inner, TransferError, propose::until, raising, status::Leadership, types::Member},
    runtime,
};

/// How long a member may take to say who it is.
const IDENTIFY: Duration = Duration::from_secs(2);
/// How long handing over may take before the removal of the leader is refused.
const HAND_OVER: Duration = Duration::from_secs(5);
/// A member that is silent for this long while it should catch up holds nobody up any longer.
const SILENCE: Duration = Duration::from_secs(60);
/// Between two looks at how far a member is.
const LOOK: Duration = Duration::from_millis(50);

/// What a change is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// A new learner is being made known.
    Adding,
    /// It lacks this.
    CatchingUp { behind: Behind },
    /// The voters are being changed.
    Committing,
}

/// How a change ended.
#[derive(Clone, Debug)]
enum Ended {
    Over(Result<(), MembershipError>),
    /// This member does not lead any more.
    Lost,
}

/// A change under way.
pub(in crate::raft) struct Running {
    pub(super) change: Change,
    pub(super) since: SystemTime,
    pub(super) stage: watch::Sender<Stage>,
    ended: watch::Sender<Option<Ended>>,
    /// Set when its new member is to be removed instead.
    given_up: watch::Sender<bool>,
}

impl Running {
    fn progress(&self) -> String {
        let seconds = self.since.elapsed().unwrap_or_default().as_secs();
        let stage = match *self.stage.borrow() {
            Stage::Adding => "the new member is being added".to_owned(),
            Stage::CatchingUp { behind } => {
                format!("the new member lacks {behind}, and {}", check::may_vote())
            }
            Stage::Committing => "the voters are being changed".to_owned(),
        };
        format!("{} goes on since {seconds} s: {stage}; GET /admin/members follows it", self.change)
    }

    /// The end, or a progress report at the deadline.
    async fn wait(&self, deadline: Instant) -> Attempt {
        let mut ended = self.ended.subscribe();
        match tokio::time::timeout_at(deadline, ended.wait_for(Option::is_some)).await {
            Ok(Ok(ended)) => match ended.clone() {
                Some(Ended::Over(answer)) => Attempt::Over(answer),
                Some(Ended::Lost) | None => Attempt::Again,
            },
            Ok(Err(_)) => Attempt::Again,
            Err(_) => Attempt::Over(Err(MembershipError::StillRunning(self.progress()))),
        }
    }
}

impl Group {
    /// The change that this member, leading, carries out.
    pub fn running_change(&self) -> Option<MembershipChange> {
        let running = self.inner.changes.running().clone()?;
        let (kind, id, replaces) = match &running.change {
            Change::AddLearner(member) => (ChangeKind::AddLearner, member.id, None),
            Change::Promote { id } => (ChangeKind::Promote, *id, None),
            Change::Remove { id } => (ChangeKind::Remove, *id, None),
            Change::Replace { old, new } => (ChangeKind::Replace, new.id, Some(*old)),
        };
        let (stage, behind) = match *running.stage.borrow() {
            Stage::Adding => (ChangeStage::Adding, None),
            Stage::CatchingUp { behind } => (ChangeStage::CatchingUp, Some(behind)),
            Stage::Committing => (ChangeStage::Committing, None),
        };
        let since = running.since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Some(MembershipChange {
            kind,
            id,
            replaces,
            since_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            stage,
            entries_behind: behind.map(|behind| behind.entries),
            bytes_behind: behind.map(|behind| behind.bytes),
        })
    }
}

impl Inner {
    /// On the leader: joins the same change, refuses another one, or begins.
    pub(super) async fn change_here(self: &Arc<Self>, change: &Change, known: Leadership, deadline: Instant) -> Attempt {
        let begun = Instant::now();
        loop {
            let running = self.changes.running().clone();
            if let Some(running) = running {
                if running.change == *change {
                    return running.wait(deadline).await;
                }
                if !gives_up(&running.change, change) {
                    return Attempt::Over(refuse(
                        Refusal::OtherChange,
                        format!("another change runs, and there is one at a time: {}", running.progress()),
                    ));
                }
                running.given_up.send_replace(true);
                if let running @ Attempt::Over(Err(MembershipError::StillRunning(_))) = running.wait(deadline).await {
                    return running;
                }
            }
            let Some(picture) = self.fresh_picture().await else {
                return Attempt::Again;
            };
            match check::check(&picture, change) {
                Ok(Verdict::Holds) => return Attempt::Over(Ok(())),
                Ok(Verdict::HandOver) => match self.transfer(deadline.min(Instant::now() + HAND_OVER), |_| true).await {
                    Ok(()) => return Attempt::Again,
                    Err(TransferError::Failed(reason)) => return Attempt::Over(Err(MembershipError::Failed(reason))),
                    Err(error @ (TransferError::Alone | TransferError::Deadline)) => {
                        return Attempt::Over(refuse(
                            Refusal::QuorumAtRisk,
                            format!("{change} needs another leader first: {error}; see that the other voters are caught up"),
                        ));
                    }
                },
                Ok(Verdict::Go) => match self.begin(change, known) {
                    Some(running) => return running.wait(deadline).await,
                    // Somebody else was quicker.
                    None => continue,
                },
                // A leader that has just been elected has not heard everybody yet.
                Err(MembershipError::Refused {
                    refusal: Refusal::QuorumAtRisk | Refusal::NotCaughtUp,
                    ..
                }) if begun.elapsed() < self.settings.election_timeout && Instant::now() < deadline => {
                    tokio::time::sleep(LOOK).await;
                }
                Err(error) => return Attempt::Over(Err(error)),
            }
        }
    }

    fn begin(self: &Arc<Self>, change: &Change, known: Leadership) -> Option<Arc<Running>> {
        let mut slot = self.changes.running();
        if slot.is_some() {
            return None;
        }
        tracing::info!(%change, "changing the members");
        let running = Arc::new(Running {
            change: change.clone(),
            since: SystemTime::now(),
            stage: watch::Sender::new(match change {
                Change::AddLearner(_) | Change::Replace { .. } => Stage::Adding,
                Change::Promote { .. } | Change::Remove { .. } => Stage::Committing,
            }),
            ended: watch::Sender::new(None),
            given_up: watch::Sender::new(false),
        });
        *slot = Some(Arc::clone(&running));
        let task = runtime::spawn(Arc::clone(self).carry_out(Arc::clone(&running), known));
        let mut tasks = self.tasks();
        tasks.retain(|task| !task.is_finished());
        tasks.push(task.abort_handle());
        drop(tasks);
        Some(running)
    }

    async fn carry_out(self: Arc<Self>, running: Arc<Running>, known: Leadership) {
        let mut leadership = self.leadership.subscribe();
        let mut given_up = running.given_up.subscribe();
        let ended = tokio::select! {
            biased;
            answer = self.steps(&running) => answer.unwrap_or_else(Ended::from),
            () = until(&mut leadership, |now| !(now.own && now.term == known.term)) => Ended::Lost,
            _ = given_up.wait_for(|given_up| *given_up) => Ended::Over(refuse(
                Refusal::OtherChange,
                format!("{} was given up: its new member is removed", running.change),
            )),
        };
        tracing::info!(change = %running.change, ?ended, "the change of members has ended");
        *self.changes.running() = None;
        running.ended.send_replace(Some(ended));
    }

    async fn steps(&self, running: &Running) -> Result<Ended, MembershipError> {
        match &running.change {
            Change::AddLearner(new) => self.add(new).await,
            Change::Promote { id } => self.write(ChangeMembers::AddVoterIds(BTreeSet::from([*id]))).await,
            Change::Remove { id } => {
                let voter = self.picture().is_some_and(|picture| picture.is_voter(*id));
                let out = BTreeSet::from([*id]);
                self.write(if voter {
                    ChangeMembers::RemoveVoters(out)
                } else {
                    ChangeMembers::RemoveNodes(out)
                })
                .await
            }
            Change::Replace { old, new } => {
                if self.picture().is_some_and(|picture| picture.member(new.id).is_none()) {
                    let added = self.add(new).await?;
                    if !matches!(added, Ended::Over(Ok(()))) {
                        return Ok(added);
                    }
                }
                self.catch_up(running, *old, new.id).await?;
                // Nobody may stop it here any more, so it is not said to be giving up either.
                running.stage.send_replace(Stage::Committing);
                self.write(ChangeMembers::Batch(vec![
                    ChangeMembers::RemoveVoters(BTreeSet::from([*old])),
                    ChangeMembers::AddVoterIds(BTreeSet::from([new.id])),
                ]))
                .await
            }
        }
    }

    /// Makes a blank member known as a learner. It is asked who it is, at the address that the others will use: an id that was in a group
    /// before is never taken again, because whoever bears it may have lost what it once acknowledged.
    async fn add(&self, new: &kvfleet_api::admin::MemberAddress) -> Result<Ended, MembershipError> {
        // What is found here must hold until the member is in the log: the level is not raised meanwhile.
        let _turn = self.level_turn.lock().await;
        let found = match self.transport.identify(&new.peer, Instant::now() + IDENTIFY).await {
            Ok(found) => found,
            Err(error) => {
                return refuse(
                    Refusal::Unreachable,
                    format!("{} does not answer at {}: {error}; start it first", new.name, new.peer),
                );
            }
        };
        if found.id != new.id {
            return refuse(
                Refusal::Unreachable,
                format!(
                    "at {} there is {} ({}), not {} ({})",
                    new.peer, found.name, found.id, new.name, new.id
                ),
            );
        }
        if !found.blank {
            return refuse(
                Refusal::NotBlank,
                format!(
                    "{} ({}) has been in a group already, and an id is never used again; start it with an empty data directory",
                    new.name, new.id
                ),
            );
        }
        // A level that an earlier leader has raised is in what a quorum says is committed.
        let Ok(point) = self.own_read(Instant::now() + IDENTIFY).await else {
            return Ok(Ended::Lost);
        };
        raising::admit_member(new, found.levels, point.view.level())?;
        let node = Member {
            name: new.name.clone(),
            peer: new.peer.clone(),
        };
        self.write(ChangeMembers::AddNodes(BTreeMap::from([(new.id, node)]))).await
    }

    /// Waits until the learner may vote.
    async fn catch_up(&self, running: &Running, old: u64, new: u64) -> Result<(), MembershipError> {
        let mut silent_since = Instant::now();
        loop {
            let Some(picture) = self.picture() else {
                // The loss of leadership ends the change.
                return std::future::pending().await;
            };
            running.stage.send_replace(Stage::CatchingUp {
                behind: picture.behind(new),
            });
            let refused = match check::check_replaced(&picture, old, new) {
                // Once more, now that it would be: this time everybody is asked.
                Ok(()) => match self.fresh_picture().await.map(|picture| check::check_replaced(&picture, old, new)) {
                    Some(Ok(())) => return Ok(()),
                    Some(Err(refused)) => refused,
                    None => continue,
                },
                Err(refused) => refused,
            };
            if picture.is_live(new) {
                silent_since = Instant::now();
            } else if silent_since.elapsed() >= SILENCE {
                return Err(refused);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Has openraft write it: for voters a joint configuration, then the new one alone. Who is in neither any more is forgotten.
    async fn write(&self, changes: ChangeMembers<u64, Member>) -> Result<Ended, MembershipError> {
        let until = Instant::now() + self.settings.election_timeout;
        let mut metrics = self.raft.metrics();
        loop {
            metrics.borrow_and_update();
            match self.raft.change_membership(changes.clone(), false).await {
                Ok(_) => return Ok(Ended::Over(Ok(()))),
                // A membership of the leader before this one is not committed yet; it will be, with this leader's first entry.
                Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(_))))
                    if Instant::now() < until =>
                {
                    let _ = tokio::time::timeout_at(until, metrics.changed()).await;
                }
                Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_) | ClientWriteError::LogEntryDiscarded(_))) => {
                    return Ok(Ended::Lost);
                }
                Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error))) => {
                    return refuse(
                        Refusal::OtherChange,
                        format!("the membership cannot be changed now: {error}; ask again"),
                    );
                }
                Err(RaftError::APIError(error @ ClientWriteError::PreconditionFailed(_))) => {
                    return Err(MembershipError::Failed(error.to_string()));
                }
                Err(RaftError::Fatal(fatal)) => return Err(MembershipError::Failed(fatal.to_string())),
            }
        }
    }
}

impl From<MembershipError> for Ended {
    fn from(error: MembershipError) -> Self {
        Ended::Over(Err(error))
    }
}

/// Removing the member that a replacement waits for ends the replacement.
fn gives_up(running: &Change, asked: &Change) -> bool {
    match (running, asked) {
        (Change::Replace { new, .. }, Change::Remove { id }) => new.id == *id,
        _ => false,
    }
}
