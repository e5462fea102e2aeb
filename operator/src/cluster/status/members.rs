//! The members' part of the status.

use kvfleet_api::admin::{MemberReport, MemberState, Role};
use kvfleet_crds::{
    cluster::{MemberRole, MemberStatus, ShardStatus},
    quantity::Quantity,
};

use crate::cluster::{
    fetch::{Member, Observed},
    heard::Heard,
};

const KIBI: u64 = 1 << 10;
const MEBI: u64 = 1 << 20;

/// The member that leads, and its term: it says so, or its own answer is late and most of those that answer name it. Of two, the one of the
/// newer term: the other has not heard of it yet.
#[must_use]
pub fn primary(observed: &Observed) -> Option<(&Member, u64)> {
    let reports = || {
        let reports = observed.members.iter().filter_map(|member| Some((member, member.report.as_ref()?)));
        reports.filter(|(_, report)| report.state == MemberState::Member)
    };
    let claims = reports().filter_map(|(member, report)| (report.role == Some(Role::Primary)).then_some((member, report.term)));
    let named = reports().filter_map(|(_, report)| {
        let leader = report.leader.as_ref()?;
        let votes =
            reports().filter(|(_, other)| other.term == report.term && other.leader.as_ref().is_some_and(|named| named.id == leader.id));
        // One that answers speaks for itself.
        let member = observed
            .members
            .iter()
            .find(|member| member.pod == leader.name && member.report.is_none())?;
        (votes.count() * 2 > reports().count()).then_some((member, report.term))
    });
    named.chain(claims).max_by_key(|(_, term)| *term)
}

/// The version that everyone who answers runs.
pub(super) fn version(observed: &Observed) -> Option<String> {
    let mut versions = observed.members.iter().filter_map(|member| Some(&member.report.as_ref()?.version));
    let first = versions.next()?;
    versions.all(|version| version == first).then(|| first.clone())
}

pub(super) fn nobody_answers(observed: &Observed) -> bool {
    observed.members.iter().all(|member| member.report.is_none())
}

pub(super) fn members(observed: &Observed, old: Option<&ShardStatus>, storage_bytes: Option<u64>, usage_due: bool) -> Vec<MemberStatus> {
    let membership = primary(observed)
        .and_then(|(leader, _)| leader.report.as_ref())
        .map(|report| report.members.as_slice());
    observed
        .members
        .iter()
        .map(|member| {
            let before = old.and_then(|shard| shard.members.iter().find(|before| before.pod == member.pod));
            // Who was heard a moment ago, or could not be asked, is what it was, as far as its pod does not say otherwise.
            let (report, kept) = match member.heard() {
                Heard::Report(report) => (Some(report), None),
                Heard::NotAsked(_) => (None, before),
                Heard::Silent(_) => (None, before.filter(|_| member.lately)),
            };
            let told = report.map(|report| report.id.to_string()).or_else(|| before?.id.clone());
            let (id, voter) = match (membership, before) {
                (Some(membership), _) => {
                    let votes = membership.iter().any(|known| known.voter && Some(known.id.to_string()) == told);
                    (told, votes)
                }
                // While nobody leads, who voted before is not forgotten for whoever is in its place now.
                (None, Some(before)) if before.voter && before.id.is_some() => (before.id.clone(), true),
                (None, _) => (told, false),
            };
            // One that is blank has nothing that a person could want to know of.
            let used = report
                .filter(|report| report.state != MemberState::Blank)
                .map(|report| report.storage_used);
            let used_before = before.and_then(|before| before.storage_used.clone());
            MemberStatus {
                pod: member.pod.clone(),
                id,
                role: match report {
                    Some(report) => report.role.map(role),
                    None => kept.and_then(|kept| kept.role),
                },
                voter,
                // Both: the Service sends requests only to a pod that Kubernetes, too, calls ready.
                ready: report.map_or_else(|| kept.is_some_and(|kept| kept.ready), |report| report.ready) && member.is_pod_ready(),
                storage_used: match (used_before, used) {
                    (Some(before), Some(used)) if usage_due && is_news(&before, used, storage_bytes) => Some(rounded(used, storage_bytes)),
                    (None, Some(used)) => Some(rounded(used, storage_bytes)),
                    (before, _) => before,
                },
            }
        })
        .collect()
}

fn role(role: Role) -> MemberRole {
    match role {
        Role::Primary => MemberRole::Primary,
        Role::Follower => MemberRole::Follower,
        Role::Learner => MemberRole::Learner,
    }
}

/// Whether a person would want to know. The log's segments and the engine's files come and go by some percent of a small volume with
/// nothing written; how full it is matters to the percent only when it is almost full.
fn is_news(told: &Quantity, used: u64, storage_bytes: Option<u64>) -> bool {
    let (Ok(told), Some(total)) = (told.bytes(), storage_bytes) else {
        return true;
    };
    let almost_full = told.max(used) >= total / 5 * 4;
    let step = if almost_full { total / 100 } else { total / 20 };
    told.abs_diff(used) >= step.max(1)
}

/// The feature level, and the highest one that all members know while one of them knows more than the level.
///
/// As long as the leader is about to raise it, the level is as it was: it takes seconds, and is told once, when it is done.
pub(super) fn levels(observed: &Observed, old: Option<&ShardStatus>) -> (Option<u32>, Option<u32>) {
    let kept = (old.and_then(|shard| shard.level), old.and_then(|shard| shard.supported_level));
    let Some(leader) = primary(observed).and_then(|(leader, _)| leader.report.as_ref()) else {
        return kept;
    };
    let (Some(level), false) = (leader.level, is_raising(observed)) else {
        return kept;
    };
    let known = |report: &MemberReport| report.supported_levels.highest;
    let reports = || observed.members.iter().filter_map(|member| member.report.as_ref());
    let all = reports().map(known).min().filter(|_| reports().any(|report| known(report) > level));
    // Who does not answer at the moment may be the one that knows less.
    let everyone = observed.members.iter().all(|member| member.report.is_some());
    (Some(level), if everyone || all.is_none() { all } else { kept.1 })
}

/// Whether the leader knows a higher level and has found nothing yet that holds it.
pub fn is_raising(observed: &Observed) -> bool {
    let leader = primary(observed).and_then(|(leader, _)| leader.report.as_ref());
    leader
        .is_some_and(|leader| leader.level.is_some_and(|level| level < leader.supported_levels.highest) && leader.level_held_by.is_empty())
}

/// Down to a step of 1% of the volume.
fn rounded(used: u64, storage_bytes: Option<u64>) -> Quantity {
    let step = storage_bytes.map_or(MEBI, |bytes| bytes / 100).max(1);
    let stepped = used / step * step;
    let text = match stepped {
        0 => "0".to_owned(),
        small if small < 10 * MEBI => format!("{}Ki", small / KIBI),
        large => format!("{}Mi", large / MEBI),
    };
    Quantity::from(text.as_str())
}
