//! The Secret with a tenant's credentials.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kvfleet_api::{tenant::TenantStatus, token::Claims};
use kvfleet_crds::names::{LABEL_CLUSTER, LABEL_MANAGED_BY, MANAGER};

use crate::token::Signer;

/// What a Secret is made of.
#[derive(Debug)]
pub struct Credentials<'a> {
    /// The Secret's name.
    pub name: &'a str,
    /// The Tenant's namespace.
    pub namespace: &'a str,
    /// The Tenant.
    pub owner: OwnerReference,
    /// The KvCluster's name.
    pub cluster: &'a str,
    /// The cluster's identity: the token's `iss`.
    pub cluster_id: &'a str,
    /// The tenant's URL.
    pub endpoint: &'a str,
    /// The tenant as the log has it.
    pub placed: &'a TenantStatus,
}

/// The tenant's name, URL and token, for programs to mount.
#[must_use]
pub fn secret(credentials: Credentials<'_>, signer: &Signer) -> Secret {
    let Credentials {
        name,
        namespace,
        owner,
        cluster,
        cluster_id,
        endpoint,
        placed,
    } = credentials;
    let token = signer.sign(&Claims {
        iss: cluster_id.to_owned(),
        sub: placed.name.clone(),
        tid: placed.id,
        scope: "read write".to_owned(),
        r#gen: placed.config.credential_generation,
        iat: placed.credential_issued_at,
        exp: None,
    });
    let entry = |key: &str, value: &str| (key.to_owned(), ByteString(value.as_bytes().to_vec()));
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some(BTreeMap::from([label(LABEL_MANAGED_BY, MANAGER), label(LABEL_CLUSTER, cluster)])),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some(BTreeMap::from([
            entry("tenant", &placed.name),
            entry("endpoint", endpoint),
            entry("token", &token),
        ])),
        ..Secret::default()
    }
}

#[cfg(test)]
mod tests {
    use kvfleet_api::{
        tenant::{TenantConfig, TenantLimits, TenantState},
        usage::Used,
    };

    use super::*;

    /// The key of RFC 8037, appendix A.
    const KEY: &str =
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";

    #[test]
    fn the_secret_holds_what_a_program_needs_and_no_key() {
        let placed = TenantStatus {
            name: "shop".to_owned(),
            id: 7,
            state: TenantState::Active,
            revision: 12,
            config: TenantConfig {
                uid: "u1".to_owned(),
                owner: "apps/acme".to_owned(),
                generation: 1,
                cluster_generation: 1,
                credential_generation: 1,
                limits: TenantLimits::default(),
            },
            credential_issued_at: 1_790_000_000,
            usage: Used::default(),
        };
        let owner = OwnerReference {
            api_version: "kvfleet.dev/v1alpha1".to_owned(),
            kind: "Tenant".to_owned(),
            name: "acme".to_owned(),
            uid: "u1".to_owned(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        };
        let secret = secret(
            Credentials {
                name: "acme-kv-credentials",
                namespace: "apps",
                owner,
                cluster: "prod",
                cluster_id: "7b0c3f0e-52a5-4d6e-9b1c-0d9a4c2e8f11",
                endpoint: "http://prod.apps.svc:8080/api/v1/tenants/shop",
                placed: &placed,
            },
            &Signer::from_pem(KEY).unwrap(),
        );
        insta::assert_yaml_snapshot!(secret);
    }
}
