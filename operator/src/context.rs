//! What both controllers share: the guarded client, the caches, the way to members, and events.
//!
//! In: the configuration and the Lease's guard. Out: [`Context`]. Absent: any decision.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::{ObjectReference, Pod, Secret};
use kube::{Api, Client, Resource, ResourceExt, runtime::events::EventType};
use kvfleet_client::admin::{AdminClient, AdminTls};
use kvfleet_crds::names::{ClusterNames, LABEL_CLUSTER_ID, PORT_ADMIN};

pub use crate::error::{Error, Kind};
use crate::{
    caches::Caches,
    config::Config,
    lease::LeaseGuard,
    recorder::{Happened, Recorder},
    watchdog::Watchdog,
};

/// How long the operator's certificate is taken from memory before its Secret is looked at again.
const RECHECK: Duration = Duration::from_secs(10);
/// The same after it could not be read or used: that many reconciliations and Tenants wait for it costs one request a second.
const RECHECK_FAILED: Duration = Duration::from_secs(1);

/// How long a pass waits for an event to be written. An event is news; the pass is what keeps the cluster.
const EVENT: Duration = Duration::from_secs(2);

/// A member's pod, its admin port, and whether the pod is ready.
pub type MemberPort = (String, SocketAddr, bool);

/// What both controllers share.
pub struct Context {
    /// Stops writing requests while the Lease is not held.
    pub client: Client,
    /// What the operator was told.
    pub config: Config,
    /// The Lease.
    pub lease: LeaseGuard,
    /// What is known of the API server's objects.
    pub caches: Caches,
    /// What [`crate::apply`] knows to be as wanted.
    pub applied: crate::apply::Applied,
    /// Whether every object is looked at.
    pub watchdog: Watchdog,
    recorder: Recorder,
    admins: Mutex<HashMap<(String, String), CachedAdmin>>,
}

/// One for each KvCluster.
struct CachedAdmin {
    /// The KvCluster's uid: one of the same name made later has other certificates.
    cluster: Option<String>,
    version: Option<String>,
    checked: Instant,
    /// The last one that could be made. A Secret that cannot be read now says nothing against it.
    client: Option<AdminClient>,
    /// Why the last look gave no client.
    trouble: Option<String>,
}

impl CachedAdmin {
    fn is_fresh(&self) -> bool {
        self.checked.elapsed() < if self.trouble.is_some() { RECHECK_FAILED } else { RECHECK }
    }

    fn answer(&self) -> Result<AdminClient, Error> {
        let why = || self.trouble.clone().unwrap_or_else(|| "there is no certificate yet".to_owned());
        self.client.clone().ok_or_else(|| Error::Waits(why()))
    }
}

impl Context {
    /// Puts the parts together.
    #[must_use]
    pub fn new(client: Client, config: Config, lease: LeaseGuard, caches: Caches, watchdog: Watchdog) -> Self {
        Context {
            recorder: Recorder::new(client.clone(), config.pod_name.clone()),
            watchdog,
            client,
            config,
            lease,
            caches,
            applied: crate::apply::Applied::default(),
            admins: Mutex::default(),
        }
    }

    /// The way to a cluster's members: a client that believes only them, and the pods that have an address. A certificate that cannot be
    /// read or used now leaves the last good client in place.
    ///
    /// # Errors
    /// [`Error::Waits`] while there is no certificate that can be used, with the reason.
    pub async fn admin_for(&self, namespace: &str, cluster_name: &str) -> Result<(AdminClient, Vec<MemberPort>), Error> {
        let client = self.admin_client(namespace, cluster_name).await?;
        let pods = self.caches.pods(namespace, cluster_name);
        Ok((client, pods.iter().filter_map(member_port).collect()))
    }

    /// Tells what happened to an object, to those who ask `kubectl describe`. A lost event is logged, and changes nothing.
    pub async fn event<K>(&self, object: &K, type_: EventType, reason: &str, action: &str, note: String)
    where
        K: Resource<DynamicType = ()>,
    {
        let regarding: ObjectReference = object.object_ref(&());
        let happened = Happened {
            regarding,
            type_,
            reason: reason.to_owned(),
            action: action.to_owned(),
            note,
        };
        match tokio::time::timeout(EVENT, self.recorder.publish(happened)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(reason, error = %crate::error::chain(&error), "an event could not be written"),
            Err(_) => tracing::warn!(reason, timeout = ?EVENT, "an event could not be written in time"),
        }
    }

    /// Forgets what is kept of clusters that are gone.
    pub fn forget_gone(&self) {
        let holds = |namespace: &str, name: &str| self.caches.cluster(namespace, name).is_some();
        self.lock().retain(|(namespace, name), _| holds(namespace, name));
        self.applied.retain(|namespace| !self.caches.clusters(namespace).is_empty());
    }

    /// Forgets the certificate of a cluster, after a new one was made or the old one was not believed.
    pub fn forget_admin(&self, namespace: &str, cluster_name: &str) {
        self.lock().remove(&(namespace.to_owned(), cluster_name.to_owned()));
    }

    /// Why the operator's certificate of a cluster could not be read or used when it was last looked at.
    #[must_use]
    pub fn admin_trouble(&self, namespace: &str, cluster_name: &str) -> Option<String> {
        let key = (namespace.to_owned(), cluster_name.to_owned());
        self.lock().get(&key).and_then(|cached| cached.trouble.clone())
    }

    /// The client for a cluster's members, as in [`Context::admin_for`].
    ///
    /// # Errors
    /// [`Error::Waits`] while there is no certificate that can be used, with the reason.
    pub async fn admin_client(&self, namespace: &str, cluster_name: &str) -> Result<AdminClient, Error> {
        let key = (namespace.to_owned(), cluster_name.to_owned());
        let cluster = self.caches.cluster(namespace, cluster_name).and_then(|cluster| cluster.uid());
        if let Some(cached) = self.lock().get(&key)
            && cached.cluster == cluster
            && cached.is_fresh()
        {
            return cached.answer();
        }
        let read = self.operator_certificate(namespace, cluster_name).await;
        let mut admins = self.lock();
        let cached = admins.entry(key).or_insert_with(|| CachedAdmin {
            cluster: cluster.clone(),
            version: None,
            checked: Instant::now(),
            client: None,
            trouble: None,
        });
        if cached.cluster != cluster {
            (cached.client, cached.version, cached.cluster) = (None, None, cluster);
        }
        cached.checked = Instant::now();
        let made = read.and_then(|secret| {
            let known = cached.client.clone().filter(|_| cached.version == secret.resource_version());
            let client = known.map_or_else(|| admin_from(&secret), Ok)?;
            Ok((client, secret.resource_version()))
        });
        match made {
            Ok((client, version)) => (cached.client, cached.version, cached.trouble) = (Some(client), version, None),
            Err(error) => {
                let error = crate::error::chain(&error);
                if cached.trouble.as_ref() != Some(&error) {
                    tracing::info!(
                        namespace,
                        cluster = cluster_name,
                        error,
                        "the operator's certificate cannot be used"
                    );
                }
                cached.trouble = Some(error);
            }
        }
        cached.answer()
    }

    async fn operator_certificate(&self, namespace: &str, cluster_name: &str) -> Result<Secret, Error> {
        let name = ClusterNames::new(cluster_name).operator_tls_secret();
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        secrets
            .get_opt(&name)
            .await
            .map_err(Error::kubernetes(format!("read Secret {namespace}/{name}")))?
            .ok_or_else(|| Error::Waits(format!("the Secret {name} is not there yet")))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), CachedAdmin>> {
        self.admins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn admin_from(secret: &Secret) -> Result<AdminClient, Error> {
    let name = secret.name_any();
    let entry = |key: &str| {
        secret
            .data
            .as_ref()
            .and_then(|data| data.get(key))
            .map(|bytes| bytes.0.clone())
            .ok_or_else(|| Error::Waits(format!("the Secret {name} has no {key} yet")))
    };
    let cluster_id = secret
        .labels()
        .get(LABEL_CLUSTER_ID)
        .ok_or_else(|| Error::Waits(format!("the Secret {name} has no label {LABEL_CLUSTER_ID} yet")))?;
    let material = AdminTls {
        ca_pem: entry("ca.crt")?,
        cert_pem: entry("tls.crt")?,
        key_pem: entry("tls.key")?,
    };
    AdminClient::new(&material, cluster_id).map_err(Error::member(format!("use the certificate of Secret {name}")))
}

/// None while the pod has no address, or is past its end.
#[must_use]
pub fn member_port(pod: &Arc<Pod>) -> Option<MemberPort> {
    let status = pod.status.as_ref()?;
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return None;
    }
    let address: IpAddr = status.pod_ip.as_deref()?.parse().ok()?;
    Some((pod.name_any(), SocketAddr::new(address, PORT_ADMIN), is_ready(pod)))
}

/// Whether a pod is ready.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    pod.status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use futures::future::Pending;
    use kube::client::Body;
    use kvfleet_crds::KvCluster;

    use super::*;

    /// An API server that never answers.
    struct Hangs;

    impl tower::Service<hyper::Request<Body>> for Hangs {
        type Response = hyper::Response<Body>;
        type Error = std::io::Error;
        type Future = Pending<Result<Self::Response, Self::Error>>;

        fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: hyper::Request<Body>) -> Self::Future {
            futures::future::pending()
        }
    }

    #[tokio::test]
    async fn an_event_that_is_never_written_holds_up_no_pass_for_long() {
        let client = Client::new(Hangs, "default");
        let (caches, _filling, _feeds) = Caches::new(&client, Vec::new());
        let config = crate::cluster::fixtures::config();
        let context = Context::new(client, config, LeaseGuard::default(), caches, Watchdog::default());
        let cluster = KvCluster::new(
            "prod",
            serde_json::from_value(serde_json::json!({ "storage": { "size": "1Gi" } })).unwrap(),
        );
        let event = context.event(&cluster, EventType::Normal, "PrimaryChanged", "Follow", "a leads".to_owned());
        tokio::time::timeout(EVENT * 2, event).await.unwrap();
    }
}
