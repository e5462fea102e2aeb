//! Problem documents as HTTP answers, for the ports that the process itself serves (health, metrics, admin).
//!
//! In: a [`Problem`]. Out: an `application/problem+json` answer with the problem's own status. Absent by design: the mapping of refusals
//! and failures to problems, which belongs to whoever met them.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    http::{HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use kvfleet_api::{Code, Problem};

/// Thirty-two hexadecimal digits, as W3C Trace Context names a trace.
pub fn trace_id() -> String {
    let mut id = String::with_capacity(32);
    push_random(&mut id);
    push_random(&mut id);
    id
}

/// Adds sixteen hexadecimal digits that no other call adds: a count, hashed with keys that the process drew at random. Asking the system for
/// randomness at each request would be a system call at each request.
pub fn push_random(text: &mut String) {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let digits = KEY.hash_one(NEXT.fetch_add(1, Ordering::Relaxed));
    let digit = |shift: u32| char::from_digit((digits >> shift & 0xf) as u32, 16).unwrap_or('0');
    text.extend((0..64).step_by(4).rev().map(digit));
}

/// A problem as the error of a handler.
#[derive(Debug)]
pub struct Failure(pub Box<Problem>);

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Failure(Box::new(problem))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        answer(*self.0)
    }
}

/// The answer that carries this problem.
pub fn answer(problem: Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    (
        status,
        [(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"))],
        body,
    )
        .into_response()
}

/// For a path that the port does not have.
pub async fn route_not_found(uri: Uri) -> Response {
    answer(Problem::new(
        Code::RouteNotFound,
        format!("this port has nothing at {}", uri.path()),
        trace_id(),
    ))
}

/// For a method that the path does not have.
pub async fn method_not_allowed(method: Method, uri: Uri) -> Response {
    answer(Problem::new(
        Code::MethodNotAllowed,
        format!("{} does not take {method}; `Allow` names what it takes", uri.path()),
        trace_id(),
    ))
}

/// Gives an error that axum itself answered (a body over its limit, a path that is no UTF-8) a problem for a body.
pub async fn in_every_error(response: Response) -> Response {
    let status = response.status();
    let described = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind == "application/problem+json");
    if described || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let code = match status {
        StatusCode::PAYLOAD_TOO_LARGE => Code::RequestTooLarge,
        status if status.is_server_error() => Code::Internal,
        _ => Code::InvalidParameter,
    };
    let mut problem = Problem::new(code, format!("the request cannot be read: {status}"), trace_id());
    problem.status = status.as_u16();
    answer(problem)
}
