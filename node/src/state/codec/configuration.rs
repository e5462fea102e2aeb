//! The numbers of what `api` defines: the configuration of tenants and of the shard, and what is answered of them.

use kvfleet_api::{
    admin::{Settings, SettingsStatus},
    tenant::{Access, TenantConfig, TenantLimits, TenantState, TenantStatus},
    usage::Used,
};

use super::numbered::{message, numbers};

message!(TenantConfig {
    1 = uid,
    2 = owner,
    3 = generation,
    4 = cluster_generation,
    5 = credential_generation,
    6 = limits,
});

message!(TenantLimits {
    1 = quota_storage,
    2 = quota_keys,
    3 = max_key_length,
    4 = max_value_size,
    5 = max_metadata_size,
    6 = ttl_default_ms,
    7 = ttl_max_ms,
    8 = access,
});

numbers!("access", Access { 1 = ReadWrite, 2 = ReadOnly, 3 = Suspended });

numbers!("state of a tenant", TenantState { 1 = Active, 2 = Released });

message!(TenantStatus {
    1 = name,
    2 = id,
    3 = state,
    4 = revision,
    5 = config,
    6 = credential_issued_at,
    7 = usage,
});

message!(Used { 1 = storage, 2 = keys });

message!(Settings {
    1 = generation,
    2 = log_level,
    3 = sweep_interval_ms,
    4 = scan_items,
    5 = scan_bytes,
    6 = request_timeout_ms,
    7 = max_request_timeout_ms,
    8 = hold_level,
});

message!(SettingsStatus { 1 = revision, 2 = settings });
