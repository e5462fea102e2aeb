//! Who calls, and what that lets them do.

use axum::{
    extract::{Request, State},
    http::Method,
    middleware::Next,
    response::Response,
};
use kvfleet_api::{Code, Problem};

use crate::{
    cluster_id::ClusterId,
    problem,
    tls::{Identity, Role},
};

/// Lets a request through when its caller may make it: everybody of the cluster reads, the operator writes.
pub(super) async fn check(State(cluster): State<ClusterId>, request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    match request.extensions().get::<Identity>() {
        Some(caller) if caller.cluster == cluster && (reads || caller.role == Role::Operator) => next.run(request).await,
        Some(caller) if caller.cluster == cluster => refuse("a member's certificate may only read here; use the operator's"),
        Some(_) => refuse("the certificate is another cluster's; use one of this cluster"),
        None => refuse("the connection has no certificate; use one of this cluster"),
    }
}

/// The catalogue's code for "this identity may not": the admin port has no tenant to be forbidden, but one code per meaning.
fn refuse(detail: &str) -> Response {
    problem::answer(Problem::new(Code::ScopeMissing, detail, problem::trace_id()))
}
