//! What the steps of a Tenant's reconciliation share: the caches of one scope, and what has been found out and need not be asked again.
//!
//! In: the watches. Out: lookups. Everything here can be lost: it is found out again. Absent: any decision.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
    time::{Duration, Instant},
};

use futures::channel::mpsc::UnboundedSender;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    runtime::reflector::{ObjectRef, Store},
};
use kvfleet_crds::{
    KvCluster, Tenant,
    cluster::Tenancy,
    conditions::{ConditionType, find},
    names::ClusterNames,
};

use super::{applied::Pictures, turns::Turns, validate::tenant_name};
use crate::{
    context::{Context, Error},
    token::Signer,
    watchdog::{self, Looks},
};

/// How long a signing key is taken from memory before its Secret is looked at again.
const RECHECK: Duration = Duration::from_secs(10);
/// The least time between two writes of a Tenant's usage.
const USAGE_PERIOD: Duration = Duration::from_secs(30);

/// A KvCluster by namespace and name.
pub type ClusterKey = (String, String);

/// Where the desk sends word.
pub struct Channels {
    /// Tenants to be looked at.
    pub tenants: UnboundedSender<ObjectRef<Tenant>>,
    /// Clusters to be surveyed.
    pub surveys: UnboundedSender<ClusterKey>,
    /// Namespaces whose Secrets are to be watched.
    pub secrets: UnboundedSender<String>,
}

/// Tenants by cluster, each with the revision that it waits for.
type Awaited = HashMap<ClusterKey, HashMap<ObjectRef<Tenant>, u64>>;

/// What the steps share.
pub struct Desk {
    /// What both controllers share.
    pub context: Arc<Context>,
    /// All Tenants of the scope.
    pub tenants: Store<Tenant>,
    /// All KvClusters of the scope.
    pub clusters: Store<KvCluster>,
    /// Whether the list of Tenants has come once.
    pub listed: Arc<AtomicBool>,
    /// The looks at Tenants.
    pub looks: Arc<Looks>,
    /// Whose turn it is to ask a cluster's members.
    pub turns: Arc<Turns>,
    /// What members have applied.
    pub pictures: Pictures,
    channels: Channels,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    bound: HashSet<String>,
    found_bindings: bool,
    watched: HashSet<String>,
    signers: HashMap<ClusterKey, (Option<String>, Instant, Arc<Signer>)>,
    /// Tenants that not every member enforces yet. At most one entry for each Tenant.
    awaited: Awaited,
    seen: HashMap<ClusterKey, Sight>,
    usage_written: HashMap<String, Instant>,
    failures: HashMap<ObjectRef<Tenant>, u32>,
}

/// What of a cluster concerns its Tenants. Most edits of its spec do not.
#[derive(PartialEq)]
struct Sight {
    is_there: bool,
    uid: Option<String>,
    tenancy: Option<Tenancy>,
    is_paused: bool,
    is_going: bool,
    cluster_id: Option<String>,
    available: Option<String>,
}

impl Desk {
    /// With stores that are filled elsewhere.
    #[must_use]
    pub fn new(context: Arc<Context>, tenants: Store<Tenant>, clusters: Store<KvCluster>, channels: Channels) -> Self {
        let listed = Arc::new(AtomicBool::new(false));
        let store = tenants.clone();
        let there = move || store.state().iter().map(|tenant| known(tenant)).collect();
        Desk {
            looks: context.watchdog.add("Tenant", listed.clone(), there),
            turns: Turns::new(channels.tenants.clone()),
            pictures: Pictures::default(),
            context,
            tenants,
            clusters,
            listed,
            channels,
            known: Mutex::default(),
        }
    }

    /// A KvCluster.
    #[must_use]
    pub fn cluster(&self, namespace: &str, name: &str) -> Option<Arc<KvCluster>> {
        self.clusters.get(&ObjectRef::new(name).within(namespace))
    }

    /// The Tenants of a cluster.
    #[must_use]
    pub fn tenants_of(&self, namespace: &str, cluster: &str) -> Vec<Arc<Tenant>> {
        self.tenants
            .state_filter(|tenant| tenant.namespace().as_deref() == Some(namespace) && tenant.spec.cluster_ref.name == cluster)
    }

    /// Other Tenants of the same cluster with the same name.
    #[must_use]
    pub fn rivals(&self, tenant: &Tenant) -> Vec<Arc<Tenant>> {
        let name = tenant_name(tenant);
        self.tenants.state_filter(|other| {
            other.namespace() == tenant.namespace()
                && other.spec.cluster_ref == tenant.spec.cluster_ref
                && other.uid() != tenant.uid()
                && tenant_name(other) == name
        })
    }

    /// Has a Tenant looked at.
    pub fn trigger(&self, tenant: ObjectRef<Tenant>) {
        // A closed channel says that the controller is ending.
        let _ = self.channels.tenants.unbounded_send(tenant);
    }

    /// A KvCluster has changed, or gone: if it concerns its Tenants, they are looked at.
    pub fn cluster_changed(&self, cluster: &KvCluster) {
        let key = (cluster.namespace().unwrap_or_default(), cluster.name_any());
        let sight = Sight::of(self.cluster(&key.0, &key.1).as_deref());
        let is_seen = {
            let mut known = self.lock();
            let is_seen = known.seen.get(&key) == Some(&sight);
            if !is_seen {
                known.signers.remove(&key);
                let former = known.seen.get(&key).and_then(|sight| sight.uid.clone());
                if former != sight.uid {
                    known.awaited.remove(&key);
                    self.pictures.forget(&key);
                    self.turns.forget(&key);
                }
                if sight.is_there {
                    known.seen.insert(key.clone(), sight);
                } else {
                    known.seen.remove(&key);
                }
            }
            is_seen
        };
        if !is_seen {
            for tenant in self.tenants_of(&key.0, &key.1) {
                self.trigger(ObjectRef::from_obj(&*tenant));
            }
            let _ = self.channels.surveys.unbounded_send(key);
        }
    }

    /// A Tenant is gone: its cluster shall release it, and others may want its name.
    pub fn tenant_gone(&self, tenant: &Tenant) {
        let mut known = self.lock();
        known.usage_written.remove(&tenant.uid().unwrap_or_default());
        let reference = ObjectRef::from_obj(tenant);
        known.failures.remove(&reference);
        let key = (tenant.namespace().unwrap_or_default(), tenant.spec.cluster_ref.name.clone());
        if let Some(tenants) = known.awaited.get_mut(&key) {
            tenants.remove(&reference);
        }
        drop(known);
        let _ = self.channels.surveys.unbounded_send(key);
    }

    /// The key that signs a cluster's tokens.
    ///
    /// # Errors
    /// [`Error::Waits`] while its Secret is not there; [`Error::Certificate`] when it holds no key; [`Error::Kubernetes`].
    pub async fn signer(&self, cluster: &KvCluster) -> Result<Arc<Signer>, Error> {
        let namespace = cluster.namespace().unwrap_or_default();
        let key = (namespace.clone(), cluster.name_any());
        if let Some((uid, checked, signer)) = self.lock().signers.get(&key)
            && *uid == cluster.uid()
            && checked.elapsed() < RECHECK
        {
            return Ok(signer.clone());
        }
        let name = ClusterNames::new(&key.1).jwt_secret();
        let api: Api<Secret> = Api::namespaced(self.context.client.clone(), &namespace);
        let secret = api
            .get_opt(&name)
            .await
            .map_err(Error::kubernetes(format!("read Secret {namespace}/{name}")))?
            .ok_or_else(|| Error::Waits(format!("the Secret {name} is not there yet")))?;
        let pem = secret
            .data
            .as_ref()
            .and_then(|data| data.get("signing-key.pem"))
            .ok_or_else(|| Error::Waits(format!("the Secret {name} has no signing-key.pem yet")))?;
        let signer = Arc::new(Signer::from_pem(&String::from_utf8_lossy(&pem.0))?);
        self.lock().signers.insert(key, (cluster.uid(), Instant::now(), signer.clone()));
        Ok(signer)
    }

    /// Whether the operator may work with Secrets in a namespace, as far as is known.
    #[must_use]
    pub fn is_bound(&self, namespace: &str) -> bool {
        let known = self.lock();
        known.bound.contains(namespace) && known.watched.contains(namespace)
    }

    /// An operator before this one has given itself the right: it is to go when the namespace holds no Tenant.
    pub fn note_bound(&self, namespace: &str) {
        self.lock().bound.insert(namespace.to_owned());
    }

    /// It may; from now on they are watched.
    pub fn set_bound(&self, namespace: &str) {
        let mut known = self.lock();
        known.bound.insert(namespace.to_owned());
        if known.watched.insert(namespace.to_owned()) {
            let _ = self.channels.secrets.unbounded_send(namespace.to_owned());
        }
    }

    /// Namespaces that the operator may work with Secrets in, and that hold no Tenant.
    #[must_use]
    pub fn empty_bound_namespaces(&self) -> Vec<String> {
        let mut namespaces = self.lock().bound.clone();
        for tenant in self.tenants.state() {
            namespaces.remove(&tenant.namespace().unwrap_or_default());
        }
        namespaces.into_iter().collect()
    }

    /// The Secrets of a namespace are watched no longer.
    pub fn forget_watch(&self, namespace: &str) {
        self.lock().watched.remove(namespace);
    }

    /// Whether bindings that an operator before this one made have been looked for.
    #[must_use]
    pub fn has_found_bindings(&self) -> bool {
        self.lock().found_bindings
    }

    /// They have.
    pub fn set_found_bindings(&self) {
        self.lock().found_bindings = true;
    }

    /// It was denied.
    pub fn forget_binding(&self, namespace: &str) {
        self.lock().bound.remove(namespace);
    }

    /// Has a Tenant looked at when every member of its cluster has applied a revision.
    pub fn await_revision(&self, cluster: &ClusterKey, tenant: ObjectRef<Tenant>, revision: u64) {
        self.lock().awaited.entry(cluster.clone()).or_default().insert(tenant, revision);
    }

    /// The clusters with Tenants that wait for a revision, and the lowest of those.
    #[must_use]
    pub fn awaited(&self) -> Vec<(ClusterKey, u64)> {
        let known = self.lock();
        let lowest = known
            .awaited
            .iter()
            .map(|(key, tenants)| (key.clone(), tenants.values().min().copied().unwrap_or_default()));
        lowest.collect()
    }

    /// Every member of a cluster has applied a revision.
    pub fn reached(&self, cluster: &ClusterKey, floor: u64) {
        let mut known = self.lock();
        let Some(tenants) = known.awaited.get_mut(cluster) else { return };
        tenants.retain(|tenant, revision| {
            if *revision <= floor {
                self.trigger(tenant.clone());
            }
            *revision > floor
        });
        if tenants.is_empty() {
            known.awaited.remove(cluster);
        }
    }

    /// Whether a Tenant's usage may be written again.
    #[must_use]
    pub fn is_usage_due(&self, uid: &str) -> bool {
        self.lock()
            .usage_written
            .get(uid)
            .is_none_or(|written| written.elapsed() >= USAGE_PERIOD)
    }

    /// A Tenant's usage was written.
    pub fn set_usage_written(&self, uid: &str) {
        self.lock().usage_written.insert(uid.to_owned(), Instant::now());
    }

    /// Counts a failure in a row, beginning with 0.
    #[must_use]
    pub fn count_failure(&self, tenant: ObjectRef<Tenant>) -> u32 {
        let mut known = self.lock();
        let failures = known.failures.entry(tenant).or_default();
        let before = *failures;
        *failures = before.saturating_add(1);
        before
    }

    /// How often it has failed in a row.
    #[must_use]
    pub fn failures(&self, tenant: &ObjectRef<Tenant>) -> u32 {
        self.lock().failures.get(tenant).copied().unwrap_or_default()
    }

    /// The row is over.
    pub fn forget_failures(&self, tenant: &ObjectRef<Tenant>) {
        self.lock().failures.remove(tenant);
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sight {
    fn of(cluster: Option<&KvCluster>) -> Self {
        let status = cluster.and_then(|cluster| cluster.status.as_ref());
        let available = status.and_then(|status| find(&status.conditions, ConditionType::AVAILABLE));
        Sight {
            is_there: cluster.is_some(),
            uid: cluster.and_then(ResourceExt::uid),
            tenancy: cluster.map(|cluster| cluster.spec.tenancy.clone()),
            is_paused: cluster.is_some_and(|cluster| cluster.spec.maintenance.paused),
            is_going: cluster.is_some_and(|cluster| cluster.metadata.deletion_timestamp.is_some()),
            cluster_id: status.and_then(|status| status.cluster_id.clone()),
            available: available.map(|condition| condition.status.clone()),
        }
    }
}

/// A Tenant as the watchdog knows it.
#[must_use]
pub fn known(tenant: &Tenant) -> watchdog::Known {
    watchdog::Known {
        key: (tenant.namespace().unwrap_or_default(), tenant.name_any()),
        generation: tenant.metadata.generation.unwrap_or_default(),
    }
}
