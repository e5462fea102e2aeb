//! A failure as an answer: the problem document, and the headers that HTTP wants beside some of them.

use axum::{
    http::{HeaderValue, header},
    response::Response,
};
use kvfleet_api::{Code, Problem};

use super::request::Call;
use crate::problem;

pub(super) fn failure(call: &mut Call, mut problem: Problem, allow: Option<&'static str>) -> Response {
    problem.trace_id = call.trace.id().to_owned();
    let code = problem.code;
    let current = problem.current_revision;
    let mut response = problem::answer(problem);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    match code {
        Code::TokenMissing => {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"kvfleet\""));
        }
        Code::TokenInvalid | Code::TokenExpired => {
            let value = HeaderValue::from_static("Bearer realm=\"kvfleet\", error=\"invalid_token\"");
            headers.insert(header::WWW_AUTHENTICATE, value);
        }
        Code::ScopeMissing => {
            let value = HeaderValue::from_static("Bearer realm=\"kvfleet\", error=\"insufficient_scope\"");
            headers.insert(header::WWW_AUTHENTICATE, value);
        }
        Code::MethodNotAllowed => {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow.unwrap_or_default()));
        }
        Code::Overloaded => {
            // Whoever holds what is wanted needs about as long for a large body or answer.
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        Code::TooStale => {
            // By then the member has heard the leader a dozen times, if it is going to.
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        Code::PreconditionFailed | Code::DeadlineExceeded => {
            if let Some(current) = current.filter(|current| *current != 0) {
                call.revision = Some(current);
            }
        }
        _ => {}
    }
    if call.upload.leave() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
