//! Refusals and failures as problems, in one place so that the same reason has the same words wherever it is met. In: what `state`,
//! `raft` or `storage` said. Out: a problem without a trace id, which the port adds.

use std::time::Duration;

use kvfleet_api::{Code, Problem, error::Outcome};

use crate::{
    problem::Failure,
    raft::{NotEverywhere, ProposeError, ReadError},
    state::{Refusal, Response},
    storage::StoreError,
};

pub(super) fn problem(code: Code, detail: impl Into<String>) -> Failure {
    Problem::new(code, detail, "").into()
}

fn limited(code: Code, limit: u64, detail: impl Into<String>) -> Failure {
    let mut problem = Problem::new(code, detail, "");
    problem.limit = Some(limit);
    problem.into()
}

pub(super) fn suspended() -> Failure {
    problem(
        Code::TenantSuspended,
        "the tenant is suspended; its owner sets spec.access of the Tenant to end that",
    )
}

pub(super) fn read_only() -> Failure {
    problem(
        Code::TenantReadOnly,
        "the tenant takes no writes; its owner sets spec.access of the Tenant to ReadWrite to end that",
    )
}

pub(super) fn key_too_long(limit: u32) -> Failure {
    limited(
        Code::InvalidKey,
        limit.into(),
        format!("the key is too long: at most {limit} characters, and never over 2048 bytes of UTF-8"),
    )
}

/// The body was, or would be, longer than the tenant allows.
pub(crate) fn value_too_large(limit: u64) -> Failure {
    limited(Code::ValueTooLarge, limit, format!("the value may have at most {limit} bytes"))
}

pub(super) fn metadata_too_large(limit: u64) -> Failure {
    let mut problem = Problem::new(
        Code::InvalidParameter,
        format!("names and values of all KV-Meta- headers may have at most {limit} bytes together"),
        "",
    );
    problem.limit = Some(limit);
    problem.pointer = Some("KV-Meta-".to_owned());
    problem.into()
}

pub(crate) fn precondition_failed(current: u64) -> Failure {
    let detail = match current {
        0 => "the condition does not hold: the record is absent".to_owned(),
        _ => format!("the condition does not hold: the record has revision {current}; read it again and decide anew"),
    };
    let mut problem = Problem::new(Code::PreconditionFailed, detail, "");
    problem.current_revision = Some(current);
    problem.into()
}

pub(crate) fn key_not_found() -> Failure {
    problem(Code::KeyNotFound, "there is no such key, or it has expired")
}

pub(super) fn storage_quota(limit: u64, used: u64, wanted: u64) -> Failure {
    limited(
        Code::StorageQuotaExceeded,
        limit,
        format!(
            "the write would bring the tenant from {used} to {wanted} bytes, above its quota of {limit}; delete something or raise spec.quota.storage"
        ),
    )
}

pub(super) fn key_quota(limit: u64) -> Failure {
    limited(
        Code::KeyCountExceeded,
        limit,
        format!("the tenant has its {limit} keys already; delete some or raise spec.quota.keys"),
    )
}

/// A tenant at its quota may have expired records, and they have not been found or swept within the bounds of one request.
pub(super) fn not_swept() -> Failure {
    problem(
        Code::Overloaded,
        "the tenant is at its quota, and so many records have expired at once that its own have not been found among them yet; try again",
    )
}

/// What failed before the write itself was proposed, or after it was refused.
pub(super) fn untouched(Failure(mut problem): Failure) -> Failure {
    problem.outcome = Some(Outcome::NotApplied);
    Failure(problem)
}

/// The state machine's word on a record.
pub(super) fn refusal(refusal: Refusal) -> Failure {
    match refusal {
        Refusal::TenantUnknown => problem(
            Code::TokenInvalid,
            "the token is no longer accepted: its tenant has gone; read the token from the Secret again",
        ),
        Refusal::TenantSuspended => suspended(),
        Refusal::TenantReadOnly => read_only(),
        Refusal::KeyTooLong { limit } => key_too_long(limit),
        Refusal::ValueTooLarge { limit } => value_too_large(limit),
        Refusal::MetadataTooLarge { limit } => metadata_too_large(limit),
        Refusal::StorageQuotaExceeded { limit, used, wanted, .. } => storage_quota(limit, used, wanted),
        Refusal::KeyCountExceeded { limit, .. } => key_quota(limit),
        Refusal::TtlAboveMaximum { limit_ms } => limited(
            Code::InvalidTtl,
            limit_ms,
            format!("a record may live at most {limit_ms} ms here, and must not live for ever where the tenant has a ttl.max"),
        ),
        Refusal::TtlTooShort => limited(
            Code::InvalidTtl,
            1_000,
            "a record lives at least one second, so its end must lie a second ahead; 0 means for ever",
        ),
        Refusal::PreconditionFailed { current } => precondition_failed(current),
        Refusal::TooManyOperations { limit } => limited(
            Code::InvalidParameter,
            limit,
            format!("one write has at most {limit} operations and checks"),
        ),
        // Only commands of the admin port are refused like this.
        Refusal::TenantNameTaken { .. } | Refusal::StaleGeneration { .. } | Refusal::UidMismatch | Refusal::LevelSkipped { .. } => {
            unexpected("a refusal of a tenant's configuration")
        }
    }
}

/// An answer that does not belong to the command.
pub(super) fn response(response: &Response) -> Failure {
    let found = match response {
        Response::None => "nothing",
        Response::Refused(_) => "a refusal",
        Response::Written { .. } | Response::NotWritten { .. } => "the answer of another write",
        Response::Swept { .. } => "the answer of a sweep",
        Response::Tenant(_) | Response::TenantGone { .. } => "a tenant",
        Response::Settings(_) => "settings",
        Response::TokenSpent { .. } => "a join token",
        Response::Level(_) => "a feature level",
    };
    unexpected(found)
}

fn unexpected(found: &str) -> Failure {
    let mut problem = Problem::new(
        Code::Internal,
        format!("the state machine answered with {found}; please report this"),
        "",
    );
    problem.outcome = Some(Outcome::Unknown);
    problem.into()
}

/// A command that has no answer.
pub(super) fn proposal(error: ProposeError) -> Failure {
    let detail = error.to_string();
    let (code, outcome) = match error {
        ProposeError::NoLeader { outcome } => (Code::NoLeader, outcome),
        ProposeError::Deadline { outcome } => (Code::DeadlineExceeded, outcome),
        ProposeError::Draining => (Code::Draining, Outcome::NotApplied),
        ProposeError::TooLarge => (Code::ValueTooLarge, Outcome::NotApplied),
        ProposeError::NoRoom => (Code::InsufficientStorage, Outcome::NotApplied),
        ProposeError::NotYetSupported { .. } => (Code::NotYetSupported, Outcome::NotApplied),
        ProposeError::Overloaded => (Code::Overloaded, Outcome::NotApplied),
        ProposeError::Failed(_) => (Code::Internal, Outcome::Unknown),
    };
    let mut problem = Problem::new(code, detail, "");
    problem.outcome = Some(outcome);
    problem.into()
}

/// A majority has the write, and not every voter. What was asked for was not reached, and what was reached is named.
pub(super) fn not_everywhere(revision: u64, error: NotEverywhere) -> Failure {
    let detail = format!("the write stands: a majority has it, as revision {revision}; but {error}, and ack=all waits for every one");
    let mut problem = Problem::new(Code::DeadlineExceeded, detail, "");
    problem.outcome = Some(Outcome::Unknown);
    problem.current_revision = Some(revision);
    problem.into()
}

/// The write was made, and then something failed that the caller wanted to know.
pub(super) fn unconfirmed(Failure(mut problem): Failure) -> Failure {
    problem.outcome = Some(Outcome::Unknown);
    Failure(problem)
}

/// A read that could not be made.
pub(super) fn read(error: ReadError) -> Failure {
    let code = match &error {
        ReadError::NoLeader | ReadError::NotReady => Code::NoLeader,
        ReadError::Deadline => Code::DeadlineExceeded,
        ReadError::Draining => Code::Draining,
        ReadError::Failed(_) => Code::Internal,
    };
    problem(code, error.to_string())
}

/// What this member has applied may be older than the reader takes.
pub(super) fn older_than(bound: Duration, age: Option<Duration>) -> Failure {
    let bound = bound.as_millis();
    let found = match age {
        Some(age) => format!("what this member has may be {} ms old", age.as_millis()),
        None => "this member does not know how old what it has is".to_owned(),
    };
    problem(
        Code::TooStale,
        format!("{found}, and max_staleness is {bound} ms; try again, try another member, or allow more"),
    )
}

/// This member has not applied the revision that the reader wants to see.
pub(super) fn not_reached(wanted: u64, applied: u64) -> Failure {
    problem(
        Code::TooStale,
        format!(
            "this member has applied revision {applied} and not min_revision {wanted} before the deadline; try again or try another member"
        ),
    )
}

/// The reader wants to see what is far from here.
pub(super) fn far_ahead(wanted: u64, applied: u64) -> Failure {
    problem(
        Code::TooStale,
        format!(
            "this member has applied revision {applied}, and min_revision {wanted} is too far ahead to wait for: check the number (a revision of \
             another cluster, perhaps), or try another member"
        ),
    )
}

/// Rows that could not be read.
pub(super) fn store(error: &StoreError) -> Failure {
    match error {
        StoreError::Closed => problem(Code::Draining, "the member is shutting down; try another one"),
        StoreError::Reopening => problem(Code::NoLeader, error.to_string()),
        _ => {
            // What the disk said is for whoever runs the cluster; a tenant can only try again.
            tracing::error!(%error, "a read of the store failed");
            problem(Code::Internal, "the member cannot read its store; try again")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Level;

    #[test]
    fn what_the_shard_does_not_support_yet_is_told_with_the_level() {
        let Failure(problem) = proposal(ProposeError::NotYetSupported {
            needs: Level(3),
            level: Level(2),
        });
        assert_eq!((problem.status, problem.code), (501, Code::NotYetSupported));
        assert_eq!(problem.outcome, Some(Outcome::NotApplied));
        assert!(
            problem.detail.contains("needs feature level 3, and the shard is at level 2"),
            "{}",
            problem.detail
        );
    }
}
