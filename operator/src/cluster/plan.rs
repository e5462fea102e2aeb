//! What to do next about the Raft group: a pure function of what was seen.
//!
//! In: [`Evidence`]: what status, claims and members say. Out: one [`Step`]. A group is formed once in its life, so the step to form it is
//! taken only when all three agree that it never was. Who belongs to a group that runs is decided in [`membership`]. Absent: clients, and any
//! step that restarts members.

mod membership;

use kvfleet_api::admin::MemberState;
use kvfleet_crds::cluster::Formation;

pub use membership::{Act, Cause, Change, Group, GroupMember, Running};

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

/// A volume claim that says that its group was formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormedClaim {
    /// Its name.
    pub name: String,
    /// The pod that mounts it.
    pub pod: String,
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
    /// The claims of this cluster that say that the group was formed.
    pub formed_claims: Vec<FormedClaim>,
    /// All places, by ordinal.
    pub places: Vec<Place>,
    /// How many members there shall be; where the cluster must not grow, how many there are.
    pub desired: u32,
    /// Why it must not grow: for people, what is so and what to do.
    pub no_growth: Option<String>,
    /// Who votes, as far as any member that is there knows.
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

    /// The claims with data of the group that no member speaks for: their pods do not run, or do not answer.
    fn unheard_claims(&self) -> Vec<&str> {
        let heard = |claim: &&FormedClaim| {
            let place = self.places.iter().find(|place| place.pod == claim.pod);
            place.is_some_and(|place| place.heard.is_some())
        };
        self.formed_claims
            .iter()
            .filter(|claim| !heard(claim))
            .map(|claim| claim.name.as_str())
            .collect()
    }

    /// For a message about a group that no majority is left of: where its data may still be, and how to go on without touching it. What is
    /// left here may be completed by a volume that comes back, so no such message may advise to delete anything.
    fn what_is_left(&self) -> String {
        let unheard = self.unheard_claims();
        let pods = match unheard.is_empty() {
            true => String::new(),
            false => format!(
                "; the volume claims {} exist and no pod of theirs answers: see why",
                unheard.join(", ")
            ),
        };
        format!("{pods}. Keep every volume claim: a volume that comes back completes the data. A KvCluster of another name starts empty")
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
            "{} hold data of the group but {} are blank, which leaves no majority: bring back the lost volumes{}",
            pods(&in_group),
            pods(&blank),
            evidence.what_is_left()
        ));
    }
    if !evidence.formed_claims.is_empty() {
        return Step::FormationLost(format!(
            "the volume claims say that the group was formed, but {} are blank: bring back the lost volumes{}",
            pods(&blank),
            evidence.what_is_left()
        ));
    }
    Step::Intend(blank)
}

fn intended(evidence: &Evidence) -> Step {
    let in_group = evidence.in_group();
    if evidence.is_majority(in_group.len()) {
        return Step::MarkFormed;
    }
    let silent = evidence.silent();
    let chosen = evidence
        .bootstrap
        .and_then(|id| evidence.chosen.iter().find(|founder| founder.id == id));
    let Some(bootstrap) = chosen.filter(|_| evidence.chosen.len() == evidence.places.len()) else {
        return stuck(evidence, "status says that the group was about to be formed but not by whom");
    };
    let strangers: Vec<Founder> = evidence
        .blank()
        .into_iter()
        .filter(|member| !evidence.chosen.contains(member))
        .collect();
    if !strangers.is_empty() {
        return stuck(
            evidence,
            &format!("{} lost their volumes while the group was being formed", pods(&strangers)),
        );
    }
    if !in_group.is_empty() {
        // A member is blank until the leader's first entries reach it, which takes as long as names and networks take. Marked formed before
        // that, it would look like one that has lost its data.
        return Step::Wait(format!(
            "{} formed the group; waiting until it has reached a majority",
            pods(&in_group)
        ));
    }
    if silent.contains(&bootstrap.pod.as_str()) {
        return Step::Wait(format!("waiting to hear from {}, which forms the group", bootstrap.pod));
    }
    Step::Initialize {
        bootstrap: bootstrap.clone(),
        founders: evidence.chosen.clone(),
    }
}

/// A formation that cannot go on. Members that are not heard may be the majority that it had reached, so they are waited for; and only where
/// every member says that it holds nothing is it right to begin again on the same claims.
fn stuck(evidence: &Evidence, what: &str) -> Step {
    let silent = evidence.silent();
    if !silent.is_empty() {
        return Step::Wait(format!("{what}: waiting to hear from {}", silent.join(", ")));
    }
    let remedy = match evidence.in_group().is_empty() && evidence.unheard_claims().is_empty() {
        true => ": delete the KvCluster and its volume claims and apply it again; no member holds data".to_owned(),
        false => format!(": bring back the lost volumes{}", evidence.what_is_left()),
    };
    Step::FormationLost(format!("{what}{remedy}"))
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
    // Where no member knows who votes, every place may have had a vote.
    let (lost, of) = match evidence.voters.len() {
        0 => (blank, evidence.places.len()),
        voters => (lost, voters),
    };
    if lost.len() * 2 > of {
        return Step::FormationLost(format!(
            "{} lost their data, which leaves no majority: bring back the lost volumes{}",
            pods(&lost),
            evidence.what_is_left()
        ));
    }
    let change = match &evidence.group {
        Some(group) => membership::next(evidence, group),
        None => membership::blocked(evidence),
    };
    change.map_or(Step::Converged, Step::Change)
}

fn pods(members: &[Founder]) -> String {
    members.iter().map(|member| member.pod.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[path = "plan/tests.rs"]
mod tests;
