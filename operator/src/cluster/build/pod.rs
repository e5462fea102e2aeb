//! The pod of a member. It meets Pod Security "restricted" with a read-only root file system.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        Affinity, Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, KeyToPath,
        LocalObjectReference, ObjectFieldSelector, PodAffinityTerm, PodAntiAffinity, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
        SeccompProfile, SecretVolumeSource, SecurityContext, Volume, VolumeMount, WeightedPodAffinityTerm,
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};
use kvfleet_crds::names::{ANNOTATION_SPEC_HASH, ClusterNames, PORT_ADMIN, PORT_DATA, PORT_HEALTH, PORT_METRICS, PORT_PEER};
use serde_json::json;

use super::config_map;
use crate::{
    cluster::validate::{SHARD, Validated},
    hash,
};

pub(super) const DATA_DIR: &str = "/var/lib/kvnode";
pub(super) const TLS_DIR: &str = "/etc/kvnode-tls";
pub(super) const JWT_DIR: &str = "/etc/kvnode-jwt";
pub(super) const JWKS: &str = "jwks.json";
const CONFIG_DIR: &str = "/etc/kvnode";

/// The user and group of the image.
const USER: i64 = 65_532;
/// Longer than a member takes to hand over, to drain its requests and to close its stores.
const GRACE_SECONDS: i64 = 75;
/// A member that replays a long log is given ten minutes before it is restarted.
const STARTUP_SECONDS: i32 = 600;
/// Readable by the group alone, which is the pod's own.
const SECRET_MODE: i32 = 0o440;

/// Names what shapes a pod: only when it differs is a pod outdated. The rendered template does not count, which another version of the
/// operator may render differently.
pub(super) fn spec_hash(validated: &Validated) -> String {
    let spec = &validated.spec;
    let shape = json!({
        "image": validated.image,
        "pullSecrets": spec.image.pull_secrets,
        "resources": spec.resources,
        "affinity": spec.affinity,
        "nodeSelector": spec.node_selector,
        "tolerations": spec.tolerations,
        "topologySpreadConstraints": spec.topology_spread_constraints,
        "priorityClassName": spec.priority_class_name,
        "podLabels": spec.pod_labels,
        "podAnnotations": spec.pod_annotations,
        "serviceAccountName": spec.service_account_name,
        "replication": spec.replication,
        "logFormat": spec.logging.format,
    });
    hash::short(shape.to_string().as_bytes())
}

pub(super) fn build(validated: &Validated, config_map: &str) -> PodTemplateSpec {
    let spec = &validated.spec;
    let mut labels = spec.pod_labels.clone();
    labels.extend(validated.names.shard_labels(SHARD));
    let mut annotations = spec.pod_annotations.clone();
    annotations.insert(ANNOTATION_SPEC_HASH.to_owned(), spec_hash(validated));
    let account = spec.service_account_name.clone();
    let stated = |list: Vec<LocalObjectReference>| (!list.is_empty()).then_some(list);
    let pull_secrets = spec
        .image
        .pull_secrets
        .iter()
        .map(|secret| LocalObjectReference { name: secret.name.clone() });
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            service_account_name: Some(account.unwrap_or_else(|| validated.names.service_account())),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            image_pull_secrets: stated(pull_secrets.collect()),
            affinity: Some(spec.affinity.clone().unwrap_or_else(|| spread(validated))),
            node_selector: (!spec.node_selector.is_empty()).then(|| spec.node_selector.clone()),
            tolerations: (!spec.tolerations.is_empty()).then(|| spec.tolerations.clone()),
            topology_spread_constraints: (!spec.topology_spread_constraints.is_empty()).then(|| spec.topology_spread_constraints.clone()),
            priority_class_name: spec.priority_class_name.clone(),
            termination_grace_period_seconds: Some(GRACE_SECONDS),
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                run_as_user: Some(USER),
                run_as_group: Some(USER),
                fs_group: Some(USER),
                // A volume of ten million files is not walked at each start.
                fs_group_change_policy: Some("OnRootMismatch".to_owned()),
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".to_owned(),
                    localhost_profile: None,
                }),
                ..PodSecurityContext::default()
            }),
            containers: vec![container(validated)],
            volumes: Some(volumes(validated, config_map)),
            ..PodSpec::default()
        }),
    }
}

fn container(validated: &Validated) -> Container {
    let names = &validated.names;
    let port = |name: &str, number: u16| ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(number),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    let mount = |name: &str, path: &str, read_only: bool| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    };
    let advertise = names.pod_host(&validated.namespace, "$(KVNODE_NAME)");
    Container {
        name: "kvnode".to_owned(),
        image: Some(validated.image.clone()),
        image_pull_policy: Some(validated.image_pull_policy.clone()),
        args: Some(vec!["--config".to_owned(), format!("{CONFIG_DIR}/{}", config_map::FILE)]),
        env: Some(vec![
            EnvVar {
                name: "KVNODE_NAME".to_owned(),
                value_from: Some(EnvVarSource {
                    field_ref: Some(ObjectFieldSelector {
                        api_version: Some("v1".to_owned()),
                        field_path: "metadata.name".to_owned(),
                    }),
                    ..EnvVarSource::default()
                }),
                value: None,
            },
            EnvVar {
                name: "KVNODE_PEER_ADVERTISE".to_owned(),
                value: Some(format!("{advertise}:{PORT_PEER}")),
                value_from: None,
            },
        ]),
        ports: Some(vec![
            port("data", PORT_DATA),
            port("health", PORT_HEALTH),
            port("metrics", PORT_METRICS),
            port("admin", PORT_ADMIN),
            port("peer", PORT_PEER),
        ]),
        startup_probe: Some(probe("/startupz", 1, STARTUP_SECONDS, 2)),
        readiness_probe: Some(probe("/readyz", 1, 2, 1)),
        liveness_probe: Some(probe("/livez", 10, 3, 5)),
        resources: (!validated.spec.resources.is_empty()).then(|| validated.spec.resources.to_requirements()),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                add: None,
            }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(vec![
            mount("config", CONFIG_DIR, true),
            mount("peer-tls", TLS_DIR, true),
            mount("jwt", JWT_DIR, true),
            mount(ClusterNames::claim_template(), DATA_DIR, false),
        ]),
        ..Container::default()
    }
}

fn probe(path: &str, period_seconds: i32, failure_threshold: i32, timeout_seconds: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("health".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        failure_threshold: Some(failure_threshold),
        timeout_seconds: Some(timeout_seconds),
        ..Probe::default()
    }
}

fn volumes(validated: &Validated, config_map: &str) -> Vec<Volume> {
    let names = &validated.names;
    let secret = |name: &str, secret_name: String, keys: &[&str]| Volume {
        name: name.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret_name),
            default_mode: Some(SECRET_MODE),
            items: Some(
                keys.iter()
                    .map(|key| KeyToPath {
                        key: (*key).to_owned(),
                        path: (*key).to_owned(),
                        mode: None,
                    })
                    .collect(),
            ),
            optional: None,
        }),
        ..Volume::default()
    };
    vec![
        Volume {
            name: "config".to_owned(),
            config_map: Some(ConfigMapVolumeSource {
                name: config_map.to_owned(),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        },
        secret("peer-tls", names.peer_tls_secret(), &["ca.crt", "tls.crt", "tls.key"]),
        // The private key beside it is not for members.
        secret("jwt", names.jwt_secret(), &[JWKS]),
    ]
}

/// Preferred, not required: five members run on three nodes.
fn spread(validated: &Validated) -> Affinity {
    Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![WeightedPodAffinityTerm {
                weight: 100,
                pod_affinity_term: PodAffinityTerm {
                    label_selector: Some(LabelSelector {
                        match_labels: Some(BTreeMap::from_iter(validated.names.shard_selector(SHARD))),
                        ..LabelSelector::default()
                    }),
                    topology_key: "kubernetes.io/hostname".to_owned(),
                    ..PodAffinityTerm::default()
                },
            }]),
            ..PodAntiAffinity::default()
        }),
        ..Affinity::default()
    }
}
