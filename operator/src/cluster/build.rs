//! Step 3: the objects of a cluster.
//!
//! In: a [`Validated`]. Out: [`Objects`], typed and complete, without asking anybody. Absent: Secrets, which are made once and kept
//! ([`super::secrets`]), and the RoleBinding, which belongs to the namespace.

mod config_map;
mod disruption_budget;
mod network_policy;
mod pod;
mod service_account;
mod services;
mod stateful_set;

use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{ConfigMap, Service, ServiceAccount},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kvfleet_crds::names::Labels;

use super::validate::Validated;

/// The annotation of a StatefulSet with the number of its pods, which its metadata does not tell otherwise.
pub const ANNOTATION_MEMBERS: &str = "kvfleet.dev/members";

/// Everything that is applied for a cluster.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Objects {
    /// None where the spec names another.
    pub service_account: Option<ServiceAccount>,
    /// The members' file.
    pub config_map: ConfigMap,
    /// Through which members find each other.
    pub peers_service: Service,
    /// Which clients use.
    pub client_service: Service,
    /// Which follows the primary.
    pub primary_service: Service,
    /// Who may reach which port.
    pub network_policy: NetworkPolicy,
    /// One member at a time.
    pub disruption_budget: PodDisruptionBudget,
    /// The members.
    pub stateful_set: StatefulSet,
    /// What a pod made now is annotated with.
    pub spec_hash: String,
}

/// Builds.
#[must_use]
pub fn build(validated: &Validated) -> Objects {
    let config_map = config_map::build(validated);
    let config_name = config_map.metadata.name.clone().unwrap_or_default();
    let template = pod::build(validated, &config_name);
    Objects {
        service_account: service_account::build(validated),
        peers_service: services::peers(validated),
        client_service: services::client(validated),
        primary_service: services::primary(validated),
        network_policy: network_policy::build(validated),
        disruption_budget: disruption_budget::build(validated),
        stateful_set: stateful_set::build(validated, template),
        spec_hash: pod::spec_hash(validated),
        config_map,
    }
}

/// The metadata of an object of the cluster.
fn metadata(validated: &Validated, name: String, labels: Labels) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(validated.namespace.clone()),
        labels: Some(labels),
        owner_references: Some(vec![validated.owner.clone()]),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
#[path = "build/tests.rs"]
mod tests;
