//! Who may reach which port: data, health and metrics anybody, peer the members, admin the members and the operator.
//!
//! Mutual TLS guards the last two anyway; this keeps strangers from their sockets.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::networking::v1::{NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec},
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use kvfleet_crds::names::{LABEL_APPLICATION, MANAGER};

use super::metadata;
use crate::cluster::validate::Validated;

/// The label that Kubernetes gives every namespace.
const LABEL_NAMESPACE: &str = "kubernetes.io/metadata.name";

pub(super) fn build(validated: &Validated) -> NetworkPolicy {
    let names = &validated.names;
    let members = NetworkPolicyPeer {
        pod_selector: Some(matching(names.selector())),
        ..NetworkPolicyPeer::default()
    };
    let operator = NetworkPolicyPeer {
        namespace_selector: Some(matching(one(LABEL_NAMESPACE, &validated.operator_namespace))),
        pod_selector: Some(matching(one(LABEL_APPLICATION, MANAGER))),
        ..NetworkPolicyPeer::default()
    };
    NetworkPolicy {
        metadata: metadata(validated, names.network_policy(), names.labels()),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(matching(names.selector())),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(vec![
                NetworkPolicyIngressRule {
                    from: None,
                    ports: Some(vec![port("data"), port("health"), port("metrics")]),
                },
                NetworkPolicyIngressRule {
                    from: Some(vec![members.clone()]),
                    ports: Some(vec![port("peer")]),
                },
                NetworkPolicyIngressRule {
                    from: Some(vec![members, operator]),
                    ports: Some(vec![port("admin")]),
                },
            ]),
            ..NetworkPolicySpec::default()
        }),
    }
}

fn matching(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector {
        match_labels: Some(labels),
        ..LabelSelector::default()
    }
}

fn one(key: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(key.to_owned(), value.to_owned())])
}

fn port(name: &str) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(IntOrString::String(name.to_owned())),
        protocol: Some("TCP".to_owned()),
        ..NetworkPolicyPort::default()
    }
}
