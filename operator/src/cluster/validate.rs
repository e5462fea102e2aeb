//! Step 2: from a KvCluster as it was stored to what the following steps work with.
//!
//! In: what was fetched, and the operator's configuration. Out: a [`Validated`] with every default resolved and every text parsed.
//! Absent: a client.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use kvfleet_api::admin::Settings;
use kvfleet_crds::{KvCluster, KvClusterSpec, cluster::WhenDeleted, duration, names::ClusterNames, quantity};

use super::{claims, fetch::Observed, membership, running_image::running_image};
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
        hold_level: spec.maintenance.hold_level,
    };
    // Parsed for the check alone: the members read the text.
    milliseconds("replication.heartbeatInterval", spec.replication.heartbeat_interval.as_str())?;
    milliseconds("replication.electionTimeout", spec.replication.election_timeout.as_str())?;
    let (image, image_pull_policy) = image(observed, config);
    Ok(Validated {
        namespace: cluster.namespace().unwrap_or_default(),
        names: ClusterNames::new(cluster.name_any()),
        owner: controller_of(cluster)?,
        cluster_id: claims::cluster_id(observed)?,
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

/// A cluster that names no tag keeps the image that runs, if it is of the wanted repository: a newer operator restarts no member, and a tag that
/// never came up is forgotten with the field that named it.
fn image(observed: &Observed, config: &Config) -> (String, String) {
    let wanted = &observed.cluster.spec.image;
    let policy = match wanted.is_default() {
        true => config.node_image_pull_policy.clone(),
        false => wanted.pull_policy.as_str().to_owned(),
    };
    let kept = running_image(observed).filter(|image| match (&wanted.repository, &wanted.tag) {
        (_, Some(_)) => false,
        (None, None) => true,
        (Some(repository), None) => image.rsplit_once(':').is_some_and(|(running, _)| running == repository),
    });
    (kept.unwrap_or_else(|| offered_image(&observed.cluster, config)), policy)
}

/// The image of a new cluster like this one: what it names, and for the rest what this operator comes with.
#[must_use]
pub fn offered_image(cluster: &KvCluster, config: &Config) -> String {
    let wanted = &cluster.spec.image;
    let repository = wanted.repository.as_ref().unwrap_or(&config.node_image_repository);
    let tag = wanted.tag.as_ref().unwrap_or(&config.node_image_tag);
    format!("{repository}:{tag}")
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
