//! `GET /usage`.

use serde::{Deserialize, Serialize};

use crate::tenant::TenantLimits;

/// Counters of one tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Bytes: keys, values and metadata.
    pub storage: u64,
    /// Records, those past their expiry not counted.
    pub keys: u64,
}

/// One figure against its quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gauge {
    /// In use.
    pub used: u64,
    /// Allowed.
    pub provisioned: u64,
}

/// The answer of `GET /api/v1/tenants/{tenant}/usage`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes.
    pub storage: Gauge,
    /// Records.
    pub keys: Gauge,
    /// What the tenant's configuration allows.
    pub limits: TenantLimits,
}
