//! What to do next about the members of a group that runs: scaling, and replacing a member that lost its volume.
//!
//! In: the places that there are and that there shall be, and the group as its leader sees it. Out: one [`Change`], or none. One at a time, and
//! the next only when everybody who votes is there: nothing here takes a second voter away. Absent: safety that a stale picture could break;
//! the leader refuses what would cost the quorum.

use std::fmt;

use kvfleet_api::admin::{ChangeKind, MemberState};

use super::{Evidence, Place};

/// A learner that lacks at most this many entries may vote, as the members see it too.
const CAUGHT_UP: u64 = 1_000;

/// A group as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its members.
    pub members: Vec<GroupMember>,
    /// The change that runs, and for people how far it is.
    pub running: Option<(ChangeKind, String)>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// Its id.
    pub id: u64,
    /// Its pod.
    pub pod: String,
    /// The number of the pod; none for a member that is no pod of this cluster, which nobody here touches.
    pub ordinal: Option<u32>,
    /// Whether it votes.
    pub voter: bool,
    /// Entries that it lacks.
    pub lag: u64,
    /// Whether the leader hears it.
    pub heard: bool,
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
            Act::Wait(what) => formatter.write_str(what),
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
    if let Some((kind, progress)) = &group.running {
        let cause = match kind {
            ChangeKind::Replace => Cause::Replacing,
            ChangeKind::AddLearner | ChangeKind::Promote | ChangeKind::Remove => Cause::Scaling,
        };
        return Some(Change {
            cause,
            act: Act::Wait(progress.clone()),
        });
    }
    let replacing = |act| Change {
        cause: Cause::Replacing,
        act,
    };
    let scaling = |act| Change {
        cause: Cause::Scaling,
        act,
    };
    replacement(evidence, group)
        .map(replacing)
        .or_else(|| surplus(evidence, group).map(scaling))
        .or_else(|| learner(evidence, group).map(scaling))
        .or_else(|| newcomer(evidence, group).map(scaling))
        .or_else(|| leaving(evidence).map(scaling))
}

fn wanted(evidence: &Evidence) -> impl Iterator<Item = &Place> {
    evidence.places.iter().take(usize::try_from(evidence.desired).unwrap_or(usize::MAX))
}

/// A voter whose pod is there as somebody else, because its volume was lost, or that cannot vouch for its data. The copy that is gone must
/// not be missed, so all other voters have to be heard and caught up.
fn replacement(evidence: &Evidence, group: &Group) -> Option<Act> {
    let (place, old, new) = wanted(evidence).find_map(|place| {
        let (id, state) = place.heard?;
        let old = group.members.iter().find(|member| member.voter && member.pod == place.pod)?;
        let votes = group.members.iter().any(|member| member.voter && member.id == id);
        match state {
            MemberState::Quarantined => Some((place, old, None)),
            MemberState::Blank | MemberState::Member if !votes => Some((place, old, Some(id))),
            _ => None,
        }
    })?;
    let behind = group
        .members
        .iter()
        .filter(|member| member.voter && member.id != old.id)
        .find(|member| !member.heard || member.lag > CAUGHT_UP);
    if let Some(behind) = behind {
        return Some(Act::Wait(format!(
            "{} lost its data and is replaced when all other voters are caught up: waiting for {}",
            place.pod, behind.pod
        )));
    }
    let pod = place.pod.clone();
    Some(match new {
        Some(new) => Act::Replace { pod, old: old.id, new },
        None => Act::Release { pod },
    })
}

/// The highest member that shall not be there any more.
fn surplus(evidence: &Evidence, group: &Group) -> Option<Act> {
    let beyond = |member: &&GroupMember| member.ordinal.is_some_and(|ordinal| ordinal >= evidence.desired);
    let last = group.members.iter().filter(beyond).max_by_key(|member| member.ordinal)?;
    Some(Act::Remove {
        pod: last.pod.clone(),
        id: last.id,
    })
}

/// The learner that is on its way; one that lost its data on the way begins again.
fn learner(evidence: &Evidence, group: &Group) -> Option<Act> {
    let learner = group.members.iter().find(|member| !member.voter && member.ordinal.is_some())?;
    let there = wanted(evidence)
        .find(|place| place.pod == learner.pod)
        .and_then(|place| place.heard);
    if there.is_some_and(|(id, _)| id != learner.id) {
        return Some(Act::Remove {
            pod: learner.pod.clone(),
            id: learner.id,
        });
    }
    if !learner.heard {
        return Some(Act::Wait(format!("{} is a learner and is not heard", learner.pod)));
    }
    if learner.lag > CAUGHT_UP {
        return Some(Act::Wait(format!("{} is a learner and lacks {} entries", learner.pod, learner.lag)));
    }
    Some(Act::Promote {
        pod: learner.pod.clone(),
        id: learner.id,
    })
}

/// The next pod that belongs to nobody yet. Whoever has been removed sets its data aside and is blank, under a new id, in a moment.
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
