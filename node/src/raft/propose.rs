//! A command's way into the log. In: a command and a deadline, on any member. Out: the state machine's answer, or an error that says
//! whether the command may have been applied. Absent: what the command does.
//!
//! openraft answers a proposal only when its entry is applied or overwritten, which may be never. So an answer is awaited beside the
//! deadline and beside the loss of the leadership that it was proposed under; after such a loss it has the time of an election to come
//! all the same (a new leader commits what the old one had replicated), and is unknown then.

use std::time::Duration;

use kvfleet_api::error::Outcome;
use openraft::{errors::ClientWriteError, impls::ProgressResponder, raft::ClientWriteResult};
use tokio::{sync::oneshot, sync::watch, time::Instant};

use super::{
    Cost, Group, Inner, ProposeError,
    encoding::{ForwardAnswer, ForwardCall},
    fitness::Refused,
    raising,
    status::Leadership,
    types::{Data, Types},
};
use crate::{
    peer::{CallError, Lane, Method},
    state::{Command, Proposal, Response},
};

/// The largest command, encoded: the largest value twice over, and half a frame.
pub(super) const COMMAND_BYTES: usize = 16 << 20;

/// A leader that can take nothing at the moment (its lease has run out, it hands over) is asked again after this long, unless another
/// leader shows up sooner.
const PAUSE: Duration = Duration::from_millis(20);

/// What became of one attempt.
enum Attempt {
    /// The caller has its answer.
    Over(Result<Response, ProposeError>),
    /// Certainly nothing was proposed.
    Untouched,
}

impl Group {
    /// Has the command applied, through the leader, whoever that is. The leader stamps it.
    ///
    /// # Errors
    /// [`ProposeError`]; where it carries an outcome, that says whether the command may have been applied.
    pub async fn propose(&self, command: Command, deadline: Instant) -> Result<Response, ProposeError> {
        self.inner.propose(command, Cost::default(), deadline).await
    }

    /// The same for a tenant's command. `cost` travels with it to the leader, which refuses it when too much of the tenant's waits there.
    ///
    /// # Errors
    /// [`ProposeError`].
    pub async fn propose_for(&self, command: Command, cost: Cost, deadline: Instant) -> Result<Response, ProposeError> {
        self.inner.propose(command, cost, deadline).await
    }
}

impl Inner {
    pub(super) async fn propose(&self, command: Command, cost: Cost, deadline: Instant) -> Result<Response, ProposeError> {
        let mut leadership = self.leadership.subscribe();
        raising::admit(command.level(), self.views.peek().level())?;
        let mut proposal = Proposal { stamp_ms: 0, command };
        loop {
            if self.is_draining() {
                return Err(ProposeError::Draining);
            }
            if let Some(reason) = self.failure.borrow().as_ref() {
                return Err(ProposeError::Failed(reason.clone()));
            }
            let known = *leadership.borrow_and_update();
            let attempt = match known.leader {
                Some(_) if known.own => self.propose_here(&mut proposal, known, deadline).await,
                Some(leader) if leader != self.settings.id => self.forward(&mut proposal, cost, leader, deadline).await,
                Some(_) | None => Attempt::Untouched,
            };
            if let Attempt::Over(answer) = attempt {
                return answer;
            }
            if !wait_for_change(&mut leadership, deadline).await {
                let outcome = Outcome::NotApplied;
                return Err(if !leadership.borrow().is_useful() {
                    ProposeError::NoLeader { outcome }
                } else {
                    ProposeError::Deadline { outcome }
                });
            }
        }
    }

    /// For another member: proposes if this one leads, and if the tenant may have more waiting here.
    pub(super) async fn propose_forwarded(&self, mut proposal: Proposal, cost: Cost, deadline: Instant) -> ForwardAnswer {
        let known = *self.leadership.borrow();
        if self.is_draining() || !known.own {
            return ForwardAnswer::Again;
        }
        let Some(_held) = self.inflow.take(&proposal.command, cost) else {
            return ForwardAnswer::Done(Err(ProposeError::Overloaded));
        };
        match self.propose_here(&mut proposal, known, deadline).await {
            Attempt::Over(answer) => ForwardAnswer::Done(answer),
            Attempt::Untouched => ForwardAnswer::Again,
        }
    }

    async fn propose_here(&self, proposal: &mut Proposal, known: Leadership, deadline: Instant) -> Attempt {
        if let Err(error) = raising::admit(proposal.command.level(), self.views.peek().level()) {
            return Attempt::Over(Err(error));
        }
        match self.refuses(&proposal.command) {
            None => {}
            Some(Refused::For(error)) => return Attempt::Over(Err(error)),
            Some(Refused::ForNow) => return Attempt::Untouched,
        }
        proposal.stamp_ms = self.transport.clock().stamp();
        let bytes = proposal.encode();
        if bytes.len() > COMMAND_BYTES {
            return Attempt::Over(Err(ProposeError::TooLarge));
        }
        let (responder, mut answer) = ProgressResponder::<Types, ClientWriteResult<Types>>::complete_only();
        let mut leadership = self.leadership.subscribe();
        match tokio::time::timeout_at(deadline, self.raft.client_write_ff(Data(bytes), Some(responder))).await {
            // Still in front of openraft's queue, so it is in no log.
            Err(_) => {
                return Attempt::Over(Err(ProposeError::Deadline {
                    outcome: Outcome::NotApplied,
                }));
            }
            // openraft is closing down; it took nothing, but why it stops is told by `failed`, and other members may lead.
            Ok(Err(_)) => return Attempt::Untouched,
            Ok(Ok(())) => {}
        }
        let lost = until(&mut leadership, |now| !(now.own && now.quorum && now.term == known.term));
        let answered = tokio::select! {
            biased;
            answered = &mut answer => Some(answered),
            () = tokio::time::sleep_until(deadline) => None,
            () = lost => self.within_grace(&mut answer, deadline).await,
        };
        match answered {
            Some(Ok(Ok(written))) => Attempt::Over(Ok(written.data)),
            Some(Ok(Err(ClientWriteError::ForwardToLeader(_)))) => Attempt::Untouched,
            // Its entry was overwritten here; a member may hold a copy that another leader commits.
            Some(Ok(Err(ClientWriteError::LogEntryDiscarded(_)))) | Some(Err(_)) => {
                Attempt::Over(Err(ProposeError::NoLeader { outcome: Outcome::Unknown }))
            }
            Some(Ok(Err(error @ (ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_))))) => {
                Attempt::Over(Err(ProposeError::Failed(error.to_string())))
            }
            None => Attempt::Over(Err(self.unanswered(deadline))),
        }
    }

    async fn forward(&self, proposal: &mut Proposal, cost: Cost, leader: u64, deadline: Instant) -> Attempt {
        let Some(peer) = self.address_of(leader) else {
            return Attempt::Untouched;
        };
        proposal.stamp_ms = 0;
        let patience = deadline.saturating_duration_since(Instant::now());
        let call = ForwardCall {
            patience_ms: u32::try_from(patience.as_millis()).unwrap_or(u32::MAX),
            proposal: proposal.encode(),
            cost: cost.0,
        };
        let body = call.encode();
        if body.len() > COMMAND_BYTES {
            return Attempt::Over(Err(ProposeError::TooLarge));
        }
        let mut leadership = self.leadership.subscribe();
        // Until the request is handed to a connection, in one step, nothing is sent: whether for want of a connection or of time, or
        // because the leader was replaced while its host was dialed.
        let begun = tokio::select! {
            biased;
            begun = self.transport.begin(&peer, Lane::Calls, Method::Forward, body) => begun.ok(),
            () = until(&mut leadership, |now| now.leader != Some(leader)) => None,
            () = tokio::time::sleep_until(deadline) => None,
        };
        let Some(mut pending) = begun else {
            return Attempt::Untouched;
        };
        let replaced = until(&mut leadership, |now| now.leader != Some(leader));
        let answered = tokio::select! {
            biased;
            answered = &mut pending => Some(answered),
            () = tokio::time::sleep_until(deadline) => None,
            // The old leader may have committed it before it was replaced, and its answer may still come.
            () = replaced => tokio::time::timeout_at(self.grace_end(deadline), &mut pending).await.ok(),
        };
        match answered {
            Some(Ok(body)) => match ForwardAnswer::decode(body) {
                Ok(ForwardAnswer::Done(answer)) => Attempt::Over(answer),
                Ok(ForwardAnswer::Again) => Attempt::Untouched,
                Err(error) => Attempt::Over(Err(ProposeError::Failed(format!("the leader's answer cannot be read: {error}")))),
            },
            Some(Err(CallError::Refused { .. } | CallError::OtherShard { .. } | CallError::Unreachable { .. })) => Attempt::Untouched,
            Some(Err(CallError::Broken { .. } | CallError::Late { .. })) => {
                Attempt::Over(Err(ProposeError::NoLeader { outcome: Outcome::Unknown }))
            }
            None => Attempt::Over(Err(self.unanswered(deadline))),
        }
    }

    fn grace_end(&self, deadline: Instant) -> Instant {
        deadline.min(Instant::now() + self.settings.grace())
    }

    async fn within_grace<T>(&self, answer: &mut oneshot::Receiver<T>, deadline: Instant) -> Option<Result<T, oneshot::error::RecvError>> {
        tokio::time::timeout_at(self.grace_end(deadline), answer).await.ok()
    }

    fn unanswered(&self, deadline: Instant) -> ProposeError {
        let outcome = Outcome::Unknown;
        if Instant::now() >= deadline {
            ProposeError::Deadline { outcome }
        } else {
            ProposeError::NoLeader { outcome }
        }
    }
}

/// Waits until the leadership is as asked for, or until there is no group any more.
pub(super) async fn until(leadership: &mut watch::Receiver<Leadership>, mut reached: impl FnMut(&Leadership) -> bool) {
    let _ = leadership.wait_for(|now| reached(now)).await;
}

/// Waits for another leader, or for a moment; false when the deadline has passed.
pub(super) async fn wait_for_change(leadership: &mut watch::Receiver<Leadership>, deadline: Instant) -> bool {
    let without_leader = leadership.borrow().leader.is_none();
    let pause = Instant::now() + PAUSE;
    // Without a leader there is nobody to ask again; with one, it may have become able to.
    let until = if without_leader { deadline } else { deadline.min(pause) };
    let changed = tokio::time::timeout_at(until, leadership.changed()).await;
    changed.is_ok() || Instant::now() < deadline
}
