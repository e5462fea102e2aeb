//! Quota, limits and expiry: what a Tenant asks for, and what a KvCluster gives and bounds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{duration::Duration, quantity::Quantity, rules};

/// What applies to a tenant. All of it is optional.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantPolicy {
    /// How much a tenant may store.
    #[serde(default, skip_serializing_if = "TenantQuota::is_empty")]
    pub quota: TenantQuota,

    /// Bounds of single records.
    #[serde(default, skip_serializing_if = "TenantLimits::is_empty")]
    pub limits: TenantLimits,

    /// When records expire.
    #[serde(default, skip_serializing_if = "TenantTtl::is_empty")]
    pub ttl: TenantTtl,
}

impl TenantPolicy {
    /// Whether nothing is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.quota.is_empty() && self.limits.is_empty() && self.ttl.is_empty()
    }
}

/// How much a tenant may store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantQuota {
    /// Bytes of keys, values and metadata together: a whole quantity such as `1Gi`. Default: the cluster's, or else 1Gi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = rules::quantity("quota.storage", "0", "1Pi")))]
    pub storage: Option<Quantity>,

    /// Number of keys. Default: the cluster's, or else 1000000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000_000_u64))]
    pub keys: Option<u64>,
}

impl TenantQuota {
    /// Whether nothing is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.storage.is_none() && self.keys.is_none()
    }
}

/// Bounds of single records.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantLimits {
    /// The longest key in characters (Unicode scalar values), from 1 to 2048. Whatever this says, a key is at most 2048
    /// bytes of UTF-8. Default: the cluster's, or else 512.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_048))]
    pub max_key_length: Option<u32>,

    /// The largest value in bytes, from 0 to 8Mi: a whole quantity such as `16Ki`. Default: the cluster's, or else 1Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = rules::quantity("limits.maxValueSize", "0", "8Mi")))]
    pub max_value_size: Option<Quantity>,

    /// The most metadata of one key in bytes, names and values together, from 0 to 8Ki: a whole quantity such as `1Ki`.
    /// Default: the cluster's, or else 1Ki.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = rules::quantity("limits.maxMetadataSize", "0", "8Ki")))]
    pub max_metadata_size: Option<Quantity>,
}

impl TenantLimits {
    /// Whether nothing is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.max_key_length.is_none() && self.max_value_size.is_none() && self.max_metadata_size.is_none()
    }
}

/// When records expire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::all([
    rules::duration_order(
        "default",
        "max",
        "ttl.default must not be longer than ttl.max: lower the one or raise the other",
    ),
])))]
pub struct TenantTtl {
    /// How long a record lives when its write says nothing, from 1s to 87600h (ten years). Default: the cluster's, or else
    /// for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Duration", extend("x-kubernetes-validations" = rules::duration("ttl.default", "1s", "87600h")))]
    pub default: Option<Duration>,

    /// The longest life that a write may ask for, from 1s to 87600h (ten years). With it, no record lives for ever. Default:
    /// the cluster's, or else no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Duration", extend("x-kubernetes-validations" = rules::duration("ttl.max", "1s", "87600h")))]
    pub max: Option<Duration>,
}

impl TenantTtl {
    /// Whether nothing is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.default.is_none() && self.max.is_none()
    }
}
