//! The last act of an operator that is being removed: without it, a Tenant that is to be destroyed with its data could never be deleted.
//!
//! In: a client of an account that may do nothing else, and the namespaces. Out: no Tenant carries the finalizer. Absent: any other change:
//! the data stays where it is.

use kube::{Api, Client, api::ListParams};
use kvfleet_crds::Tenant;

use crate::{
    caches::Scope,
    error::{Error, Kind},
    tenant::finalizer,
};

/// Enough to keep one answer small whatever the number of Tenants.
const PAGE: u32 = 500;

/// Takes the finalizer off every Tenant of these namespaces (none named: of all). Answers how many carried it.
///
/// # Errors
/// [`Error::Kubernetes`]
pub async fn run(client: &Client, watch_namespaces: &[String]) -> Result<usize, Error> {
    let mut lifted = 0;
    for scope in Scope::of(watch_namespaces) {
        lifted += lift(client, &scope).await?;
    }
    Ok(lifted)
}

async fn lift(client: &Client, scope: &Scope) -> Result<usize, Error> {
    let api: Api<Tenant> = scope.api(client);
    let mut page = ListParams::default().limit(PAGE);
    let mut lifted = 0;
    loop {
        let tenants = match api.list(&page).await {
            Ok(tenants) => tenants,
            // Without the definition there are no Tenants.
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(lifted),
            Err(error) => return Err(Error::kubernetes("list Tenants")(error)),
        };
        for tenant in tenants.items {
            lifted += usize::from(lift_one(client, tenant).await?);
        }
        match tenants.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = ListParams::default().limit(PAGE).continue_token(&token),
            None => return Ok(lifted),
        }
    }
}

/// Again for as long as somebody else changes the Tenant in between.
async fn lift_one(client: &Client, mut tenant: Tenant) -> Result<bool, Error> {
    loop {
        match finalizer::remove(client, &tenant).await {
            Err(error) if error.kind() == Kind::Conflict => match finalizer::read(client, &tenant).await? {
                Some(newer) => tenant = newer,
                None => return Ok(true),
            },
            // It has gone by itself.
            Err(error) if error.kind() == Kind::Waits => return Ok(true),
            other => return other,
        }
    }
}
