//! The tenant's place in the log: there, as validated, and in force.
//!
//! In: a [`Validated`] Tenant and the members. Out: [`Placement`]. What is stored already is not proposed again, so a quiet Tenant costs the
//! log nothing. Absent: limits and ceilings, which are decided; and Kubernetes, but for two confirmations by uncached reads.

use std::time::{Duration, Instant};

use kube::{Api, ResourceExt, runtime::reflector::ObjectRef};
use kvfleet_api::{
    Code,
    tenant::{DeleteMode, TenantConfig, TenantState, TenantStatus},
};
use kvfleet_crds::{KvCluster, Tenant, conditions::Reason};

use super::{
    desk::Desk,
    members::Members,
    validate::{Rejection, Validated, tenant_name},
};
use crate::error::{Error, Kind, chain};

/// How long a reconciliation waits for every member before it says that some are behind. An edit is in force after some milliseconds.
const PATIENCE: Duration = Duration::from_secs(1);
/// The first and the longest pause between two looks.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(100));

/// Where the tenant stands.
#[derive(Debug)]
pub enum Placement {
    /// The log has the configuration.
    Placed {
        /// As stored.
        status: Box<TenantStatus>,
        /// Members that do not enforce it yet.
        behind: Vec<String>,
        /// Whether the storage or the keys in use are above a quota that was just lowered.
        over_quota: bool,
    },
    /// The log has given the name to someone else.
    Refused(Rejection),
    /// The members could not settle it now, and why.
    Unsettled(String),
}

/// Places the tenant.
///
/// # Errors
/// [`Error::Kubernetes`] when something could not be confirmed; [`Error::Waits`] when what is cached here is older than what is stored.
pub async fn place(
    desk: &Desk,
    tenant: &Tenant,
    cluster: &KvCluster,
    validated: &Validated,
    members: &Members,
    stored: Option<&TenantStatus>,
) -> Result<Placement, Error> {
    let name = tenant_name(tenant);
    if let Some(stored) = stored
        && stored.config.uid != validated.uid
        && stored.state == TenantState::Active
        && stored.config.owner == validated.owner
    {
        release_predecessor(desk, tenant, members, stored).await?;
    }
    let own = stored.filter(|stored| stored.config.uid == validated.uid);
    let mut over_quota = false;
    let (status, in_force) = match own {
        // What was in force everywhere stays so: members go down, but their logs do not go back. Status is believed for its own Tenant alone.
        Some(own) if is_as_wanted(own, validated) => {
            let applied = tenant.status.as_ref().and_then(|status| status.applied_revision);
            (own.clone(), applied == Some(own.revision))
        }
        _ => {
            let config = config(desk, cluster, validated, own).await?;
            match put(members, &name, &config).await {
                Ok(status) => {
                    over_quota = own.is_some_and(|old| falls_below_use(old, &status));
                    tracing::info!(tenant = validated.owner, name, revision = status.revision, "placed");
                    (status, false)
                }
                Err(Error::Member { source, .. }) if source.code() == Some(Code::TenantNameTaken) => {
                    return Ok(Placement::Refused(Rejection {
                        reason: Reason::TENANT_NAME_TAKEN,
                        message: source.to_string(),
                    }));
                }
                Err(error) if error.kind() == Kind::Transient => {
                    let why = chain(&error);
                    let key = (cluster.namespace().unwrap_or_default(), cluster.name_any());
                    desk.turns.asked_in_vain(&key, &why, Instant::now());
                    return Ok(Placement::Unsettled(why));
                }
                Err(error) => return Err(error),
            }
        }
    };
    let behind = match in_force {
        true => Vec::new(),
        false => behind(desk, tenant, cluster, members, status.revision).await,
    };
    Ok(Placement::Placed {
        status: Box::new(status),
        behind,
        over_quota,
    })
}

/// Whether the log has what is wanted. The KvCluster's generation does not count: most of its edits concern no Tenant, and the one that is
/// stored goes on refusing what an operator with an older picture would put.
fn is_as_wanted(stored: &TenantStatus, validated: &Validated) -> bool {
    let TenantConfig {
        uid,
        owner,
        generation,
        cluster_generation: _,
        credential_generation,
        limits,
    } = &stored.config;
    let same = *uid == validated.uid && *owner == validated.owner && *generation == validated.generation && *limits == validated.limits;
    stored.state == TenantState::Active && same && *credential_generation > 0
}

/// The configuration to be stored. A KvCluster that was deleted and made again counts its generations anew, while its volumes remember the
/// old ones: then what is stored counts, once an uncached read has shown that it is not our picture that is old.
async fn config(desk: &Desk, cluster: &KvCluster, validated: &Validated, own: Option<&TenantStatus>) -> Result<TenantConfig, Error> {
    let stored_cluster_generation = own.map_or(0, |own| own.config.cluster_generation);
    if stored_cluster_generation > validated.cluster_generation {
        let name = cluster.name_any();
        let api: Api<KvCluster> = Api::namespaced(desk.context.client.clone(), &cluster.namespace().unwrap_or_default());
        let live = api
            .get_opt(&name)
            .await
            .map_err(Error::kubernetes(format!("read KvCluster {name}")))?;
        if live.is_none_or(|live| live.metadata.generation != cluster.metadata.generation || live.uid() != cluster.uid()) {
            return Err(Error::Waits(format!("the KvCluster {name} has changed since it was read")));
        }
    }
    Ok(TenantConfig {
        uid: validated.uid.clone(),
        owner: validated.owner.clone(),
        generation: validated.generation,
        cluster_generation: validated.cluster_generation.max(stored_cluster_generation),
        credential_generation: own.map_or(1, |own| own.config.credential_generation.max(1)),
        limits: validated.limits.clone(),
    })
}

/// A Tenant of the same namespace and name was deleted and made again before the old one was released. That the new one exists shows that
/// the old one does not; the uncached read shows which of the two is new.
async fn release_predecessor(desk: &Desk, tenant: &Tenant, members: &Members, stored: &TenantStatus) -> Result<(), Error> {
    if super::finalizer::read(&desk.context.client, tenant).await?.is_none() {
        return Err(Error::Waits(format!(
            "the Tenant {} has changed since it was read",
            tenant.name_any()
        )));
    }
    release(members, stored).await
}

/// Refuses access to a tenant and keeps its data.
///
/// # Errors
/// [`Error::Member`]
pub async fn release(members: &Members, stored: &TenantStatus) -> Result<(), Error> {
    let (name, uid) = (stored.name.as_str(), stored.config.uid.as_str());
    members
        .ask("release the tenant", |client, address| async move {
            client.delete_tenant(address, name, uid, DeleteMode::Release).await
        })
        .await?;
    tracing::info!(tenant = stored.config.owner, name, "released: its Tenant is gone, its data stays");
    Ok(())
}

async fn put(members: &Members, name: &str, config: &TenantConfig) -> Result<TenantStatus, Error> {
    members
        .ask("put the tenant", |client, address| async move {
            client.put_tenant(address, name, config).await
        })
        .await
}

/// Who does not enforce the stored configuration yet. Those that are down are not waited for: the Tenant is looked at again when all have it.
async fn behind(desk: &Desk, tenant: &Tenant, cluster: &KvCluster, members: &Members, revision: u64) -> Vec<String> {
    let key = (cluster.namespace().unwrap_or_default(), cluster.name_any());
    let begun = Instant::now();
    let (mut pause, longest) = PAUSE;
    loop {
        let picture = desk.pictures.get(&key, revision, Instant::now(), || members.reports()).await;
        let behind = picture.behind(revision);
        if behind.is_empty() {
            return behind;
        }
        if !picture.is_whole() || begun.elapsed() >= PATIENCE {
            desk.await_revision(&key, ObjectRef::from_obj(tenant), revision);
            return behind;
        }
        // Members tell nobody when they apply: looking is the only way.
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}

fn falls_below_use(old: &TenantStatus, new: &TenantStatus) -> bool {
    let (was, is) = (&old.config.limits, &new.config.limits);
    (is.quota_storage < was.quota_storage && new.usage.storage > is.quota_storage)
        || (is.quota_keys < was.quota_keys && new.usage.keys > is.quota_keys)
}

#[cfg(test)]
mod tests {
    use kvfleet_api::{tenant::TenantLimits, usage::Used};

    use super::*;

    #[test]
    fn only_what_concerns_the_tenant_is_put_again() {
        let validated = Validated {
            owner: "apps/acme".to_owned(),
            uid: "u1".to_owned(),
            generation: 3,
            cluster_generation: 9,
            limits: TenantLimits::default(),
        };
        let stored = |change: &dyn Fn(&mut TenantStatus)| {
            let mut status = TenantStatus {
                name: "acme".to_owned(),
                id: 1,
                state: TenantState::Active,
                revision: 815,
                config: TenantConfig {
                    uid: "u1".to_owned(),
                    owner: "apps/acme".to_owned(),
                    generation: 3,
                    cluster_generation: 5,
                    credential_generation: 1,
                    limits: TenantLimits::default(),
                },
                credential_issued_at: 0,
                usage: Used { storage: 0, keys: 0 },
            };
            change(&mut status);
            status
        };
        // The KvCluster was edited four times since, in what concerns no Tenant; or was made again and counts from one.
        for cluster_generation in [5, 9, 50] {
            assert!(is_as_wanted(
                &stored(&|status| status.config.cluster_generation = cluster_generation),
                &validated
            ));
        }
        for different in [
            &(|status: &mut TenantStatus| status.config.limits.quota_keys = 1) as &dyn Fn(&mut TenantStatus),
            &|status| status.config.generation = 2,
            &|status| status.config.uid = "u0".to_owned(),
            &|status| status.config.credential_generation = 0,
            &|status| status.state = TenantState::Released,
        ] {
            assert!(!is_as_wanted(&stored(different), &validated));
        }
    }
}
