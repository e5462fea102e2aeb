//! Conditions of both resources: their types, their reasons, and the one way to set them.
//!
//! In: what is true now. Out: a list of conditions that follows the Kubernetes conventions, where
//! `lastTransitionTime` moves only with the status. Absent: the decision what is true.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The type of a condition. The values are the constants here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConditionType(&'static str);

impl ConditionType {
    /// KvCluster: every shard has a leader and a quorum of ready voters.
    pub const AVAILABLE: Self = Self("Available");
    /// KvCluster: the operator has a step to take.
    pub const PROGRESSING: Self = Self("Progressing");
    /// KvCluster: something is missing, stuck, or cannot work.
    pub const DEGRADED: Self = Self("Degraded");
    /// KvCluster: Available, and neither Progressing nor Degraded. Tenant: Accepted, CredentialsReady, and this generation is
    /// in force on every member.
    pub const READY: Self = Self("Ready");
    /// Tenant: the cluster exists, consents, and the values are within its ceilings.
    pub const ACCEPTED: Self = Self("Accepted");
    /// Tenant: the Secret is as it should be.
    pub const CREDENTIALS_READY: Self = Self("CredentialsReady");

    /// The name in status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for ConditionType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

/// Why a condition has its status, for programs. The values are the constants here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reason(&'static str);

/// Reasons of a KvCluster's conditions.
impl Reason {
    /// Available: every shard has a leader and a quorum.
    pub const QUORUM_AVAILABLE: Self = Self("QuorumAvailable");
    /// Not Available: a shard has no quorum.
    pub const QUORUM_LOST: Self = Self("QuorumLost");
    /// Available, Degraded and Ready are unknown: the operator has no way to the members, which says nothing about them. Degraded: Kubernetes
    /// calls a member ready that does not answer the operator.
    pub const MEMBERS_UNREACHABLE: Self = Self("MembersUnreachable");
    /// Not Available: a shard has never been formed.
    pub const NOT_FORMED: Self = Self("NotFormed");
    /// Progressing: the Raft group is being made.
    pub const FORMING: Self = Self("Forming");
    /// Progressing: members are being added or removed.
    pub const SCALING: Self = Self("Scaling");
    /// Progressing: a member that lost its data comes back as a new one.
    pub const REPLACING_MEMBER: Self = Self("ReplacingMember");
    /// Progressing: pods are being brought to another template.
    pub const ROLLING_OUT: Self = Self("RollingOut");
    /// Progressing: not everything that the spec says is applied, and the message says what stopped it. Not Ready, of a Tenant: a member does
    /// not enforce this generation yet.
    pub const APPLYING: Self = Self("Applying");
    /// Progressing is false: everything is as the spec says.
    pub const CONVERGED: Self = Self("Converged");
    /// Progressing is false: `maintenance.paused` holds the operator back.
    pub const PAUSED: Self = Self("Paused");
    /// Degraded: a voter is missing or not ready.
    pub const MEMBER_MISSING: Self = Self("MemberMissing");
    /// Degraded: a pod that there shall be cannot be made, scheduled or started, and the message says why.
    pub const POD_BLOCKED: Self = Self("PodBlocked");
    /// Degraded: volumes of this name belong to other clusters, or to several.
    pub const FOREIGN_VOLUMES: Self = Self("ForeignVolumes");
    /// Degraded: members and status do not agree on whether the group was formed.
    pub const FORMATION_LOST: Self = Self("FormationLost");
    /// Degraded: the group's leader refuses a change of its members, and time alone will not alter that.
    pub const CHANGE_REFUSED: Self = Self("ChangeRefused");
    /// Degraded: an object of a wanted name belongs to someone else.
    pub const OBJECT_NOT_OWNED: Self = Self("ObjectNotOwned");
    /// Degraded: a Secret that members run with, or that belongs to their data, is lost, spoilt or another cluster's.
    pub const SECRET_LOST: Self = Self("SecretLost");
    /// Degraded: the spec holds a value that cannot work.
    pub const INVALID_SPEC: Self = Self("InvalidSpec");
    /// Degraded: the Kubernetes API or a member refused something, at once for what only a person can mend, after 30 s for the rest. Not
    /// Ready, of a Tenant: its configuration or its Secret could not be written.
    pub const APPLY_FAILED: Self = Self("ApplyFailed");
    /// Degraded is false: nothing is wrong.
    pub const HEALTHY: Self = Self("Healthy");
    /// Ready: everything is as it should be. For both resources.
    pub const READY: Self = Self("Ready");
}

/// Reasons of a Tenant's conditions.
impl Reason {
    /// Accepted: the cluster takes the tenant.
    pub const ACCEPTED: Self = Self("Accepted");
    /// Not Accepted: the KvCluster does not exist.
    pub const CLUSTER_NOT_FOUND: Self = Self("ClusterNotFound");
    /// Not Accepted: the KvCluster is being deleted.
    pub const CLUSTER_DELETED: Self = Self("ClusterDeleted");
    /// Not Accepted: another Tenant has the name.
    pub const TENANT_NAME_TAKEN: Self = Self("TenantNameTaken");
    /// Not Accepted: a value is above a ceiling of the cluster.
    pub const EXCEEDS_CEILING: Self = Self("ExceedsCeiling");
    /// Not Ready: the cluster cannot be reached, or has no quorum.
    pub const CLUSTER_UNAVAILABLE: Self = Self("ClusterUnavailable");
    /// Accepted is unknown: `maintenance.paused` of the KvCluster is true.
    pub const CLUSTER_PAUSED: Self = Self("ClusterPaused");
    /// CredentialsReady: the Secret is there.
    pub const CREDENTIALS_WRITTEN: Self = Self("CredentialsWritten");
    /// Not CredentialsReady: the Secret is not there yet.
    pub const CREDENTIALS_PENDING: Self = Self("CredentialsPending");
    /// Not CredentialsReady: the Secret's name is taken by someone else's.
    pub const SECRET_NOT_OWNED: Self = Self("SecretNotOwned");
    /// Not Ready: the Tenant is being deleted, with its data.
    pub const DELETING: Self = Self("Deleting");
}

impl Reason {
    /// The name in status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not.
    False,
    /// It cannot be told.
    Unknown,
}

impl ConditionStatus {
    /// The name in status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for ConditionStatus {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// What is true now, before it is compared with what was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Which condition.
    pub type_: ConditionType,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, for programs.
    pub reason: Reason,
    /// Why, for people: what is so, and what to do about it.
    pub message: String,
}

/// The conditions that `observations` make of the `previous` ones, in the order of the observations.
///
/// `lastTransitionTime` is `now` where the status changed or is new, otherwise as before: so the same observations give the
/// same list, and a converged object causes no write.
#[must_use]
pub fn transition(previous: &[Condition], observations: Vec<Observation>, observed_generation: Option<i64>, now: &Time) -> Vec<Condition> {
    observations
        .into_iter()
        .map(|observation| {
            let unchanged = find(previous, observation.type_).filter(|condition| condition.status == observation.status.as_str());
            Condition {
                type_: observation.type_.as_str().to_owned(),
                status: observation.status.as_str().to_owned(),
                reason: observation.reason.as_str().to_owned(),
                message: observation.message,
                observed_generation,
                last_transition_time: unchanged.map_or_else(|| now.clone(), |old| old.last_transition_time.clone()),
            }
        })
        .collect()
}

/// The condition of a type, if the list has it.
#[must_use]
pub fn find(conditions: &[Condition], type_: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == type_.as_str())
}

/// Whether a condition holds for exactly this generation of the spec.
#[must_use]
pub fn holds(conditions: &[Condition], type_: ConditionType, generation: Option<i64>) -> bool {
    find(conditions, type_)
        .is_some_and(|condition| condition.status == ConditionStatus::True.as_str() && condition.observed_generation == generation)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use super::*;

    fn at(text: &str) -> Time {
        Time(text.parse().unwrap())
    }

    fn observe(status: ConditionStatus, reason: Reason, message: &str) -> Vec<Observation> {
        vec![Observation {
            type_: ConditionType::READY,
            status,
            reason,
            message: message.to_owned(),
        }]
    }

    #[test]
    fn the_time_moves_only_with_the_status() {
        let (first, second) = (at("2026-01-01T00:00:00Z"), at("2026-01-02T00:00:00Z"));
        let waiting = transition(&[], observe(ConditionStatus::False, Reason::FORMING, "a"), Some(1), &first);
        assert_eq!(waiting[0].last_transition_time, first);

        let still = transition(
            &waiting,
            observe(ConditionStatus::False, Reason::QUORUM_LOST, "b"),
            Some(2),
            &second,
        );
        assert_eq!(still[0].last_transition_time, first);
        assert_eq!(
            (still[0].reason.as_str(), still[0].message.as_str(), still[0].observed_generation),
            ("QuorumLost", "b", Some(2))
        );

        let ready = transition(&still, observe(ConditionStatus::True, Reason::READY, ""), Some(2), &second);
        assert_eq!(ready[0].last_transition_time, second);
        assert_eq!(
            transition(
                &ready,
                observe(ConditionStatus::True, Reason::READY, ""),
                Some(2),
                &at("2026-01-03T00:00:00Z")
            ),
            ready
        );
    }

    #[test]
    fn a_condition_of_another_generation_does_not_hold() {
        let now = at("2026-01-01T00:00:00Z");
        let conditions = transition(&[], observe(ConditionStatus::True, Reason::READY, ""), Some(1), &now);
        assert!(holds(&conditions, ConditionType::READY, Some(1)));
        assert!(!holds(&conditions, ConditionType::READY, Some(2)));
        assert!(!holds(&conditions, ConditionType::AVAILABLE, Some(1)));
        assert!(!holds(&[], ConditionType::READY, None));
    }
}
