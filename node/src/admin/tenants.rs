//! `/admin/tenants` and `/admin/tenants/{name}`: configuration through the log, answered with the revision from which it is in force.

use axum::{
    Json,
    body::Bytes,
    extract::{Path, RawQuery, State},
    http::StatusCode,
    response::{IntoResponse, Response as Answer},
};
use kvfleet_api::{
    Code, Problem,
    tenant::{DeleteMode, TenantConfig, TenantStatus, bounds},
};

use super::{Member, body, failure};
use crate::{
    problem::Failure,
    problem::trace_id,
    state::{Command, Response},
};

/// All tenants, released ones too, in the order of their names.
pub(super) async fn list(State(member): State<Member>) -> Result<Json<Vec<TenantStatus>>, Failure> {
    let point = member.group.read_barrier(member.deadline()).await.map_err(failure::read)?;
    Ok(Json(point.view.tenants()))
}

pub(super) async fn read(State(member): State<Member>, Path(name): Path<String>) -> Result<Json<TenantStatus>, Failure> {
    let point = member.group.read_barrier(member.deadline()).await.map_err(failure::read)?;
    match point.view.tenant_status(&name) {
        Some(status) => Ok(Json(status)),
        None => Err(Problem::new(Code::RouteNotFound, format!("there is no tenant `{name}`"), trace_id()).into()),
    }
}

pub(super) async fn put(State(member): State<Member>, Path(name): Path<String>, body: Bytes) -> Result<Json<TenantStatus>, Failure> {
    let config: TenantConfig = body::parse(&body)?;
    check(&name, &config)?;
    match member
        .group
        .propose(Command::PutTenant { name, config }, member.deadline())
        .await
        .map_err(failure::proposal)?
    {
        Response::Tenant(status) => Ok(Json(*status)),
        Response::Refused(refusal) => Err(failure::refusal(&refusal).into()),
        other => Err(failure::internal(format!("a tenant was answered with {other:?}")).into()),
    }
}

/// `?mode=release|delete&uid=…`. Released: 200 with the status; deleted, or not there: 204.
pub(super) async fn delete(State(member): State<Member>, Path(name): Path<String>, RawQuery(query): RawQuery) -> Result<Answer, Failure> {
    let (mode, uid) = deletion(query.as_deref().unwrap_or_default())?;
    let command = match mode {
        DeleteMode::Release => Command::ReleaseTenant { name, uid },
        DeleteMode::Delete => Command::DeleteTenant { name, uid },
    };
    match member.group.propose(command, member.deadline()).await.map_err(failure::proposal)? {
        Response::Tenant(status) => Ok(Json(*status).into_response()),
        Response::TenantGone { existed } => {
            Ok((StatusCode::NO_CONTENT, [(kvfleet_api::header::EXISTED, existed.to_string())]).into_response())
        }
        Response::Refused(refusal) => Err(failure::refusal(&refusal).into()),
        other => Err(failure::internal(format!("a deletion was answered with {other:?}")).into()),
    }
}

fn deletion(query: &str) -> Result<(DeleteMode, String), Failure> {
    let refuse = |name: &str, detail: &str| {
        let mut problem = Problem::new(Code::InvalidParameter, format!("{name}: {detail}"), trace_id());
        problem.pointer = Some(name.to_owned());
        Failure::from(problem)
    };
    let (mut mode, mut uid) = (None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_encoding::percent_decode_str(value)
            .decode_utf8()
            .map_err(|_| refuse(name, "is not UTF-8"))?;
        match (name, value.as_ref()) {
            ("mode", "release") => mode = Some(DeleteMode::Release),
            ("mode", "delete") => mode = Some(DeleteMode::Delete),
            ("mode", _) => return Err(refuse("mode", "must be `release` (keep the data) or `delete` (destroy it)")),
            ("uid", "") => return Err(refuse("uid", "must be the Tenant's uid")),
            ("uid", value) => uid = Some(value.to_owned()),
            (other, _) => return Err(refuse(other, "is unknown; this call takes mode and uid")),
        }
    }
    let mode = mode.ok_or_else(|| refuse("mode", "is required: `release` (keep the data) or `delete` (destroy it)"))?;
    let uid = uid.ok_or_else(|| {
        refuse(
            "uid",
            "is required: the Tenant's uid, so that a later Tenant of the same name is left alone",
        )
    })?;
    Ok((mode, uid))
}

/// What no record could obey is refused before it is in the log. The operator has checked the same; it may be older than this member.
fn check(name: &str, config: &TenantConfig) -> Result<(), Failure> {
    let refuse = |pointer: &str, detail: &str| {
        let mut problem = Problem::new(Code::InvalidBody, format!("{pointer} {detail}"), trace_id());
        problem.pointer = Some(pointer.to_owned());
        Err(problem.into())
    };
    let good = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-';
    if name.is_empty() || name.len() > 63 || !name.chars().all(good) || name.starts_with('-') || name.ends_with('-') {
        let detail = "a tenant's name is a DNS label: lower-case letters, digits and `-`, at most 63 characters";
        return Err(Problem::new(Code::InvalidParameter, detail, trace_id()).into());
    }
    if config.uid.is_empty() {
        return refuse("/uid", "must not be empty");
    }
    if config.owner.is_empty() {
        return refuse("/owner", "must be `<namespace>/<name>` of the Tenant");
    }
    if config.credential_generation == 0 {
        return refuse("/credentialGeneration", "starts at 1");
    }
    let limits = &config.limits;
    let time = bounds::TTL_MIN_MS..=bounds::TTL_MAX_MS;
    if !(1..=bounds::KEY_LENGTH_MAX).contains(&limits.max_key_length) {
        return refuse("/limits/maxKeyLength", "must be between 1 and 2048");
    }
    if limits.max_value_size > bounds::VALUE_SIZE_MAX {
        return refuse("/limits/maxValueSize", "must be at most 8388608");
    }
    if limits.max_metadata_size > bounds::METADATA_SIZE_MAX {
        return refuse("/limits/maxMetadataSize", "must be at most 8192");
    }
    if limits.ttl_default_ms.is_some_and(|ttl| !time.contains(&ttl)) {
        return refuse("/limits/ttlDefaultMs", "must be between a second and ten years");
    }
    if limits.ttl_max_ms.is_some_and(|ttl| !time.contains(&ttl)) {
        return refuse("/limits/ttlMaxMs", "must be between a second and ten years");
    }
    match (limits.ttl_default_ms, limits.ttl_max_ms) {
        (Some(default), Some(max)) if default > max => refuse("/limits/ttlDefaultMs", "must be at most ttlMaxMs"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deletion_says_what_and_whose() {
        assert_eq!(
            deletion("mode=delete&uid=a%2Fb").expect("both"),
            (DeleteMode::Delete, "a/b".to_owned())
        );
        assert_eq!(deletion("uid=u&mode=release").expect("both"), (DeleteMode::Release, "u".to_owned()));
        for (query, pointer) in [
            ("", "mode"),
            ("mode=delete", "uid"),
            ("mode=drop&uid=u", "mode"),
            ("mode=delete&uid=", "uid"),
            ("x=1", "x"),
        ] {
            assert_eq!(deletion(query).expect_err(query).0.pointer.as_deref(), Some(pointer), "{query}");
        }
    }
}
