//! `GET` and `HEAD` of a record, and of a tenant's usage. `handle` drops the body of a HEAD and keeps its length.

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use kvfleet_api::header as kv;

use super::{
    answer,
    condition::{OfRead, Verdict},
    item::{self, Part},
    key, kind, metadata, pages,
    put::{etag, show_expiry},
    refuse,
    request::Call,
};
use crate::{
    app::{Found, Measured, Share, key_not_found, precondition_failed},
    problem::Failure,
    state::Record,
};

pub(super) async fn get(call: &mut Call, tenant: String, in_path: Option<String>) -> Result<Response, Failure> {
    let principal = call.principal()?;
    let mut query = call.query()?;
    let key = key::of(in_path.as_deref(), &mut query)?;
    let reading = call.reading(&mut query)?;
    let envelope = wants_envelope(call, query.take("view")?.as_deref())?;
    query.finish()?;
    call.check_headers(&[], &[header::IF_MATCH, header::IF_NONE_MATCH])?;
    let conditions = OfRead::parse(call.headers())?;
    let deadline = call.deadline()?;

    let answer_bytes = |record: &Record, now_ms: u64| match conditions.judge(record.revision) {
        Verdict::Send if envelope => item::length(&key, record, now_ms, Part::Whole),
        Verdict::Send => record.value.len() as u64,
        Verdict::Failed | Verdict::Unchanged => 0,
    };
    let found = call
        .port
        .app
        .get(&principal, (&tenant, &key), reading, deadline, answer_bytes)
        .await?;
    let Found {
        record,
        share,
        admission,
        seen,
    } = found;
    call.saw(&seen);
    let record = match record {
        Some(record) => record,
        None if conditions.needs_record() => return Err(precondition_failed(0)),
        None => return Err(key_not_found()),
    };
    let mut response = match conditions.judge(record.revision) {
        Verdict::Failed => return Err(precondition_failed(record.revision)),
        Verdict::Unchanged => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        }
        // A small one is written at once: handing it to another thread would cost more.
        Verdict::Send if envelope && share.is_some() => {
            let record = record.clone();
            let write = move || item::of(&key, &record, seen.now_ms);
            enveloped(Box::pin(call.port.app.aside(&admission, deadline, write)).await?, share)
        }
        Verdict::Send if envelope => enveloped(item::of(&key, &record, seen.now_ms), share),
        Verdict::Send => value(&record, share),
    };
    let headers = response.headers_mut();
    headers.reserve(HEADERS);
    headers.insert(header::ETAG, etag(record.revision));
    headers.insert(
        const { HeaderName::from_static(kv::KIND) },
        HeaderValue::from_static(kind::name(record.kind)),
    );
    show_expiry(record.expires_at_ms, headers);
    Ok(response)
}

/// A map that has to grow is filled anew.
const HEADERS: usize = 12;

/// The value itself, as it was sent.
fn value(record: &Record, share: Option<Share>) -> Response {
    let mut response = Response::new(answer::body(record.value.clone(), share));
    let headers = response.headers_mut();
    let sent = record.content_type.as_deref().and_then(|sent| HeaderValue::try_from(sent).ok());
    let content_type = sent.unwrap_or(HeaderValue::from_static(kind::default_type(record.kind)));
    headers.insert(header::CONTENT_TYPE, content_type);
    metadata::show(&record.metadata, headers);
    response
}

fn enveloped(json: Vec<u8>, share: Option<Share>) -> Response {
    let mut response = Response::new(answer::body(json, share));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind::ITEM));
    response
}

/// Whether the caller wants the record's envelope: `?view=item`, or the envelope's media type in `Accept`.
fn wants_envelope(call: &Call, view: Option<&str>) -> Result<bool, Failure> {
    match view {
        Some("item") => Ok(true),
        Some("value") => Ok(false),
        Some(_) => Err(refuse::parameter("view", "it is value or item")),
        None => {
            let accepted = call
                .headers()
                .get_all(header::ACCEPT)
                .iter()
                .filter_map(|value| value.to_str().ok());
            Ok(accepted
                .flat_map(|value| value.split(','))
                .any(|range| kind::media_type(range) == kind::ITEM))
        }
    }
}

pub(super) fn typed(content_type: &'static str, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// What the tenant uses, and its limits.
pub(super) async fn usage(call: &mut Call, tenant: String) -> Result<Response, Failure> {
    let principal = call.principal()?;
    let mut query = call.query()?;
    let reading = call.reading(&mut query)?;
    query.finish()?;
    call.check_headers(&[], &[])?;
    let deadline = call.deadline()?;
    let Measured { usage, seen } = call.port.app.usage(&principal, &tenant, reading, deadline).await?;
    call.saw(&seen);
    pages::json(&usage)
}
