//! `PUT` of a record: 201 when it is new, 204 when it replaced one.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use kvfleet_api::header as kv;

use super::{body::Received, condition, expiry, key, kind::Declared, metadata, request::Call, time};
use crate::{
    app::{Action, Verb, check_sizes, value_too_large},
    problem::Failure,
    state::Put,
};

/// Everything that the head of the request decides, before a byte of the body: who, where, how. A body that will be refused is not read.
pub(super) async fn put(call: &mut Call, tenant: String, in_path: Option<String>) -> Result<Response, Failure> {
    let principal = call.principal()?;
    let mut query = call.query()?;
    let key = key::of(in_path.as_deref(), &mut query)?;
    let ttl = expiry::of_write(&mut query, || call.port.app.now_ms())?;
    let ack = call.ack(&mut query)?;
    query.finish()?;
    call.check_headers(
        &[kv::KIND, kv::IF_REVISION, kv::META_PREFIX],
        &[header::IF_MATCH, header::IF_NONE_MATCH],
    )?;
    let condition = condition::of_write(call.headers())?;
    let declared = Declared::of(call.headers())?;
    let metadata = metadata::of_write(call.headers())?;
    let deadline = call.deadline()?;

    let action = Action::one(&tenant, Verb::Put, &key, call.upload.announced());
    let admission = call.port.app.admit(&principal, action, deadline).await?;
    let tenant = admission.tenant();
    check_sizes(tenant, &key, &metadata)?;
    let limit = tenant.config.limits.max_value_size;
    let memory = call.port.app.memory(&admission);
    // The share of a large body is held until the write is answered: as long as it waits for a leader or a disk, it is in memory.
    let Received { value, share: _share } = call.upload.read(limit, memory, || value_too_large(limit)).await?;
    declared.check(&value)?;

    let Declared { kind, content_type } = declared;
    let location = key::location(&tenant.name, &key);
    let put = Put {
        key,
        value,
        kind,
        content_type,
        metadata,
        ttl,
        condition,
    };
    // The client's upload took its own time; what it waits for now is the answer.
    let deadline = call.deadline()?;
    let written = call.port.app.put(&admission, put, deadline).await?;
    call.port.app.acknowledge(ack, Some(written.revision), deadline).await?;

    let mut response = Response::new(Body::empty());
    *response.status_mut() = if written.created {
        StatusCode::CREATED
    } else {
        StatusCode::NO_CONTENT
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, etag(written.revision));
    headers.insert(HeaderName::from_static(kv::REVISION), written.revision.into());
    if let Ok(location) = HeaderValue::try_from(location) {
        headers.insert(header::LOCATION, location);
    }
    show_expiry(written.expires_at_ms, headers);
    Ok(response)
}

/// A record's entity tag: its revision, strong.
pub(super) fn etag(revision: u64) -> HeaderValue {
    HeaderValue::try_from(format!("\"{revision}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// `KV-Expires`, where the record has an end.
pub(super) fn show_expiry(expires_at_ms: Option<u64>, headers: &mut HeaderMap) {
    if let Some(Ok(moment)) = expires_at_ms.map(|moment| HeaderValue::try_from(time::to_text(moment))) {
        headers.insert(HeaderName::from_static(kv::EXPIRES), moment);
    }
}
