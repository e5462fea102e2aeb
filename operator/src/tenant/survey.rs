//! Compares what the members hold with the Tenants that there are.
//!
//! In: `GET /admin/tenants` of every cluster, every ten seconds and whenever a Tenant or a cluster has gone or changed: one call for all
//! tenants of a cluster. Out: what has no Tenant any more is released, so that a deletion which nobody saw counts too; Tenants whose figures
//! or place have moved are looked at. Absent: deletion of data.

use std::time::Duration;

use futures::{StreamExt, channel::mpsc::UnboundedReceiver, future};
use kube::{Api, ResourceExt, runtime::reflector::ObjectRef};
use kvfleet_api::tenant::{TenantState, TenantStatus};
use kvfleet_crds::Tenant;

use super::{
    binding,
    desk::{ClusterKey, Desk},
    members::Members,
    place::release,
    status::has_usage_moved,
    validate::tenant_name,
};
use crate::error::{Error, chain};

const PERIOD: Duration = Duration::from_secs(10);

/// Surveys for as long as it is polled.
pub async fn run(desk: &Desk, mut requests: UnboundedReceiver<ClusterKey>) {
    let mut every = tokio::time::interval(PERIOD);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let clusters = tokio::select! {
            _ = every.tick() => desk.clusters.state().iter().map(|cluster| (cluster.namespace().unwrap_or_default(), cluster.name_any())).collect(),
            request = requests.next() => match request {
                Some(request) => with_waiting(request, &mut requests),
                None => return,
            },
        };
        future::join_all(clusters.iter().map(|(namespace, name)| survey_logged(desk, namespace, name))).await;
        binding::withdraw(desk).await;
    }
}

/// Many Tenants that are deleted together are one survey.
fn with_waiting(first: ClusterKey, requests: &mut UnboundedReceiver<ClusterKey>) -> Vec<ClusterKey> {
    let mut all = vec![first];
    while let Ok(next) = requests.try_recv() {
        if !all.contains(&next) {
            all.push(next);
        }
    }
    all
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
    let members = Members::of(&desk.context, namespace, name, &cluster).await?;
    let stored = members
        .ask("list the tenants", |client, address| async move { client.tenants(address).await })
        .await?;
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
