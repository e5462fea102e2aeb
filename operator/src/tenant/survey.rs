//! Compares what the members hold with the Tenants that there are.
//!
//! In: `GET /admin/tenants` of every cluster, every ten seconds and whenever a Tenant or a cluster has gone or changed: one call for all
//! tenants of a cluster. Out: what has no Tenant any more is released, so that a deletion which nobody saw counts too; Tenants whose figures
//! or place have moved are looked at. Absent: deletion of data.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt, channel::mpsc::UnboundedReceiver, future::BoxFuture, stream::FuturesUnordered};
use kube::{Api, ResourceExt, runtime::reflector::ObjectRef};
use kvfleet_api::tenant::{TenantState, TenantStatus};
use kvfleet_crds::Tenant;

use super::{
    binding,
    desk::{ClusterKey, Desk},
    fetch::availability,
    members::Members,
    place::release,
    status::has_usage_moved,
    validate::tenant_name,
};
use crate::error::{Error, chain};

const PERIOD: Duration = Duration::from_secs(10);
/// How often members are asked what they have applied, while a Tenant waits for one of them.
const FOLLOW: Duration = Duration::from_millis(500);

/// One thing to do. Each is under way at most once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Task {
    /// Compare a cluster's tenants with the Tenants.
    Survey(ClusterKey),
    /// See whether every member has applied what Tenants wait for.
    Follow(ClusterKey),
    /// Give rights back where no Tenant is.
    Withdraw,
}

/// What is under way, and what is to be done once more after it: many Tenants that are deleted together are two surveys at most.
struct Tasks<'a> {
    desk: &'a Desk,
    running: FuturesUnordered<BoxFuture<'a, Task>>,
    busy: HashSet<Task>,
    again: HashSet<Task>,
}

/// Surveys for as long as it is polled. Each cluster by itself: one whose members are slow to answer holds up no other.
pub async fn run(desk: &Desk, mut requests: UnboundedReceiver<ClusterKey>) {
    let mut every = interval(PERIOD);
    let mut soon = interval(FOLLOW);
    let mut tasks = Tasks {
        desk,
        running: FuturesUnordered::new(),
        busy: HashSet::new(),
        again: HashSet::new(),
    };
    loop {
        tokio::select! {
            _ = every.tick() => {
                for cluster in desk.clusters.state() {
                    tasks.begin(Task::Survey((cluster.namespace().unwrap_or_default(), cluster.name_any())));
                }
                tasks.begin(Task::Withdraw);
            }
            _ = soon.tick() => {
                for (cluster, _) in desk.awaited() {
                    tasks.begin(Task::Follow(cluster));
                }
            }
            request = requests.next() => match request {
                Some(cluster) => tasks.request(Task::Survey(cluster)),
                None => return,
            },
            Some(done) = tasks.running.next(), if !tasks.running.is_empty() => tasks.ended(done),
        }
    }
}

fn interval(period: Duration) -> tokio::time::Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    interval
}

impl<'a> Tasks<'a> {
    /// Unless it is under way.
    fn begin(&mut self, task: Task) {
        if self.busy.insert(task.clone()) {
            self.running.push(carry_out(self.desk, task).boxed());
        }
    }

    /// Something has changed: what is under way may have missed it.
    fn request(&mut self, task: Task) {
        if self.busy.contains(&task) {
            self.again.insert(task);
        } else {
            self.begin(task);
        }
    }

    fn ended(&mut self, task: Task) {
        self.busy.remove(&task);
        if self.again.remove(&task) {
            self.begin(task);
        } else if matches!(task, Task::Survey(_)) {
            // What it released may have been the last of its namespace.
            self.request(Task::Withdraw);
        }
    }
}

async fn carry_out(desk: &Desk, task: Task) -> Task {
    match &task {
        Task::Survey((namespace, name)) => survey_logged(desk, namespace, name).await,
        Task::Follow(cluster) => follow(desk, cluster).await,
        Task::Withdraw => binding::withdraw(desk).await,
    }
    task
}

async fn follow(desk: &Desk, key: &ClusterKey) {
    let Some(cluster) = desk.cluster(&key.0, &key.1).filter(|cluster| availability(cluster).is_ok()) else {
        return;
    };
    let Some((_, revision)) = desk.awaited().into_iter().find(|(other, _)| other == key) else {
        return;
    };
    let Ok(members) = Members::of(&desk.context, &key.0, &key.1, &cluster).await else {
        return;
    };
    let picture = desk.pictures.get(key, revision, Instant::now(), || members.reports()).await;
    if let Some(floor) = picture.floor() {
        desk.reached(key, floor);
    }
}

async fn survey_logged(desk: &Desk, namespace: &str, name: &str) {
    if let Err(error) = survey(desk, namespace, name).await {
        tracing::debug!(namespace, name, error = %chain(&error), "a cluster could not be surveyed");
    }
}

async fn survey(desk: &Desk, namespace: &str, name: &str) -> Result<(), Error> {
    let Some(cluster) = desk.cluster(namespace, name) else {
        return Ok(());
    };
    if cluster.metadata.deletion_timestamp.is_some() || cluster.status.as_ref().is_none_or(|status| status.cluster_id.is_none()) {
        return Ok(());
    }
    if availability(&cluster).is_err() {
        return Ok(());
    }
    let members = Members::of(&desk.context, namespace, name, &cluster).await?;
    let stored = members
        .ask("list the tenants", |client, address| async move { client.tenants(address).await })
        .await?;
    desk.turns.answered(&(namespace.to_owned(), name.to_owned()));
    let tenants = desk.tenants_of(namespace, name);
    let paused = cluster.spec.maintenance.paused;
    for tenant in &tenants {
        let own = stored
            .iter()
            .find(|stored| tenant.metadata.uid.as_ref() == Some(&stored.config.uid));
        let needs_a_look = match paused {
            // Nothing but the figures in status can follow now.
            true => own.is_some_and(|own| has_usage_moved(tenant, own)),
            false => needs_a_look(tenant, own),
        };
        if needs_a_look {
            desk.trigger(ObjectRef::from_obj(&**tenant));
        }
    }
    if paused {
        // What has no Tenant any more is released when the pause is over.
        return Ok(());
    }
    let orphans = stored.iter().filter(|stored| {
        stored.state == TenantState::Active
            && !tenants
                .iter()
                .any(|tenant| tenant.metadata.uid.as_ref() == Some(&stored.config.uid))
    });
    for orphan in orphans {
        if is_gone(desk, orphan).await? {
            release(&members, orphan).await?;
            // Others may have waited for this name.
            for tenant in tenants.iter().filter(|tenant| tenant_name(tenant) == orphan.name) {
                desk.trigger(ObjectRef::from_obj(&**tenant));
            }
        }
    }
    Ok(())
}

fn needs_a_look(tenant: &Tenant, stored: Option<&TenantStatus>) -> bool {
    match stored {
        None => true,
        Some(stored) => {
            stored.state != TenantState::Active
                || tenant.status.as_ref().and_then(|status| status.applied_revision) != Some(stored.revision)
                || has_usage_moved(tenant, stored)
        }
    }
}

/// A cache may lag behind, and access is not refused on a guess: the API server itself is asked.
async fn is_gone(desk: &Desk, stored: &TenantStatus) -> Result<bool, Error> {
    let Some((namespace, name)) = stored.config.owner.split_once('/') else {
        return Ok(false);
    };
    let api: Api<Tenant> = Api::namespaced(desk.context.client.clone(), namespace);
    let live = api
        .get_metadata_opt(name)
        .await
        .map_err(Error::kubernetes(format!("read Tenant {namespace}/{name}")))?;
    Ok(live.and_then(|live| live.uid()).as_ref() != Some(&stored.config.uid))
}
