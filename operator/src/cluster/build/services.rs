//! The three Services: `<cluster>-peers` for members and the operator, `<cluster>` for clients, `<cluster>-primary` for the curious.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};
use kvfleet_crds::names::{Labels, PORT_ADMIN, PORT_DATA, PORT_PEER};

use super::metadata;
use crate::cluster::validate::Validated;

/// Headless, and with the addresses of members that are not ready: they become ready only by finding each other.
pub(super) fn peers(validated: &Validated) -> Service {
    Service {
        metadata: metadata(validated, validated.names.peers_service(), validated.names.labels()),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(validated.names.selector()),
            ports: Some(vec![port("peer", PORT_PEER), port("admin", PORT_ADMIN)]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// All ready members: any of them answers any request.
pub(super) fn client(validated: &Validated) -> Service {
    let service = &validated.spec.service;
    let mut built = data(validated, validated.names.client_service(), validated.names.selector());
    if !service.annotations.is_empty() {
        built.metadata.annotations = Some(service.annotations.clone());
    }
    if let Some(spec) = &mut built.spec {
        spec.type_ = Some(service.type_.as_str().to_owned());
    }
    built
}

/// The pod labelled as the primary: a hint, which lags behind a failover.
pub(super) fn primary(validated: &Validated) -> Service {
    data(validated, validated.names.primary_service(), validated.names.primary_selector())
}

fn data(validated: &Validated, name: String, selector: BTreeMap<String, String>) -> Service {
    let labels: Labels = validated.names.labels();
    Service {
        metadata: metadata(validated, name, labels),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(selector),
            ports: Some(vec![port("data", PORT_DATA)]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn port(name: &str, number: u16) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: i32::from(number),
        target_port: Some(IntOrString::String(name.to_owned())),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    }
}
