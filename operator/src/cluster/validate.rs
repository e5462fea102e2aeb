//! Step 2: from a KvCluster as it was stored to what the following steps work with.
//!
//! In: what was fetched, and the operator's configuration. Out: a [`Validated`] with every default resolved and every text parsed.
//! Absent: a client.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use kvfleet_api::admin::Settings;
use kvfleet_crds::{
    KvCluster, KvClusterSpec,
    cluster::WhenDeleted,
    conditions::Reason,
    duration,
    names::{ANNOTATION_FORMED, ClusterNames, LABEL_CLUSTER_ID},
    quantity,
};

use super::{fetch::Observed, membership};
use crate::{apply::controller_of, config::Config, error::Error};

/// This release runs one shard per cluster.
pub const SHARD: u32 = 0;

/// A KvCluster that can be built.
#[derive(Clone, Debug)]
pub struct Validated {
    /// Its namespace.
    pub namespace: String,
    /// The names of its objects.
    pub names: ClusterNames,
    /// The reference that makes it the controller of its objects.
    pub owner: OwnerReference,
    /// The identity of the cluster.
    pub cluster_id: String,
    /// How many pods: as many as there shall be, and those that still belong to the group.
    pub members: u32,
    /// The whole reference of the members' image.
    pub image: String,
    /// When a node fetches it.
    pub image_pull_policy: String,
    /// Each member's volume, bytes.
    pub storage_bytes: u64,
    /// Whether the volumes go with the KvCluster.
    pub when_deleted: WhenDeleted,
    /// What travels through the log.
    pub settings: Settings,
    /// The namespace of the operator, whose pods may reach the admin port.
    pub operator_namespace: String,
    /// The rest, used as it stands.
    pub spec: KvClusterSpec,
}

/// Resolves and checks.
///
/// # Errors
/// [`Error::InvalidSpec`]; [`Error::Halted`] with `ForeignVolumes`.
pub fn validate(observed: &Observed, config: &Config) -> Result<Validated, Error> {
    let cluster = observed.cluster.as_ref();
    let spec = &cluster.spec;
    u32::try_from(spec.replicas).map_err(|_| Error::InvalidSpec {
        field: "replicas",
        problem: format!("{} is negative: give 1, 3, 5 or 7", spec.replicas),
    })?;
    let generation = cluster.metadata.generation.unwrap_or_default();
    let limits = &spec.limits;
    let settings = Settings {
        generation: u64::try_from(generation).unwrap_or_default(),
        log_level: spec.logging.level.as_str().to_owned(),
        sweep_interval_ms: milliseconds("expiry.sweepInterval", spec.expiry.sweep_interval.as_str())?,
        scan_items: limits.scan_items,
        scan_bytes: bytes("limits.scanBytes", limits.scan_bytes.as_str())?,
        request_timeout_ms: milliseconds("limits.requestTimeout", limits.request_timeout.as_str())?,
        max_request_timeout_ms: milliseconds("limits.maxRequestTimeout", limits.max_request_timeout.as_str())?,
    };
    // Parsed for the check alone: the members read the text.
    milliseconds("replication.heartbeatInterval", spec.replication.heartbeat_interval.as_str())?;
    milliseconds("replication.electionTimeout", spec.replication.election_timeout.as_str())?;
    let (image, image_pull_policy) = image(observed, config);
    Ok(Validated {
        namespace: cluster.namespace().unwrap_or_default(),
        names: ClusterNames::new(cluster.name_any()),
        owner: controller_of(cluster)?,
        cluster_id: cluster_id(observed)?,
        members: membership::size(observed),
        image,
        image_pull_policy,
        storage_bytes: bytes("storage.size", spec.storage.size.as_str())?,
        when_deleted: spec.storage.retention.when_deleted,
        settings,
        operator_namespace: config.namespace.clone(),
        spec: spec.clone(),
    })
}

/// How many members a stored KvCluster asks for. The API server lets no other numbers through.
#[must_use]
pub fn replicas(cluster: &KvCluster) -> u32 {
    u32::try_from(cluster.spec.replicas).unwrap_or_default()
}

/// Status is a copy that dies with the object: after it, the claims say which cluster their data is of; where there are none, the cluster is
/// new and takes the object's uid, which is as unique, and the same however often this is asked.
fn cluster_id(observed: &Observed) -> Result<String, Error> {
    let foreign = |message: String| Error::Halted {
        reason: Reason::FOREIGN_VOLUMES,
        message,
    };
    let mut id = observed.status.cluster_id.clone();
    for claim in &observed.claims {
        let name = claim.metadata.name.as_deref().unwrap_or_default();
        let labelled = claim.metadata.labels.as_ref().and_then(|labels| labels.get(LABEL_CLUSTER_ID));
        match (labelled, &id) {
            (None, _) => {
                return Err(foreign(format!(
                    "the volume claim {name} exists and belongs to no kvfleet cluster: delete it, or name the KvCluster differently"
                )));
            }
            (Some(found), Some(known)) if found != known => {
                return Err(foreign(format!(
                    "the volume claim {name} belongs to cluster {found}, not to {known}: delete the claims of one of them, or name the KvCluster differently"
                )));
            }
            (Some(found), _) => id = Some(found.clone()),
        }
    }
    id.or_else(|| observed.cluster.uid())
        .ok_or_else(|| Error::Waits("the KvCluster has no uid yet".to_owned()))
}

/// Whether a claim says that its shard has been formed.
#[must_use]
pub fn claims_formed(observed: &Observed) -> bool {
    observed.claims.iter().any(|claim| {
        claim
            .metadata
            .annotations
            .as_ref()
            .is_some_and(|annotations| annotations.contains_key(ANNOTATION_FORMED))
    })
}

/// A cluster that names no image keeps the one it runs: a newer operator restarts nobody.
fn image(observed: &Observed, config: &Config) -> (String, String) {
    let wanted = &observed.cluster.spec.image;
    if wanted.repository.is_none() && wanted.tag.is_none() {
        let policy = match wanted.is_default() {
            true => config.node_image_pull_policy.clone(),
            false => wanted.pull_policy.as_str().to_owned(),
        };
        return (observed.running_image.clone().unwrap_or_else(|| default_image(config)), policy);
    }
    let repository = wanted.repository.as_ref().unwrap_or(&config.node_image_repository);
    let tag = wanted.tag.as_ref().unwrap_or(&config.node_image_tag);
    (format!("{repository}:{tag}"), wanted.pull_policy.as_str().to_owned())
}

/// The image of members whose KvCluster names none.
#[must_use]
pub fn default_image(config: &Config) -> String {
    format!("{}:{}", config.node_image_repository, config.node_image_tag)
}

fn milliseconds(field: &'static str, text: &str) -> Result<u64, Error> {
    let parsed: Result<Duration, _> = duration::parse(text);
    let parsed = parsed.map_err(|error| Error::InvalidSpec {
        field,
        problem: error.to_string(),
    })?;
    Ok(u64::try_from(parsed.as_millis()).unwrap_or(u64::MAX))
}

fn bytes(field: &'static str, text: &str) -> Result<u64, Error> {
    quantity::parse(text).map_err(|error| Error::InvalidSpec {
        field,
        problem: error.to_string(),
    })
}
