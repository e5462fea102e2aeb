//! The RoleBinding that lets the operator work with Secrets in a namespace that holds a Tenant.

use k8s_openapi::{
    api::rbac::v1::{RoleBinding, RoleRef, Subject},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kvfleet_crds::names::{LABEL_MANAGED_BY, MANAGER, NAMESPACE_BINDING_TENANTS, NAMESPACE_ROLE};

/// Bound to the operator's own account and to no other: the chart's admission policies refuse anything else.
#[must_use]
pub fn role_binding(namespace: &str, account: &str, account_namespace: &str) -> RoleBinding {
    RoleBinding {
        metadata: ObjectMeta {
            name: Some(NAMESPACE_BINDING_TENANTS.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some([(LABEL_MANAGED_BY.to_owned(), MANAGER.to_owned())].into()),
            ..ObjectMeta::default()
        },
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".to_owned(),
            kind: "ClusterRole".to_owned(),
            name: NAMESPACE_ROLE.to_owned(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: account.to_owned(),
            namespace: Some(account_namespace.to_owned()),
            ..Subject::default()
        }]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binding_is_the_one_that_the_chart_allows() {
        insta::assert_yaml_snapshot!(role_binding("apps", "kvfleet", "kvfleet-system"));
    }
}
