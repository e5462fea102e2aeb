//! `DELETE` of a record: 204 whether it was there or not; `KV-Existed` says which.

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use kvfleet_api::header as kv;

use super::{condition, key, request::Call};
use crate::{
    app::{Action, Verb, check_sizes},
    problem::Failure,
};

pub(super) async fn delete(call: &mut Call, tenant: String, in_path: Option<String>) -> Result<Response, Failure> {
    let principal = call.principal()?;
    let mut query = call.query()?;
    let key = key::of(in_path.as_deref(), &mut query)?;
    let ack = call.ack(&mut query)?;
    query.finish()?;
    call.check_headers(&[kv::IF_REVISION], &[header::IF_MATCH])?;
    let condition = condition::of_write(call.headers())?;
    let deadline = call.deadline()?;
    call.upload.none().await?;

    let action = Action::one(&tenant, Verb::Delete, &key, 0);
    let admission = call.port.app.admit(&principal, action, deadline).await?;
    check_sizes(admission.tenant(), &key, &[])?;
    let deletion = call.port.app.delete(&admission, key, condition, deadline).await?;
    call.port.app.acknowledge(ack, deletion.revision, deadline).await?;

    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    let existed = if deletion.revision.is_some() { "true" } else { "false" };
    headers.insert(HeaderName::from_static(kv::EXISTED), HeaderValue::from_static(existed));
    if let Some(revision) = deletion.revision {
        headers.insert(HeaderName::from_static(kv::REVISION), revision.into());
    }
    Ok(response)
}
