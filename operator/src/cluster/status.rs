//! Step 5: what is true, written where people look.
//!
//! In: what was seen, and what came of the steps. Out: a status, written only when it differs. It holds nothing that moves with traffic: what
//! a volume holds is told in steps of 1%, at most every 30 s. Absent: any deed.

mod conditions;
mod members;
mod rollout;

use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use kvfleet_crds::{
    GROUP, KvCluster, KvClusterStatus, VERSION,
    cluster::{Formation, ShardStatus},
    conditions::{ConditionType, holds, transition},
    names::{ClusterNames, MANAGER},
};
use serde_json::json;

pub use conditions::{Findings, GRACE};
pub use members::{is_raising, primary};

use super::{
    Memory,
    fetch::Observed,
    formation::shard,
    heard::Heard,
    obstacles::Obstacle,
    plan::Step,
    running_image::running_image,
    validate::{SHARD, Validated},
};
use crate::{context::Context, error::Error};

/// How often figures of use may move.
const USAGE: Duration = Duration::from_secs(30);

/// What came of the steps. By default they have not begun.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The validated spec, if there is one.
    pub validated: Option<Validated>,
    /// The hash of the pods that would be made now.
    pub spec_hash: Option<String>,
    /// The step that was due.
    pub step: Option<Step>,
    /// What stopped the objects, the formation or the label.
    pub trouble: Option<Error>,
    /// What stopped the settings.
    pub settings: Option<Error>,
    /// While it is paused, the objects that are not as the spec says.
    pub differs: Vec<String>,
    /// What keeps pods from running.
    pub obstacles: Vec<Obstacle>,
    /// For how long every pass has met trouble of the kind that is not merely waited for.
    pub troubled_for: Duration,
    /// For how long no look has shown a leader and a quorum.
    pub unavailable_for: Duration,
}

/// Puts the status together.
#[must_use]
pub fn compose(observed: &Observed, outcome: &Outcome, usage_due: bool, now: &Time) -> KvClusterStatus {
    let cluster = observed.cluster.as_ref();
    let previous = &observed.status;
    let names = ClusterNames::new(cluster.name_any());
    let namespace = cluster.namespace().unwrap_or_default();
    let old_shard = shard(previous);
    let formation = match (&outcome.step, old_shard) {
        (Some(Step::MarkFormed), _) => Formation::Formed,
        (_, Some(shard)) => shard.formation,
        (_, None) => Formation::Pending,
    };
    let leader = primary(observed);
    // An election takes a second, and nobody has a new leader while the operator cannot ask: the last one is no news yet.
    let unasked =
        || members::nobody_answers(observed) && observed.members.iter().any(|member| matches!(member.heard(), Heard::NotAsked(_)));
    let last = old_shard.and_then(|shard| shard.primary.clone());
    let last = last.filter(|last| {
        let is_there = observed.members.iter().any(|member| member.pod == *last && member.seen.is_some());
        is_there && (conditions::is_held(previous, outcome) || unasked())
    });
    let storage_bytes = outcome.validated.as_ref().map(|validated| validated.storage_bytes);
    let (level, supported_level) = members::levels(observed, old_shard);
    let members = members::members(observed, old_shard, storage_bytes, usage_due);
    let findings = Findings::new(observed, outcome, formation, &members);
    let pods = observed.members.iter().filter_map(|member| member.seen.as_ref());
    let count = |count: usize| i32::try_from(count).ok();
    KvClusterStatus {
        observed_generation: cluster.metadata.generation,
        conditions: transition(&previous.conditions, findings.observations(), cluster.metadata.generation, now),
        cluster_id: match &outcome.validated {
            Some(validated) => Some(validated.cluster_id.clone()),
            None => previous.cluster_id.clone(),
        },
        replicas: count(pods.clone().count()),
        ready_replicas: count(pods.filter(|pod| pod.ready).count()),
        selector: Some(names.selector_text()),
        version: members::version(observed).or_else(|| previous.version.clone().filter(|_| members::nobody_answers(observed))),
        endpoint: Some(names.endpoint(&namespace)),
        shards: vec![ShardStatus {
            index: SHARD,
            formation,
            bootstrap_id: old_shard.and_then(|shard| shard.bootstrap_id.clone()),
            primary: leader.map(|(member, _)| member.pod.clone()).or(last),
            term: match leader {
                Some((_, term)) => Some(term),
                None => old_shard.and_then(|shard| shard.term),
            },
            level,
            supported_level,
            image: running_image(observed),
            members,
        }],
        tenants: match leader.and_then(|(member, _)| member.report.as_ref()) {
            Some(report) => u32::try_from(report.tenants).ok(),
            None => previous.tenants,
        },
    }
}

/// Writes the status where it differs from what was written last.
///
/// # Errors
/// [`Error::Kubernetes`]
pub async fn report(context: &Context, observed: &Observed, memory: &mut Memory, outcome: &mut Outcome) -> Result<KvClusterStatus, Error> {
    let due = memory.usage_written.is_none_or(|at| at.elapsed() >= USAGE);
    let now = Time(k8s_openapi::jiff::Timestamp::now());
    outcome.unavailable_for = Duration::MAX;
    let mut status = compose(observed, outcome, due, &now);
    if holds(&status.conditions, ConditionType::AVAILABLE, observed.cluster.metadata.generation) {
        memory.unavailable = None;
    } else {
        outcome.unavailable_for = memory.unavailable.get_or_insert_with(Instant::now).elapsed();
        status = compose(observed, outcome, due, &now);
    }
    if status != observed.status {
        if due {
            memory.usage_written = Some(Instant::now());
        }
        write(context, &observed.cluster, memory, status.clone()).await?;
    }
    Ok(status)
}

/// Writes a status, on the condition that the object is the one that was read.
///
/// # Errors
/// [`Error::Kubernetes`], a conflict when it is not.
pub async fn write(context: &Context, cluster: &KvCluster, memory: &mut Memory, status: KvClusterStatus) -> Result<(), Error> {
    let name = cluster.name_any();
    let namespace = cluster.namespace().unwrap_or_default();
    let read = cluster.resource_version();
    // The cache may be older than our own last write.
    let basis = match &memory.written {
        Some(written) if written.read == read => written.version.clone(),
        _ => read.clone(),
    };
    let patch = json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": "KvCluster",
        "metadata": { "name": name, "resourceVersion": basis },
        "status": status,
    });
    let api: Api<KvCluster> = Api::namespaced(context.client.clone(), &namespace);
    let stored = api
        .patch_status(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(patch))
        .await
        .map_err(Error::kubernetes(format!("write the status of KvCluster {namespace}/{name}")))?;
    memory.written = Some(super::Written {
        read,
        version: stored.resource_version(),
        status,
    });
    Ok(())
}

#[cfg(test)]
#[path = "status/tests.rs"]
mod tests;
