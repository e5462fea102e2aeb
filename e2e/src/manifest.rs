//! The manifests that tests apply.

/// A cluster of `replicas` members.
pub fn cluster(name: &str, replicas: u32) -> String {
    cluster_with(name, replicas, "")
}

/// The same with more lines of `spec`, indented by two spaces.
pub fn cluster_with(name: &str, replicas: u32, more: &str) -> String {
    format!(
        "apiVersion: kvfleet.dev/v1alpha1\nkind: KvCluster\nmetadata: {{name: {name}}}\nspec:\n  replicas: {replicas}\n  storage: {{size: 256Mi}}\n{more}\n"
    )
}

/// A tenant with these lines of `spec`, indented by two spaces.
pub fn tenant(name: &str, cluster: &str, more: &str) -> String {
    format!(
        "apiVersion: kvfleet.dev/v1alpha1\nkind: Tenant\nmetadata: {{name: {name}}}\nspec:\n  clusterRef: {{name: {cluster}}}\n{more}\n"
    )
}
