//! Problems with the form of a request.

use kvfleet_api::{Code, Problem};

use crate::problem::Failure;

/// A query member or header that cannot be obeyed.
pub(super) fn parameter(name: &str, detail: impl AsRef<str>) -> Failure {
    pointed(Code::InvalidParameter, name, detail)
}

/// A problem of this code with the member or header that is at fault.
pub(super) fn pointed(code: Code, name: &str, detail: impl AsRef<str>) -> Failure {
    let mut problem = Problem::new(code, format!("{name}: {}", detail.as_ref()), "");
    problem.pointer = Some(name.to_owned());
    problem.into()
}

/// A limit given above its ceiling: it is never clamped.
pub(super) fn above(name: &str, ceiling: u64) -> Failure {
    let Failure(mut problem) = parameter(name, format!("it may be from 1 to {ceiling}"));
    problem.limit = Some(ceiling);
    Failure(problem)
}

/// A request whose head is too large. One code, two statuses: HTTP tells the target from the headers.
pub(super) fn too_large(what: &str, limit: usize, status: u16) -> Failure {
    let mut problem = Problem::new(Code::RequestTooLarge, format!("{what} may have at most {limit} bytes"), "");
    problem.status = status;
    problem.limit = u64::try_from(limit).ok();
    problem.into()
}
