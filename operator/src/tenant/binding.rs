//! The operator's right to work with Secrets, one namespace at a time: there for as long as the namespace holds a Tenant.
//!
//! In: namespaces. Out: the RoleBinding `kvfleet-tenants`. Absent: where the operator is told its namespaces: there the chart has made the
//! bindings, and the operator may not touch them.

use std::sync::atomic::Ordering;

use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams},
};
use kvfleet_crds::names::{LABEL_MANAGED_BY, MANAGER, NAMESPACE_BINDING_TENANTS};

use super::{build::role_binding, desk::Desk};
use crate::{apply::apply, context::Error, error::chain};

/// Before anything that touches Secrets. The binding is then taken to be there until a Secret is denied.
///
/// # Errors
/// [`Error::Kubernetes`]
pub async fn give(desk: &Desk, namespace: &str) -> Result<(), Error> {
    if desk.is_bound(namespace) {
        return Ok(());
    }
    let config = &desk.context.config;
    if config.watch_namespaces.is_empty() {
        apply(&desk.context, role_binding(namespace, &config.service_account, &config.namespace)).await?;
    }
    desk.set_bound(namespace);
    Ok(())
}

/// Passes a result on. If it says that the right on Secrets is missing, the binding has been taken away, and the next attempt gives it again.
/// A quota or an admission policy says no with the same code, and no binding helps against it.
///
/// # Errors
/// Those passed on.
pub fn notice<T>(desk: &Desk, namespace: &str, result: Result<T, Error>) -> Result<T, Error> {
    if result.as_ref().is_err_and(Error::lacks_right) {
        desk.forget_binding(namespace);
    }
    result
}

/// Finds the bindings that an operator before this one made: the last Tenant of a namespace may have gone while none ran.
///
/// # Errors
/// [`Error::Kubernetes`]
async fn find(desk: &Desk) -> Result<(), Error> {
    let api: Api<RoleBinding> = Api::all(desk.context.client.clone());
    // The right to list is given for this name alone, and only a question for this name is answered.
    let named = ListParams::default()
        .fields(&format!("metadata.name={NAMESPACE_BINDING_TENANTS}"))
        .labels(&format!("{LABEL_MANAGED_BY}={MANAGER}"));
    let found = api
        .list_metadata(&named)
        .await
        .map_err(Error::kubernetes(format!("list the RoleBindings {NAMESPACE_BINDING_TENANTS}")))?;
    for namespace in found.items.iter().filter_map(ResourceExt::namespace) {
        desk.note_bound(&namespace);
    }
    Ok(())
}

/// Where the last Tenant has gone, the right goes too. A Tenant that comes at this very moment is denied once, and gives it again.
pub async fn withdraw(desk: &Desk) {
    // An empty store holds no Tenant either.
    if !desk.context.config.watch_namespaces.is_empty() || !desk.listed.load(Ordering::Relaxed) {
        return;
    }
    if !desk.has_found_bindings() {
        match find(desk).await {
            Ok(()) => desk.set_found_bindings(),
            Err(error) => tracing::warn!(error = %chain(&error), "bindings that an operator before this one made cannot be looked for"),
        }
    }
    for namespace in desk.empty_bound_namespaces() {
        desk.forget_binding(&namespace);
        let api: Api<RoleBinding> = Api::namespaced(desk.context.client.clone(), &namespace);
        match api.delete(NAMESPACE_BINDING_TENANTS, &DeleteParams::default()).await {
            Ok(_) => tracing::info!(namespace, "holds no Tenant any more: the right on its Secrets is given back"),
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => {
                desk.note_bound(&namespace);
                tracing::warn!(namespace, error = %chain(&error), "the right on Secrets could not be given back");
            }
        }
    }
}
