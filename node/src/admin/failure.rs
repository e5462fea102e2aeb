//! Refusals and failures as problems.

use kvfleet_api::{Code, Problem, error::Outcome};

use crate::{
    problem::trace_id,
    raft::{ProposeError, ReadError},
    state::Refusal,
};

pub(super) fn internal(detail: impl Into<String>) -> Problem {
    Problem::new(Code::Internal, detail, trace_id())
}

pub(super) fn conflict(detail: impl Into<String>) -> Problem {
    Problem::new(Code::Conflict, detail, trace_id())
}

/// A proposal that brought no answer.
pub(super) fn proposal(error: ProposeError) -> Problem {
    let with = |code: Code, outcome: Outcome, detail: &str| {
        let mut problem = Problem::new(code, detail, trace_id());
        problem.outcome = Some(outcome);
        problem
    };
    match error {
        ProposeError::NoLeader { outcome } => with(Code::NoLeader, outcome, "the shard has no leader at the moment; try again"),
        ProposeError::Deadline { outcome } => with(
            Code::DeadlineExceeded,
            outcome,
            "the shard did not answer in time; the call may be repeated",
        ),
        ProposeError::Draining => with(Code::Draining, Outcome::NotApplied, "this member is shutting down; ask another"),
        ProposeError::TooLarge => Problem::new(Code::InvalidBody, "the command is larger than a log entry may be", trace_id()),
        // Only of a tenant's own commands.
        error @ ProposeError::Overloaded => with(Code::Overloaded, Outcome::NotApplied, &error.to_string()),
        error @ ProposeError::NoRoom => with(Code::InsufficientStorage, Outcome::NotApplied, &error.to_string()),
        error @ ProposeError::NotYetSupported { .. } => with(Code::NotYetSupported, Outcome::NotApplied, &error.to_string()),
        ProposeError::Failed(reason) => internal(reason),
    }
}

/// A read that could not be shown to be current.
pub(super) fn read(error: ReadError) -> Problem {
    let detail = error.to_string();
    match error {
        ReadError::NoLeader | ReadError::NotReady => Problem::new(Code::NoLeader, detail, trace_id()),
        ReadError::Deadline => Problem::new(Code::DeadlineExceeded, detail, trace_id()),
        ReadError::Draining => Problem::new(Code::Draining, detail, trace_id()),
        ReadError::Failed(_) => internal(detail),
    }
}

/// A command that the state machine refused.
pub(super) fn refusal(refusal: &Refusal) -> Problem {
    match refusal {
        Refusal::TenantNameTaken { owner } => {
            let detail =
                format!("the name belongs to the Tenant {owner}; choose another tenantName, or delete that Tenant and its data first");
            Problem::new(Code::TenantNameTaken, detail, trace_id())
        }
        Refusal::StaleGeneration { field, stored } => {
            let mut problem = conflict(format!(
                "{field} is below the stored {stored}: a newer configuration is in force; read it and send a newer one"
            ));
            problem.pointer = Some(format!("/{field}"));
            problem
        }
        Refusal::UidMismatch => {
            let mut problem = conflict("the uid is not the stored one: the tenant belongs to another Tenant object");
            problem.pointer = Some("uid".to_owned());
            problem
        }
        // The other refusals answer commands on records, which this port does not propose.
        other => internal(format!("the state machine refused the command: {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Level;

    #[test]
    fn what_the_shard_does_not_support_yet_is_told_with_the_level() {
        let problem = proposal(ProposeError::NotYetSupported {
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
