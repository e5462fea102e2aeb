//! The chart and the crate speak of the same names: the chart grants rights by name, so a name that differs is a right that is missing.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{fs, path::Path};

use kvfleet_crds::{GROUP, VERSION, names};

fn template(path: &str) -> String {
    let templates = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .join("charts/kvfleet/templates");
    fs::read_to_string(templates.join(path)).unwrap()
}

#[test]
fn rights_on_secrets_are_granted_under_the_names_that_the_operator_uses() {
    let rights = template("rbac/secrets.yaml");
    let policies = template("admission/bindings.yaml");
    for binding in [names::NAMESPACE_BINDING_CLUSTERS, names::NAMESPACE_BINDING_TENANTS] {
        assert!(policies.contains(&format!("'{binding}'")), "{binding}");
        assert!(policies.contains(&format!("\"{binding}\"")), "{binding}");
        assert!(rights.contains(&format!("resourceNames: [{binding}]")), "{binding}");
    }
    assert!(rights.contains(&format!("resourceNames: [{}]", names::NAMESPACE_ROLE)));
    assert!(policies.contains(&format!("roleRef.name == '{}'", names::NAMESPACE_ROLE)));
}

#[test]
fn no_right_reaches_secrets_but_the_one_that_is_bound_by_namespace() {
    for path in ["rbac/operator.yaml", "rbac/lease.yaml", "hooks/lift-finalizers.yaml"] {
        let text = template(path);
        assert!(!text.contains("secrets"), "{path}");
        assert!(!text.contains("\"*\"") && !text.contains("'*'"), "{path} grants by wildcard");
    }
}

#[test]
fn policies_name_the_resources_by_their_group_and_version() {
    let policies = [template("admission/bindings.yaml"), template("admission/deletion-protection.yaml")].concat();
    assert_eq!(policies.matches(&format!("apiVersion: {GROUP}/{VERSION}")).count(), 2);
    assert!(policies.contains(&format!("apiGroups: [{GROUP}]")));
}
