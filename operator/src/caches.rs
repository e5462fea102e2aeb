//! What the operator keeps in memory of the API server: the custom resources of clusters, the members' pods without what nobody reads, and
//! of every other object only its metadata.
//!
//! In: watches, one set for each namespace worked in, or one for all. Out: lookups, and [`Feed`]s that keep them current and tell which
//! KvCluster a change concerns. Absent: Secrets, which are read when they are needed; decisions on a store that was never filled.

use std::{
    fmt::Debug,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::{FutureExt, Stream, StreamExt, TryStreamExt, future, stream};
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{ConfigMap, PersistentVolumeClaim, Pod, PodCondition, Service, ServiceAccount},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::PartialObjectMeta,
    core::NamespaceResourceScope,
    runtime::{
        WatchStreamExt,
        reflector::{self, ObjectRef, Store},
        watcher,
    },
};
use kvfleet_crds::{
    KvCluster,
    names::{LABEL_APPLICATION, LABEL_INSTANCE, LABEL_MANAGED_BY, MANAGER, NODE_APPLICATION},
};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

/// One namespace, or all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All namespaces.
    All,
    /// This one.
    Namespace(String),
}

impl Scope {
    /// The scopes to work in: one for all namespaces unless some are named.
    #[must_use]
    pub fn of(namespaces: &[String]) -> Vec<Scope> {
        if namespaces.is_empty() {
            return vec![Scope::All];
        }
        namespaces.iter().cloned().map(Scope::Namespace).collect()
    }

    /// The API of a kind in this scope.
    #[must_use]
    pub fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match self {
            Scope::All => Api::all(client.clone()),
            Scope::Namespace(namespace) => Api::namespaced(client.clone(), namespace),
        }
    }

    fn holds(&self, namespace: &str) -> bool {
        match self {
            Scope::All => true,
            Scope::Namespace(own) => own == namespace,
        }
    }
}

/// The KvClusters that changes concern. Polling it keeps one store current.
pub type Triggers = Pin<Box<dyn Stream<Item = ObjectRef<KvCluster>> + Send>>;
/// KvClusters as they change. Polling it keeps the store of clusters current.
pub type Clusters = Pin<Box<dyn Stream<Item = Result<KvCluster, watcher::Error>> + Send>>;

/// What keeps one scope's stores current.
pub struct Feed {
    /// The store of clusters, for the controller.
    pub store: Store<KvCluster>,
    /// Changes of clusters.
    pub clusters: Clusters,
    /// Changes of everything else.
    pub others: Triggers,
    /// Whether the list of clusters has come once.
    pub listed: Arc<AtomicBool>,
}

struct Stores {
    scope: Scope,
    clusters: Store<KvCluster>,
    pods: Store<Pod>,
    service_accounts: Store<PartialObjectMeta<ServiceAccount>>,
    config_maps: Store<PartialObjectMeta<ConfigMap>>,
    services: Store<PartialObjectMeta<Service>>,
    stateful_sets: Store<PartialObjectMeta<StatefulSet>>,
    disruption_budgets: Store<PartialObjectMeta<PodDisruptionBudget>>,
    network_policies: Store<PartialObjectMeta<NetworkPolicy>>,
    claims: Store<PartialObjectMeta<PersistentVolumeClaim>>,
}

/// All stores.
pub struct Caches {
    scopes: Vec<Stores>,
    filled: watch::Receiver<bool>,
}

/// The one that waits for the stores. There is one of it: a kube-runtime store wakes only the last of several that wait for it, and the
/// others would wait without end. Everything else waits in [`Caches::filled`], where each is woken.
pub struct Filling {
    stores: Vec<future::BoxFuture<'static, ()>>,
    filled: watch::Sender<bool>,
}

impl Filling {
    /// Resolves, and lets go those who wait in [`Caches::filled`], when every store that decisions are made on has been filled once.
    pub async fn complete(self) {
        let Filling { stores, filled } = self;
        future::join_all(stores).await;
        filled.send_replace(true);
    }
}

/// Resolves when a store has been filled once. It takes the store's only place to wait.
#[expect(clippy::disallowed_methods, reason = "called once for each store: see `Filling`")]
pub async fn once_filled<K>(store: Store<K>)
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    // An error says that the feed is gone, which ends the process elsewhere.
    let _ = store.wait_until_ready().await;
}

impl Stores {
    /// Those that decisions are made on. That of the KvClusters is waited for by its controller, and by nothing else.
    fn once_filled(&self) -> Vec<future::BoxFuture<'static, ()>> {
        let Stores {
            scope: _,
            clusters: _,
            pods,
            config_maps,
            stateful_sets,
            claims,
            // Only spare a read of what is as wanted.
            service_accounts: _,
            services: _,
            disruption_budgets: _,
            network_policies: _,
        } = self;
        vec![
            once_filled(pods.clone()).boxed(),
            once_filled(config_maps.clone()).boxed(),
            once_filled(stateful_sets.clone()).boxed(),
            once_filled(claims.clone()).boxed(),
        ]
    }
}

impl Caches {
    /// The stores, empty until their feeds are polled.
    #[must_use]
    pub fn new(client: &Client, scopes: Vec<Scope>) -> (Self, Filling, Vec<Feed>) {
        let (scopes, feeds): (Vec<Stores>, _) = scopes.into_iter().map(|scope| open(client, scope)).unzip();
        let (sender, filled) = watch::channel(false);
        let filling = Filling {
            stores: scopes.iter().flat_map(Stores::once_filled).collect(),
            filled: sender,
        };
        (Caches { scopes, filled }, filling, feeds)
    }

    /// A KvCluster.
    #[must_use]
    pub fn cluster(&self, namespace: &str, name: &str) -> Option<Arc<KvCluster>> {
        self.stores(namespace)?.clusters.get(&ObjectRef::new(name).within(namespace))
    }

    /// All KvClusters of a namespace.
    #[must_use]
    pub fn clusters(&self, namespace: &str) -> Vec<Arc<KvCluster>> {
        self.stores(namespace).map_or_else(Vec::new, |stores| {
            stores
                .clusters
                .state_filter(|cluster| cluster.namespace().as_deref() == Some(namespace))
        })
    }

    /// The pods of a cluster's members, by name.
    #[must_use]
    pub fn pods(&self, namespace: &str, cluster: &str) -> Vec<Arc<Pod>> {
        let mut pods = self.stores(namespace).map_or_else(Vec::new, |stores| {
            stores.pods.state_filter(|pod| {
                pod.namespace().as_deref() == Some(namespace)
                    && pod.labels().get(LABEL_INSTANCE).is_some_and(|instance| instance == cluster)
            })
        });
        pods.sort_by_key(|pod| pod.name_any());
        pods
    }

    /// The metadata of a cluster's ConfigMaps.
    #[must_use]
    pub fn config_maps(&self, namespace: &str, cluster: &str) -> Vec<Arc<PartialObjectMeta<ConfigMap>>> {
        self.stores(namespace)
            .map_or_else(Vec::new, |stores| of_cluster(&stores.config_maps, namespace, cluster))
    }

    /// The metadata of a cluster's volume claims.
    #[must_use]
    pub fn claims(&self, namespace: &str, cluster: &str) -> Vec<Arc<PartialObjectMeta<PersistentVolumeClaim>>> {
        self.stores(namespace)
            .map_or_else(Vec::new, |stores| of_cluster(&stores.claims, namespace, cluster))
    }

    /// The metadata of a StatefulSet.
    #[must_use]
    pub fn stateful_set(&self, namespace: &str, name: &str) -> Option<Arc<PartialObjectMeta<StatefulSet>>> {
        self.stores(namespace)?.stateful_sets.get(&ObjectRef::new(name).within(namespace))
    }

    /// Whether objects of this kind have a version here.
    #[must_use]
    pub fn keeps(kind: &str) -> bool {
        matches!(
            kind,
            "ServiceAccount" | "ConfigMap" | "Service" | "StatefulSet" | "PodDisruptionBudget" | "NetworkPolicy" | "PersistentVolumeClaim"
        )
    }

    /// The version of an object, if its kind is kept here and it is known.
    #[must_use]
    pub fn version(&self, kind: &str, namespace: &str, name: &str) -> Option<String> {
        let stores = self.stores(namespace)?;
        match kind {
            "ServiceAccount" => version(&stores.service_accounts, namespace, name),
            "ConfigMap" => version(&stores.config_maps, namespace, name),
            "Service" => version(&stores.services, namespace, name),
            "StatefulSet" => version(&stores.stateful_sets, namespace, name),
            "PodDisruptionBudget" => version(&stores.disruption_budgets, namespace, name),
            "NetworkPolicy" => version(&stores.network_policies, namespace, name),
            "PersistentVolumeClaim" => version(&stores.claims, namespace, name),
            _ => None,
        }
    }

    /// Resolves when [`Filling::complete`] has: any number may wait. Controllers wait here before they start, so that no reconciliation
    /// waits for a store or decides on one that is not filled.
    pub async fn filled(&self) {
        let mut filled = self.filled.clone();
        // An error says that the one who fills is gone, which ends the process elsewhere.
        let _ = filled.wait_for(|filled| *filled).await;
    }

    fn stores(&self, namespace: &str) -> Option<&Stores> {
        self.scopes.iter().find(|stores| stores.scope.holds(namespace))
    }
}

fn version<K>(store: &Store<PartialObjectMeta<K>>, namespace: &str, name: &str) -> Option<String>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let object = store.get(&ObjectRef::new(name).within(namespace))?;
    object.metadata.resource_version.clone()
}

fn of_cluster<K>(store: &Store<PartialObjectMeta<K>>, namespace: &str, cluster: &str) -> Vec<Arc<PartialObjectMeta<K>>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    store.state_filter(|object| {
        object.metadata.namespace.as_deref() == Some(namespace)
            && object
                .metadata
                .labels
                .as_ref()
                .and_then(|labels| labels.get(LABEL_INSTANCE))
                .is_some_and(|instance| instance == cluster)
    })
}

fn open(client: &Client, scope: Scope) -> (Stores, Feed) {
    let owned = watcher::Config::default().labels(&format!("{LABEL_MANAGED_BY}={MANAGER},{LABEL_APPLICATION}={NODE_APPLICATION}"));
    let (clusters, writer) = reflector::store();
    let listed = Arc::new(AtomicBool::new(false));
    let watched = watcher(scope.api::<KvCluster>(client), watcher::Config::default())
        .default_backoff()
        .modify(|cluster: &mut KvCluster| cluster.metadata.managed_fields = None)
        .reflect(writer)
        .inspect_ok(note_list(listed.clone()))
        .applied_objects()
        .boxed();
    let (pods, pod_triggers) = follow(scope.api::<Pod>(client), &owned, trim);
    let (service_accounts, service_account_triggers) = metadata(scope.api(client), &owned);
    let (config_maps, config_map_triggers) = metadata(scope.api(client), &owned);
    let (services, service_triggers) = metadata(scope.api(client), &owned);
    let (stateful_sets, stateful_set_triggers) = metadata(scope.api(client), &owned);
    let (disruption_budgets, disruption_budget_triggers) = metadata(scope.api(client), &owned);
    let (network_policies, network_policy_triggers) = metadata(scope.api(client), &owned);
    let (claims, claim_triggers) = metadata(scope.api(client), &owned);
    let others = stream::select_all([
        pod_triggers,
        service_account_triggers,
        config_map_triggers,
        service_triggers,
        stateful_set_triggers,
        disruption_budget_triggers,
        network_policy_triggers,
        claim_triggers,
    ]);
    let feed = Feed {
        store: clusters.clone(),
        clusters: watched,
        others: others.boxed(),
        listed,
    };
    let stores = Stores {
        scope,
        clusters,
        pods,
        service_accounts,
        config_maps,
        services,
        stateful_sets,
        disruption_budgets,
        network_policies,
        claims,
    };
    (stores, feed)
}

/// Notes in a watch's stream that a list has come.
pub fn note_list<K>(listed: Arc<AtomicBool>) -> impl Fn(&watcher::Event<K>) {
    move |event| {
        if matches!(event, watcher::Event::InitDone) {
            listed.store(true, Ordering::Relaxed);
        }
    }
}

fn metadata<K>(api: Api<PartialObjectMeta<K>>, config: &watcher::Config) -> (Store<PartialObjectMeta<K>>, Triggers)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    follow(api, config, |object: &mut PartialObjectMeta<K>| {
        object.metadata.managed_fields = None
    })
}

fn follow<K>(api: Api<K>, config: &watcher::Config, trim: fn(&mut K)) -> (Store<K>, Triggers)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let triggers = watcher(api, config.clone())
        .default_backoff()
        .modify(trim)
        .reflect(writer)
        .touched_objects()
        .filter_map(|object| {
            future::ready(match object {
                Ok(object) => cluster_of(&object),
                Err(error) => {
                    tracing::warn!(error = %crate::error::chain(&error), "a watch broke and is begun again");
                    None
                }
            })
        });
    (store, triggers.boxed())
}

/// The KvCluster that an object was made for.
fn cluster_of<K: Resource>(object: &K) -> Option<ObjectRef<KvCluster>> {
    let metadata = object.meta();
    let cluster = metadata.labels.as_ref()?.get(LABEL_INSTANCE)?;
    Some(ObjectRef::new(cluster).within(metadata.namespace.as_deref()?))
}

/// Drops what nobody here reads of a pod: most of it.
fn trim(pod: &mut Pod) {
    pod.metadata.managed_fields = None;
    if let Some(spec) = &mut pod.spec {
        let volumes = spec.volumes.take().unwrap_or_default();
        let mut kept = k8s_openapi::api::core::v1::PodSpec {
            node_name: spec.node_name.take(),
            ..Default::default()
        };
        let containers = std::mem::take(&mut spec.containers);
        kept.containers = containers
            .into_iter()
            .filter(|container| container.name == NODE_APPLICATION)
            .map(|container| k8s_openapi::api::core::v1::Container {
                name: container.name,
                image: container.image,
                ..Default::default()
            })
            .collect();
        kept.volumes = Some(volumes.into_iter().filter(|volume| volume.config_map.is_some()).collect());
        *spec = kept;
    }
    if let Some(status) = &mut pod.status {
        let conditions = status.conditions.take().unwrap_or_default();
        let read = |condition: &PodCondition| matches!(condition.type_.as_str(), "Ready" | "PodScheduled");
        *status = k8s_openapi::api::core::v1::PodStatus {
            pod_ip: status.pod_ip.take(),
            phase: status.phase.take(),
            start_time: status.start_time.take(),
            reason: status.reason.take(),
            message: status.message.take(),
            conditions: Some(conditions.into_iter().filter(read).collect()),
            container_statuses: status.container_statuses.take(),
            ..Default::default()
        };
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A kube-runtime store wakes the last of them alone.
    #[tokio::test]
    async fn all_that_wait_for_the_stores_are_woken() {
        let (store, mut writer) = reflector::store::<KvCluster>();
        let (sender, filled) = watch::channel(false);
        let filling = Filling {
            stores: vec![once_filled(store).boxed()],
            filled: sender,
        };
        let caches = Arc::new(Caches {
            scopes: Vec::new(),
            filled,
        });
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..5 {
            let caches = caches.clone();
            waiting.spawn(async move { caches.filled().await });
        }
        waiting.spawn(filling.complete());
        tokio::task::yield_now().await;
        writer.apply_watcher_event(&watcher::Event::Init);
        writer.apply_watcher_event(&watcher::Event::InitDone);
        let all = async { while waiting.join_next().await.is_some() {} };
        tokio::time::timeout(Duration::from_secs(10), all).await.expect("one was not woken");
    }
}
