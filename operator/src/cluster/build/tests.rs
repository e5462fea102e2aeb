use kvfleet_crds::cluster::{Formation, ShardStatus};

use super::*;
use crate::cluster::{
    fixtures::{config, observed, pod},
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

/// Pods that run this image, ready or not, under a status that records `recorded`.
fn running(spec: &str, recorded: Option<&str>, image: &str, ready: bool) -> String {
    let mut running = observed(spec);
    running.status.shards = vec![ShardStatus {
        image: recorded.map(str::to_owned),
        ..ShardStatus::of(0, Formation::Formed)
    }];
    for member in &mut running.members {
        let mut pod = pod("h");
        (pod.image, pod.ready) = (Some(image.to_owned()), ready);
        member.seen = Some(pod);
    }
    validate(&running, &config()).unwrap().image
}

#[test]
fn a_newer_operator_leaves_the_image_as_it_runs() {
    let old = "example.org/kvnode:0.9.0";
    assert_eq!(running(SMALL, None, old, true), old);
    // Named, it is what is named.
    assert_eq!(
        running("{storage: {size: 1Gi}, image: {tag: 1.0.0}}", Some(old), old, true),
        "example.org/kvnode:1.0.0"
    );
    // The StatefulSet and its pods were deleted by hand: still no upgrade.
    assert_eq!(running(SMALL, Some(old), "", false), old);
    // A mirror is named and no tag.
    let mirrored = "{storage: {size: 1Gi}, image: {repository: mine/kvnode}}";
    assert_eq!(running(mirrored, None, "mine/kvnode:0.9.0", true), "mine/kvnode:0.9.0");
    assert_eq!(running(mirrored, None, old, true), "mine/kvnode:1.0.0");
}

/// The chart's tag was wrong at first, or the spec's was and is not set any more.
#[test]
fn an_image_that_never_came_up_is_not_kept() {
    assert_eq!(running(SMALL, None, "example.org/kvnode:nope", false), "example.org/kvnode:1.0.0");
    let old = "example.org/kvnode:0.9.0";
    assert_eq!(running(SMALL, Some(old), "example.org/kvnode:nope", false), old);
}
