//! A write: a list of operations on records of one tenant. A `PUT` is a write of one.
//!
//! In: a draft, and the moment. Out: an answer per operation. A refused operation leaves nothing in the draft, whatever it had changed before
//! it was refused; a write that is to be done as a whole leaves nothing of the operations before it either. Absent: what an operation does
//! (`operation`).

use super::{
    Condition, Operation, Refusal, Response, Tenant, TenantId,
    apply::Stop,
    codec::numbered::{choice, message},
    draft::Draft,
    operation::{Done, checks},
};

/// Operations on records of one tenant, in this order. Each takes a revision of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Whose.
    pub tenant: TenantId,
    /// What must hold before anything is done; otherwise nothing is.
    pub checks: Vec<Check>,
    /// What to do.
    pub operations: Vec<Operation>,
    /// Whether a refused operation ends the write and takes back what was done before it; otherwise the others are done.
    pub all_or_nothing: bool,
}

// Number 2 is kept for the id of the request, by which a write that is sent again is known.
message!(Write {
    1 = tenant,
    3 = checks,
    4 = operations,
    5 = all_or_nothing,
});

/// What must hold of a record that the write need not touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Which.
    pub key: String,
    /// What.
    pub condition: Condition,
}

message!(Check { 1 = key, 2 = condition });

/// A part of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A check, counted from 0.
    Check(u32),
    /// An operation, counted from 0.
    Operation(u32),
}

choice!("part of a write", Part { 1 = Check(number), 2 = Operation(number) });

/// What became of an operation.
pub type Answer = Result<Done, Refusal>;

choice!("answer to an operation", Answer { 1 = Ok(done), 2 = Err(refusal) });

impl Write {
    /// How many checks and operations are done at most in one write: every member, and every write behind it, waits while it is applied.
    pub const PARTS: usize = 10_000;

    /// Of one operation.
    pub fn one(tenant: TenantId, operation: Operation) -> Self {
        Write {
            tenant,
            checks: Vec::new(),
            operations: vec![operation],
            all_or_nothing: false,
        }
    }

    pub(super) fn apply(self, draft: &mut Draft, now_ms: u64) -> Result<Response, Stop> {
        let tenant = checks::writable(&draft.tables, self.tenant)?;
        if self.checks.len() + self.operations.len() > Write::PARTS {
            return Err(Refusal::TooManyOperations {
                limit: Write::PARTS as u64,
            }
            .into());
        }
        for (number, check) in (0..).zip(&self.checks) {
            if let Err(refusal) = refused(check.look(draft, now_ms, &tenant))? {
                let part = Part::Check(number);
                return Ok(Response::NotWritten { part, refusal });
            }
        }
        if self.all_or_nothing {
            whole(self.operations, draft, now_ms, &tenant)
        } else {
            each(self.operations, draft, now_ms, &tenant)
        }
    }
}

impl Check {
    fn look(&self, draft: &mut Draft, now_ms: u64, tenant: &Tenant) -> Result<(), Stop> {
        let record = draft.record(tenant.id, &self.key)?.filter(|record| !record.is_expired(now_ms));
        Ok(checks::condition(self.condition, record.map(|record| record.revision))?)
    }
}

/// Every operation by itself.
fn each(operations: Vec<Operation>, draft: &mut Draft, now_ms: u64, tenant: &Tenant) -> Result<Response, Stop> {
    let mut answers = Vec::with_capacity(operations.len());
    for operation in operations {
        answers.push(if operation.decides_first() {
            refused(operation.apply(draft, now_ms, tenant))?
        } else {
            attempt(draft, |draft| operation.apply(draft, now_ms, tenant))?
        });
    }
    Ok(Response::Written { answers })
}

/// All operations, or none.
fn whole(operations: Vec<Operation>, draft: &mut Draft, now_ms: u64, tenant: &Tenant) -> Result<Response, Stop> {
    let mut answers = Vec::with_capacity(operations.len());
    let all = |draft: &mut Draft| {
        for operation in operations {
            answers.push(Ok(operation.apply(draft, now_ms, tenant)?));
        }
        Ok(())
    };
    Ok(match attempt(draft, all)? {
        Ok(()) => Response::Written { answers },
        Err(refusal) => Response::NotWritten {
            part: Part::Operation(u32::try_from(answers.len()).unwrap_or(u32::MAX)),
            refusal,
        },
    })
}

/// What is refused half way is as if it had not begun.
pub(super) fn attempt<T>(draft: &mut Draft, run: impl FnOnce(&mut Draft) -> Result<T, Stop>) -> Result<Result<T, Refusal>, Stop> {
    let before = draft.mark();
    let outcome = refused(run(draft))?;
    match outcome {
        Ok(_) => draft.keep(before),
        Err(_) => draft.roll_back(before),
    }
    Ok(outcome)
}

/// A refusal apart from what ends the member.
fn refused<T>(outcome: Result<T, Stop>) -> Result<Result<T, Refusal>, Stop> {
    match outcome {
        Ok(done) => Ok(Ok(done)),
        Err(Stop::Refused(refusal)) => Ok(Err(refusal)),
        Err(store @ Stop::Store(_)) => Err(store),
    }
}
