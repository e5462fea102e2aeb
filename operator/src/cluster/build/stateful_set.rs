//! The members of a shard.
//!
//! Parallel, because a member is ready only with a quorum; OnDelete, because Kubernetes knows nothing of primaries; the claims always stay,
//! because scaling the set down by hand would otherwise destroy a majority's data.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec, StatefulSetUpdateStrategy},
        core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, PodTemplateSpec, VolumeResourceRequirements},
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta},
    },
};
use kvfleet_crds::names::{ClusterNames, LABEL_CLUSTER_ID};

use super::{ANNOTATION_MEMBERS, metadata};
use crate::cluster::validate::{SHARD, Validated};

pub(super) fn build(validated: &Validated, template: PodTemplateSpec) -> StatefulSet {
    let names = &validated.names;
    let keep = || Some("Retain".to_owned());
    let mut metadata = metadata(validated, names.stateful_set(SHARD), names.shard_labels(SHARD));
    metadata.annotations = Some(BTreeMap::from([(ANNOTATION_MEMBERS.to_owned(), validated.members.to_string())]));
    StatefulSet {
        metadata,
        spec: Some(StatefulSetSpec {
            replicas: i32::try_from(validated.members).ok(),
            service_name: Some(names.peers_service()),
            selector: LabelSelector {
                match_labels: Some(names.shard_selector(SHARD)),
                ..LabelSelector::default()
            },
            template,
            volume_claim_templates: Some(vec![claim(validated)]),
            pod_management_policy: Some("Parallel".to_owned()),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("OnDelete".to_owned()),
                rolling_update: None,
            }),
            persistent_volume_claim_retention_policy: Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
                when_deleted: keep(),
                when_scaled: keep(),
            }),
            revision_history_limit: Some(3),
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}

/// The claim says whose data it holds, and outlives everything else that does.
fn claim(validated: &Validated) -> PersistentVolumeClaim {
    let storage = &validated.spec.storage;
    let mut labels = validated.names.shard_labels(SHARD);
    labels.insert(LABEL_CLUSTER_ID.to_owned(), validated.cluster_id.clone());
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(ClusterNames::claim_template().to_owned()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: storage.storage_class_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), Quantity(storage.size.as_str().to_owned()))])),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}
