//! The finalizer `kvfleet.dev/tenant-data`, which only a Tenant carries whose data is to be destroyed with it.
//!
//! In: a Tenant as read. Out: it carries the finalizer, or does not; others' finalizers stay. Absent: when either is right.

use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
};
use kvfleet_crds::{Tenant, names::FINALIZER_TENANT_DATA};
use serde_json::json;

use crate::error::Error;

/// Whether the Tenant carries it.
#[must_use]
pub fn is_on(tenant: &Tenant) -> bool {
    tenant.finalizers().iter().any(|finalizer| finalizer == FINALIZER_TENANT_DATA)
}

/// Puts it on; false when it was there.
///
/// # Errors
/// [`Error::Kubernetes`]: a conflict when the Tenant has changed since it was read.
pub async fn add(client: &Client, tenant: &Tenant) -> Result<bool, Error> {
    if is_on(tenant) {
        return Ok(false);
    }
    let mut finalizers = tenant.finalizers().to_vec();
    finalizers.push(FINALIZER_TENANT_DATA.to_owned());
    write(client, tenant, finalizers).await.map(|()| true)
}

/// Takes it off; false when it was not there.
///
/// # Errors
/// [`Error::Kubernetes`]: a conflict when the Tenant has changed since it was read.
pub async fn remove(client: &Client, tenant: &Tenant) -> Result<bool, Error> {
    if !is_on(tenant) {
        return Ok(false);
    }
    let mut finalizers = tenant.finalizers().to_vec();
    finalizers.retain(|finalizer| finalizer != FINALIZER_TENANT_DATA);
    write(client, tenant, finalizers).await.map(|()| true)
}

/// The Tenant as it is now, unless it is gone or another object has its name.
///
/// # Errors
/// [`Error::Kubernetes`]
pub async fn read(client: &Client, tenant: &Tenant) -> Result<Option<Tenant>, Error> {
    let live = api(client, tenant)
        .get_opt(&tenant.name_any())
        .await
        .map_err(Error::kubernetes(format!("read Tenant {}", tenant.name_any())))?;
    Ok(live.filter(|live| live.uid() == tenant.uid()))
}

/// The list is written whole, under the version that was read: two writers cannot undo each other.
async fn write(client: &Client, tenant: &Tenant, finalizers: Vec<String>) -> Result<(), Error> {
    let name = tenant.name_any();
    let change = json!({ "metadata": {
        "uid": tenant.uid(),
        "resourceVersion": tenant.resource_version(),
        "finalizers": finalizers,
    } });
    api(client, tenant)
        .patch_metadata(&name, &PatchParams::default(), &Patch::Merge(&change))
        .await
        .map_err(Error::kubernetes(format!("change the finalizers of Tenant {name}")))?;
    Ok(())
}

fn api(client: &Client, tenant: &Tenant) -> Api<Tenant> {
    Api::namespaced(client.clone(), &tenant.namespace().unwrap_or_default())
}
