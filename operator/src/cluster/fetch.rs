//! Step 1: everything that the following steps look at, read once.
//!
//! In: a KvCluster. Out: [`Observed`]: its claims, its pods, and what each member says of itself. Absent: any judgement. A member that does
//! not answer is an observation, not an error.

use std::{ops::Range, sync::Arc, time::Duration};

use futures::future::join_all;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::{Api, ResourceExt, api::PartialObjectMeta};
use kvfleet_api::admin::MemberReport;
use kvfleet_client::admin::AdminClient;
use kvfleet_crds::{
    KvCluster, KvClusterStatus,
    cluster::Formation,
    names::{ANNOTATION_SPEC_HASH, ClusterNames, LABEL_ROLE, ROLE_PRIMARY},
};

use super::{build::ANNOTATION_MEMBERS, claims, formation::shard, membership, validate};
use crate::{
    context::{Context, is_ready},
    error::Error,
};

/// A member that is alive answers within this; one that is not must not hold up the role label.
const ANSWER: Duration = Duration::from_millis(1_500);

/// No cluster has more pods than this, whatever it was scaled from.
pub const MOST_PODS: u32 = 7;

/// A volume claim's metadata.
pub type Claim = Arc<PartialObjectMeta<PersistentVolumeClaim>>;

/// What was seen.
pub struct Observed {
    /// The KvCluster.
    pub cluster: Arc<KvCluster>,
    /// Its status as last written, which the cache may not show yet.
    pub status: KvClusterStatus,
    /// The volume claims that its pods mount or would mount, by their names; some may be another owner's.
    pub claims: Vec<Claim>,
    /// The members, by ordinal.
    pub members: Vec<Member>,
    /// How many pods there are to be as far as was decided before.
    pub size: u32,
    /// Whether the StatefulSet is there.
    pub has_set: bool,
    /// The client for the members, once there are certificates.
    pub admin: Option<AdminClient>,
}

/// A member's place, whether or not a pod fills it.
#[derive(Clone, Debug)]
pub struct Member {
    /// The pod's name.
    pub pod: String,
    /// The pod, if there is one.
    pub seen: Option<SeenPod>,
    /// What the member says, if it answers.
    pub report: Option<MemberReport>,
}

/// What matters of a pod.
#[derive(Clone, Debug)]
pub struct SeenPod {
    /// Where its admin port is.
    pub address: Option<std::net::SocketAddr>,
    /// Whether Kubernetes calls it ready.
    pub ready: bool,
    /// The image of its member.
    pub image: Option<String>,
    /// Whether it carries the primary's label.
    pub labelled_primary: bool,
    /// The hash of the spec that it was made from.
    pub spec_hash: Option<String>,
    /// The ConfigMaps it mounts.
    pub config_maps: Vec<String>,
}

/// Reads.
///
/// # Errors
/// [`Error::Kubernetes`]
pub async fn fetch(context: &Context, cluster: Arc<KvCluster>, status: KvClusterStatus) -> Result<Observed, Error> {
    let namespace = cluster.namespace().unwrap_or_default();
    let names = ClusterNames::new(cluster.name_any());
    let replicas = validate::replicas(&cluster);
    let claims = claims::named(&names, context.caches.claims(&namespace, names.cluster()));
    let stateful_set = context.caches.stateful_set(&namespace, &names.stateful_set(validate::SHARD));
    let annotation = |name: &str| stateful_set.as_ref()?.metadata.annotations.as_ref()?.get(name).cloned();
    let set_size = annotation(ANNOTATION_MEMBERS).and_then(|text| pods(&text));
    let (admin, ports) = match context.admin_for(&namespace, names.cluster()).await {
        Ok((admin, ports)) => (Some(admin), ports),
        Err(error) => {
            tracing::debug!(namespace, cluster = names.cluster(), error = %crate::error::chain(&error), "no way to the members yet");
            (None, Vec::new())
        }
    };
    let pods = context.caches.pods(&namespace, names.cluster());
    let shard = shard(&status);
    let formation = shard.map(|shard| shard.formation).unwrap_or_default();
    // A pod that goes is looked at until it is gone.
    let highest = (0..MOST_PODS).rev().find(|ordinal| {
        let name = names.pod(validate::SHARD, *ordinal);
        pods.iter().any(|pod| pod.name_any() == name)
    });
    let there = highest.map_or(0, |ordinal| ordinal + 1);
    let (size, places) = match formation {
        Formation::Pending => {
            // After a KvCluster that was larger: its group may need all its volumes. Where they do not agree, `validate` says so.
            let id = claims::identity(&names, status.cluster_id.as_deref(), &claims, replicas)
                .ok()
                .flatten();
            let size = replicas.max(claims::places(&names, id.as_deref(), &claims));
            (size, size.max(there))
        }
        Formation::Intended => {
            let founders = shard.and_then(|shard| u32::try_from(shard.members.len()).ok());
            // Status may be edited too.
            let founders = founders.unwrap_or(replicas).min(MOST_PODS);
            (founders, founders)
        }
        Formation::Formed => {
            let size = set_size.unwrap_or(there);
            (size, replicas.max(size).max(there))
        }
    };
    let members = join_all((0..places).map(|ordinal| {
        let name = names.pod(validate::SHARD, ordinal);
        let address = ports.iter().find(|(pod, ..)| *pod == name).map(|(_, address, _)| *address);
        let seen = pods.iter().find(|pod| pod.name_any() == name).map(|pod| see(pod, address));
        let admin = admin.as_ref();
        async move {
            let report = match (admin, address) {
                (Some(admin), Some(address)) => ask(admin, &name, address).await,
                _ => None,
            };
            Member { pod: name, seen, report }
        }
    }))
    .await;
    let mut observed = Observed {
        cluster,
        status,
        claims,
        members,
        size,
        has_set: stateful_set.is_some(),
        admin,
    };
    if formation == Formation::Pending {
        membership::take_in_those_named(&mut observed, &names);
    }
    // What carries no label of ours is not in the cache, and a StatefulSet takes claims by their names: before it makes a pod, at most seven
    // reads tell. Once the pods are there, none.
    let grown = membership::size(&observed);
    let made = set_size.unwrap_or(0).min(there);
    for claim in claims_between(context, &namespace, &names, made..grown.max(replicas)).await? {
        observed.claims.retain(|known| known.name_any() != claim.name_any());
        observed.claims.push(claim);
    }
    Ok(observed)
}

/// How many pods an annotation tells. Whoever may edit the StatefulSet may write any number, and each costs a place and a question.
fn pods(text: &str) -> Option<u32> {
    text.parse::<u32>().ok().map(|pods| pods.min(MOST_PODS))
}

/// The claims of all pods that the cluster can ever have, from the API server itself.
///
/// # Errors
/// [`Error::Kubernetes`]
pub async fn claims(context: &Context, namespace: &str, names: &ClusterNames) -> Result<Vec<Claim>, Error> {
    claims_between(context, namespace, names, 0..MOST_PODS).await
}

async fn claims_between(context: &Context, namespace: &str, names: &ClusterNames, ordinals: Range<u32>) -> Result<Vec<Claim>, Error> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), namespace);
    let mut claims = Vec::new();
    for ordinal in ordinals.start..ordinals.end.min(MOST_PODS) {
        let name = names.claim(validate::SHARD, ordinal);
        let claim = api
            .get_metadata_opt(&name)
            .await
            .map_err(Error::kubernetes(format!("read PersistentVolumeClaim {namespace}/{name}")))?;
        claims.extend(claim.map(Arc::new));
    }
    Ok(claims)
}

async fn ask(admin: &AdminClient, pod: &str, address: std::net::SocketAddr) -> Option<MemberReport> {
    match tokio::time::timeout(ANSWER, admin.members(address)).await {
        // The address may have passed to another pod of the same cluster since.
        Ok(Ok(report)) if report.name == pod => Some(report),
        Ok(Ok(report)) => {
            tracing::debug!(pod, %address, answered = report.name, "another member answers at the address");
            None
        }
        Ok(Err(error)) => {
            tracing::debug!(pod, %address, error = %crate::error::chain(&error), "the member does not answer");
            None
        }
        Err(_) => {
            tracing::debug!(pod, %address, "the member does not answer in time");
            None
        }
    }
}

fn see(pod: &Pod, address: Option<std::net::SocketAddr>) -> SeenPod {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    SeenPod {
        address,
        ready: is_ready(pod),
        image: pod
            .spec
            .iter()
            .flat_map(|spec| &spec.containers)
            .find_map(|container| container.image.clone()),
        labelled_primary: pod.labels().get(LABEL_ROLE).is_some_and(|role| role == ROLE_PRIMARY),
        spec_hash: pod.annotations().get(ANNOTATION_SPEC_HASH).cloned(),
        config_maps: volumes
            .filter_map(|volume| Some(volume.config_map.as_ref()?.name.clone()))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edited_number_of_pods_is_bounded() {
        for (text, expected) in [("5", Some(5)), ("4000000000", Some(MOST_PODS)), ("-1", None), ("many", None)] {
            assert_eq!(pods(text), expected, "{text}");
        }
    }
}
