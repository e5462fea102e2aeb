//! The end of a Tenant that carries the finalizer: its data and its credentials go before it does.
//!
//! In: a Tenant that is being deleted. Out: nothing of it is left, then the finalizer is lifted. It looks at less than a reconciliation does,
//! so that a spec which is refused can still be deleted. Absent: Tenants without the finalizer, which [`super::survey`] releases.

use std::time::Duration;

use kube::{Api, ResourceExt};
use kvfleet_api::{
    Code,
    tenant::{DeleteMode, TenantState},
};
use kvfleet_crds::{KvCluster, Tenant, cluster::Formation, tenant::DeletionPolicy};

use super::{
    apply::remove_secret,
    desk::Desk,
    fetch::{Group, fetch},
    finalizer,
    members::Members,
    place::release,
    status,
    validate::{owner, secret_name, tenant_name},
};
use crate::error::Error;

/// How soon it is asked again whether the cluster exists.
const AGAIN: Duration = Duration::from_secs(1);

/// Takes one step towards the end, and says when the next is due; none: there is none.
///
/// # Errors
/// [`Error::Kubernetes`]; [`Error::Member`]
pub async fn clean_up(desk: &Desk, tenant: &Tenant) -> Result<Option<Duration>, Error> {
    if !finalizer::is_on(tenant) {
        return Ok(None);
    }
    let fetched = fetch(desk, tenant).await;
    match (&fetched.cluster, &fetched.group) {
        (None, _) => {
            if cluster_exists(desk, tenant).await? {
                return Ok(Some(AGAIN));
            }
        }
        // Its data goes, or stays, with the cluster.
        (Some(cluster), _) if cluster.metadata.deletion_timestamp.is_some() => {}
        (Some(cluster), _) if !can_hold(cluster, tenant) => {}
        // Nothing is released or destroyed during a pause, and the finalizer stays until it ends.
        (Some(cluster), _) if cluster.spec.maintenance.paused => {
            status::write_deleting(desk, tenant, "the KvCluster is paused (maintenance.paused)").await?;
            return Ok(Some(AGAIN));
        }
        (Some(_), Group::Unavailable(why) | Group::Unreachable { why, .. }) => {
            status::write_deleting(desk, tenant, why).await?;
            return Ok(fetched.group.again());
        }
        (Some(_), Group::Busy { again }) => return Ok(Some(*again)),
        (Some(_), Group::Reached { members, .. }) => {
            let stored = fetched.group.stored_for(tenant);
            match (tenant.spec.deletion_policy, stored) {
                (_, None) => {}
                (DeletionPolicy::Delete, Some(_)) => destroy(members, tenant).await?,
                (DeletionPolicy::Retain, Some(stored)) if stored.state == TenantState::Active => release(members, stored).await?,
                (DeletionPolicy::Retain, Some(_)) => {}
            }
        }
    }
    match remove_secret(desk, tenant, &secret_name(tenant)).await {
        Ok(()) => {}
        // A namespace that goes takes the right on Secrets first, and the Secret itself with it. Waiting for the right would keep the
        // finalizer, and with it the namespace, for ever. With `watchNamespaces` the right is the chart's, and only its absence is seen.
        Err(error) if error.is_namespace_terminating() || error.lacks_right() && !desk.context.config.watch_namespaces.is_empty() => {}
        Err(error) => return Err(error),
    }
    finalizer::remove(&desk.context.client, tenant).await?;
    Ok(None)
}

/// The finalizer is there before the data can be, and goes when the policy no longer asks for it.
///
/// # Errors
/// [`Error::Kubernetes`]
pub async fn prepare(desk: &Desk, tenant: &Tenant) -> Result<(), Error> {
    match tenant.spec.deletion_policy {
        DeletionPolicy::Delete => finalizer::add(&desk.context.client, tenant).await?,
        DeletionPolicy::Retain => finalizer::remove(&desk.context.client, tenant).await?,
    };
    Ok(())
}

async fn destroy(members: &Members, tenant: &Tenant) -> Result<(), Error> {
    let name = tenant_name(tenant);
    let (name, uid) = (name.as_str(), tenant.uid().unwrap_or_default());
    let uid = uid.as_str();
    let answer = members
        .ask("delete the tenant", |client, address| async move {
            client.delete_tenant(address, name, uid, DeleteMode::Delete).await
        })
        .await;
    match answer {
        Ok(()) => {
            tracing::info!(tenant = owner(tenant), name, "its data is deleted");
            Ok(())
        }
        // Another Tenant has the name by now: this one's data is gone.
        Err(Error::Member { source, .. }) if source.code() == Some(Code::Conflict) => Ok(()),
        Err(error) => Err(error),
    }
}

/// A cluster that was never formed holds nothing.
fn can_hold(cluster: &KvCluster, tenant: &Tenant) -> bool {
    let is_formed = cluster
        .status
        .iter()
        .flat_map(|status| &status.shards)
        .any(|shard| shard.formation != Formation::Pending);
    is_formed || tenant.status.as_ref().is_some_and(|status| status.shard.is_some())
}

/// The data is given up only after an uncached read.
async fn cluster_exists(desk: &Desk, tenant: &Tenant) -> Result<bool, Error> {
    let name = &tenant.spec.cluster_ref.name;
    let api: Api<KvCluster> = Api::namespaced(desk.context.client.clone(), &tenant.namespace().unwrap_or_default());
    let live = api
        .get_metadata_opt(name)
        .await
        .map_err(Error::kubernetes(format!("read KvCluster {name}")))?;
    Ok(live.is_some())
}
