//! What a cluster grants its tenants.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::tenant::TenantPolicy;

/// What a cluster grants its tenants.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tenancy {
    /// What a Tenant gets for the fields that it leaves out, before the built-in defaults. A default above its ceiling
    /// counts as the ceiling.
    #[serde(default, skip_serializing_if = "TenantPolicy::is_empty")]
    pub defaults: TenantPolicy,

    /// What a Tenant may not exceed. A Tenant that asks for more gets `Accepted=False, reason=ExceedsCeiling`, and its last
    /// accepted configuration stays in force.
    #[serde(default, skip_serializing_if = "TenantPolicy::is_empty")]
    pub ceilings: TenantPolicy,
}

impl Tenancy {
    /// Whether neither a default nor a ceiling is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.defaults.is_empty() && self.ceilings.is_empty()
    }
}
