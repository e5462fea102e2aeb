//! What stops a reconciliation, and what its kind means for the next one.
//!
//! In: errors of the API server, of members and of certificates. Out: an [`Error`] whose [`Kind`] decides when to try again and whether a
//! person is told. Absent: the conditions, which each controller writes itself.

use std::time::Duration;

use kvfleet_client::admin;
use kvfleet_crds::conditions::Reason;

/// What stops a reconciliation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or could not be reached.
    #[error("cannot {what}")]
    Kubernetes {
        /// What was tried, such as `apply Service storage/prod`.
        what: String,
        /// Why not.
        source: Box<kube::Error>,
    },
    /// A member refused or could not be reached.
    #[error("cannot {what}")]
    Member {
        /// What was tried, such as `put the settings at prod-s0-0`.
        what: String,
        /// Why not.
        source: Box<admin::Error>,
    },
    /// An object of a wanted name is someone else's.
    #[error("{kind} {name} exists and is not this object's: delete or rename it, and it will be made")]
    NotOwned {
        /// The kind.
        kind: String,
        /// The name.
        name: String,
    },
    /// Something must come first, and its coming triggers the next attempt or a poll finds it.
    #[error("{0}")]
    Waits(String),
    /// A Secret that cannot be made anew is lost or unusable.
    #[error("the Secret {name} {problem}: {remedy}")]
    SecretLost {
        /// The Secret.
        name: String,
        /// What is wrong.
        problem: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The spec holds a value that cannot work.
    #[error("{field}: {problem}")]
    InvalidSpec {
        /// The field.
        field: &'static str,
        /// What is wrong with it, and the remedy.
        problem: String,
    },
    /// What was found forbids to go on, under the reason of the Degraded condition.
    #[error("{message}")]
    Halted {
        /// The reason.
        reason: Reason,
        /// What is so, and what to do.
        message: String,
    },
    /// An object of the last owner of this name is being collected.
    #[error("{kind} {name} of a deleted {owner} is still being removed")]
    BeingCollected {
        /// The kind.
        kind: String,
        /// The name.
        name: String,
        /// The kind of its owner.
        owner: String,
    },
    /// A key or a certificate cannot be made.
    #[error("cannot make {what}: {reason}")]
    Certificate {
        /// What.
        what: &'static str,
        /// Why not.
        reason: String,
    },
}

/// What an error means for the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It may pass by itself: soon again, and nobody is told.
    Transient,
    /// The object has changed since it was read: at once again.
    Conflict,
    /// Something must come first: again at a calm pace.
    Waits,
    /// A person has to act: they are told, and it is tried again rarely.
    Refused,
}

impl Error {
    /// Wraps an error of the API server.
    pub fn kubernetes(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |source| Error::Kubernetes {
            what,
            source: Box::new(source),
        }
    }

    /// Wraps an error of a member.
    pub fn member(what: impl Into<String>) -> impl FnOnce(admin::Error) -> Self {
        let what = what.into();
        move |source| Error::Member {
            what,
            source: Box::new(source),
        }
    }

    /// Whether the operator lacks the right to do it. The API server answers 403 for quotas, limit ranges, admission policies and webhooks
    /// too; those are about the object, and no RoleBinding helps.
    #[must_use]
    pub fn lacks_right(&self) -> bool {
        let Error::Kubernetes { source, .. } = self else { return false };
        let kube::Error::Api(status) = source.as_ref() else { return false };
        let admission = ["exceeded quota", "failed quota", "admission webhook", "ValidatingAdmissionPolicy"];
        // The API server's own words, whichever authorizer said no: `User "…" cannot create resource "secrets" in API group ""`.
        status.code == 403
            && status.message.contains("User \"")
            && status.message.contains(" cannot ")
            && !admission.iter().any(|words| status.message.contains(words))
    }

    /// Whether it waits for a step that it takes part in, as a learner does that catches up. That may last as long as it likes.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        matches!(self, Error::Waits(_))
    }

    /// Whether it cannot be made because its namespace is being deleted: no attempt will succeed.
    #[must_use]
    pub fn is_namespace_terminating(&self) -> bool {
        let Error::Kubernetes { source, .. } = self else { return false };
        let kube::Error::Api(status) = source.as_ref() else { return false };
        let causes = status.details.iter().flat_map(|details| &details.causes);
        causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
    }

    /// What it means for the next attempt.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Error::Kubernetes { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => match status.code {
                    409 => Kind::Conflict,
                    // A RoleBinding takes a moment to reach the authorizer, and a new object to reach the admission policies.
                    403 => Kind::Transient,
                    422 if status.message.contains("no params found") => Kind::Transient,
                    429 | 500.. => Kind::Transient,
                    404 => Kind::Waits,
                    _ => Kind::Refused,
                },
                _ => Kind::Transient,
            },
            Error::Member { source, .. } if source.is_retryable() => Kind::Transient,
            Error::Member { .. } => Kind::Waits,
            Error::Waits(_) => Kind::Waits,
            Error::BeingCollected { .. } => Kind::Transient,
            Error::NotOwned { .. }
            | Error::SecretLost { .. }
            | Error::InvalidSpec { .. }
            | Error::Halted { .. }
            | Error::Certificate { .. } => Kind::Refused,
        }
    }

    /// When to try again, given how often it has failed in a row.
    #[must_use]
    pub fn retry_after(&self, failures: u32) -> Duration {
        match self.kind() {
            Kind::Conflict => Duration::from_millis(50),
            Kind::Transient => Duration::from_millis(100)
                .saturating_mul(1 << failures.min(7))
                .min(Duration::from_secs(10)),
            Kind::Waits => Duration::from_secs(2),
            Kind::Refused => Duration::from_secs(15),
        }
    }
}

/// An error with all its causes, for a log line or a condition.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some foreign errors repeat their cause in their own text.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn answered(json: serde_json::Value) -> Error {
        let status: kube::core::Status = serde_json::from_value(json).unwrap();
        Error::kubernetes("apply RoleBinding a/b")(kube::Error::Api(Box::new(status)))
    }

    #[test]
    fn a_terminating_namespace_is_told_from_a_missing_right() {
        let terminating = answered(serde_json::json!({
            "status": "Failure", "code": 403, "reason": "Forbidden", "message": "unable to create new content",
            "details": {"name": "b", "kind": "rolebindings", "causes": [{"reason": "NamespaceTerminating", "message": "namespace a is being terminated"}]}
        }));
        assert!(terminating.is_namespace_terminating() && !terminating.lacks_right());
        let lacking = refused(403, LACKING);
        assert!(!lacking.is_namespace_terminating() && lacking.lacks_right());
        assert!(!Error::Waits("for a person".to_owned()).lacks_right());
    }

    const LACKING: &str = r#"secrets "prod-jwt" is forbidden: User "system:serviceaccount:kvfleet-system:kvfleet" cannot get resource "secrets" in API group "" in the namespace "a""#;

    fn refused(code: u16, message: &str) -> Error {
        answered(serde_json::json!({"status": "Failure", "code": code, "reason": "Forbidden", "message": message}))
    }

    #[test]
    fn a_quota_and_an_admission_policy_are_told_from_a_missing_right() {
        for message in [
            r#"secrets "acme-kv-credentials" is forbidden: exceeded quota: s, requested: count/secrets=1, used: count/secrets=4, limited: count/secrets=4"#,
            r#"pods "prod-s0-0" is forbidden: failed quota: q: must specify limits.cpu for: kvnode"#,
            r#"admission webhook "validation.gatekeeper.sh" denied the request: User "x" cannot have this"#,
            r#"services "prod" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: User "x" cannot have this"#,
        ] {
            assert!(!refused(403, message).lacks_right(), "{message}");
        }
        assert!(!refused(409, LACKING).lacks_right(), "only a 403 denies");
    }
}
