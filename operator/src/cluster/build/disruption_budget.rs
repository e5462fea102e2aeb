//! One member of a shard may be away at a time, and only while the others are healthy.

use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::metadata;
use crate::cluster::validate::{SHARD, Validated};

pub(super) fn build(validated: &Validated) -> PodDisruptionBudget {
    let names = &validated.names;
    PodDisruptionBudget {
        metadata: metadata(validated, names.disruption_budget(SHARD), names.shard_labels(SHARD)),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(LabelSelector {
                match_labels: Some(names.shard_selector(SHARD)),
                ..LabelSelector::default()
            }),
            unhealthy_pod_eviction_policy: Some("IfHealthyBudget".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}
