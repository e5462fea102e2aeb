//! Who belongs to the group. In: a change that is wished for, on any member. Out: that it holds, why it is refused, or how far it is.
//! Absent: when to change anything (the operator, a person, or a member that lost its data ask for it).
//!
//! Changes run on the leader, one at a time, and may be asked for again: what holds already is done, what runs is joined. So a caller that
//! lost its answer asks again, whoever leads then. Voters change by joint consensus only; a leader that finds a change half done, because
//! the one before it was lost in between, finishes it.

mod check;
mod finish;
mod picture;
mod removal;
mod run;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kvfleet_api::admin::MemberAddress;
use tokio::time::Instant;

use super::{
    Group, Inner,
    encoding::{ChangeAnswer, MembershipCall},
    propose::{until, wait_for_change},
};
use crate::peer::{Lane, Method};
use run::Running;

/// A wish for another membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Send it the log; it does not vote. It must be running and blank: a member that left is never taken back under its old id.
    AddLearner(MemberAddress),
    /// Let a learner that is caught up vote.
    Promote {
        /// The learner.
        id: u64,
    },
    /// Take a voter or a learner out, for good.
    Remove {
        /// The member.
        id: u64,
    },
    /// Add `new` as a learner, wait until it is caught up, then let it vote in the place of `old`, in one joint change: there is never
    /// one voter more. `new` may have the name and the address of `old`.
    Replace {
        /// A voter, alive or lost.
        old: u64,
        /// A blank member.
        new: MemberAddress,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::AddLearner(member) => write!(formatter, "adding {} ({})", member.name, member.id),
            Change::Promote { id } => write!(formatter, "promoting {id}"),
            Change::Remove { id } => write!(formatter, "removing {id}"),
            Change::Replace { old, new } => write!(formatter, "replacing {old} by {} ({})", new.name, new.id),
        }
    }
}

/// A change that does not hold, or not yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// It is refused; nothing was changed for it.
    #[error("{detail}")]
    Refused {
        /// By which rule.
        refusal: MembershipRefusal,
        /// What was found, and what to do.
        detail: String,
    },
    /// It goes on after the deadline, and this is how far it is. Ask again to wait for it.
    #[error("{0}")]
    StillRunning(String),
    /// There was no leader that could take it before the deadline.
    #[error("the shard has no leader that can change its members; try again")]
    NoLeader,
    /// This member is closing down.
    #[error("the member is shutting down")]
    Draining,
    /// The member has failed.
    #[error("the member has failed: {0}")]
    Failed(String),
}

macro_rules! refusals {
    ($($(#[$doc:meta])* $variant:ident = $code:literal),* $(,)?) => {
        /// The rules that a change may break.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum MembershipRefusal { $($(#[$doc])* $variant),* }

        impl MembershipRefusal {
            #[cfg(test)]
            pub(super) const ALL: [MembershipRefusal; [$($code),*].len()] = [$(MembershipRefusal::$variant),*];

            pub(super) const fn code(self) -> u8 { match self { $(MembershipRefusal::$variant => $code),* } }

            pub(super) const fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(MembershipRefusal::$variant),)* _ => None }
            }
        }
    };
}

refusals! {
    /// Too few of the voters that would be left are heard.
    QuorumAtRisk = 1,
    /// The last voter would go.
    LastVoter = 2,
    /// A learner is too far behind, or is not heard.
    NotCaughtUp = 3,
    /// The id belongs to a member with another name or address.
    IdTaken = 4,
    /// The member is not blank: it has been in a group, and ids are never used again.
    NotBlank = 5,
    /// Another member has the name or the address.
    AddressTaken = 6,
    /// Another change has not ended.
    OtherChange = 7,
    /// There is no such member, or not in the role that the change needs.
    NoSuchMember = 8,
    /// Nobody, or somebody else, answers at the address.
    Unreachable = 9,
    /// The group would have more voters than it may.
    TooManyVoters = 10,
    /// Its program does not know the feature level of the group.
    LevelUnknown = 11,
}

/// What became of one attempt.
enum Attempt {
    Over(Result<(), MembershipError>),
    /// This member does not lead (any more).
    Again,
}

/// The change that runs on this member, if it leads and one does.
#[derive(Default)]
pub(super) struct Changes(Mutex<Option<Arc<Running>>>);

impl Changes {
    /// Whether no change runs.
    pub(super) fn is_idle(&self) -> bool {
        self.running().is_none()
    }

    fn running(&self) -> MutexGuard<'_, Option<Arc<Running>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Group {
    /// Changes who belongs to the group, through the leader, whoever that is. A leader that is to be removed hands leadership over first.
    /// What already holds is `Ok`; the same change asked for twice is carried out once.
    ///
    /// # Errors
    /// [`MembershipError`]; after [`MembershipError::StillRunning`] the change goes on without its caller.
    pub async fn change_members(&self, change: Change, deadline: Instant) -> Result<(), MembershipError> {
        self.inner.change_members(change, deadline).await
    }
}

impl Inner {
    pub(super) async fn change_members(self: &Arc<Self>, change: Change, deadline: Instant) -> Result<(), MembershipError> {
        let mut leadership = self.leadership.subscribe();
        loop {
            if self.is_draining() {
                return Err(MembershipError::Draining);
            }
            if let Some(reason) = self.failure.borrow().as_ref() {
                return Err(MembershipError::Failed(reason.clone()));
            }
            let known = *leadership.borrow_and_update();
            let attempt = match known.leader {
                Some(_) if known.own => self.change_here(&change, known, deadline).await,
                Some(leader) if leader != self.settings.id => self.forward_change(&change, leader, deadline).await,
                Some(_) | None => Attempt::Again,
            };
            if let Attempt::Over(answer) = attempt {
                return answer;
            }
            if !wait_for_change(&mut leadership, deadline).await {
                return Err(MembershipError::NoLeader);
            }
        }
    }

    /// For another member: if this one leads.
    pub(super) async fn change_forwarded(self: &Arc<Self>, change: Change, deadline: Instant) -> ChangeAnswer {
        let known = *self.leadership.borrow();
        if self.is_draining() || !known.own {
            return ChangeAnswer::Again;
        }
        match self.change_here(&change, known, deadline).await {
            Attempt::Over(answer) => ChangeAnswer::Done(answer),
            Attempt::Again => ChangeAnswer::Again,
        }
    }

    /// Changes may be asked for twice, so nothing is unknown here: what was not answered is asked again.
    async fn forward_change(&self, change: &Change, leader: u64, deadline: Instant) -> Attempt {
        let Some(peer) = self.address_of(leader) else {
            return Attempt::Again;
        };
        // The leader shall say how far it is before we stop listening.
        let patience = deadline.saturating_duration_since(Instant::now()) * 9 / 10;
        let call = MembershipCall::Change {
            patience_ms: u32::try_from(patience.as_millis()).unwrap_or(u32::MAX),
            change: change.clone(),
        };
        let mut leadership = self.leadership.subscribe();
        let answer = tokio::select! {
            biased;
            answer = self.transport.call(&peer, Lane::Calls, Method::Membership, call.encode(), deadline) => answer,
            () = until(&mut leadership, |now| now.leader != Some(leader)) => return Attempt::Again,
        };
        match answer.map(ChangeAnswer::decode) {
            Ok(Ok(ChangeAnswer::Done(answer))) => Attempt::Over(answer),
            Ok(Err(error)) => Attempt::Over(Err(MembershipError::Failed(format!("the leader's answer cannot be read: {error}")))),
            Ok(Ok(ChangeAnswer::Again)) | Err(_) => Attempt::Again,
        }
    }

    /// A voter not heard for longer than this does not count as live.
    fn alive_within(&self) -> Duration {
        2 * self.settings.election_timeout
    }
}
