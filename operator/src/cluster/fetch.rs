//! Step 1: everything that the following steps look at, read once.
//!
//! In: a KvCluster. Out: [`Observed`]: its claims, its pods, and what each member says of itself. Absent: any judgement. A member that does
//! not answer is an observation, not an error.

use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

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

use super::{
    build::ANNOTATION_MEMBERS,
    claims,
    formation::shard,
    heard::{Heard, Unheard, ask},
    membership,
    pod_state::{PodState, never_ready},
    validate,
};
use crate::{
    context::{Context, is_ready, member_port},
    error::Error,
};

/// No cluster has more pods than this, whatever it was scaled from.
pub const MOST_PODS: u32 = 7;

/// How long the claims of pods that are being made are taken from memory.
const FRESH: Duration = Duration::from_secs(2);

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
    /// What could not be read of the API server: nothing is decided without it, and status says so.
    pub unread: Option<Error>,
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
    /// Why there is no report.
    pub unheard: Option<Unheard>,
    /// Whether the process in this pod was heard a moment ago: one late answer is no news.
    pub lately: bool,
}

impl Member {
    /// What is known of the member from itself.
    #[must_use]
    pub fn heard(&self) -> Heard<'_> {
        match (&self.report, &self.unheard) {
            (Some(report), _) => Heard::Report(report),
            (None, Some(Unheard::NotAsked(why))) => Heard::NotAsked(why),
            (None, Some(Unheard::Silent(why))) => Heard::Silent(why),
            (None, None) => Heard::Silent("it is not there"),
        }
    }

    /// Whether Kubernetes calls its pod ready.
    #[must_use]
    pub fn is_pod_ready(&self) -> bool {
        self.seen.as_ref().is_some_and(|pod| pod.ready && !pod.deleting)
    }
}

/// What matters of a pod.
#[derive(Clone, Debug)]
pub struct SeenPod {
    /// Its uid.
    pub uid: Option<String>,
    /// The version of it that was seen.
    pub version: Option<String>,
    /// Whether it is on its way out.
    pub deleting: bool,
    /// How far it has come.
    pub state: PodState,
    /// Whether it has never been ready.
    pub never_ready: bool,
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

/// The claims of pods to come, as the API server told them last: at most seven.
pub struct ClaimsRead {
    at: Instant,
    ordinals: Range<u32>,
    claims: Vec<Claim>,
}

impl ClaimsRead {
    fn answers(&self, ordinals: &Range<u32>, now: Instant) -> bool {
        let covers = self.ordinals.start <= ordinals.start && ordinals.end <= self.ordinals.end;
        covers && now.saturating_duration_since(self.at) < FRESH
    }
}

/// Reads. What cannot be read is a finding too.
pub async fn fetch(context: &Context, cluster: Arc<KvCluster>, status: KvClusterStatus, last: &mut Option<ClaimsRead>) -> Observed {
    let namespace = cluster.namespace().unwrap_or_default();
    let names = ClusterNames::new(cluster.name_any());
    let replicas = validate::replicas(&cluster);
    let claims = claims::named(&names, context.caches.claims(&namespace, names.cluster()));
    let stateful_set = context.caches.stateful_set(&namespace, &names.stateful_set(validate::SHARD));
    let annotation = |name: &str| stateful_set.as_ref()?.metadata.annotations.as_ref()?.get(name).cloned();
    let set_size = annotation(ANNOTATION_MEMBERS).and_then(|text| pods(&text));
    let admin = context.admin_client(&namespace, names.cluster()).await;
    let admin = admin.map_err(|error| crate::error::chain(&error));
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
            let size = set_size.unwrap_or_else(|| size_without_set(there, &names, status.cluster_id.as_deref(), &claims));
            (size, replicas.max(size).max(there))
        }
    };
    let members = join_all((0..places).map(|ordinal| {
        let name = names.pod(validate::SHARD, ordinal);
        let pod = pods.iter().find(|pod| pod.name_any() == name);
        let address = pod.and_then(member_port).map(|(_, address, _)| address);
        let seen = pod.map(|pod| see(pod, address));
        let way = admin.as_ref().map_err(String::as_str);
        async move {
            let (report, unheard) = match ask(way, &name, address).await {
                Ok(report) => (Some(report), None),
                Err(unheard) => (None, Some(unheard)),
            };
            Member {
                pod: name,
                seen,
                report,
                unheard,
                lately: false,
            }
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
        admin: admin.ok(),
        unread: None,
    };
    if formation == Formation::Pending {
        membership::take_in_those_named(&mut observed, &names);
    }
    // What carries no label of ours is not in the cache, and a StatefulSet takes claims by their names: before it makes a pod, at most seven
    // reads tell. Once the pods are there, none.
    let grown = membership::size(&observed);
    let made = set_size.unwrap_or(0).min(there);
    let to_come = made..grown.max(replicas);
    let is_told = set_size.is_some_and(|size| size >= to_come.end);
    read_claims(context, &namespace, &names, to_come, is_told, &mut observed, last).await;
    observed
}

/// The claims of pods to come. A set that is about to grow mounts what this finds, so it is read then; one that was told to make these pods
/// before may take minutes for it, and a look every 200 ms finds the last answer as long as it is fresh.
async fn read_claims(
    context: &Context,
    namespace: &str,
    names: &ClusterNames,
    ordinals: Range<u32>,
    is_told: bool,
    observed: &mut Observed,
    last: &mut Option<ClaimsRead>,
) {
    let known = last.take().filter(|read| is_told && read.answers(&ordinals, Instant::now()));
    if ordinals.is_empty() {
        return;
    }
    if let Some(known) = known {
        // What is in the cache is newer.
        let is_new = |claim: &&Claim| !observed.claims.iter().any(|cached| cached.name_any() == claim.name_any());
        let claims: Vec<Claim> = known.claims.iter().filter(is_new).cloned().collect();
        observed.claims.extend(claims);
        *last = Some(known);
        return;
    }
    match claims_between(context, namespace, names, ordinals.clone()).await {
        Ok(claims) => {
            observed
                .claims
                .retain(|known| !claims.iter().any(|claim| claim.name_any() == known.name_any()));
            observed.claims.extend(claims.iter().cloned());
            *last = Some(ClaimsRead {
                at: Instant::now(),
                ordinals,
                claims,
            });
        }
        Err(error) => observed.unread = Some(error),
    }
}

/// How many pods a group that runs has to have whose StatefulSet is gone: those that are there, and all that its data may need for a majority.
fn size_without_set(there: u32, names: &ClusterNames, id: Option<&str>, claims: &[Claim]) -> u32 {
    there.max(claims::places(names, id, claims))
}

/// How many pods an annotation tells. All who may edit the StatefulSet may write any number, and each costs a place and a question.
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

fn see(pod: &Pod, address: Option<std::net::SocketAddr>) -> SeenPod {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    SeenPod {
        uid: pod.uid(),
        version: pod.resource_version(),
        deleting: pod.metadata.deletion_timestamp.is_some(),
        state: PodState::of(pod),
        never_ready: never_ready(pod),
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
    use crate::cluster::fixtures::claim;

    /// Otherwise the set would be made again with no pod at all where one claim is another owner's.
    #[test]
    fn a_group_whose_set_is_gone_keeps_the_places_of_its_data() {
        let names = ClusterNames::new("prod");
        let own = |ordinal, cluster| claim(&names.claim(validate::SHARD, ordinal), Some(cluster), true);
        let claims = [own(0, "one"), own(1, "one"), own(2, "two")];
        for (there, claims, expected) in [(0, &claims[..], 2), (3, &claims[..], 3), (1, &[], 1)] {
            assert_eq!(size_without_set(there, &names, Some("one"), claims), expected);
        }
    }

    #[test]
    fn an_answer_about_claims_is_used_for_what_it_tells_while_it_is_fresh() {
        let read = ClaimsRead {
            at: Instant::now(),
            ordinals: 1..5,
            claims: Vec::new(),
        };
        assert!(read.answers(&(1..5), read.at) && read.answers(&(3..5), read.at + FRESH / 2));
        for ordinals in [0..5, 1..6] {
            assert!(!read.answers(&ordinals, read.at), "{ordinals:?}");
        }
        assert!(!read.answers(&(1..5), read.at + FRESH));
    }

    #[test]
    fn an_edited_number_of_pods_is_bounded() {
        for (text, expected) in [("5", Some(5)), ("4000000000", Some(MOST_PODS)), ("-1", None), ("many", None)] {
            assert_eq!(pods(text), expected, "{text}");
        }
    }
}
