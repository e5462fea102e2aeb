//! Answers that have nothing to do with records: who the caller is, and what the error codes mean.

use std::sync::Arc;

use axum::{
    http::{HeaderValue, header},
    response::Response,
};
use kvfleet_api::{Code, Problem};
use serde::Serialize;

use super::{get, request::Call};
use crate::{
    app::{Action, Principal, Verb},
    problem::Failure,
};

macro_rules! pages {
    ($($code:ident $file:literal),* $(,)?) => {
        /// The page of a code. A code without one does not compile.
        const fn page(code: Code) -> &'static str {
            match code {
                $(Code::$code => include_str!(concat!("../../../docs/errors/", $file, ".md")),)*
            }
        }
    };
}

pages! {
    InvalidKey "invalid-key",
    InvalidTtl "invalid-ttl",
    InvalidCursor "invalid-cursor",
    InvalidBody "invalid-body",
    InvalidParameter "invalid-parameter",
    TokenMissing "token-missing",
    TokenInvalid "token-invalid",
    TokenExpired "token-expired",
    TenantForbidden "tenant-forbidden",
    ScopeMissing "scope-missing",
    StorageQuotaExceeded "storage-quota-exceeded",
    KeyCountExceeded "key-count-exceeded",
    TenantSuspended "tenant-suspended",
    TenantReadOnly "tenant-read-only",
    KeyNotFound "key-not-found",
    RouteNotFound "route-not-found",
    MethodNotAllowed "method-not-allowed",
    RequestTimeout "request-timeout",
    Conflict "conflict",
    TenantNameTaken "tenant-name-taken",
    PreconditionFailed "precondition-failed",
    ValueTooLarge "value-too-large",
    RequestTooLarge "request-too-large",
    UnsupportedMediaType "unsupported-media-type",
    Internal "internal",
    NoLeader "no-leader",
    Draining "draining",
    Quarantined "quarantined",
    Overloaded "overloaded",
    TooStale "too-stale",
    DeadlineExceeded "deadline-exceeded",
    InsufficientStorage "insufficient-storage",
    NotYetSupported "not-yet-supported",
}

/// `GET /api/v1/docs/errors/{code}`: open to everybody, like any manual.
pub(super) fn error(call: &Call, code: &str) -> Result<Response, Failure> {
    call.query()?.finish()?;
    let known = Code::ALL.iter().find(|known| known.as_str() == code);
    let Some(code) = known else {
        let detail = format!("there is no error `{code}`; the code is the last part of a problem's `type`");
        return Err(Problem::new(Code::RouteNotFound, detail, "").into());
    };
    let mut response = get::typed("text/markdown; charset=utf-8", page(*code).as_bytes().to_vec());
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    Ok(response)
}

#[derive(Serialize)]
struct Whoami<'a> {
    cluster: &'a str,
    tenant: &'a str,
    scope: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

/// `GET /api/v1/whoami`: what the token is good for, if it is good.
pub(super) async fn whoami(call: &mut Call) -> Result<Response, Failure> {
    let claims = call.claims()?;
    call.query()?.finish()?;
    call.check_headers(&[], &[])?;
    let deadline = call.deadline()?;
    let principal = Principal::Bearer(Arc::clone(&claims));
    let action = Action::look(&claims.sub, Verb::Whoami);
    call.port.app.admit(&principal, action, deadline).await?;
    json(&Whoami {
        cluster: call.port.auth.cluster(),
        tenant: &claims.sub,
        scope: claims.scope.split(' ').filter(|scope| !scope.is_empty()).collect(),
        expires_at: claims.exp.map(|end| super::time::to_text(end.saturating_mul(1_000))),
    })
}

/// A JSON answer.
pub(super) fn json(value: &impl Serialize) -> Result<Response, Failure> {
    let body = serde_json::to_vec(value).map_err(|error| {
        let detail = format!("the answer cannot be written: {error}; please report this");
        Failure::from(Problem::new(Code::Internal, detail, ""))
    })?;
    Ok(get::typed("application/json", body))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// covers row 43
    #[test]
    fn every_code_has_a_page_that_fits_it() {
        for code in Code::ALL {
            let page = page(*code);
            let first = page.lines().next().unwrap_or_default();
            assert_eq!(first, format!("# {}", code.as_str()), "the title");
            assert!(page.contains(&format!("Status {}", code.status())), "{first}: the status");
            assert!(
                page.contains("## What to do") && page.contains("```"),
                "{first}: the remedy and an example"
            );
        }
    }
}
