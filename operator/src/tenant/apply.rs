//! Brings a Tenant's objects to what is wanted: first the right to work with Secrets in its namespace, then the Secret; last goes a Secret
//! that the Tenant no longer names.
//!
//! In: the tenant as placed. Out: [`CredentialsState`]. Absent: anyone else's Secret, which is never written over nor deleted.

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, Preconditions},
};
use kvfleet_api::tenant::TenantStatus;
use kvfleet_crds::{KvCluster, Tenant};

use super::{
    binding,
    build::{Credentials, secret},
    desk::Desk,
    validate::{endpoint, secret_name},
};
use crate::{
    apply::{apply, controller_of},
    context::Error,
    error::chain,
};

/// How the Secret stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialsState {
    /// As it should be.
    Written,
    /// Not there yet, and why.
    Pending(String),
    /// The name is someone else's Secret's.
    NotOwned(String),
    /// It could not be written, and why.
    Refused(String),
}

/// Writes the credentials of a tenant that has its place.
///
/// # Errors
/// [`Error::Kubernetes`]
pub async fn credentials(desk: &Desk, tenant: &Tenant, cluster: &KvCluster, placed: &TenantStatus) -> Result<CredentialsState, Error> {
    let namespace = tenant.namespace().unwrap_or_default();
    binding::give(desk, &namespace).await?;
    binding::notice(desk, &namespace, write(desk, &namespace, tenant, cluster, placed).await)
}

async fn write(
    desk: &Desk,
    namespace: &str,
    tenant: &Tenant,
    cluster: &KvCluster,
    placed: &TenantStatus,
) -> Result<CredentialsState, Error> {
    let name = secret_name(tenant);
    let Some(cluster_id) = cluster.status.as_ref().and_then(|status| status.cluster_id.as_deref()) else {
        return Ok(CredentialsState::Pending("the cluster has no identity yet".to_owned()));
    };
    let signer = match desk.signer(cluster).await {
        Ok(signer) => signer,
        Err(error @ (Error::Waits(_) | Error::Certificate { .. })) => return Ok(CredentialsState::Pending(chain(&error))),
        Err(error) => return Err(error),
    };
    let wanted = secret(
        Credentials {
            name: &name,
            namespace,
            owner: controller_of(tenant)?,
            cluster: &cluster.name_any(),
            cluster_id,
            endpoint: &endpoint(tenant),
            placed,
        },
        &signer,
    );
    match apply(&desk.context, wanted).await {
        Ok(_) => {}
        Err(Error::NotOwned { .. }) => {
            return Ok(CredentialsState::NotOwned(format!(
                "the Secret {name} exists and is not this Tenant's, so it is left alone: delete or rename it, or set credentials.secretName \
                 to another name"
            )));
        }
        // That of a Tenant of the same name which was deleted a moment ago.
        Err(error @ Error::BeingCollected { .. }) => return Ok(CredentialsState::Pending(chain(&error))),
        Err(error) => return Err(error),
    }
    // The name that status still has is one that an earlier spec gave.
    let former = tenant.status.as_ref().and_then(|status| status.credentials_secret.as_deref());
    if let Some(former) = former.filter(|former| *former != name) {
        remove(desk, namespace, tenant, former).await?;
    }
    Ok(CredentialsState::Written)
}

/// Deletes a Secret if it is this Tenant's.
///
/// # Errors
/// [`Error::Kubernetes`]
pub async fn remove_secret(desk: &Desk, tenant: &Tenant, name: &str) -> Result<(), Error> {
    let namespace = tenant.namespace().unwrap_or_default();
    binding::give(desk, &namespace).await?;
    binding::notice(desk, &namespace, remove(desk, &namespace, tenant, name).await)
}

async fn remove(desk: &Desk, namespace: &str, tenant: &Tenant, name: &str) -> Result<(), Error> {
    let api: Api<Secret> = Api::namespaced(desk.context.client.clone(), namespace);
    let live = api
        .get_metadata_opt(name)
        .await
        .map_err(Error::kubernetes(format!("read Secret {namespace}/{name}")))?;
    let Some(live) = live else { return Ok(()) };
    let owned = live
        .owner_references()
        .iter()
        .any(|owner| owner.controller == Some(true) && Some(&owner.uid) == tenant.meta().uid.as_ref());
    if !owned {
        return Ok(());
    }
    let parameters = DeleteParams {
        preconditions: Some(Preconditions {
            uid: live.uid(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match api.delete(name, &parameters).await {
        Ok(_) => {
            tracing::info!(namespace, name, "deleted a Secret that is no longer wanted");
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(Error::kubernetes(format!("delete Secret {namespace}/{name}"))(error)),
    }
}
