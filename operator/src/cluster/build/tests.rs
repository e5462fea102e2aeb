use super::*;
use crate::cluster::{
    fixtures::{config, observed},
    validate::{Validated, validate},
};

const SMALL: &str = "{storage: {size: 1Gi}}";

fn validated(spec: &str) -> Validated {
    validate(&observed(spec), &config()).unwrap()
}

fn hash(spec: &str) -> String {
    build(&validated(spec)).spec_hash
}

#[test]
fn the_smallest_cluster() {
    insta::assert_yaml_snapshot!("the_smallest_cluster", build(&validated(SMALL)));
}

#[test]
fn a_cluster_with_everything_set() {
    let spec = "
  replicas: 5
  image: {repository: mine/kvnode, tag: '2', pullPolicy: Always, pullSecrets: [{name: registry}]}
  storage: {size: 10Gi, storageClassName: fast, retention: {whenDeleted: Delete}}
  resources: {requests: {cpu: 500m}, limits: {memory: 1Gi}}
  nodeSelector: {disk: nvme}
  tolerations: [{key: storage, operator: Exists}]
  priorityClassName: high
  podLabels: {team: storage}
  podAnnotations: {note: hello}
  serviceAccountName: own
  service: {type: LoadBalancer, annotations: {lb: internal}}
  replication: {heartbeatInterval: 100ms, electionTimeout: 1s, maxBatch: 64, compressAbove: 64Ki}
  logging: {level: debug, format: text}";
    insta::assert_yaml_snapshot!("a_cluster_with_everything_set", build(&validated(spec)));
}

#[test]
fn a_pod_is_outdated_only_by_what_shapes_it() {
    let plain = hash(SMALL);
    for same in [
        "{storage: {size: 1Gi}, logging: {level: debug}}",
        "{storage: {size: 1Gi}, limits: {scanItems: 7}}",
        "{storage: {size: 1Gi}, expiry: {sweepInterval: 5s}}",
        "{storage: {size: 1Gi}, service: {type: NodePort}}",
        "{storage: {size: 1Gi}, tenancy: {ceilings: {quota: {keys: 5}}}}",
        // Image unset and the same image named are equal.
        "{storage: {size: 1Gi}, image: {repository: example.org/kvnode, tag: 1.0.0}}",
    ] {
        assert_eq!(hash(same), plain, "{same}");
    }
    for other in [
        "{storage: {size: 1Gi}, image: {tag: '2'}}",
        "{storage: {size: 1Gi}, podLabels: {a: b}}",
        "{storage: {size: 1Gi}, podAnnotations: {a: b}}",
        "{storage: {size: 1Gi}, logging: {format: text}}",
        "{storage: {size: 1Gi}, replication: {maxBatch: 5}}",
        "{storage: {size: 1Gi}, resources: {limits: {memory: 1Gi}}}",
    ] {
        assert_ne!(hash(other), plain, "{other}");
    }
}

#[test]
fn a_newer_operator_leaves_the_image_as_it_runs() {
    let mut running = observed(SMALL);
    running.running_image = Some("example.org/kvnode:0.9.0".to_owned());
    let kept = validate(&running, &config()).unwrap();
    assert_eq!(kept.image, "example.org/kvnode:0.9.0");
    running.cluster = std::sync::Arc::new(crate::cluster::fixtures::cluster("{storage: {size: 1Gi}, image: {tag: 1.0.0}}"));
    assert_eq!(validate(&running, &config()).unwrap().image, "example.org/kvnode:1.0.0");
}
