//! The names and labels of everything that is made for a KvCluster or a Tenant.
//!
//! In: the resource's name. Out: names, labels, selectors and DNS names. Nobody else spells one out.
//! Absent: namespaces of objects (always the resource's own) and owner references.

use std::collections::BTreeMap;

/// The label with the application, whose value on members is [`NODE_APPLICATION`].
pub const LABEL_APPLICATION: &str = "app.kubernetes.io/name";
/// The label with the KvCluster's name.
pub const LABEL_INSTANCE: &str = "app.kubernetes.io/instance";
/// The label with the manager of an object, whose value is [`MANAGER`].
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The label with the shard's index.
pub const LABEL_SHARD: &str = "kvfleet.dev/shard";
/// The label of a pod that leads its shard, whose value is [`ROLE_PRIMARY`]. A hint for people and for `<cluster>-primary`.
pub const LABEL_ROLE: &str = "kvfleet.dev/role";
/// The label of volume claims with the identity of the cluster that they belong to.
pub const LABEL_CLUSTER_ID: &str = "kvfleet.dev/cluster-id";
/// The label of a credentials Secret with the name of its Tenant's KvCluster.
pub const LABEL_CLUSTER: &str = "kvfleet.dev/cluster";

/// The annotation of a volume claim whose shard has been formed.
pub const ANNOTATION_FORMED: &str = "kvfleet.dev/formed";
/// The annotation of a pod with the hash of the spec fields that shape it.
pub const ANNOTATION_SPEC_HASH: &str = "kvfleet.dev/spec-hash";

/// The finalizer of a Tenant whose data is to be destroyed with it.
pub const FINALIZER_TENANT_DATA: &str = "kvfleet.dev/tenant-data";

/// The application label of members.
pub const NODE_APPLICATION: &str = "kvnode";
/// The manager label of every object that the operator makes.
pub const MANAGER: &str = "kvfleet-operator";
/// The role label of a pod that leads its shard.
pub const ROLE_PRIMARY: &str = "primary";

/// The ClusterRole that the operator binds in a namespace to work with Secrets there. The chart makes it.
pub const NAMESPACE_ROLE: &str = "kvfleet-namespace";

/// The RoleBinding of [`NAMESPACE_ROLE`] in a namespace that holds a KvCluster. The chart's admission policies let the operator write
/// it, and no other than it and [`NAMESPACE_BINDING_TENANTS`], and only there.
pub const NAMESPACE_BINDING_CLUSTERS: &str = "kvfleet-clusters";
/// The RoleBinding of [`NAMESPACE_ROLE`] in a namespace that holds a Tenant.
pub const NAMESPACE_BINDING_TENANTS: &str = "kvfleet-tenants";

/// The data port.
pub const PORT_DATA: u16 = 8080;
/// The health port.
pub const PORT_HEALTH: u16 = 8081;
/// The metrics port.
pub const PORT_METRICS: u16 = 9090;
/// The admin port, mTLS.
pub const PORT_ADMIN: u16 = 9443;
/// The peer port, mTLS.
pub const PORT_PEER: u16 = 7400;

/// Labels in the order of their keys.
pub type Labels = BTreeMap<String, String>;

/// The names of everything that belongs to one KvCluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterNames {
    cluster: String,
}

impl ClusterNames {
    /// For the KvCluster of this name.
    #[must_use]
    pub fn new(cluster: impl Into<String>) -> Self {
        Self { cluster: cluster.into() }
    }

    /// The KvCluster's own name.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The StatefulSet of a shard.
    #[must_use]
    pub fn stateful_set(&self, shard: u32) -> String {
        format!("{}-s{shard}", self.cluster)
    }

    /// A pod of a shard.
    #[must_use]
    pub fn pod(&self, shard: u32, ordinal: u32) -> String {
        format!("{}-s{shard}-{ordinal}", self.cluster)
    }

    /// The volume claim of a pod, made from the claim template [`Self::claim_template`].
    #[must_use]
    pub fn claim(&self, shard: u32, ordinal: u32) -> String {
        format!("{}-{}", Self::claim_template(), self.pod(shard, ordinal))
    }

    /// The claim template of every StatefulSet.
    #[must_use]
    pub fn claim_template() -> &'static str {
        "data"
    }

    /// The PodDisruptionBudget of a shard.
    #[must_use]
    pub fn disruption_budget(&self, shard: u32) -> String {
        self.stateful_set(shard)
    }

    /// The headless Service, through which members find each other.
    #[must_use]
    pub fn peers_service(&self) -> String {
        format!("{}-peers", self.cluster)
    }

    /// The Service of all ready members, which clients use.
    #[must_use]
    pub fn client_service(&self) -> String {
        self.cluster.clone()
    }

    /// The Service that follows the primary's label.
    #[must_use]
    pub fn primary_service(&self) -> String {
        format!("{}-primary", self.cluster)
    }

    /// The ServiceAccount of the members, unless the spec names one.
    #[must_use]
    pub fn service_account(&self) -> String {
        self.cluster.clone()
    }

    /// The NetworkPolicy around the peer and admin ports.
    #[must_use]
    pub fn network_policy(&self) -> String {
        self.cluster.clone()
    }

    /// The immutable ConfigMap with the members' file, named by the hash of its content.
    #[must_use]
    pub fn config_map(&self, hash: &str) -> String {
        format!("{}-{hash}", self.cluster)
    }

    /// The Secret with the authority's certificate and key, for the operator only.
    #[must_use]
    pub fn authority_secret(&self) -> String {
        format!("{}-ca", self.cluster)
    }

    /// The Secret with the members' certificate and key.
    #[must_use]
    pub fn peer_tls_secret(&self) -> String {
        format!("{}-peer-tls", self.cluster)
    }

    /// The Secret with the operator's certificate and key.
    #[must_use]
    pub fn operator_tls_secret(&self) -> String {
        format!("{}-operator-tls", self.cluster)
    }

    /// The Secret with the key that signs tokens.
    #[must_use]
    pub fn jwt_secret(&self) -> String {
        format!("{}-jwt", self.cluster)
    }

    /// The Secret with the administrator's token.
    #[must_use]
    pub fn admin_secret(&self) -> String {
        format!("{}-admin", self.cluster)
    }

    /// A pod's DNS name inside the Kubernetes cluster, without the cluster domain.
    #[must_use]
    pub fn pod_host(&self, namespace: &str, pod: &str) -> String {
        format!("{pod}.{}.{namespace}.svc", self.peers_service())
    }

    /// The name that certificates of members carry: every pod behind the headless Service.
    #[must_use]
    pub fn peer_wildcard(&self, namespace: &str) -> String {
        format!("*.{}.{namespace}.svc", self.peers_service())
    }

    /// The URL of the data port through the client Service.
    #[must_use]
    pub fn endpoint(&self, namespace: &str) -> String {
        format!("http://{}.{namespace}.svc:{PORT_DATA}", self.client_service())
    }

    /// What selects the members of all shards. It never changes.
    #[must_use]
    pub fn selector(&self) -> Labels {
        labels([(LABEL_APPLICATION, NODE_APPLICATION), (LABEL_INSTANCE, self.cluster.as_str())])
    }

    /// What selects the members of one shard. It never changes.
    #[must_use]
    pub fn shard_selector(&self, shard: u32) -> Labels {
        let mut selector = self.selector();
        selector.insert(LABEL_SHARD.to_owned(), shard.to_string());
        selector
    }

    /// What selects the pods that lead their shard.
    #[must_use]
    pub fn primary_selector(&self) -> Labels {
        let mut selector = self.selector();
        selector.insert(LABEL_ROLE.to_owned(), ROLE_PRIMARY.to_owned());
        selector
    }

    /// The labels of every object made for the cluster.
    #[must_use]
    pub fn labels(&self) -> Labels {
        let mut labels = self.selector();
        labels.insert(LABEL_MANAGED_BY.to_owned(), MANAGER.to_owned());
        labels
    }

    /// The labels of every object made for one shard.
    #[must_use]
    pub fn shard_labels(&self, shard: u32) -> Labels {
        let mut labels = self.shard_selector(shard);
        labels.insert(LABEL_MANAGED_BY.to_owned(), MANAGER.to_owned());
        labels
    }

    /// [`Self::selector`] as text, for `status.selector` and list requests.
    #[must_use]
    pub fn selector_text(&self) -> String {
        self.selector()
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect::<Vec<_>>()
            .join(",")
    }
}

/// The credentials Secret of a Tenant that names none.
#[must_use]
pub fn credentials_secret(tenant_object: &str) -> String {
    format!("{tenant_object}-kv-credentials")
}

/// The URL of a tenant, given the endpoint of its cluster.
#[must_use]
pub fn tenant_endpoint(cluster_endpoint: &str, tenant_name: &str) -> String {
    format!("{cluster_endpoint}/api/v1/tenants/{tenant_name}")
}

fn labels<const N: usize>(pairs: [(&str, &str); N]) -> Labels {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn names_fit_kubernetes_at_the_longest_cluster_name() {
        let names = ClusterNames::new("c".repeat(40));
        // A pod's name is a label value of its own and a DNS label: at most 63 characters.
        assert!(names.pod(99, 6).len() <= 63);
        // The controller adds `-` and a hash of ten characters to the StatefulSet's name, as a label of its pods.
        assert!(names.stateful_set(99).len() + 11 <= 63);
        assert!(names.operator_tls_secret().len() <= 63);
        assert!(names.config_map(&"0".repeat(16)).len() <= 63);
    }

    #[test]
    fn selectors_are_part_of_the_labels() {
        let names = ClusterNames::new("prod");
        let labels = names.shard_labels(0);
        for selector in [names.selector(), names.shard_selector(0)] {
            for (key, value) in selector {
                assert_eq!(labels.get(&key), Some(&value), "{key}");
            }
        }
        assert_eq!(
            names.selector_text(),
            "app.kubernetes.io/instance=prod,app.kubernetes.io/name=kvnode"
        );
    }

    #[test]
    fn addresses_are_those_of_the_contract() {
        let names = ClusterNames::new("prod");
        assert_eq!(names.pod_host("storage", &names.pod(0, 2)), "prod-s0-2.prod-peers.storage.svc");
        assert_eq!(names.claim(0, 2), "data-prod-s0-2");
        assert_eq!(
            tenant_endpoint(&names.endpoint("storage"), "acme"),
            "http://prod.storage.svc:8080/api/v1/tenants/acme"
        );
        assert_eq!(credentials_secret("acme"), "acme-kv-credentials");
    }
}
