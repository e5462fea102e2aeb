//! `KvCluster`: a replicated, durable key-value store.
//!
//! In: nothing. Out: the typed resource and its schema, a file per part of the spec.
//! Absent: what a field does, which is the operator's and the node's.

#![allow(
    clippy::duplicated_attributes,
    reason = "the lint takes the parts of two columns for one attribute given twice"
)]

mod image;
mod pods;
mod service;
mod status;
mod storage;
mod tenancy;
mod tuning;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, Toleration, TopologySpreadConstraint};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use image::{Image, PullPolicy, PullSecret};
pub use pods::Resources;
pub use service::{Service, ServiceType};
pub use status::{Formation, KvClusterStatus, MemberRole, MemberStatus, ShardStatus};
pub use storage::{Retention, Storage, StorageEngine, WhenDeleted};
pub use tenancy::Tenancy;
pub use tuning::{Expiry, Limits, LogFormat, LogLevel, Logging, Maintenance, Replication};

use crate::rules;

/// The desired state of the cluster.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kvfleet.dev",
    version = "v1alpha1",
    kind = "KvCluster",
    plural = "kvclusters",
    shortname = "kvc",
    category = "kvfleet",
    namespaced,
    doc = "A replicated, durable key-value store: one StatefulSet and one Raft group per shard, reached over REST through the Service of the same name.",
    status = "KvClusterStatus",
    derive = "PartialEq",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        description = "Whether the cluster serves and nothing is left to do",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Replicas",
        type_ = "integer",
        description = "Members that are ready",
        json_path = ".status.readyReplicas"
    ),
    printcolumn(
        name = "Primary",
        type_ = "string",
        description = "The pod that leads shard 0",
        json_path = ".status.shards[0].primary"
    ),
    printcolumn(
        name = "Version",
        type_ = "string",
        description = "The version every member runs",
        json_path = ".status.version"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Shards",
        type_ = "integer",
        description = "Raft groups",
        json_path = ".spec.shards",
        priority = 1
    ),
    printcolumn(
        name = "Tenants",
        type_ = "integer",
        description = "Tenants placed on this cluster",
        json_path = ".status.tenants",
        priority = 1
    ),
    printcolumn(
        name = "Storage used",
        type_ = "string",
        description = "What the first member's volume holds",
        json_path = ".status.shards[0].members[0].storageUsed",
        priority = 1
    ),
    printcolumn(
        name = "Endpoint",
        type_ = "string",
        description = "The address of the data port inside the cluster",
        json_path = ".status.endpoint",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct KvClusterSpec {
    /// How many shards the keys are spread over. Each is a StatefulSet and a Raft group of its own. Default 1, the only
    /// number in this release.
    #[serde(default = "one_shard")]
    #[schemars(extend("x-kubernetes-validations" = rules::all([
        rules::rule("self == 1", "shards must be 1: this release runs one shard per cluster, so set it to 1 or leave it out"),
    ])))]
    pub shards: i32,

    /// How many members each shard has: 1, 3, 5 or 7. A majority of them must be up for writes to go on, so 3 survive the
    /// loss of one and 5 the loss of two. Default 3. Members are added and removed one at a time; the volumes of removed
    /// ones stay.
    #[serde(default = "three_replicas")]
    #[schemars(extend("x-kubernetes-validations" = rules::all([
        rules::rule(
            "self in [1, 3, 5, 7]",
            "replicas must be 1, 3, 5 or 7: an even number needs a larger majority and survives no more failures",
        ),
    ])))]
    pub replicas: i32,

    /// The image of the members. Default: the one that the operator was installed with when the cluster was made; a cluster
    /// that runs keeps the one it runs (`status.shards[].image`), whatever a newer operator comes with. A member
    /// takes up another image when its pod is next made.
    #[serde(default, skip_serializing_if = "Image::is_default")]
    pub image: Image,

    /// Where members keep their data.
    pub storage: Storage,

    /// Processor and memory that each member asks for. Default: none.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,

    /// Where members may run, as in a Pod. Default: spread over nodes where possible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Affinity")]
    pub affinity: Option<Affinity>,

    /// Labels that a node must have for a member to run on it. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,

    /// Taints that members tolerate, as in a Pod. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,

    /// How members are spread over zones and nodes, as in a Pod. Default: none beyond `affinity`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,

    /// The PriorityClass of the members' pods. Default: the namespace's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,

    /// Labels added to the members' pods. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "x-kubernetes-validations" = rules::all([
        rules::rule(
            "self.all(key, !key.startsWith('kvfleet.dev/') && !key.startsWith('app.kubernetes.io/'))",
            "podLabels may not set kvfleet.dev/ or app.kubernetes.io/ labels: the operator finds its pods by them, so choose another prefix",
        ),
    ])))]
    pub pod_labels: BTreeMap<String, String>,

    /// Annotations added to the members' pods. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "x-kubernetes-validations" = rules::all([
        rules::rule(
            "self.all(key, !key.startsWith('kvfleet.dev/'))",
            "podAnnotations may not set kvfleet.dev/ annotations: the operator keeps its own there, so choose another prefix",
        ),
    ])))]
    pub pod_annotations: BTreeMap<String, String>,

    /// The ServiceAccount of the members' pods, which must exist. Members never talk to the API server. Default: one
    /// named like the cluster, made by the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: Option<String>,

    /// The Service that clients use. It carries the cluster's name.
    #[serde(default)]
    pub service: Service,

    /// What tenants of this cluster get, and how far they may go.
    #[serde(default, skip_serializing_if = "Tenancy::is_empty")]
    pub tenancy: Tenancy,

    /// Timing and batching of the replication between members. A member takes up a change when its pod is next made: the
    /// Progressing condition names the pods that are outdated.
    #[serde(default)]
    pub replication: Replication,

    /// Bounds of single requests. A change is in force without a restart.
    #[serde(default)]
    pub limits: Limits,

    /// How soon expired records give their space back. A change is in force without a restart.
    #[serde(default)]
    pub expiry: Expiry,

    /// What members write to their standard output.
    #[serde(default)]
    pub logging: Logging,

    /// Switches for a person who works on the cluster.
    #[serde(default)]
    pub maintenance: Maintenance,

    /// Refuses to delete this KvCluster, and the namespace it is in, while true. Default false.
    #[serde(default)]
    pub deletion_protection: bool,
}

fn one_shard() -> i32 {
    1
}

fn three_replicas() -> i32 {
    3
}

/// The rules on the object as a whole, which see its name.
pub(crate) fn object_rules() -> serde_json::Value {
    rules::all([
        rules::rule(
            "self.metadata.name.matches('^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$')",
            "metadata.name must be at most 40 characters: lower-case letters, digits and `-`, beginning with a letter and ending \
             with a letter or digit, because the names of pods and Services are made from it",
        ),
        rules::rule(
            "!self.metadata.name.matches('-(peers|primary|s[0-9]+)$')",
            "metadata.name may not end in -peers, -primary or -s and a number: another cluster's Services and pods may have that name",
        ),
    ])
}
