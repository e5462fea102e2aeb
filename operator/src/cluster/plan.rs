//! What to do next about the Raft group: a pure function of what was seen.
//!
//! In: [`Evidence`]: what status, claims and members say. Out: one [`Step`]. A group is formed once in its life, so the step to form it is
//! taken only when all three agree that it never was. Who belongs to a group that runs is decided in [`membership`]. Absent: clients, and any
//! step that restarts members.

mod membership;

use kvfleet_api::admin::MemberState;
use kvfleet_crds::cluster::Formation;

pub use membership::{Act, Cause, Change, Group, GroupMember};

/// One who is to found the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founder {
    /// The pod.
    pub pod: String,
    /// The member's id.
    pub id: u64,
}

/// What a member's place looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The pod.
    pub pod: String,
    /// The member's id and state, if it answers.
    pub heard: Option<(u64, MemberState)>,
}

/// What was seen.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// What status says.
    pub formation: Formation,
    /// The member that status says was told to form the group.
    pub bootstrap: Option<u64>,
    /// The members that status says were chosen.
    pub chosen: Vec<Founder>,
    /// Whether a claim says that the group was formed.
    pub claims_formed: bool,
    /// All places, by ordinal.
    pub places: Vec<Place>,
    /// How many members there shall be.
    pub desired: u32,
    /// Who votes, as far as anybody who is there knows.
    pub voters: Vec<Founder>,
    /// The group, if a leader tells of it.
    pub group: Option<Group>,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Converged,
    /// Nothing yet: for people, what is missing.
    Wait(String),
    /// Write down who founds the group and who is told to.
    Intend(Vec<Founder>),
    /// Tell the bootstrap member.
    Initialize {
        /// Which of the founders.
        bootstrap: Founder,
        /// All founders.
        founders: Vec<Founder>,
    },
    /// Write down that the group runs.
    MarkFormed,
    /// Change the members of the group, or wait for such a change.
    Change(Change),
    /// A person has to look: for them, what is so and what to do.
    FormationLost(String),
}

impl Evidence {
    fn blank(&self) -> Vec<Founder> {
        self.in_state(MemberState::Blank)
    }

    fn in_group(&self) -> Vec<Founder> {
        self.in_state(MemberState::Member)
    }

    fn in_state(&self, wanted: MemberState) -> Vec<Founder> {
        let place = |place: &Place| {
            let (id, state) = place.heard?;
            (state == wanted).then(|| Founder {
                pod: place.pod.clone(),
                id,
            })
        };
        self.places.iter().filter_map(place).collect()
    }

    fn is_majority(&self, count: usize) -> bool {
        count * 2 > self.places.len()
    }

    /// Whether these are a majority of those who vote, whatever number of places there is now.
    fn has_quorum(&self, members: &[Founder]) -> bool {
        if self.voters.is_empty() {
            return self.is_majority(members.len());
        }
        let votes = |member: &&Founder| self.voters.iter().any(|voter| voter.id == member.id);
        members.iter().filter(votes).count() * 2 > self.voters.len()
    }

    /// The places that say neither; a member that closes down counts among them, because it may have been either.
    fn silent(&self) -> Vec<&str> {
        let silent = |place: &&Place| !matches!(place.heard, Some((_, MemberState::Blank | MemberState::Member)));
        self.places.iter().filter(silent).map(|place| place.pod.as_str()).collect()
    }
}

/// Decides.
#[must_use]
pub fn plan(evidence: &Evidence) -> Step {
    match evidence.formation {
        Formation::Pending => pending(evidence),
        Formation::Intended => intended(evidence),
        Formation::Formed => formed(evidence),
    }
}

fn pending(evidence: &Evidence) -> Step {
    let (blank, in_group, silent) = (evidence.blank(), evidence.in_group(), evidence.silent());
    if evidence.has_quorum(&in_group) {
        // The KvCluster was deleted and made again: status went with it, the data stayed.
        return Step::MarkFormed;
    }
    if !silent.is_empty() {
        return Step::Wait(format!("waiting to hear from {}", silent.join(", ")));
    }
    if !in_group.is_empty() {
        return Step::FormationLost(format!(
            "{} hold data of the group but {} are blank, which is no majority: bring back the lost volumes, or delete the KvCluster and all its volume claims to begin anew without the data",
            pods(&in_group),
            pods(&blank)
        ));
    }
    if evidence.claims_formed {
        return Step::FormationLost(format!(
            "the volume claims say that the group was formed, but {} are blank: bring back the lost volumes, or delete the KvCluster and all its volume claims to begin anew without the data",
            pods(&blank)
        ));
    }
    Step::Intend(blank)
}

fn intended(evidence: &Evidence) -> Step {
    let in_group = evidence.in_group();
    if evidence.is_majority(in_group.len()) {
        return Step::MarkFormed;
    }
    let chosen = evidence
        .bootstrap
        .and_then(|id| evidence.chosen.iter().find(|founder| founder.id == id));
    let Some(bootstrap) = chosen.filter(|_| evidence.chosen.len() == evidence.places.len()) else {
        return Step::FormationLost(
            "status says that the group was about to be formed but not by whom: delete the KvCluster and all its volume claims to begin anew".to_owned(),
        );
    };
    let strangers: Vec<Founder> = evidence
        .blank()
        .into_iter()
        .filter(|member| !evidence.chosen.contains(member))
        .collect();
    if !strangers.is_empty() {
        return Step::FormationLost(format!(
            "{} lost their volumes while the group was being formed: delete the KvCluster and all its volume claims to begin anew",
            pods(&strangers)
        ));
    }
    if !in_group.is_empty() {
        // A member is blank until the leader's first entries reach it, which takes as long as names and networks take. Marked formed before
        // that, it would look like one that has lost its data.
        return Step::Wait(format!(
            "{} formed the group; waiting until it has reached a majority",
            pods(&in_group)
        ));
    }
    if evidence.silent().contains(&bootstrap.pod.as_str()) {
        return Step::Wait(format!("waiting to hear from {}, which forms the group", bootstrap.pod));
    }
    Step::Initialize {
        bootstrap: bootstrap.clone(),
        founders: evidence.chosen.clone(),
    }
}

fn formed(evidence: &Evidence) -> Step {
    let blank = evidence.blank();
    let lost: Vec<Founder> = blank
        .iter()
        .filter(|member| {
            let voter = evidence.voters.iter().find(|voter| voter.pod == member.pod);
            voter.is_some_and(|voter| voter.id != member.id)
        })
        .cloned()
        .collect();
    // Where nobody knows who votes, whoever has a place may have voted.
    let (lost, of) = match evidence.voters.len() {
        0 => (blank, evidence.places.len()),
        voters => (lost, voters),
    };
    if lost.len() * 2 > of {
        return Step::FormationLost(format!(
            "{} lost their data, which leaves no majority: bring back the lost volumes, or delete the KvCluster and all its volume claims to begin anew without the data",
            pods(&lost)
        ));
    }
    let change = evidence.group.as_ref().and_then(|group| membership::next(evidence, group));
    change.map_or(Step::Converged, Step::Change)
}

fn pods(members: &[Founder]) -> String {
    members.iter().map(|member| member.pod.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[path = "plan/tests.rs"]
mod tests;
