//! The four conditions, a pure function each.
//!
//! "Not applied", "could not be asked" and "lost" are three findings, and no condition takes one for another. What is over in a moment (one late
//! answer, an election, one refused request) is none: it is told when it has lasted for [`GRACE`].

use std::time::Duration;

use kvfleet_api::admin::MemberState;
use kvfleet_crds::{
    KvClusterStatus,
    cluster::{Formation, MemberStatus},
    conditions::{ConditionStatus, ConditionType, Observation, Reason, find},
};

use super::{Outcome, members::primary, rollout};
use crate::{
    cluster::{
        fetch::{Member, Observed},
        heard::Heard,
        membership,
        obstacles::Obstacle,
        plan::{Cause, Step},
    },
    error::{Error, Kind, chain},
};

/// How long a cluster that was well may look otherwise before status says so.
pub const GRACE: Duration = Duration::from_secs(3);
/// How long the same trouble may last before a person is called.
const LASTING: Duration = Duration::from_secs(30);

/// What the conditions are made from.
pub struct Findings {
    formation: Formation,
    leader: Option<String>,
    /// Whether the leader itself has told what the group is and does.
    is_group_known: bool,
    voters: usize,
    /// Voters that are ready and were heard.
    ready_voters: usize,
    /// Voters that are missing or not ready.
    missing: Vec<String>,
    /// Members that Kubernetes calls ready, or that nobody asked, and that were not heard: each with the reason.
    unreachable: Vec<Obstacle>,
    /// Whether any member was heard.
    is_any_heard: bool,
    /// Pods that do not run.
    obstacles: Vec<Obstacle>,
    /// For people: which pods do not run the present spec, and what to do.
    rollout: Option<String>,
    /// Where it is paused: what waits for the end of the pause.
    paused: Option<Vec<String>>,
    waits_for: Option<String>,
    change: Option<(Cause, String)>,
    settings: Option<Trouble>,
    trouble: Option<Trouble>,
    /// For how long there has been trouble.
    troubled_for: Duration,
    /// What Available said while it was true, if it may go on being said.
    was_available: Option<String>,
    /// Whether everything of this generation had been applied when it was last known.
    was_converged: bool,
}

/// What stopped something.
struct Trouble {
    /// The reason of Degraded, for what a person has to mend.
    person: Option<Reason>,
    /// Whether it is part of a step that takes its time.
    is_awaited: bool,
    message: String,
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
        let leader = primary(observed);
        let is_group_known = leader.is_some_and(|(member, _)| member.report.is_some());
        let pairs = || observed.members.iter().zip(members);
        let was_available = is_held(&observed.status, outcome).then(|| message(&observed.status, ConditionType::AVAILABLE));
        // No member is ready without a leader. Who was missing before the election, still is.
        let elects = was_available.is_some() && !is_true(&observed.status, ConditionType::DEGRADED);
        let is_there = |member: &Member| member.report.as_ref().is_some_and(|report| report.state == MemberState::Member);
        let missing = pairs().filter(|(seen, member)| {
            unreachable(seen).is_none()
                && !(elects && is_there(seen))
                && if member.voter {
                    !member.ready
                } else {
                    votes(&member.pod) || (!scaling && is_group_known)
                }
        });
        let voters = named.map_or_else(
            || members.iter().filter(|member| member.voter).count(),
            |named| named.iter().filter(|member| member.voter).count(),
        );
        let heard = |member: &Member| member.report.is_some() || member.lately;
        let ready_voters = pairs().filter(|(seen, member)| member.voter && member.ready && heard(seen));
        let generation = observed.cluster.metadata.generation;
        let rollout = rollout::message(observed, outcome);
        Findings {
            formation,
            leader: leader.map(|(member, _)| member.pod.clone()),
            is_group_known,
            voters: if voters == 0 { members.len() } else { voters },
            ready_voters: ready_voters.count(),
            missing: missing.map(|(_, member)| member.pod.clone()).collect(),
            unreachable: observed.members.iter().filter_map(unreachable).collect(),
            is_any_heard: observed.members.iter().any(heard),
            obstacles: outcome.obstacles.clone(),
            paused: (observed.cluster.spec.maintenance.paused).then(|| held_back(outcome, rollout.as_deref())),
            rollout,
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
            settings: outcome.settings.as_ref().map(Trouble::of),
            trouble: outcome.trouble.as_ref().map(Trouble::of),
            troubled_for: outcome.troubled_for,
            was_available,
            was_converged: find(&observed.status.conditions, ConditionType::PROGRESSING).is_some_and(|progressing| {
                progressing.reason == Reason::CONVERGED.as_str() && progressing.observed_generation == generation
            }),
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
        let yes = |message: String| observation(ConditionType::AVAILABLE, true, Reason::QUORUM_AVAILABLE, message);
        let no = |reason, message: String| observation(ConditionType::AVAILABLE, false, reason, message);
        if self.formation != Formation::Formed {
            return no(Reason::NOT_FORMED, "the group has not been formed yet".to_owned());
        }
        let quorum = self.voters / 2 + 1;
        match (&self.leader, &self.was_available) {
            (Some(leader), _) if self.ready_voters >= quorum => yes(format!(
                "{leader} leads, {} of {} members are ready",
                self.ready_voters, self.voters
            )),
            (_, Some(message)) => yes(message.clone()),
            // Those that were not heard may well be a quorum with those that were.
            _ if !self.unreachable.is_empty() && self.ready_voters + self.unreachable.len() >= quorum => {
                unknown(ConditionType::AVAILABLE, self.could_not_ask())
            }
            (Some(leader), _) => no(
                Reason::QUORUM_LOST,
                format!(
                    "{leader} leads, but {} of {} members are ready and {quorum} are needed: look at the pods that are not",
                    self.ready_voters, self.voters
                ),
            ),
            (None, _) => no(
                Reason::QUORUM_LOST,
                format!(
                    "no member leads, {} of {} are ready: look at the pods that are not",
                    self.ready_voters, self.voters
                ),
            ),
        }
    }

    fn progressing(&self) -> Observation {
        let yes = |reason, message: String| observation(ConditionType::PROGRESSING, true, reason, message);
        let no = |reason, message: String| observation(ConditionType::PROGRESSING, false, reason, message);
        if let Some(waiting) = &self.paused {
            let waiting = match waiting.is_empty() {
                true => String::new(),
                false => format!("; these wait until the pause ends: {}", waiting.join(", ")),
            };
            let message = format!("maintenance.paused is true: only status, the primary's label and the certificates follow{waiting}");
            return no(Reason::PAUSED, message);
        }
        let forming = self.formation != Formation::Formed;
        match &self.trouble {
            // A step of the plan says below what it waits for.
            Some(trouble) if trouble.is_awaited && (forming || self.change.is_some()) => {}
            Some(trouble) if trouble.person == Some(Reason::CHANGE_REFUSED) && self.change.is_some() => {}
            Some(trouble) if !self.is_passing(trouble) => return yes(Reason::APPLYING, not_applied(trouble)),
            _ => {}
        }
        if forming {
            let awaited = self.trouble.as_ref().map(|trouble| trouble.message.clone());
            let message = self.waits_for.clone().or(awaited);
            return yes(Reason::FORMING, message.unwrap_or_else(|| "the group is being formed".to_owned()));
        }
        if let Some((cause, what)) = &self.change {
            let reason = match cause {
                Cause::Scaling => Reason::SCALING,
                Cause::Replacing => Reason::REPLACING_MEMBER,
            };
            return yes(reason, what.clone());
        }
        if let Some(what) = &self.waits_for {
            return yes(Reason::APPLYING, what.clone());
        }
        if let Some(message) = &self.rollout {
            return yes(Reason::ROLLING_OUT, message.clone());
        }
        match &self.settings {
            Some(settings) if settings.is_awaited => return yes(Reason::ROLLING_OUT, settings.message.clone()),
            Some(settings) if !self.is_passing(settings) => return yes(Reason::APPLYING, not_applied(settings)),
            _ => {}
        }
        if !self.is_group_known && !self.was_converged {
            // What the members still lack of this generation, only their leader can tell.
            return match self.is_any_heard || self.unreachable.is_empty() {
                true => yes(
                    Reason::APPLYING,
                    "what is left to be done for the members is known once one of them leads".to_owned(),
                ),
                false => unknown(ConditionType::PROGRESSING, self.could_not_ask()),
            };
        }
        no(Reason::CONVERGED, "everything is as the spec says".to_owned())
    }

    fn degraded(&self) -> Observation {
        let yes = |reason, message: String| observation(ConditionType::DEGRADED, true, reason, message);
        let troubles = || [&self.trouble, &self.settings].into_iter().flatten();
        if let Some((reason, trouble)) = troubles().find_map(|trouble| Some((trouble.person?, trouble))) {
            return yes(reason, trouble.message.clone());
        }
        if let Some(trouble) = troubles().find(|trouble| !trouble.is_awaited && self.troubled_for >= LASTING) {
            return yes(Reason::APPLY_FAILED, not_applied(trouble));
        }
        let blocked = told(&self.obstacles);
        if self.formation == Formation::Formed && !self.missing.is_empty() {
            let missing = format!("{} are missing or not ready", self.missing.join(", "));
            let message = if blocked.is_empty() {
                missing
            } else {
                format!("{missing}; {blocked}")
            };
            return yes(Reason::MEMBER_MISSING, message);
        }
        if !blocked.is_empty() {
            return yes(Reason::POD_BLOCKED, blocked);
        }
        if self.formation == Formation::Formed && !self.unreachable.is_empty() {
            return match self.is_any_heard {
                true => yes(Reason::MEMBERS_UNREACHABLE, self.could_not_ask()),
                false => unknown(ConditionType::DEGRADED, self.could_not_ask()),
            };
        }
        let message = match self.trouble {
            Some(_) => "no member is missing; what is not applied yet is said by Progressing",
            None => "nothing is wrong",
        };
        observation(ConditionType::DEGRADED, false, Reason::HEALTHY, message.to_owned())
    }

    fn ready(&self, available: &Observation, progressing: &Observation, degraded: &Observation) -> Observation {
        // A pause may hide a spec that is not carried out: then the members do not run this generation.
        let behind = self.paused.as_ref().is_some_and(|waiting| !waiting.is_empty());
        let held_back = |by: &Observation| {
            let status = match by.status {
                ConditionStatus::Unknown => ConditionStatus::Unknown,
                ConditionStatus::True | ConditionStatus::False => ConditionStatus::False,
            };
            Observation {
                type_: ConditionType::READY,
                status,
                reason: by.reason,
                message: by.message.clone(),
            }
        };
        if degraded.status == ConditionStatus::True {
            held_back(degraded)
        } else if progressing.status == ConditionStatus::True || behind {
            held_back(progressing)
        } else if available.status != ConditionStatus::True {
            held_back(available)
        } else if let Some(unknown) = [progressing, degraded]
            .into_iter()
            .find(|other| other.status == ConditionStatus::Unknown)
        {
            held_back(unknown)
        } else {
            observation(ConditionType::READY, true, Reason::READY, available.message.clone())
        }
    }

    /// Whether it may be over in a moment, while everything of this generation has been applied before.
    fn is_passing(&self, trouble: &Trouble) -> bool {
        self.was_converged && trouble.person.is_none() && !trouble.is_awaited && self.troubled_for < GRACE
    }

    fn could_not_ask(&self) -> String {
        format!(
            "the operator has no answer from members that may well serve: {}; look at the NetworkPolicies between the operator's namespace and \
             port 9443, and at the Secret <cluster>-operator-tls",
            told(&self.unreachable)
        )
    }
}

impl Trouble {
    fn of(error: &Error) -> Self {
        let person = match error {
            Error::Halted { reason, .. } => Some(*reason),
            Error::NotOwned { .. } => Some(Reason::OBJECT_NOT_OWNED),
            Error::InvalidSpec { .. } => Some(Reason::INVALID_SPEC),
            Error::SecretLost { .. } => Some(Reason::SECRET_LOST),
            _ if error.kind() == Kind::Refused => Some(Reason::APPLY_FAILED),
            _ => None,
        };
        Trouble {
            person,
            is_awaited: error.is_awaited(),
            message: chain(error),
        }
    }
}

/// What waits for the end of a pause.
fn held_back(outcome: &Outcome, rollout: Option<&str>) -> Vec<String> {
    let mut waiting = outcome.differs.clone();
    match &outcome.step {
        None | Some(Step::Converged | Step::MarkFormed) => {}
        Some(Step::Change(change)) => waiting.push(format!("a change of the members ({})", change.act)),
        Some(Step::Wait(what)) => waiting.push(what.clone()),
        Some(Step::Intend(_) | Step::Initialize { .. }) => waiting.push("the formation of the group".to_owned()),
        Some(Step::FormationLost(what)) => waiting.push(what.clone()),
    }
    waiting.extend(rollout.map(str::to_owned));
    let troubles = [&outcome.settings, &outcome.trouble].into_iter().flatten();
    waiting.extend(troubles.map(|error| chain(error)));
    waiting
}

/// A member that was not heard, and that may well be there.
fn unreachable(member: &Member) -> Option<Obstacle> {
    if member.lately {
        return None;
    }
    let why = match member.heard() {
        Heard::Report(_) => return None,
        Heard::NotAsked(why) => why,
        Heard::Silent(why) if member.is_pod_ready() => why,
        Heard::Silent(_) => return None,
    };
    Some(Obstacle {
        pod: member.pod.clone(),
        why: why.to_owned(),
    })
}

/// Whether Available has been true and may stay so: an election takes a second.
pub(super) fn is_held(status: &KvClusterStatus, outcome: &Outcome) -> bool {
    is_true(status, ConditionType::AVAILABLE) && outcome.unavailable_for < GRACE
}

fn is_true(status: &KvClusterStatus, type_: ConditionType) -> bool {
    find(&status.conditions, type_).is_some_and(|condition| condition.status == ConditionStatus::True.as_str())
}

fn message(status: &KvClusterStatus, type_: ConditionType) -> String {
    find(&status.conditions, type_).map_or_else(String::new, |condition| condition.message.clone())
}

fn not_applied(trouble: &Trouble) -> String {
    format!("not everything of this spec is applied: {}", trouble.message)
}

/// Pods with the same trouble are named together.
fn told(obstacles: &[Obstacle]) -> String {
    let mut groups: Vec<(Vec<&str>, &str)> = Vec::new();
    for Obstacle { pod, why } in obstacles {
        match groups.iter_mut().find(|(_, known)| known == why) {
            Some((pods, _)) => pods.push(pod),
            None => groups.push((vec![pod], why)),
        }
    }
    let texts: Vec<String> = groups.iter().map(|(pods, why)| format!("{}: {why}", pods.join(", "))).collect();
    texts.join("; ")
}

fn unknown(type_: ConditionType, message: String) -> Observation {
    Observation {
        type_,
        status: ConditionStatus::Unknown,
        reason: Reason::MEMBERS_UNREACHABLE,
        message,
    }
}

fn observation(type_: ConditionType, holds: bool, reason: Reason, message: String) -> Observation {
    Observation {
        type_,
        status: ConditionStatus::from(holds),
        reason,
        message,
    }
}
