//! What the operator has observed of a tenant.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::Quantity;

/// What the operator has observed of the tenant. It holds no figure that moves with traffic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TenantStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Ready, Accepted and CredentialsReady.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,

    /// The tenant's name in URLs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_name: Option<String>,

    /// The KvCluster that holds the tenant, with its namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ResolvedClusterRef")]
    pub cluster_ref: Option<ResolvedClusterRef>,

    /// The shard that the tenant is placed on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard: Option<u32>,

    /// The tenant's URL inside the Kubernetes cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,

    /// The revision from which every member enforces this generation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied_revision: Option<u64>,

    /// What the tenant uses.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "TenantUsage")]
    pub usage: Option<TenantUsage>,

    /// The Secret that holds the tenant's name, endpoint and token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_secret: Option<String>,
}

/// The KvCluster that holds a tenant, with its namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedClusterRef {
    /// The KvCluster's name.
    pub name: String,

    /// The KvCluster's namespace.
    pub namespace: String,
}

/// What a tenant uses. Written in steps of 1% of the quota, at most every 30 seconds: exact figures are at the tenant's
/// `/usage`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantUsage {
    /// Bytes of keys, values and metadata.
    pub storage: Quantity,

    /// Number of keys.
    pub keys: u64,

    /// `storage` in percent of the quota.
    pub storage_percent: u32,
}
