//! `Tenant`: a namespace of keys in a `KvCluster`, with its quota, limits and credentials.
//!
//! In: nothing. Out: the typed resource and its schema.
//! Absent: resolution of what a Tenant leaves out, which is the operator's.

#![allow(
    clippy::duplicated_attributes,
    reason = "the lint takes the parts of two columns for one attribute given twice"
)]

mod policy;
mod status;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use policy::{TenantLimits, TenantPolicy, TenantQuota, TenantTtl};
pub use status::{ResolvedClusterRef, TenantStatus, TenantUsage};

use crate::rules;

/// A DNS label (RFC 1123).
const DNS_LABEL: &str = "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$";

/// The desired state of the tenant.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kvfleet.dev",
    version = "v1alpha1",
    kind = "Tenant",
    plural = "tenants",
    shortname = "kvt",
    category = "kvfleet",
    namespaced,
    doc = "A namespace of keys in a KvCluster, with a quota, limits, a policy for expiry, and credentials of its own.",
    status = "TenantStatus",
    derive = "PartialEq",
    printcolumn(
        name = "Ready",
        type_ = "string",
        description = "Whether this configuration is in force on every member",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Cluster",
        type_ = "string",
        description = "The KvCluster that holds the tenant",
        json_path = ".spec.clusterRef.name"
    ),
    printcolumn(
        name = "Used",
        type_ = "string",
        description = "Storage in use, in steps of 1% of the quota",
        json_path = ".status.usage.storage"
    ),
    printcolumn(
        name = "Quota",
        type_ = "string",
        description = "Storage that the spec asks for",
        json_path = ".spec.quota.storage"
    ),
    printcolumn(
        name = "Keys",
        type_ = "integer",
        description = "Keys in use, in steps of 1% of the quota",
        json_path = ".status.usage.keys"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Endpoint",
        type_ = "string",
        description = "The tenant's URL inside the Kubernetes cluster",
        json_path = ".status.endpoint",
        priority = 1
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        description = "Why the tenant is ready or not",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::all([
    rules::fixed(
        "tenantName",
        "tenantName may not change, appear or disappear: it is in the URLs of the tenant's data, so create another Tenant",
    ),
])))]
pub struct TenantSpec {
    /// The KvCluster that holds the tenant, in the Tenant's own namespace. It cannot change.
    #[schemars(extend("x-kubernetes-validations" = rules::all([
        rules::transition(
            "self == oldSelf",
            "clusterRef may not change: the tenant's data would stay behind, so create another Tenant",
        ),
    ])))]
    pub cluster_ref: ClusterRef,

    /// The tenant's name in URLs: a DNS label, unique in its KvCluster. It cannot change. Default: the Tenant's own name,
    /// where that is a DNS label; otherwise required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), extend("x-kubernetes-validations" = rules::all([
        rules::rule(
            &format!("self.matches('{DNS_LABEL}')"),
            "tenantName must be a DNS label: lower-case letters, digits and `-`, at most 63, beginning and ending with a letter or digit",
        ),
    ])))]
    pub tenant_name: Option<String>,

    /// How much the tenant may store.
    #[serde(default, skip_serializing_if = "TenantQuota::is_empty")]
    pub quota: TenantQuota,

    /// Bounds of single records.
    #[serde(default, skip_serializing_if = "TenantLimits::is_empty")]
    pub limits: TenantLimits,

    /// When records expire.
    #[serde(default, skip_serializing_if = "TenantTtl::is_empty")]
    pub ttl: TenantTtl,

    /// What requests are let in: ReadWrite; ReadOnly, which refuses every write while expiry goes on; Suspended, which refuses
    /// everything. Default ReadWrite.
    #[serde(default)]
    pub access: Access,

    /// The credentials that the operator writes for the tenant's users.
    #[serde(default, skip_serializing_if = "Credentials::is_default")]
    pub credentials: Credentials,

    /// What happens to the data when the Tenant is deleted: Retain keeps it without access, for a Tenant of the same
    /// namespace and name to take up again; Delete destroys it before the Tenant is gone. Default Retain.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// The KvCluster that holds a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterRef {
    /// The KvCluster's name.
    #[schemars(length(min = 1, max = 40))]
    pub name: String,
}

/// What requests of a tenant are let in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Access {
    /// Reads and writes.
    #[default]
    ReadWrite,
    /// Reads. Expiry goes on.
    ReadOnly,
    /// Nothing.
    Suspended,
}

/// The credentials of a tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Credentials {
    /// The Secret that receives the tenant's name, endpoint and token. It must not exist already. Default: the Tenant's name
    /// followed by `-kv-credentials`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), extend("x-kubernetes-validations" = rules::all([
        rules::rule(
            "self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",
            "credentials.secretName must be the name of a Secret: lower-case letters, digits, `-` and `.`, beginning and ending with a letter or digit",
        ),
    ])))]
    pub secret_name: Option<String>,
}

impl Credentials {
    /// Whether nothing is asked for beyond the default Secret.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.secret_name.is_none()
    }
}

/// What happens to a tenant's data when the Tenant is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// The data stays, without access.
    #[default]
    Retain,
    /// The data goes before the Tenant does.
    Delete,
}

/// The rules on the object as a whole, which see its name.
pub(crate) fn object_rules() -> serde_json::Value {
    rules::all([
        rules::rule(
            "self.metadata.name.size() <= 200",
            "metadata.name must be at most 200 characters: the name of the credentials Secret is made from it",
        ),
        rules::rule(
            &format!("has(self.spec.tenantName) || self.metadata.name.matches('{DNS_LABEL}')"),
            "tenantName is required, because metadata.name is no DNS label and cannot be used in URLs: set spec.tenantName, or \
             rename the Tenant to at most 63 lower-case letters, digits and `-`",
        ),
    ])
}
