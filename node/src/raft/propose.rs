//! A command's way into the log. In: a command and a deadline, on any member. Out: the state machine's answer, or an error that says
//! whether the command may have been applied. Absent: what the command does.
//!
//! On the leader a command waits in a queue, from which one task makes entries: as many writes as wait share one. Each keeps its own
//! deadline and its own answer.

mod flying;
mod prepared;
mod proposer;
mod queue;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests;

use std::time::Duration;

use kvfleet_api::error::Outcome;
use tokio::{sync::watch, time::Instant};

pub(super) use self::{prepared::Prepared, queue::Queue};

use super::{
    Cost, Group, Inner, ProposeError,
    encoding::{ForwardAnswer, ForwardCall},
    fitness::Refused,
    raising,
    status::Leadership,
};
use crate::{
    peer::{CallError, Lane, Method},
    state::{Command, Response},
};

/// The largest command, encoded: the largest value twice over, and half a frame.
pub(super) const COMMAND_BYTES: usize = 16 << 20;

/// A leader that can take nothing at the moment (its lease has run out, it hands over) is asked again after this long, unless another
/// leader shows up sooner.
const PAUSE: Duration = Duration::from_millis(20);

/// What became of one attempt.
#[derive(Debug)]
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
        let (prepared, command) = Prepared::new(command);
        loop {
            if self.is_draining() {
                return Err(ProposeError::Draining);
            }
            if let Some(reason) = self.failure.borrow().as_ref() {
                return Err(ProposeError::Failed(reason.clone()));
            }
            let known = *leadership.borrow_and_update();
            let attempt = match known.leader {
                Some(_) if known.own => self.propose_here(&prepared, &command, deadline).await,
                Some(leader) if leader != self.settings.id => self.forward(&prepared, cost, leader, deadline).await,
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
    pub(super) async fn propose_forwarded(&self, (prepared, command): (Prepared, Command), cost: Cost, deadline: Instant) -> ForwardAnswer {
        if self.is_draining() || !self.leadership.borrow().own {
            return ForwardAnswer::Again;
        }
        // Only the leader raises it, after it has asked every member.
        if matches!(command, Command::RaiseLevel { .. }) {
            return ForwardAnswer::Done(Err(ProposeError::Failed("only the leader raises the level".to_owned())));
        }
        let Some(_held) = self.inflow.take(&command, cost) else {
            return ForwardAnswer::Done(Err(ProposeError::Overloaded));
        };
        match self.propose_here(&prepared, &command, deadline).await {
            Attempt::Over(answer) => ForwardAnswer::Done(answer),
            Attempt::Untouched => ForwardAnswer::Again,
        }
    }

    async fn propose_here(&self, prepared: &Prepared, command: &Command, deadline: Instant) -> Attempt {
        if let Err(error) = raising::admit(command.level(), self.views.peek().level()) {
            return Attempt::Over(Err(error));
        }
        match self.refuses(command) {
            None => {}
            Some(Refused::For(error)) => return Attempt::Over(Err(error)),
            Some(Refused::ForNow) => return Attempt::Untouched,
        }
        if prepared.bytes().len() > COMMAND_BYTES {
            return Attempt::Over(Err(ProposeError::TooLarge));
        }
        match self.proposals.push(prepared.clone(), deadline).await {
            // The proposer answers everything that it has taken, in time.
            Ok(answer) => answer
                .await
                .unwrap_or(Attempt::Over(Err(ProposeError::NoLeader { outcome: Outcome::Unknown }))),
            Err(attempt) => attempt,
        }
    }

    async fn forward(&self, prepared: &Prepared, cost: Cost, leader: u64, deadline: Instant) -> Attempt {
        let Some(peer) = self.address_of(leader) else {
            return Attempt::Untouched;
        };
        let patience = deadline.saturating_duration_since(Instant::now());
        let call = ForwardCall {
            patience_ms: u32::try_from(patience.as_millis()).unwrap_or(u32::MAX),
            proposal: prepared.bytes().clone(),
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
