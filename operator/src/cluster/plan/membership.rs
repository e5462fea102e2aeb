//! What to do next about the members of a group that runs: scaling, and replacing a member that lost its volume.
//!
//! In: the places that there are and that there shall be, and the group as its leader sees it. Out: one [`Change`], or none. One at a time:
//! what the group can only gain by comes first, what costs it a live voter last, and only while every voter that stays is there. Absent:
//! safety that a stale picture could break; the leader refuses what would cost the quorum.

use std::{cmp::Reverse, fmt};

use kvfleet_api::admin::{ChangeKind, MemberState};

use super::{Evidence, Place};

/// A group as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its members.
    pub members: Vec<GroupMember>,
    /// The change that runs.
    pub running: Option<Running>,
}

/// A change that the leader carries out at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// What it is about.
    pub kind: ChangeKind,
    /// The member that comes, or goes.
    pub id: u64,
    /// For people: what it is doing, without a figure that moves.
    pub progress: String,
}

/// One of its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// Its id.
    pub id: u64,
    /// Its pod.
    pub pod: String,
    /// The number of the pod; none for a member that is no pod of this cluster, which is left alone.
    pub ordinal: Option<u32>,
    /// Whether it votes.
    pub voter: bool,
    /// Whether the leader takes it for caught up, by entries, bytes and time.
    pub caught_up: bool,
    /// Whether the leader hears it.
    pub heard: bool,
}

impl Group {
    fn voters(&self) -> impl Iterator<Item = &GroupMember> {
        self.members.iter().filter(|member| member.voter)
    }

    fn is_voter(&self, id: u64) -> bool {
        self.voters().any(|voter| voter.id == id)
    }

    /// A leader that has just been elected has heard too few members yet to know who is lost.
    fn knows_who_is_there(&self) -> bool {
        self.voters().filter(|voter| voter.heard).count() * 2 > self.voters().count()
    }
}

/// Why the members change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// There shall be more, or fewer.
    Scaling,
    /// One lost its data.
    Replacing,
}

/// What is to be done, or waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Why.
    pub cause: Cause,
    /// What.
    pub act: Act,
}

/// A call of the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// None yet: for people, what is missing.
    Wait(String),
    /// None before a person has acted: for them, what is so and what to do.
    Halt(String),
    /// A blank member becomes a learner.
    AddLearner {
        /// Its pod.
        pod: String,
        /// Its id.
        id: u64,
    },
    /// A learner votes.
    Promote {
        /// Its pod.
        pod: String,
        /// Its id.
        id: u64,
    },
    /// A member leaves; a leader hands over first.
    Remove {
        /// Its pod.
        pod: String,
        /// Its id.
        id: u64,
    },
    /// A quarantined member puts its data aside, if the leader allows it.
    Release {
        /// Its pod.
        pod: String,
    },
    /// A blank member takes the place of the voter that its pod was.
    Replace {
        /// Its pod.
        pod: String,
        /// The id that is lost.
        old: u64,
        /// The new one.
        new: u64,
    },
}

impl fmt::Display for Act {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Act::Wait(what) | Act::Halt(what) => formatter.write_str(what),
            Act::AddLearner { pod, .. } => write!(formatter, "adding {pod} as a learner"),
            Act::Promote { pod, .. } => write!(formatter, "letting {pod} vote"),
            Act::Remove { pod, .. } => write!(formatter, "taking {pod} out of the group"),
            Act::Release { pod } => write!(formatter, "{pod} cannot vouch for its data and puts it aside"),
            Act::Replace { pod, .. } => write!(formatter, "{pod} lost its data: it takes its own place as a new member"),
        }
    }
}

/// Decides. None: the members are those that there shall be.
pub(super) fn next(evidence: &Evidence, group: &Group) -> Option<Change> {
    let replacing = |act| Change {
        cause: Cause::Replacing,
        act,
    };
    let scaling = |act| Change {
        cause: Cause::Scaling,
        act,
    };
    if let Some(running) = &group.running {
        return Some(under_way(evidence, group, running));
    }
    left_over(evidence, group)
        .or_else(|| gone(evidence, group).map(scaling))
        .or_else(|| succeeded(evidence, group).map(replacing))
        .or_else(|| lost(evidence, group).map(replacing))
        .or_else(|| damaged(evidence, group).map(replacing))
        .or_else(|| surplus(evidence, group).map(scaling))
        .or_else(|| learner(group).map(scaling))
        .or_else(|| newcomer(evidence, group).map(scaling))
        .or_else(|| leaving(evidence).map(scaling))
        .or_else(|| blocked(evidence))
}

/// What keeps the cluster from growing. Nothing else waits for it.
pub(super) fn blocked(evidence: &Evidence) -> Option<Change> {
    let why = evidence.no_growth.clone()?;
    Some(Change {
        cause: Cause::Scaling,
        act: Act::Halt(why),
    })
}

fn wanted(evidence: &Evidence) -> impl Iterator<Item = &Place> {
    evidence.places.iter().take(usize::try_from(evidence.desired).unwrap_or(usize::MAX))
}

/// Who is heard at the place of a pod.
fn heard_at(evidence: &Evidence, pod: &str) -> Option<(u64, MemberState)> {
    evidence.places.iter().find(|place| place.pod == pod)?.heard
}

fn remove(member: &GroupMember) -> Act {
    Act::Remove {
        pod: member.pod.clone(),
        id: member.id,
    }
}

/// The change that runs is waited for, unless it waits itself for a newcomer that has failed by now: the leader would do so for a minute.
fn under_way(evidence: &Evidence, group: &Group, running: &Running) -> Change {
    let replaces = running.kind == ChangeKind::Replace;
    let newcomer = group
        .members
        .iter()
        .find(|member| replaces && !member.voter && member.id == running.id);
    Change {
        cause: if replaces { Cause::Replacing } else { Cause::Scaling },
        act: newcomer
            .filter(|learner| has_failed(evidence, learner))
            .map_or_else(|| Act::Wait(running.progress.clone()), remove),
    }
}

/// A learner that has failed on its way: its name would keep its successor out. It costs no vote.
fn left_over(evidence: &Evidence, group: &Group) -> Option<Change> {
    let mut learners = group.members.iter().filter(|member| !member.voter && member.ordinal.is_some());
    let learner = learners.find(|learner| has_failed(evidence, learner))?;
    let replaces = group.voters().any(|voter| voter.pod == learner.pod);
    Some(Change {
        cause: if replaces { Cause::Replacing } else { Cause::Scaling },
        act: remove(learner),
    })
}

/// Whether the pod of a learner is there as another member, because the learner's volume was lost, or as one that cannot vouch for its data.
fn has_failed(evidence: &Evidence, learner: &GroupMember) -> bool {
    heard_at(evidence, &learner.pod).is_some_and(|(id, state)| id != learner.id || state == MemberState::Quarantined)
}

/// A member that must go and takes no part any more. Without it the majority is smaller or the same, so nothing has to be waited for, and
/// nothing may wait for it. One that still answers here is alive, whatever a new leader has heard so far.
fn gone(evidence: &Evidence, group: &Group) -> Option<Act> {
    let answers = |member: &GroupMember| {
        heard_at(evidence, &member.pod)
            .is_some_and(|(id, state)| id == member.id && !matches!(state, MemberState::Quarantined | MemberState::Blank))
    };
    let mut beyond = group.members.iter().filter(|member| is_beyond(evidence, member));
    let gone = beyond.find(|member| !member.heard && !answers(member))?;
    group.knows_who_is_there().then(|| remove(gone))
}

/// A lost voter whose successor votes already: it was let in beside it, not in its place.
fn succeeded(evidence: &Evidence, group: &Group) -> Option<Act> {
    let has_successor = |voter: &&GroupMember| {
        let there = heard_at(evidence, &voter.pod);
        !voter.heard && voter.ordinal.is_some() && there.is_some_and(|(id, _)| id != voter.id && group.is_voter(id))
    };
    group.voters().find(has_successor).map(remove)
}

/// A voter whose pod is there as another member, because its volume was lost. There is no copy left that could be spared, so only the leader's
/// own conditions hold: it counts the newcomer when it has caught up, and refuses what the group cannot survive.
fn lost(evidence: &Evidence, group: &Group) -> Option<Act> {
    wanted(evidence).find_map(|place| {
        let (id, state) = place.heard?;
        let old = group.voters().find(|voter| voter.pod == place.pod && voter.id != id)?;
        let comes = matches!(state, MemberState::Blank | MemberState::Member) && !group.is_voter(id);
        comes.then(|| Act::Replace {
            pod: place.pod.clone(),
            old: old.id,
            new: id,
        })
    })
}

/// A voter that cannot vouch for its data. Its copy may be the last one of something, so all other voters have to be heard and caught up before
/// it is put aside.
fn damaged(evidence: &Evidence, group: &Group) -> Option<Act> {
    let (place, own) = wanted(evidence).find_map(|place| {
        let (_, state) = place.heard?;
        let own = group.voters().find(|voter| voter.pod == place.pod)?;
        (state == MemberState::Quarantined).then_some((place, own))
    })?;
    let missing = group.voters().find(|voter| voter.id != own.id && !(voter.heard && voter.caught_up));
    Some(match missing {
        Some(missing) => Act::Wait(format!(
            "{} cannot vouch for its data and is replaced when all other voters are caught up: waiting for {}",
            place.pod, missing.pod
        )),
        None => Act::Release { pod: place.pod.clone() },
    })
}

fn is_beyond(evidence: &Evidence, member: &GroupMember) -> bool {
    member.ordinal.is_some_and(|ordinal| ordinal >= evidence.desired)
}

/// A member that must go: the one that contributes least, then the highest. To take out a voter that lives is nobody's emergency, so it waits
/// until every voter that stays is heard and caught up: otherwise the group would survive fewer losses than before.
fn surplus(evidence: &Evidence, group: &Group) -> Option<Act> {
    let beyond = group.members.iter().filter(|member| is_beyond(evidence, member));
    let next = beyond.min_by_key(|member| (member.voter, member.heard, member.caught_up, Reverse(member.ordinal)))?;
    let stays = |voter: &&GroupMember| !is_beyond(evidence, voter);
    let missing = group.voters().filter(stays).find(|voter| !(voter.heard && voter.caught_up));
    match missing {
        Some(missing) if next.voter => Some(Act::Wait(format!(
            "{} leaves the group when all voters that stay are caught up: waiting for {}",
            next.pod, missing.pod
        ))),
        _ => Some(remove(next)),
    }
}

/// The learner that is on its way. One that can vote comes before one that is not heard.
fn learner(group: &Group) -> Option<Act> {
    let learners = group.members.iter().filter(|member| !member.voter && member.ordinal.is_some());
    let learner = learners.min_by_key(|learner| (!learner.heard, !learner.caught_up, learner.ordinal))?;
    let pod = learner.pod.clone();
    if !learner.heard {
        return Some(Act::Wait(format!("{pod} is a learner and is not heard")));
    }
    if !learner.caught_up {
        return Some(Act::Wait(format!("{pod} is a learner and catches up")));
    }
    if group.voters().any(|voter| voter.pod == pod) {
        // It takes the place of that voter, not one beside it, as soon as its pod says that it is this learner.
        return Some(Act::Wait(format!("waiting to hear from {pod}, which replaces a lost member")));
    }
    Some(Act::Promote { pod, id: learner.id })
}

/// The next pod that belongs to no member yet. One whose member was removed sets its data aside and is blank, under a new id, in a moment.
fn newcomer(evidence: &Evidence, group: &Group) -> Option<Act> {
    let place = wanted(evidence).find(|place| !group.members.iter().any(|member| member.pod == place.pod))?;
    Some(match place.heard {
        Some((id, MemberState::Blank)) => Act::AddLearner {
            pod: place.pod.clone(),
            id,
        },
        Some((_, MemberState::Quarantined)) => Act::Release { pod: place.pod.clone() },
        _ => Act::Wait(format!("waiting to hear that {} is blank", place.pod)),
    })
}

/// A pod that has left the group and not yet the cluster.
fn leaving(evidence: &Evidence) -> Option<Act> {
    let place = evidence
        .places
        .get(usize::try_from(evidence.desired).unwrap_or(usize::MAX)..)?
        .first()?;
    Some(Act::Wait(format!(
        "{} has left the group; its pod goes and its volume stays",
        place.pod
    )))
}

#[cfg(test)]
#[path = "membership/tests.rs"]
mod tests;

#[cfg(test)]
#[path = "membership/model.rs"]
mod model;
