//! The members of a group that runs: what the plan decides on, how large the StatefulSet has to be for it, and its calls.
//!
//! In: the members' reports. Out: a [`Group`], a size, and one call of the leader. Absent: the decision.

mod refusals;

use std::time::Instant;

use kvfleet_api::admin::{ChangeStage, MemberReport, MemberStanding, MemberState, MembershipChange, NewMember};
use kvfleet_client::admin;
use kvfleet_crds::{
    cluster::Formation,
    conditions::Reason,
    names::{ClusterNames, PORT_PEER},
};

pub use refusals::Refusals;

use super::{
    claims,
    fetch::{MOST_PODS, Member, Observed},
    formation::shard,
    plan::{Act, Change, Group, GroupMember, Running},
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
        caught_up: member.caught_up,
        heard: member.id == report.id || member.heard_ms.is_some_and(|age| age <= SILENT_MS),
    };
    Some(Group {
        members: report.members.iter().map(member).collect(),
        running: report.change.as_ref().map(|change| Running {
            kind: change.kind,
            id: change.id,
            progress: progress(report, change),
        }),
    })
}

/// Without a figure: one that moves with the traffic would be written into status at every look.
fn progress(report: &MemberReport, change: &MembershipChange) -> String {
    let known = report.members.iter().find(|member| member.id == change.id);
    let pod = known.map_or_else(|| change.id.to_string(), |member| member.name.clone());
    match change.stage {
        ChangeStage::CatchingUp => format!("{pod} catches up"),
        ChangeStage::Adding => format!("{pod} is being added"),
        ChangeStage::Committing => format!("the group agrees on its voters because of {pod}"),
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
/// has left, and while it is not known who belongs to the group, none goes.
#[must_use]
pub fn size(observed: &Observed) -> u32 {
    let formation = shard(&observed.status).map(|shard| shard.formation).unwrap_or_default();
    match formation {
        // Who founds the group is written down, and no other member comes before it runs.
        Formation::Pending | Formation::Intended => observed.size,
        Formation::Formed => {
            let names = ClusterNames::new(observed.cluster.metadata.name.clone().unwrap_or_default());
            let settled = primary(observed)
                .and_then(|(leader, _)| leader.report.as_ref())
                .is_some_and(|report| report.change.is_none());
            let belong = named(observed).map_or(0, |members| places(&names, members));
            desired(observed).max(belong).max(if settled { 0 } else { observed.size })
        }
    }
}

/// How many members there shall be: those of the spec; where the cluster must not grow, those that there are.
#[must_use]
pub fn desired(observed: &Observed) -> u32 {
    let desired = validate::replicas(&observed.cluster);
    match claims::no_growth(observed) {
        Some(_) => desired.min(observed.size),
        None => desired,
    }
}

/// Before a group is known to run, there are as many places as its members, if any answers, say that it has: a KvCluster that was made again
/// may ask for fewer. Pods beyond those are not looked at.
pub fn take_in_those_named(observed: &mut Observed, names: &ClusterNames) {
    observed.size = observed.size.max(named(observed).map_or(0, |members| places(names, members)));
    let places = observed.size;
    let count = usize::try_from(places).unwrap_or(usize::MAX);
    observed.members.truncate(count);
    let missing = (0..places).skip(observed.members.len());
    let empty = missing.map(|ordinal| Member {
        pod: names.pod(SHARD, ordinal),
        seen: None,
        report: None,
        unheard: None,
        lately: false,
    });
    observed.members.extend(empty.collect::<Vec<_>>());
}

/// How many places the members have.
fn places(names: &ClusterNames, members: &[MemberStanding]) -> u32 {
    let ordinals = members.iter().filter_map(|member| ordinal(names, &member.name));
    ordinals.max().map_or(0, |ordinal| ordinal.saturating_add(1).min(MOST_PODS))
}

fn ordinal(names: &ClusterNames, pod: &str) -> Option<u32> {
    let ordinal = pod.rsplit_once('-')?.1.parse().ok()?;
    (names.pod(SHARD, ordinal) == pod).then_some(ordinal)
}

/// Calls the leader, and no more often than its refusals allow. What it refuses for now is waited for; what time alone cannot alter is told.
///
/// # Errors
/// [`Error::Waits`]; [`Error::Halted`].
pub async fn execute(validated: &Validated, observed: &Observed, refusals: &mut Refusals, change: &Change) -> Result<(), Error> {
    match &change.act {
        Act::Wait(_) => return Ok(()),
        Act::Halt(message) => {
            return Err(Error::Halted {
                reason: Reason::FOREIGN_VOLUMES,
                message: message.clone(),
            });
        }
        Act::AddLearner { .. } | Act::Promote { .. } | Act::Remove { .. } | Act::Release { .. } | Act::Replace { .. } => {}
    }
    let Some((leader, _)) = primary(observed) else {
        return Err(Error::Waits("the change of members waits for a primary".to_owned()));
    };
    if let Some(standing) = refusals.standing(&change.act, &leader.pod, Instant::now()) {
        return Err(standing);
    }
    match call(validated, observed, leader, &change.act).await? {
        Ok(()) => {
            refusals.forget();
            tracing::info!(
                namespace = validated.namespace,
                cluster = validated.names.cluster(),
                change = %change.act,
                "changed the members of the group"
            );
            Ok(())
        }
        Err(refusal) => {
            tracing::info!(
                namespace = validated.namespace,
                cluster = validated.names.cluster(),
                change = %change.act,
                error = %crate::error::chain(&refusal),
                "the group does not change its members"
            );
            Err(refusals.note(&change.act, &leader.pod, &refusal, Instant::now()))
        }
    }
}

async fn call(validated: &Validated, observed: &Observed, leader: &Member, act: &Act) -> Result<Result<(), admin::Error>, Error> {
    let asked = match act {
        Act::Release { pod } => observed.members.iter().find(|member| member.pod == *pod).unwrap_or(leader),
        _ => leader,
    };
    let address = asked.seen.as_ref().and_then(|pod| pod.address);
    let (Some(admin), Some(address)) = (&observed.admin, address) else {
        return Err(Error::Waits(format!("{act}: {} has no address", asked.pod)));
    };
    let new = |pod: &str, id: u64| NewMember {
        id,
        name: pod.to_owned(),
        peer: format!("{}:{PORT_PEER}", validated.names.pod_host(&validated.namespace, pod)),
    };
    Ok(match act {
        Act::Wait(_) | Act::Halt(_) => Ok(()),
        Act::Release { .. } => admin.release(address).await.map(drop),
        Act::AddLearner { pod, id } => admin.add_member(address, &new(pod, *id)).await.map(drop),
        Act::Promote { pod: _, id } => admin.promote(address, *id).await.map(drop),
        Act::Remove { pod: _, id } => admin.remove_member(address, *id).await.map(drop),
        Act::Replace { pod, old, new: id } => admin.replace_member(address, *old, &new(pod, *id)).await.map(drop),
    })
}

#[cfg(test)]
#[path = "membership/tests.rs"]
mod tests;
