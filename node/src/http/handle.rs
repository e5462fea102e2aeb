//! One request, from its head to its answer: finds the resource, runs its handler, describes a failure, counts and logs.
//!
//! What is logged of a request that failed is the tenant, the code and the trace id: never a key, a value or a token. A key that is absent
//! and a condition that does not hold are what programs ask for on purpose: they are logged at `debug` only. Of the others one a second is
//! logged for each code.

use std::{sync::Arc, time::Instant};

use axum::{
    body::Body,
    extract::Request,
    http::{Method, header},
    response::Response,
};
use hyper::body::Body as _;
use kvfleet_api::{Code, Problem};

use super::{
    Port, delete, describe, get, pages, put, refuse,
    request::Call,
    route::{Resource, Route},
    scan,
    trace::Trace,
};
use crate::{
    metrics::{Observation, Requests},
    problem::Failure,
};

/// The longest path with query. A key has at most 2,048 bytes, tripled by percent-encoding; a scan has four of them, and a cursor.
const LONGEST_TARGET: usize = 32 << 10;

/// The most bytes of headers: tenants' metadata (8 KiB), a token (4 KiB), and what proxies add.
const LONGEST_HEADERS: usize = 32 << 10;

pub(super) async fn handle(port: Arc<Port>, request: Request) -> Response {
    let begun = Instant::now();
    let (head, body) = request.into_parts();
    let trace = Trace::of(&head.headers);
    let method = Requests::method_label(&head.method);
    let route = Route::parse(head.uri.path());
    let (label, tenant) = route
        .as_ref()
        .map_or(("unmatched", String::new()), |route| (route.label(), route.tenant().to_owned()));
    let allow = route.as_ref().ok().map(|route| route.resource.allow());

    let mut call = Call::new(port, head, body, trace);
    let outcome = match check_size(&call).and(route) {
        Ok(route) => run(&mut call, route).await,
        Err(failure) => Err(failure),
    };
    let (mut response, code) = match outcome {
        Ok(response) => (response, None),
        Err(Failure(problem)) => {
            let code = problem.code;
            let response = describe::failure(&mut call, *problem, allow);
            let (status, trace_id) = (response.status().as_u16(), call.trace.id());
            let happened = Happened {
                tenant: &tenant,
                code,
                trace_id,
                method,
                route: label,
                status,
            };
            happened.log(&call.port.requests);
            (response, Some(code))
        }
    };
    call.details(&mut response);
    if call.head.method == Method::HEAD {
        without_body(&mut response);
    }
    call.port.requests.observe(Observation {
        route: label,
        method,
        status: response.status().as_u16(),
        code,
        elapsed: begun.elapsed(),
    });
    response
}

/// What the log says of a request that failed.
struct Happened<'a> {
    tenant: &'a str,
    code: Code,
    trace_id: &'a str,
    method: &'static str,
    route: &'static str,
    status: u16,
}

impl Happened<'_> {
    /// One line a second for each code; `left_out` is how many were not written since the last.
    fn log(self, requests: &Requests) {
        let Happened {
            tenant,
            code,
            trace_id,
            method,
            route,
            status,
        } = self;
        let name = code.as_str();
        // What a program asks for on purpose: a cache miss is no event.
        if matches!(code, Code::KeyNotFound | Code::PreconditionFailed) {
            tracing::debug!(tenant, code = name, trace_id, method, route, status, "request refused");
            return;
        }
        let Some(left_out) = requests.is_logged(code) else { return };
        if status >= 500 {
            tracing::warn!(tenant, code = name, trace_id, method, route, status, left_out, "request failed");
        } else {
            tracing::info!(tenant, code = name, trace_id, method, route, status, left_out, "request refused");
        }
    }
}

/// The length of a body says what a GET would have brought.
fn without_body(response: &mut Response) {
    let body = std::mem::take(response.body_mut());
    if let Some(length) = body.size_hint().exact().filter(|length| *length > 0) {
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
}

/// hyper has limits of its own, far above these, which it answers without a word.
fn check_size(call: &Call) -> Result<(), Failure> {
    let target = call.head.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if target > LONGEST_TARGET {
        return Err(refuse::too_large("the path with its query", LONGEST_TARGET, 414));
    }
    let headers: usize = call
        .head
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    if headers > LONGEST_HEADERS {
        return Err(refuse::too_large("all headers together", LONGEST_HEADERS, 431));
    }
    Ok(())
}

async fn run(call: &mut Call, route: Route) -> Result<Response<Body>, Failure> {
    let Route { resource, tenant } = route;
    let method = call.head.method.clone();
    let reads = matches!(method, Method::GET | Method::HEAD);
    // Everything but a read of one record is boxed: hyper moves the whole of this future at every request, however little of it is used.
    match resource {
        Resource::Page(code) if reads => pages::error(call, &code),
        Resource::Whoami if reads => Box::pin(pages::whoami(call)).await,
        Resource::Usage if reads => Box::pin(get::usage(call, tenant)).await,
        Resource::Keys if reads && !call.query_names("key") => Box::pin(scan::scan(call, tenant)).await,
        Resource::Keys | Resource::Key(_) => {
            let in_path = match resource {
                Resource::Key(raw) => Some(raw),
                _ => None,
            };
            match method {
                Method::GET | Method::HEAD => get::get(call, tenant, in_path).await,
                Method::PUT => Box::pin(put::put(call, tenant, in_path)).await,
                Method::DELETE => Box::pin(delete::delete(call, tenant, in_path)).await,
                _ => Err(not_allowed(call)),
            }
        }
        Resource::Page(_) | Resource::Whoami | Resource::Usage => Err(not_allowed(call)),
    }
}

fn not_allowed(call: &Call) -> Failure {
    let detail = format!(
        "{} is no call of this resource; the header Allow names those that are",
        call.head.method
    );
    Problem::new(Code::MethodNotAllowed, detail, "").into()
}
