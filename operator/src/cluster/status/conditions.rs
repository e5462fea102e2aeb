//! The four conditions, a pure function each.

use kvfleet_crds::{
    cluster::{Formation, MemberStatus},
    conditions::{ConditionStatus, ConditionType, Observation, Reason},
};

use super::{Outcome, members::primary, rollout};
use crate::{
    cluster::{
        fetch::Observed,
        membership,
        plan::{Cause, Step},
    },
    error::{Error, Kind, chain},
};

/// What the conditions are made from.
pub struct Findings {
    formation: Formation,
    paused: bool,
    leader: Option<String>,
    voters: usize,
    ready_voters: usize,
    /// Voters that are missing or not ready.
    missing: Vec<String>,
    /// For people: which pods do not run the present spec, and what to do.
    rollout: Option<String>,
    waits_for: Option<String>,
    change: Option<(Cause, String)>,
    settings: Option<String>,
    trouble: Option<(Reason, String)>,
}

impl Findings {
    /// Collects them.
    #[must_use]
    pub fn new(observed: &Observed, outcome: &Outcome, formation: Formation, members: &[MemberStatus]) -> Self {
        let change = match &outcome.step {
            Some(Step::Change(change)) => Some(change),
            _ => None,
        };
        let named = membership::named(observed);
        let votes = |pod: &str| named.is_some_and(|named| named.iter().any(|member| member.voter && member.name == pod));
        // Who is on its way in or out is not missed; who voted and is not there is.
        let scaling = change.is_some_and(|change| change.cause == Cause::Scaling);
        let missing = members.iter().filter(|member| {
            if member.voter {
                !member.ready
            } else {
                votes(&member.pod) || !scaling
            }
        });
        let voters = named.map_or_else(
            || members.iter().filter(|member| member.voter).count(),
            |named| named.iter().filter(|member| member.voter).count(),
        );
        Findings {
            formation,
            paused: observed.cluster.spec.maintenance.paused,
            leader: primary(observed).map(|(member, _)| member.pod.clone()),
            voters: if voters == 0 { members.len() } else { voters },
            ready_voters: members.iter().filter(|member| member.voter && member.ready).count(),
            missing: missing.map(|member| member.pod.clone()).collect(),
            rollout: rollout::message(observed, outcome),
            waits_for: match &outcome.step {
                Some(Step::Wait(what)) => Some(what.clone()),
                _ => None,
            },
            change: change.map(|change| {
                // What the leader said to it tells more than what was to be done.
                let told = match &outcome.trouble {
                    Some(Error::Waits(why) | Error::Halted { message: why, .. }) => why.clone(),
                    _ => change.act.to_string(),
                };
                (change.cause, told)
            }),
            settings: outcome.settings.as_ref().map(|error| chain(error)),
            trouble: outcome.trouble.as_ref().and_then(trouble),
        }
    }

    /// All four, in the order in which they are shown.
    #[must_use]
    pub fn observations(&self) -> Vec<Observation> {
        let (available, progressing, degraded) = (self.available(), self.progressing(), self.degraded());
        let ready = self.ready(&available, &progressing, &degraded);
        vec![available, progressing, degraded, ready]
    }

    fn available(&self) -> Observation {
        let quorum = self.voters / 2 + 1;
        let (holds, reason, message) = match (&self.leader, self.formation) {
            (_, Formation::Pending | Formation::Intended) => (false, Reason::NOT_FORMED, "the group has not been formed yet".to_owned()),
            (Some(leader), Formation::Formed) if self.ready_voters >= quorum => (
                true,
                Reason::QUORUM_AVAILABLE,
                format!("{leader} leads, {} of {} members are ready", self.ready_voters, self.voters),
            ),
            (Some(leader), Formation::Formed) => (
                false,
                Reason::QUORUM_LOST,
                format!(
                    "{leader} leads, but {} of {} members are ready and {quorum} are needed: look at the pods that are not",
                    self.ready_voters, self.voters
                ),
            ),
            (None, Formation::Formed) => (
                false,
                Reason::QUORUM_LOST,
                format!(
                    "no member leads, {} of {} are ready: look at the pods that are not",
                    self.ready_voters, self.voters
                ),
            ),
        };
        observation(ConditionType::AVAILABLE, holds, reason, message)
    }

    fn progressing(&self) -> Observation {
        let (holds, reason, message) = if self.paused {
            let message = "maintenance.paused is true: only the status and the primary's label follow".to_owned();
            (false, Reason::PAUSED, message)
        } else if self.formation != Formation::Formed {
            let message = self.waits_for.clone().unwrap_or_else(|| "the group is being formed".to_owned());
            (true, Reason::FORMING, message)
        } else if let Some((cause, what)) = &self.change {
            let reason = match cause {
                Cause::Scaling => Reason::SCALING,
                Cause::Replacing => Reason::REPLACING_MEMBER,
            };
            (true, reason, what.clone())
        } else if let Some(message) = &self.rollout {
            (true, Reason::ROLLING_OUT, message.clone())
        } else if let Some(settings) = &self.settings {
            (true, Reason::ROLLING_OUT, settings.clone())
        } else {
            (false, Reason::CONVERGED, "everything is as the spec says".to_owned())
        };
        observation(ConditionType::PROGRESSING, holds, reason, message)
    }

    fn degraded(&self) -> Observation {
        let (holds, reason, message) = match &self.trouble {
            Some((reason, message)) => (true, *reason, message.clone()),
            None if self.formation == Formation::Formed && !self.missing.is_empty() => {
                let message = format!("{} are missing or not ready", self.missing.join(", "));
                (true, Reason::MEMBER_MISSING, message)
            }
            None => (false, Reason::HEALTHY, "nothing is wrong".to_owned()),
        };
        observation(ConditionType::DEGRADED, holds, reason, message)
    }

    fn ready(&self, available: &Observation, progressing: &Observation, degraded: &Observation) -> Observation {
        // A pause may hide a spec that is not carried out: then the members do not run this generation.
        let behind = self.paused && (self.rollout.is_some() || self.settings.is_some());
        let (holds, reason, message) = if degraded.status == ConditionStatus::True {
            (false, degraded.reason, degraded.message.clone())
        } else if progressing.status == ConditionStatus::True || behind {
            (false, progressing.reason, progressing.message.clone())
        } else if available.status != ConditionStatus::True {
            (false, available.reason, available.message.clone())
        } else {
            (true, Reason::READY, available.message.clone())
        };
        observation(ConditionType::READY, holds, reason, message)
    }
}

/// The reason that a person is told. What passes by itself is not told.
fn trouble(error: &Error) -> Option<(Reason, String)> {
    let reason = match error {
        Error::Halted { reason, .. } => *reason,
        Error::NotOwned { .. } => Reason::OBJECT_NOT_OWNED,
        Error::InvalidSpec { .. } => Reason::INVALID_SPEC,
        Error::SecretLost { .. } => Reason::SECRET_LOST,
        _ if error.kind() == Kind::Refused => Reason::APPLY_FAILED,
        _ => return None,
    };
    Some((reason, chain(error)))
}

fn observation(type_: ConditionType, holds: bool, reason: Reason, message: String) -> Observation {
    Observation {
        type_,
        status: ConditionStatus::from(holds),
        reason,
        message,
    }
}
