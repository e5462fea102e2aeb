//! Whether the cluster takes the tenant, and with what.
//!
//! In: the Tenant, its cluster and the Tenants that want the same name. Out: [`Validated`], the only thing that the later steps know of the
//! spec, or a [`Rejection`]. Absent: what only the log can say: whether the name is free.

use std::sync::Arc;

use kube::ResourceExt;
use kvfleet_api::tenant::TenantLimits;
use kvfleet_crds::{
    KvCluster, Tenant,
    conditions::Reason,
    names::{ClusterNames, credentials_secret, tenant_endpoint},
};

use super::resolve::resolve;

/// Why the cluster does not take the tenant, for programs and for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// For programs.
    pub reason: Reason,
    /// For people: what is so, and what to do about it.
    pub message: String,
}

/// A Tenant that may be placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validated {
    /// `<namespace>/<name>` of the Tenant.
    pub owner: String,
    /// Its uid.
    pub uid: String,
    /// Its generation.
    pub generation: u64,
    /// The KvCluster's generation.
    pub cluster_generation: u64,
    /// What members shall enforce.
    pub limits: TenantLimits,
}

/// Whose the tenant's name is, by what the cluster's log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded<'a> {
    /// The log could not be asked.
    Unknown,
    /// The log has no tenant of this name.
    Free,
    /// It is this Tenant's, or was that of the one of the same namespace and name before it, whose data it takes up.
    Own,
    /// It is another Tenant's, which has it or had it: `<namespace>/<name>`.
    Of(&'a str),
}

/// The tenant's name in URLs.
#[must_use]
pub fn tenant_name(tenant: &Tenant) -> String {
    tenant.spec.tenant_name.clone().unwrap_or_else(|| tenant.name_any())
}

/// `<namespace>/<name>` of a Tenant.
#[must_use]
pub fn owner(tenant: &Tenant) -> String {
    format!("{}/{}", tenant.namespace().unwrap_or_default(), tenant.name_any())
}

/// The tenant's URL inside the Kubernetes cluster.
#[must_use]
pub fn endpoint(tenant: &Tenant) -> String {
    let cluster = ClusterNames::new(&tenant.spec.cluster_ref.name);
    tenant_endpoint(&cluster.endpoint(&tenant.namespace().unwrap_or_default()), &tenant_name(tenant))
}

/// The name of the tenant's Secret.
#[must_use]
pub fn secret_name(tenant: &Tenant) -> String {
    tenant
        .spec
        .credentials
        .secret_name
        .clone()
        .unwrap_or_else(|| credentials_secret(&tenant.name_any()))
}

/// Whether the cluster takes the tenant. `rivals` are other Tenants of the cluster with the same name, which count only while the log says
/// that it is free: what is recorded there was decided once, and does not change with who waits.
///
/// # Errors
/// A [`Rejection`]: [`Reason::CLUSTER_NOT_FOUND`], [`Reason::CLUSTER_DELETED`], [`Reason::EXCEEDS_CEILING`],
/// [`Reason::TENANT_NAME_TAKEN`], [`Reason::INVALID_SPEC`].
pub fn validate(
    tenant: &Tenant,
    cluster: Option<&KvCluster>,
    rivals: &[Arc<Tenant>],
    recorded: Recorded<'_>,
) -> Result<Validated, Rejection> {
    let wanted = &tenant.spec.cluster_ref.name;
    let namespace = tenant.namespace().unwrap_or_default();
    let Some(cluster) = cluster else {
        return Err(Rejection {
            reason: Reason::CLUSTER_NOT_FOUND,
            message: format!(
                "there is no KvCluster {wanted} in namespace {namespace}: create it, and this Tenant follows by itself; clusterRef cannot change"
            ),
        });
    };
    if cluster.metadata.deletion_timestamp.is_some() {
        return Err(Rejection {
            reason: Reason::CLUSTER_DELETED,
            message: format!("the KvCluster {wanted} is being deleted"),
        });
    }
    let limits = resolve(&tenant.spec, &cluster.spec.tenancy)?;
    if let Some(message) = taken(tenant, cluster, rivals, recorded) {
        return Err(Rejection {
            reason: Reason::TENANT_NAME_TAKEN,
            message,
        });
    }
    let generation = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok()).unwrap_or_default();
    Ok(Validated {
        owner: owner(tenant),
        uid: tenant.uid().unwrap_or_default(),
        generation: generation(tenant.metadata.generation),
        cluster_generation: generation(cluster.metadata.generation),
        limits,
    })
}

/// Who has the name or goes first, if it is another.
fn taken(tenant: &Tenant, cluster: &KvCluster, rivals: &[Arc<Tenant>], recorded: Recorded<'_>) -> Option<String> {
    let name = tenant_name(tenant);
    match recorded {
        Recorded::Unknown | Recorded::Own => None,
        Recorded::Of(other) => Some(format!(
            "the cluster holds the tenant name {name}, and its data, for the Tenant {other}: choose another tenantName in a new Tenant, or              delete that one with deletionPolicy: Delete"
        )),
        Recorded::Free => {
            let first = rivals.iter().find(|rival| goes_first(rival, tenant, cluster))?;
            Some(format!(
                "the Tenant {} wants the tenant name {name} too, and is older: choose another tenantName in a new Tenant",
                owner(first)
            ))
        }
    }
}

/// Of two that both wait, the older, then the one with the smaller uid. One that the cluster would not take stands in nobody's way.
fn goes_first(rival: &Tenant, tenant: &Tenant, cluster: &KvCluster) -> bool {
    let age = |tenant: &Tenant| (tenant.creation_timestamp(), tenant.uid());
    rival.metadata.deletion_timestamp.is_none() && age(rival) < age(tenant) && resolve(&rival.spec, &cluster.spec.tenancy).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str, uid: &str, created: &str, spec: &str) -> Tenant {
        serde_yaml::from_str(&format!(
            "{{apiVersion: kvfleet.dev/v1alpha1, kind: Tenant, metadata: {{name: {name}, namespace: apps, uid: {uid}, generation: 3, \
             creationTimestamp: '{created}'}}, spec: {{clusterRef: {{name: prod}}, {spec}}}}}"
        ))
        .unwrap()
    }

    fn cluster(metadata: &str, spec: &str) -> KvCluster {
        serde_yaml::from_str(&format!(
            "{{apiVersion: kvfleet.dev/v1alpha1, kind: KvCluster, metadata: {{name: prod, namespace: apps, generation: 5, {metadata}}}, \
             spec: {{storage: {{size: 1Gi}}, {spec}}}}}"
        ))
        .unwrap()
    }

    const EARLY: &str = "2026-01-01T00:00:00Z";
    const LATE: &str = "2026-01-02T00:00:00Z";

    #[test]
    fn what_is_placed_names_both_generations() {
        let validated = validate(&tenant("acme", "u1", EARLY, ""), Some(&cluster("", "")), &[], Recorded::Free).unwrap();
        assert_eq!(
            validated,
            Validated {
                owner: "apps/acme".to_owned(),
                uid: "u1".to_owned(),
                generation: 3,
                cluster_generation: 5,
                limits: TenantLimits::default(),
            }
        );
    }

    #[test]
    fn a_cluster_that_is_not_there_or_going_takes_nobody() {
        let acme = tenant("acme", "u1", EARLY, "");
        let going = cluster("deletionTimestamp: '2026-01-03T00:00:00Z'", "");
        for (cluster, reason) in [(None, Reason::CLUSTER_NOT_FOUND), (Some(&going), Reason::CLUSTER_DELETED)] {
            assert_eq!(validate(&acme, cluster, &[], Recorded::Own).unwrap_err().reason, reason);
        }
    }

    #[test]
    fn of_two_that_wait_the_older_goes_first_and_then_the_smaller_uid() {
        let cluster = cluster("", "tenancy: {ceilings: {quota: {keys: 10}}}");
        let mine = tenant("mine", "u2", LATE, "tenantName: acme");
        for (rival, first) in [
            (tenant("other", "u3", EARLY, "tenantName: acme"), true),
            (tenant("other", "u1", LATE, "tenantName: acme"), true),
            (tenant("other", "u3", LATE, "tenantName: acme"), false),
            // The cluster would not take it, so it would keep the name from everybody.
            (tenant("other", "u1", EARLY, "tenantName: acme, quota: {keys: 11}"), false),
        ] {
            let rivals = [Arc::new(rival)];
            let verdict = validate(&mine, Some(&cluster), &rivals, Recorded::Free);
            match verdict {
                Err(rejection) => {
                    assert!(first, "{rejection:?}");
                    assert_eq!(rejection.reason, Reason::TENANT_NAME_TAKEN);
                    assert!(rejection.message.contains("apps/other"), "{}", rejection.message);
                }
                Ok(_) => assert!(!first, "{:?}", rivals[0].metadata),
            }
            for recorded in [Recorded::Own, Recorded::Unknown] {
                assert!(validate(&mine, Some(&cluster), &rivals, recorded).is_ok(), "{recorded:?}");
            }
        }
    }

    /// x was deleted and its data kept; y wants its name and waits; x is made again, and is the younger of the two.
    #[test]
    fn what_the_log_holds_goes_before_age() {
        let cluster = cluster("", "");
        let (x, y) = (tenant("x", "u3", LATE, ""), tenant("y", "u2", EARLY, "tenantName: x"));
        assert!(validate(&x, Some(&cluster), &[Arc::new(y.clone())], Recorded::Own).is_ok());
        let told = validate(&y, Some(&cluster), &[Arc::new(x)], Recorded::Of("apps/x")).unwrap_err();
        assert_eq!(told.reason, Reason::TENANT_NAME_TAKEN);
        assert!(told.message.contains("apps/x"), "{}", told.message);
    }

    #[test]
    fn names_follow_from_the_tenant() {
        let plain = tenant("acme", "u1", EARLY, "");
        assert_eq!(
            (tenant_name(&plain), secret_name(&plain), endpoint(&plain)),
            (
                "acme".to_owned(),
                "acme-kv-credentials".to_owned(),
                "http://prod.apps.svc:8080/api/v1/tenants/acme".to_owned()
            )
        );
        let named = tenant("acme", "u1", EARLY, "tenantName: shop, credentials: {secretName: keys}");
        assert_eq!(
            (tenant_name(&named), secret_name(&named), endpoint(&named)),
            (
                "shop".to_owned(),
                "keys".to_owned(),
                "http://prod.apps.svc:8080/api/v1/tenants/shop".to_owned()
            )
        );
    }
}
