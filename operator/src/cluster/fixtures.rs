//! What the tests of this folder are made of: a manifest, as the API server would hand it out.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::PartialObjectMetaExt;
use kvfleet_api::admin::{LevelRange, MemberAddress, MemberReport, MemberStanding, MemberState, Role};
use kvfleet_crds::{
    KvCluster, KvClusterStatus,
    names::{ANNOTATION_FORMED, LABEL_CLUSTER_ID},
};

use super::{
    fetch::{Claim, Member, Observed, SeenPod},
    pod_state::PodState,
};
use crate::config::Config;

pub(crate) fn config() -> Config {
    Config {
        node_image_repository: "example.org/kvnode".to_owned(),
        node_image_tag: "1.0.0".to_owned(),
        node_image_pull_policy: "IfNotPresent".to_owned(),
        namespace: "kvfleet-system".to_owned(),
        service_account: "kvfleet".to_owned(),
        pod_name: "kvfleet-0".to_owned(),
        lease_name: "kvfleet".to_owned(),
        watch_namespaces: Vec::new(),
        health_listen: ([127, 0, 0, 1], 0).into(),
    }
}

pub(super) fn cluster(spec: &str) -> KvCluster {
    let text = format!(
        "apiVersion: kvfleet.dev/v1alpha1\nkind: KvCluster\n\
         metadata: {{name: prod, namespace: storage, uid: 7b0c0000-0000-4000-8000-000000000001, generation: 1}}\nspec: {spec}\n"
    );
    serde_yaml::from_str(&text).unwrap()
}

/// A volume claim, of the cluster of this id if it says so.
pub(super) fn claim(name: &str, cluster: Option<&str>, formed: bool) -> Claim {
    let mut metadata = ObjectMeta {
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    };
    metadata.labels = cluster.map(|id| BTreeMap::from([(LABEL_CLUSTER_ID.to_owned(), id.to_owned())]));
    metadata.annotations = formed.then(|| BTreeMap::from([(ANNOTATION_FORMED.to_owned(), "true".to_owned())]));
    Arc::new(metadata.into_response_partial())
}

/// Three places, without pods.
pub(super) fn observed(spec: &str) -> Observed {
    let members = (0..3).map(|ordinal| Member {
        pod: format!("prod-s0-{ordinal}"),
        seen: None,
        report: None,
        unheard: None,
        lately: false,
    });
    let cluster = cluster(spec);
    Observed {
        size: crate::cluster::validate::replicas(&cluster),
        cluster: Arc::new(cluster),
        status: KvClusterStatus::default(),
        claims: Vec::new(),
        members: members.collect(),
        has_set: false,
        admin: None,
        unread: None,
    }
}

pub(super) fn pod(spec_hash: &str) -> SeenPod {
    SeenPod {
        uid: Some("pod".to_owned()),
        version: Some("1".to_owned()),
        deleting: false,
        state: PodState::Running,
        never_ready: false,
        address: None,
        ready: true,
        image: None,
        labelled_primary: false,
        spec_hash: Some(spec_hash.to_owned()),
        config_maps: Vec::new(),
    }
}

pub(super) fn report(ordinal: u64, role: Role) -> MemberReport {
    let address = |ordinal: u64| MemberAddress {
        id: ordinal + 1,
        name: format!("prod-s0-{ordinal}"),
        peer: String::new(),
        voter: true,
    };
    MemberReport {
        cluster_id: "7b0c0000-0000-4000-8000-000000000001".to_owned(),
        shard: 0,
        id: ordinal + 1,
        name: format!("prod-s0-{ordinal}"),
        version: "1.0.0".to_owned(),
        format: 1,
        state: MemberState::Member,
        reason: None,
        role: Some(role),
        ready: true,
        term: 4,
        leader: Some(address(0)),
        last_log_index: Some(1),
        applied_index: Some(1),
        applied_revision: 1,
        members: (0..3)
            .map(|ordinal| MemberStanding {
                id: ordinal + 1,
                name: format!("prod-s0-{ordinal}"),
                peer: String::new(),
                voter: true,
                role: if ordinal == 0 { Role::Primary } else { Role::Follower },
                lag: (role == Role::Primary).then_some(0),
                lag_bytes: (role == Role::Primary).then_some(0),
                caught_up: role == Role::Primary,
                heard_ms: None,
            })
            .collect(),
        change: None,
        level: Some(2),
        level_held_by: Vec::new(),
        supported_levels: LevelRange { lowest: 1, highest: 2 },
        storage_used: 25 << 20,
        tenants: 2,
    }
}
