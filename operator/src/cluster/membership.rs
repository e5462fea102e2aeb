//! The members of a group that runs: what the plan decides on, how large the StatefulSet has to be for it, and its calls.
//!
//! In: the members' reports. Out: a [`Group`], a size, and one call of the leader. Absent: the decision.

use kvfleet_api::admin::{ChangeStage, MemberReport, MemberStanding, MemberState, MembershipChange, NewMember};
use kvfleet_crds::{
    cluster::Formation,
    names::{ClusterNames, PORT_PEER},
};

use super::{
    fetch::Observed,
    formation::shard,
    plan::{Act, Change, Group, GroupMember},
    status::primary,
    validate::{self, SHARD, Validated},
};
use crate::error::Error;

/// A member that the leader has not heard for this long, milliseconds, is not counted on.
const SILENT_MS: u64 = 2_000;

/// The group as its leader tells it.
#[must_use]
pub fn group(observed: &Observed, names: &ClusterNames) -> Option<Group> {
    let (leader, _) = primary(observed)?;
    let report = leader.report.as_ref()?;
    let member = |member: &MemberStanding| GroupMember {
        id: member.id,
        pod: member.name.clone(),
        ordinal: ordinal(names, &member.name),
        voter: member.voter,
        lag: member.lag.unwrap_or(u64::MAX),
        heard: member.id == report.id || member.heard_ms.is_some_and(|age| age <= SILENT_MS),
    };
    Some(Group {
        members: report.members.iter().map(member).collect(),
        running: report.change.as_ref().map(|change| (change.kind, progress(report, change))),
    })
}

fn progress(report: &MemberReport, change: &MembershipChange) -> String {
    let known = report.members.iter().find(|member| member.id == change.id);
    let pod = known.map_or_else(|| change.id.to_string(), |member| member.name.clone());
    match (change.stage, change.entries_behind) {
        (ChangeStage::CatchingUp, Some(behind)) => format!("{pod} catches up and lacks {behind} entries"),
        (ChangeStage::CatchingUp, None) => format!("{pod} catches up"),
        (ChangeStage::Adding, _) => format!("{pod} is being added"),
        (ChangeStage::Committing, _) => format!("the group agrees on its voters because of {pod}"),
    }
}

/// The members as the leader names them or, without one, as the most advanced of those that answer does.
#[must_use]
pub fn named(observed: &Observed) -> Option<&[MemberStanding]> {
    let led = primary(observed).and_then(|(leader, _)| leader.report.as_ref());
    let told = || {
        let reports = observed.members.iter().filter_map(|member| member.report.as_ref());
        reports
            .filter(|report| report.state == MemberState::Member)
            .max_by_key(|report| (report.term, report.last_log_index))
    };
    let members = led.or_else(told)?.members.as_slice();
    (!members.is_empty()).then_some(members)
}

/// How many pods there have to be: as many as there shall be, and as many as still belong to the group. A pod goes only after its member
/// has left, and while nobody knows who belongs to the group, none goes.
#[must_use]
pub fn size(observed: &Observed) -> u32 {
    let desired = validate::replicas(&observed.cluster);
    let formation = shard(&observed.status).map(|shard| shard.formation).unwrap_or_default();
    match formation {
        Formation::Pending => desired,
        // Who founds the group is written down, and nobody else comes before it runs.
        Formation::Intended => observed.size,
        Formation::Formed => {
            let names = ClusterNames::new(observed.cluster.metadata.name.clone().unwrap_or_default());
            let highest = |members: &[MemberStanding]| {
                let ordinals = members.iter().filter_map(|member| ordinal(&names, &member.name));
                ordinals.max().map_or(0, |ordinal| ordinal + 1)
            };
            let settled = primary(observed)
                .and_then(|(leader, _)| leader.report.as_ref())
                .is_some_and(|report| report.change.is_none());
            let belong = named(observed).map_or(0, highest);
            desired.max(belong).max(if settled { 0 } else { observed.size })
        }
    }
}

fn ordinal(names: &ClusterNames, pod: &str) -> Option<u32> {
    let ordinal = pod.rsplit_once('-')?.1.parse().ok()?;
    (names.pod(SHARD, ordinal) == pod).then_some(ordinal)
}

/// Calls the leader. What it refuses for now is waited for.
///
/// # Errors
/// [`Error::Waits`]; [`Error::Member`].
pub async fn execute(validated: &Validated, observed: &Observed, change: &Change) -> Result<(), Error> {
    let leader = primary(observed);
    let address = leader.and_then(|(leader, _)| leader.seen.as_ref()?.address);
    let (Some(admin), Some(address)) = (&observed.admin, address) else {
        return Err(Error::Waits("the change of members waits for a primary".to_owned()));
    };
    let new = |pod: &str, id: u64| NewMember {
        id,
        name: pod.to_owned(),
        peer: format!("{}:{PORT_PEER}", validated.names.pod_host(&validated.namespace, pod)),
    };
    let answer = match &change.act {
        Act::Wait(_) => return Ok(()),
        Act::Release { pod } => {
            let place = observed.members.iter().find(|member| member.pod == *pod);
            let Some(address) = place.and_then(|member| member.seen.as_ref()?.address) else {
                return Err(Error::Waits(format!("{pod} has no address")));
            };
            // The leader may say "not now" for as long as it likes, and its reason is what a person should see.
            let released = admin.release(address).await;
            return released.map(drop).map_err(|error| Error::Waits(format!("{}: {error}", change.act)));
        }
        Act::AddLearner { pod, id } => admin.add_member(address, &new(pod, *id)).await,
        Act::Promote { pod: _, id } => admin.promote(address, *id).await,
        Act::Remove { pod: _, id } => admin.remove_member(address, *id).await,
        Act::Replace { pod, old, new: id } => admin.replace_member(address, *old, &new(pod, *id)).await,
    };
    match answer {
        Ok(_) => {
            tracing::info!(
                namespace = validated.namespace,
                cluster = validated.names.cluster(),
                change = %change.act,
                "changed the members of the group"
            );
            Ok(())
        }
        // Its message is what a person should see while it lasts.
        Err(error) if error.is_retryable() => Err(Error::Waits(format!("{}: {error}", change.act))),
        Err(error) => Err(Error::member(change.act.to_string())(error)),
    }
}

#[cfg(test)]
#[path = "membership/tests.rs"]
mod tests;
