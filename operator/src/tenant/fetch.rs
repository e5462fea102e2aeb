//! What a reconciliation has to know: the cluster, what its members hold under the tenant's name, and who else wants that name.
//!
//! In: a Tenant. Out: [`Fetched`]. A cluster that cannot be asked is a finding, not a failure: status says so. Absent: any judgement.

use std::sync::Arc;

use kube::ResourceExt;
use kvfleet_api::tenant::TenantStatus;
use kvfleet_crds::{KvCluster, Tenant};

use super::{desk::Desk, members::Members, validate::tenant_name};
use crate::error::chain;

/// What a reconciliation knows.
pub struct Fetched {
    /// The Tenant's cluster.
    pub cluster: Option<Arc<KvCluster>>,
    /// Its members.
    pub group: Group,
    /// Other Tenants of the cluster with the same name.
    pub rivals: Vec<Arc<Tenant>>,
}

/// The members of the cluster, as far as they can be asked.
pub enum Group {
    /// They cannot, and why.
    Unreachable(String),
    /// They can.
    Reached {
        /// Whom to ask.
        members: Members,
        /// What they hold under the tenant's name.
        stored: Option<Box<TenantStatus>>,
    },
}

impl Group {
    /// What the members hold for this very Tenant.
    #[must_use]
    pub fn stored_for(&self, tenant: &Tenant) -> Option<&TenantStatus> {
        match self {
            Group::Unreachable(_) => None,
            Group::Reached { stored, .. } => stored
                .as_deref()
                .filter(|stored| Some(&stored.config.uid) == tenant.metadata.uid.as_ref()),
        }
    }
}

/// Fetches it.
pub async fn fetch(desk: &Desk, tenant: &Tenant) -> Fetched {
    let namespace = tenant.namespace().unwrap_or_default();
    let cluster = desk.cluster(&namespace, &tenant.spec.cluster_ref.name);
    let group = match &cluster {
        None => Group::Unreachable("there is no cluster".to_owned()),
        Some(cluster) => reach(desk, &namespace, tenant, cluster).await,
    };
    Fetched {
        cluster,
        group,
        rivals: desk.rivals(tenant),
    }
}

async fn reach(desk: &Desk, namespace: &str, tenant: &Tenant, cluster: &KvCluster) -> Group {
    let members = match Members::of(&desk.context, namespace, &cluster.name_any(), cluster).await {
        Ok(members) => members,
        Err(error) => return Group::Unreachable(chain(&error)),
    };
    let name = tenant_name(tenant);
    let name = name.as_str();
    let answer = members
        .ask(
            "read the tenant",
            |client, address| async move { client.tenant(address, name).await },
        )
        .await;
    match answer {
        Ok(stored) => Group::Reached {
            members,
            stored: stored.map(Box::new),
        },
        Err(error) => Group::Unreachable(chain(&error)),
    }
}
