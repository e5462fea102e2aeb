//! What the operator has observed of a cluster.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::Quantity;

/// What the operator has observed of the cluster. It holds no figure that moves with traffic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct KvClusterStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Available, Progressing, Degraded and Ready.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,

    /// The identity of the cluster, a UUID made once. A member of another cluster is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,

    /// How many member pods there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,

    /// How many member pods are ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,

    /// The label selector of the member pods, for the scale subresource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,

    /// The version that every member runs. Absent while they differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,

    /// The address of the data port inside the Kubernetes cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,

    /// The shards, by index.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["index"]))]
    pub shards: Vec<ShardStatus>,

    /// How many tenants are placed on this cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenants: Option<u32>,
}

/// One Raft group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShardStatus {
    /// The number of the shard, from 0.
    pub index: u32,

    /// How far the Raft group has come: Pending, Intended once its members are chosen and written here, Formed once they
    /// run as a group. A group is formed once in its life.
    #[serde(default)]
    pub formation: Formation,

    /// The member that was told to form the group: a decimal number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap_id: Option<String>,

    /// The pod that leads the group. Absent while none is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<String>,

    /// The Raft term that was last seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<u64>,

    /// The feature level: what every member's program knows, and what may be used. It only rises.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<u32>,

    /// The highest level that the programs of all members know, while one of them knows more than `level`: the level is held, or
    /// waits for those that know less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supported_level: Option<u32>,

    /// The image that most of the ready members run, or ran when any was ready. A cluster that names no image keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,

    /// The members, by pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["pod"]))]
    pub members: Vec<MemberStatus>,
}

impl ShardStatus {
    /// A shard of which nothing is known but how far its group has come.
    #[must_use]
    pub fn of(index: u32, formation: Formation) -> Self {
        ShardStatus {
            index,
            formation,
            bootstrap_id: None,
            primary: None,
            term: None,
            level: None,
            supported_level: None,
            image: None,
            members: Vec::new(),
        }
    }
}

/// How far a Raft group has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Formation {
    /// Its members are not chosen yet.
    #[default]
    Pending,
    /// Its members are chosen and recorded; one is being told to form the group.
    Intended,
    /// The group runs, and is never formed again.
    Formed,
}

/// One member of a Raft group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberStatus {
    /// The pod it runs in.
    pub pod: String,

    /// Its identity, made with its data: a decimal number. Absent while the member has not been heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,

    /// Primary, Follower or Learner. Absent while unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "MemberRole")]
    pub role: Option<MemberRole>,

    /// Whether it votes.
    pub voter: bool,

    /// Whether it serves.
    pub ready: bool,

    /// What its volume holds, in steps of 1% of the volume's size. Told again when it has moved by 5% of it, or, above 80%, by 1%.
    /// Absent while the member has not been part of a group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_used: Option<Quantity>,
}

/// What a member does in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MemberRole {
    /// It leads: writes pass through it.
    Primary,
    /// It follows, and votes.
    Follower,
    /// It follows, and does not vote.
    Learner,
}
