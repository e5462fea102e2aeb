//! A tenant's configuration as it travels from the operator through the log to every member: everything resolved, nothing optional.

use serde::{Deserialize, Serialize};

/// Ceilings and defaults of `api.md`, Limits.
pub mod bounds {
    /// Default longest key, Unicode scalar values.
    pub const KEY_LENGTH_DEFAULT: u32 = 512;
    /// Ceiling of the key length in scalar values, and of its UTF-8 bytes.
    pub const KEY_LENGTH_MAX: u32 = 2_048;
    /// Default largest value, bytes.
    pub const VALUE_SIZE_DEFAULT: u64 = 1 << 20;
    /// Ceiling of the value size, bytes.
    pub const VALUE_SIZE_MAX: u64 = 8 << 20;
    /// Default metadata per key, bytes.
    pub const METADATA_SIZE_DEFAULT: u64 = 1 << 10;
    /// Ceiling of metadata per key, bytes.
    pub const METADATA_SIZE_MAX: u64 = 8 << 10;
    /// Default storage quota, bytes.
    pub const QUOTA_STORAGE_DEFAULT: u64 = 1 << 30;
    /// Default key quota.
    pub const QUOTA_KEYS_DEFAULT: u64 = 1_000_000;
    /// Shortest TTL, milliseconds.
    pub const TTL_MIN_MS: u64 = 1_000;
    /// Longest TTL, milliseconds: ten years of 365 days.
    pub const TTL_MAX_MS: u64 = 10 * 365 * 24 * 3_600_000;
}

/// Who may do what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Reads and writes.
    #[default]
    ReadWrite,
    /// Every write is refused; expiry goes on.
    ReadOnly,
    /// Everything is refused.
    Suspended,
}

/// What a member enforces for one tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TenantLimits {
    /// Storage quota, bytes (what counts: `api.md`, Quota).
    pub quota_storage: u64,
    /// Key quota.
    pub quota_keys: u64,
    /// Longest key, Unicode scalar values.
    pub max_key_length: u32,
    /// Largest value, bytes.
    pub max_value_size: u64,
    /// Metadata per key, bytes.
    pub max_metadata_size: u64,
    /// TTL of a record that names none, milliseconds; none = never expires.
    pub ttl_default_ms: Option<u64>,
    /// Longest TTL, milliseconds; none = no ceiling, and "never" is allowed.
    pub ttl_max_ms: Option<u64>,
    /// Who may do what.
    pub access: Access,
}

impl Default for TenantLimits {
    /// The defaults of `api.md`, Limits: what a Tenant without any field gets.
    fn default() -> Self {
        TenantLimits {
            quota_storage: bounds::QUOTA_STORAGE_DEFAULT,
            quota_keys: bounds::QUOTA_KEYS_DEFAULT,
            max_key_length: bounds::KEY_LENGTH_DEFAULT,
            max_value_size: bounds::VALUE_SIZE_DEFAULT,
            max_metadata_size: bounds::METADATA_SIZE_DEFAULT,
            ttl_default_ms: None,
            ttl_max_ms: None,
            access: Access::ReadWrite,
        }
    }
}

/// `PUT /admin/tenants/{name}`: the whole configuration. For the same `uid` no generation may go down (409 `conflict`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TenantConfig {
    /// The Tenant object's uid; `standalone` where there is no Kubernetes.
    pub uid: String,
    /// `<namespace>/<name>` of the Tenant object: a released tenant is adopted again only by the same one.
    pub owner: String,
    /// The Tenant's generation.
    pub generation: u64,
    /// The KvCluster's generation (its defaults and ceilings took part).
    pub cluster_generation: u64,
    /// The credential generation that tokens carry; starts at 1.
    pub credential_generation: u64,
    /// What is enforced.
    pub limits: TenantLimits,
}

/// Whether a tenant is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TenantState {
    /// Served as its limits say.
    Active,
    /// Its Tenant object is gone and the data is kept: access is refused until the same owner returns.
    Released,
}

/// `GET /admin/tenants/{name}`, the answer of a PUT, and an element of `GET /admin/tenants`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TenantStatus {
    /// The name in URLs.
    pub name: String,
    /// The tenant's id, never used again after it.
    pub id: u32,
    /// Served or released.
    pub state: TenantState,
    /// The revision that this configuration took: a member whose `appliedRevision` is at least this enforces it.
    pub revision: u64,
    /// The configuration in force.
    pub config: TenantConfig,
    /// Unix seconds of the stamp with which the current credential generation came: the token's `iat`.
    pub credential_issued_at: u64,
    /// What the tenant uses now.
    pub usage: crate::usage::Used,
}

/// `DELETE /admin/tenants/{name}?mode=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeleteMode {
    /// Refuse access, keep the data.
    Release,
    /// Destroy the data: invisible at once, its bytes are given back by the sweep.
    Delete,
}
