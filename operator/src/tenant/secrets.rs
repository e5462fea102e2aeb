//! Watches the credentials Secrets, so that one which is deleted or edited is put back at once.
//!
//! In: namespaces as they come to hold a Tenant, because the operator may see Secrets nowhere else. Out: the Tenants to be looked at.
//! Metadata only: no credential is kept in memory. Absent: other Secrets: the watch asks for our labels.

use std::collections::HashSet;

use futures::{StreamExt, channel::mpsc::UnboundedReceiver};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Resource, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        reflector::ObjectRef,
        watcher::{self, Event, watcher},
    },
};
use kvfleet_crds::{
    Tenant,
    names::{LABEL_CLUSTER, LABEL_MANAGED_BY, MANAGER},
};

use super::desk::Desk;

/// Watches for as long as it is polled.
pub async fn run(desk: &Desk, namespaces: UnboundedReceiver<String>) {
    namespaces.for_each_concurrent(None, |namespace| watch(desk, namespace)).await;
}

async fn watch(desk: &Desk, namespace: String) {
    let api: Api<PartialObjectMeta<Secret>> = Api::namespaced(desk.context.client.clone(), &namespace);
    let ours = watcher::Config::default().labels(&format!("{LABEL_MANAGED_BY}={MANAGER},{LABEL_CLUSTER}"));
    let mut found = HashSet::new();
    let mut events = std::pin::pin!(watcher(api, ours).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => found.clear(),
            Ok(Event::InitApply(secret)) => {
                found.insert(secret.name_any());
                trigger_owner(desk, &secret);
            }
            // One that went while nobody watched is not in the list.
            Ok(Event::InitDone) => missing(desk, &namespace, &found),
            Ok(Event::Apply(secret) | Event::Delete(secret)) => trigger_owner(desk, &secret),
            // The right was given back with the last Tenant.
            Err(_) if !desk.is_bound(&namespace) => {
                desk.forget_watch(&namespace);
                return;
            }
            // Among others while a new RoleBinding has not reached the authorizer.
            Err(error) => tracing::debug!(namespace, error = %crate::error::chain(&error), "the watch of Secrets is begun again"),
        }
    }
}

fn trigger_owner(desk: &Desk, secret: &PartialObjectMeta<Secret>) {
    let kind = Tenant::kind(&());
    let owner = secret
        .owner_references()
        .iter()
        .find(|owner| owner.controller == Some(true) && owner.kind == kind);
    if let (Some(owner), Some(namespace)) = (owner, secret.namespace()) {
        desk.trigger(ObjectRef::new(&owner.name).within(&namespace));
    }
}

fn missing(desk: &Desk, namespace: &str, found: &HashSet<String>) {
    let lost = desk.tenants.state_filter(|tenant| {
        let secret = tenant.status.as_ref().and_then(|status| status.credentials_secret.as_ref());
        tenant.namespace().as_deref() == Some(namespace) && secret.is_some_and(|secret| !found.contains(secret))
    });
    for tenant in lost {
        desk.trigger(ObjectRef::from_obj(&*tenant));
    }
}
