//! What a reconciliation has to know: the cluster, what its members hold under the tenant's name, and who else wants that name.
//!
//! In: a Tenant. Out: [`Fetched`]. A cluster that cannot be asked is a finding, not a failure: status says so. Absent: any judgement.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kube::{ResourceExt, runtime::reflector::ObjectRef};
use kvfleet_api::tenant::TenantStatus;
use kvfleet_crds::{
    KvCluster, Tenant,
    conditions::{ConditionStatus, ConditionType, find},
};

use super::{
    desk::Desk,
    members::Members,
    turns::{Pass, Turn},
    validate::{Recorded, owner, tenant_name},
};
use crate::error::{Error, chain};

/// While the cluster is not available: that it is again is watched.
const WATCHED: Duration = Duration::from_secs(60);

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
    /// The KvCluster says that it is not available, and why; nobody was asked. That it is available again is watched.
    Unavailable(String),
    /// They were asked in vain.
    Unreachable {
        /// What they said last.
        why: String,
        /// When they are asked again.
        again: Duration,
    },
    /// Other Tenants ask them at the moment.
    Busy {
        /// When to look again at the latest.
        again: Duration,
    },
    /// They answer.
    Reached {
        /// Whom to ask.
        members: Members,
        /// What they hold under the tenant's name.
        stored: Option<Box<TenantStatus>>,
        /// The turn, which lasts as long as this is held.
        pass: Pass,
    },
}

impl Group {
    /// What the members hold for this very Tenant.
    #[must_use]
    pub fn stored_for(&self, tenant: &Tenant) -> Option<&TenantStatus> {
        self.stored()
            .filter(|stored| Some(&stored.config.uid) == tenant.metadata.uid.as_ref())
    }

    /// Whose name it is, by what the members hold. A Tenant of the same namespace and name has it whatever its uid: it was deleted and made
    /// again, and takes its data up.
    #[must_use]
    pub fn recorded(&self, tenant: &Tenant) -> Recorded<'_> {
        match (self, self.stored()) {
            (Group::Reached { .. }, stored) => recorded(tenant, stored),
            (_, _) => Recorded::Unknown,
        }
    }

    /// When to look again because of what was found here; none where the rest decides.
    #[must_use]
    pub fn again(&self) -> Option<Duration> {
        match self {
            Group::Unavailable(_) => Some(WATCHED),
            Group::Unreachable { again, .. } | Group::Busy { again } => Some(*again),
            Group::Reached { .. } => None,
        }
    }

    fn stored(&self) -> Option<&TenantStatus> {
        match self {
            Group::Unavailable(_) | Group::Unreachable { .. } | Group::Busy { .. } => None,
            Group::Reached { stored, .. } => stored.as_deref(),
        }
    }
}

fn recorded<'a>(tenant: &Tenant, stored: Option<&'a TenantStatus>) -> Recorded<'a> {
    match stored {
        None => Recorded::Free,
        Some(stored) if stored.config.owner == owner(tenant) => Recorded::Own,
        Some(stored) => Recorded::Of(&stored.config.owner),
    }
}

/// Fetches it.
pub async fn fetch(desk: &Desk, tenant: &Tenant) -> Fetched {
    let namespace = tenant.namespace().unwrap_or_default();
    let cluster = desk.cluster(&namespace, &tenant.spec.cluster_ref.name);
    let group = match &cluster {
        None => Group::Unavailable("there is no cluster".to_owned()),
        Some(cluster) => reach(desk, &namespace, tenant, cluster).await,
    };
    Fetched {
        cluster,
        group,
        rivals: desk.rivals(tenant),
    }
}

async fn reach(desk: &Desk, namespace: &str, tenant: &Tenant, cluster: &KvCluster) -> Group {
    if let Err(why) = availability(cluster) {
        return Group::Unavailable(why);
    }
    let key = (namespace.to_owned(), cluster.name_any());
    let pass = match desk.turns.take(&key, ObjectRef::from_obj(tenant), Instant::now()) {
        Turn::Taken(pass) => pass,
        Turn::Waits(again) => return Group::Busy { again },
        Turn::Closed(why, again) => return Group::Unreachable { why, again },
    };
    let in_vain = |error: &Error| {
        let why = chain(error);
        let again = desk.turns.asked_in_vain(&key, &why, Instant::now());
        Group::Unreachable { why, again }
    };
    let members = match Members::of(&desk.context, namespace, &key.1, cluster).await {
        Ok(members) => members,
        Err(error) => return in_vain(&error),
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
        Ok(stored) => {
            desk.turns.answered(&key);
            Group::Reached {
                members,
                stored: stored.map(Box::new),
                pass,
            }
        }
        Err(error) => in_vain(&error),
    }
}

/// Whether the members can be expected to answer: the KvCluster's own reconciliation asks them anyway, so no Tenant has to find it out.
///
/// # Errors
/// Why they cannot.
pub fn availability(cluster: &KvCluster) -> Result<(), String> {
    let status = cluster.status.as_ref();
    let name = cluster.name_any();
    match status.and_then(|status| find(&status.conditions, ConditionType::AVAILABLE)) {
        Some(available) if available.status == ConditionStatus::True.as_str() => Ok(()),
        Some(available) => Err(format!("the KvCluster {name} is not available: {}", available.message)),
        None => Err(format!("the KvCluster {name} is new")),
    }
}

#[cfg(test)]
mod tests {
    use kvfleet_api::{
        tenant::{TenantConfig, TenantLimits, TenantState},
        usage::Used,
    };

    use super::*;

    /// Whatever its uid: it was deleted and made again. Released or not: the survey may not have come by yet.
    #[test]
    fn what_the_log_holds_is_recorded() {
        let tenant = |name: &str| -> Tenant {
            serde_yaml::from_str(&format!(
                "{{apiVersion: kvfleet.dev/v1alpha1, kind: Tenant, metadata: {{name: {name}, namespace: apps, uid: u9}}, \
                 spec: {{clusterRef: {{name: prod}}, tenantName: x}}}}"
            ))
            .unwrap()
        };
        for state in [TenantState::Active, TenantState::Released] {
            let stored = TenantStatus {
                name: "x".to_owned(),
                id: 1,
                state,
                revision: 7,
                config: TenantConfig {
                    uid: "u1".to_owned(),
                    owner: "apps/x".to_owned(),
                    generation: 1,
                    cluster_generation: 1,
                    credential_generation: 1,
                    limits: TenantLimits::default(),
                },
                credential_issued_at: 0,
                usage: Used { storage: 0, keys: 0 },
            };
            assert_eq!(recorded(&tenant("x"), Some(&stored)), Recorded::Own);
            assert_eq!(recorded(&tenant("y"), Some(&stored)), Recorded::Of("apps/x"));
        }
        assert_eq!(recorded(&tenant("y"), None), Recorded::Free);
    }

    #[test]
    fn nobody_is_asked_before_the_cluster_is_available() {
        for (status, expected) in [
            ("{}", false),
            ("{conditions: []}", false),
            (
                "{conditions: [{type: Available, status: 'False', reason: QuorumLost, message: m, lastTransitionTime: '2026-01-01T00:00:00Z'}]}",
                false,
            ),
            (
                "{conditions: [{type: Available, status: Unknown, reason: R, message: m, lastTransitionTime: '2026-01-01T00:00:00Z'}]}",
                false,
            ),
            (
                "{conditions: [{type: Available, status: 'True', reason: R, message: m, lastTransitionTime: '2026-01-01T00:00:00Z'}]}",
                true,
            ),
        ] {
            let cluster: KvCluster = serde_yaml::from_str(&format!(
                "{{apiVersion: kvfleet.dev/v1alpha1, kind: KvCluster, metadata: {{name: prod}}, spec: {{storage: {{size: 1Gi}}}}, status: {status}}}"
            ))
            .unwrap();
            assert_eq!(availability(&cluster).is_ok(), expected, "{status}");
        }
    }
}
