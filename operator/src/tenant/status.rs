//! What a Tenant's status says, and who is told when it changes.
//!
//! In: what a reconciliation found. Out: status, one pure function per condition, written only when it differs; an event when the Tenant
//! becomes ready, or is held back by something that a person can change. Absent: figures that move with traffic: usage goes in steps.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
    runtime::events::EventType,
};
use kvfleet_api::tenant as placed;
use kvfleet_crds::{
    Tenant, TenantStatus,
    conditions::{ConditionStatus, ConditionType, Observation, Reason, find, transition},
    names::MANAGER,
    quantity::Quantity,
    tenant::{ResolvedClusterRef, TenantUsage},
};
use serde_json::json;

use super::{
    apply::CredentialsState,
    desk::Desk,
    validate::{Rejection, endpoint, secret_name, tenant_name},
};
use crate::error::Error;

/// What a reconciliation found.
#[derive(Clone, Debug)]
pub struct Report {
    /// Whether the cluster takes the tenant.
    pub acceptance: Acceptance,
    /// The tenant as the log has it for this very Tenant, perhaps with an earlier generation.
    pub placed: Option<Box<placed::TenantStatus>>,
    /// Whether `placed` is this generation, and which members do not enforce it yet.
    pub progress: Progress,
    /// How the Secret stands.
    pub credentials: CredentialsState,
}

/// Whether the cluster takes the tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acceptance {
    /// It does.
    Accepted,
    /// It does not.
    Rejected(Rejection),
    /// It cannot be asked, and why.
    Unknown(String),
    /// It is paused: nothing is asked of it.
    Paused,
    /// It may, but something stopped the way there, and what.
    Refused(String),
}

/// How far this generation has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is in force on every member.
    InForce,
    /// It is in the log; these members do not enforce it yet.
    Behind(Vec<String>),
    /// It is not in the log, or cannot be.
    NotPlaced,
}

/// Writes what was found, if it is new, and tells who asks.
///
/// # Errors
/// [`Error::Kubernetes`]
pub async fn write(desk: &Desk, tenant: &Tenant, report: &Report) -> Result<(), Error> {
    let old = tenant.status.clone().unwrap_or_default();
    let uid = tenant.uid().unwrap_or_default();
    let mut new = status(tenant, report, &Time(Timestamp::now()));
    let due = old.usage.is_none() || desk.is_usage_due(&uid);
    if !due {
        new.usage.clone_from(&old.usage);
    }
    if new == old {
        return Ok(());
    }
    store(desk, tenant, &new).await?;
    if due && new.usage != old.usage {
        desk.set_usage_written(&uid);
    }
    if let Some((type_, reason, note)) = event(&old, &new) {
        desk.context.event(tenant, type_, &reason, "Reconcile", note).await;
    }
    Ok(())
}

/// Says that a Tenant is being deleted and what it waits for.
///
/// # Errors
/// [`Error::Kubernetes`]
pub async fn write_deleting(desk: &Desk, tenant: &Tenant, why: &str) -> Result<(), Error> {
    let old = tenant.status.clone().unwrap_or_default();
    if find(&old.conditions, ConditionType::READY).is_some_and(|ready| ready.reason == Reason::DELETING.as_str()) {
        return Ok(());
    }
    let message = format!("being deleted; its data cannot be reached now, and this follows by itself: {why}");
    let observations = vec![observation(ConditionType::READY, ConditionStatus::False, Reason::DELETING, message)];
    let mut new = old.clone();
    new.observed_generation = tenant.metadata.generation;
    new.conditions = transition(&old.conditions, observations, tenant.metadata.generation, &Time(Timestamp::now()));
    store(desk, tenant, &new).await
}

async fn store(desk: &Desk, tenant: &Tenant, status: &TenantStatus) -> Result<(), Error> {
    let name = tenant.name_any();
    let api: Api<Tenant> = Api::namespaced(desk.context.client.clone(), &tenant.namespace().unwrap_or_default());
    let change = json!({
        "apiVersion": Tenant::api_version(&()),
        "kind": Tenant::kind(&()),
        "metadata": { "name": name, "uid": tenant.metadata.uid },
        "status": status,
    });
    api.patch_status(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&change))
        .await
        .map_err(Error::kubernetes(format!("write the status of Tenant {name}")))?;
    Ok(())
}

/// The whole status.
fn status(tenant: &Tenant, report: &Report, now: &Time) -> TenantStatus {
    let old = tenant.status.clone().unwrap_or_default();
    let observations = vec![ready(report), accepted(report), credentials_ready(report)];
    let mut conditions = transition(&old.conditions, observations, tenant.metadata.generation, now);
    keep_first_excuse(&old.conditions, &mut conditions);
    let placed = report.placed.as_deref();
    let has_cluster = !matches!(
        &report.acceptance,
        Acceptance::Rejected(Rejection { reason, .. }) if *reason == Reason::CLUSTER_NOT_FOUND
    );
    TenantStatus {
        observed_generation: tenant.metadata.generation,
        conditions,
        tenant_name: Some(tenant_name(tenant)),
        cluster_ref: Some(ResolvedClusterRef {
            name: tenant.spec.cluster_ref.name.clone(),
            namespace: tenant.namespace().unwrap_or_default(),
        }),
        shard: placed.map(|_| 0).or(old.shard),
        endpoint: has_cluster.then(|| endpoint(tenant)),
        applied_revision: match (&report.progress, placed) {
            (Progress::InForce, Some(placed)) => Some(placed.revision),
            _ => None,
        },
        usage: placed.map(usage).or(old.usage),
        credentials_secret: match &report.credentials {
            CredentialsState::Written => Some(secret_name(tenant)),
            // Still the one that was written last: if the spec names another, this one is to be removed.
            CredentialsState::Pending(_) | CredentialsState::NotOwned(_) | CredentialsState::Refused(_) => old.credentials_secret,
        },
    }
}

/// A cluster that cannot be asked is tried again and again, and every try may fail in another way: the first one is said, once.
fn keep_first_excuse(old: &[Condition], new: &mut [Condition]) {
    let unavailable = Reason::CLUSTER_UNAVAILABLE.as_str();
    for condition in new.iter_mut().filter(|condition| condition.reason == unavailable) {
        if let Some(before) = old.iter().find(|old| old.type_ == condition.type_ && old.reason == unavailable) {
            condition.message.clone_from(&before.message);
        }
    }
}

fn accepted(report: &Report) -> Observation {
    let (status, reason, message) = match &report.acceptance {
        Acceptance::Accepted => (ConditionStatus::True, Reason::ACCEPTED, "the cluster takes the tenant".to_owned()),
        Acceptance::Rejected(rejection) => (ConditionStatus::False, rejection.reason, rejection.message.clone()),
        Acceptance::Unknown(why) => (ConditionStatus::Unknown, Reason::CLUSTER_UNAVAILABLE, unavailable(why)),
        Acceptance::Paused => (ConditionStatus::Unknown, Reason::CLUSTER_PAUSED, paused()),
        Acceptance::Refused(why) => (ConditionStatus::Unknown, Reason::APPLY_FAILED, not_applied(why)),
    };
    observation(ConditionType::ACCEPTED, status, reason, message)
}

fn credentials_ready(report: &Report) -> Observation {
    let (status, reason, message) = match &report.credentials {
        CredentialsState::Written => (
            ConditionStatus::True,
            Reason::CREDENTIALS_WRITTEN,
            "the Secret holds the tenant's name, endpoint and token".to_owned(),
        ),
        CredentialsState::Pending(why) => (ConditionStatus::False, Reason::CREDENTIALS_PENDING, why.clone()),
        CredentialsState::NotOwned(why) => (ConditionStatus::False, Reason::SECRET_NOT_OWNED, why.clone()),
        CredentialsState::Refused(why) => (ConditionStatus::False, Reason::APPLY_FAILED, not_applied(why)),
    };
    observation(ConditionType::CREDENTIALS_READY, status, reason, message)
}

fn ready(report: &Report) -> Observation {
    let (status, reason, message) = match (&report.acceptance, &report.progress, &report.credentials) {
        (Acceptance::Accepted, Progress::InForce, CredentialsState::Written) => (
            ConditionStatus::True,
            Reason::READY,
            "this configuration is in force on every member".to_owned(),
        ),
        (Acceptance::Accepted, Progress::Behind(members), _) => (
            ConditionStatus::False,
            Reason::APPLYING,
            format!("not yet in force on {}", members.join(", ")),
        ),
        (Acceptance::Accepted, Progress::NotPlaced, _) => (
            ConditionStatus::False,
            Reason::APPLYING,
            "this configuration is not yet stored in the cluster".to_owned(),
        ),
        (Acceptance::Accepted, Progress::InForce, _) => {
            let credentials = credentials_ready(report);
            (ConditionStatus::False, credentials.reason, credentials.message)
        }
        (Acceptance::Rejected(rejection), _, _) => (ConditionStatus::False, rejection.reason, rejection.message.clone()),
        (Acceptance::Unknown(why), _, _) => (ConditionStatus::False, Reason::CLUSTER_UNAVAILABLE, unavailable(why)),
        (Acceptance::Paused, _, _) => (ConditionStatus::False, Reason::CLUSTER_PAUSED, paused()),
        (Acceptance::Refused(why), _, _) => (ConditionStatus::False, Reason::APPLY_FAILED, not_applied(why)),
    };
    observation(ConditionType::READY, status, reason, message)
}

fn unavailable(why: &str) -> String {
    format!("the cluster cannot be asked now; this follows by itself: {why}")
}

fn paused() -> String {
    "maintenance.paused of the KvCluster is true: what was in force stays so, and this Tenant follows when the pause ends".to_owned()
}

fn not_applied(why: &str) -> String {
    format!("not everything of this Tenant is applied, and it is tried again: {why}")
}

fn observation(type_: ConditionType, status: ConditionStatus, reason: Reason, message: String) -> Observation {
    Observation {
        type_,
        status,
        reason,
        message,
    }
}

/// In steps of 1% of the quota, rounded down. Without a quota to speak of, a step is one.
fn usage(placed: &placed::TenantStatus) -> TenantUsage {
    let limits = &placed.config.limits;
    let floor = |used: u64, quota: u64| {
        let step = (quota / 100).max(1);
        used / step * step
    };
    let percent = u128::from(placed.usage.storage) * 100 / u128::from(limits.quota_storage.max(1));
    TenantUsage {
        storage: Quantity::from(floor(placed.usage.storage, limits.quota_storage)),
        keys: floor(placed.usage.keys, limits.quota_keys),
        storage_percent: u32::try_from(percent).unwrap_or(u32::MAX),
    }
}

/// Whether what is in use has moved by a step since status was written.
#[must_use]
pub fn has_usage_moved(tenant: &Tenant, placed: &placed::TenantStatus) -> bool {
    tenant.status.as_ref().and_then(|status| status.usage.as_ref()) != Some(&usage(placed))
}

/// What is told: that the Tenant is ready, or that it waits for a person. Passing states are not worth an event.
fn event(old: &TenantStatus, new: &TenantStatus) -> Option<(EventType, String, String)> {
    let told =
        |status: &TenantStatus| find(&status.conditions, ConditionType::READY).map(|ready| (ready.status.clone(), ready.reason.clone()));
    let ready = find(&new.conditions, ConditionType::READY)?;
    if told(old) == told(new) {
        return None;
    }
    let passing = [
        Reason::APPLYING,
        Reason::CREDENTIALS_PENDING,
        Reason::CLUSTER_UNAVAILABLE,
        Reason::CLUSTER_PAUSED,
        Reason::DELETING,
    ];
    if passing.iter().any(|reason| reason.as_str() == ready.reason) {
        return None;
    }
    let type_ = if ready.status == ConditionStatus::True.as_str() {
        EventType::Normal
    } else {
        EventType::Warning
    };
    Some((type_, ready.reason.clone(), ready.message.clone()))
}

#[cfg(test)]
mod tests;
