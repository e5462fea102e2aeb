//! `GET` and `PUT /admin/settings`: what travels through the log and is in force without a restart.

use axum::{Json, body::Bytes, extract::State};
use kvfleet_api::{
    Code, Problem,
    admin::{Settings, SettingsStatus},
};

use super::{Member, body, failure};
use crate::{
    config::LogLevel,
    problem::Failure,
    problem::trace_id,
    state::{Command, Response},
};

pub(super) async fn read(State(member): State<Member>) -> Result<Json<SettingsStatus>, Failure> {
    let point = member.group.read_barrier(member.deadline()).await.map_err(failure::read)?;
    Ok(Json(point.view.settings_status()))
}

pub(super) async fn put(State(member): State<Member>, body: Bytes) -> Result<Json<SettingsStatus>, Failure> {
    let settings: Settings = body::parse(&body)?;
    check(&settings)?;
    match member
        .group
        .propose(Command::PutSettings(settings), member.deadline())
        .await
        .map_err(failure::proposal)?
    {
        Response::Settings(status) => Ok(Json(*status)),
        Response::Refused(refusal) => Err(failure::refusal(&refusal).into()),
        other => Err(failure::internal(format!("settings were answered with {other:?}")).into()),
    }
}

/// What no member could obey is refused before it is in the log.
fn check(settings: &Settings) -> Result<(), Failure> {
    let Settings {
        generation: _,
        log_level,
        sweep_interval_ms,
        scan_items,
        scan_bytes,
        request_timeout_ms,
        max_request_timeout_ms,
        hold_level: _,
    } = settings;
    let within = |value: u64, least: u64, most: u64| (least..=most).contains(&value);
    let checks = [
        (
            "logLevel",
            log_level.parse::<LogLevel>().is_ok(),
            "must be trace, debug, info, warn or error",
        ),
        (
            "sweepIntervalMs",
            within(*sweep_interval_ms, 10, 86_400_000),
            "must be between 10 and 86400000",
        ),
        ("scanItems", within((*scan_items).into(), 1, 1_000), "must be between 1 and 1000"),
        ("scanBytes", within(*scan_bytes, 1_024, 8 << 20), "must be between 1024 and 8388608"),
        (
            "maxRequestTimeoutMs",
            within(*max_request_timeout_ms, 1, 60_000),
            "must be between 1 and 60000",
        ),
        (
            "requestTimeoutMs",
            within(*request_timeout_ms, 1, *max_request_timeout_ms),
            "must be at least 1 and at most maxRequestTimeoutMs",
        ),
    ];
    match checks.into_iter().find(|(_, good, _)| !good) {
        None => Ok(()),
        Some((field, _, remedy)) => {
            let mut problem = Problem::new(Code::InvalidBody, format!("{field} {remedy}"), trace_id());
            problem.pointer = Some(format!("/{field}"));
            Err(problem.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_member_could_obey_is_refused() {
        check(&Settings::default()).expect("the defaults");
        let cases = [
            (
                "/logLevel",
                Settings {
                    log_level: "loud".into(),
                    ..Settings::default()
                },
            ),
            (
                "/sweepIntervalMs",
                Settings {
                    sweep_interval_ms: 0,
                    ..Settings::default()
                },
            ),
            (
                "/scanItems",
                Settings {
                    scan_items: 1_001,
                    ..Settings::default()
                },
            ),
            (
                "/scanBytes",
                Settings {
                    scan_bytes: 9 << 20,
                    ..Settings::default()
                },
            ),
            (
                "/requestTimeoutMs",
                Settings {
                    request_timeout_ms: 0,
                    ..Settings::default()
                },
            ),
            (
                "/requestTimeoutMs",
                Settings {
                    request_timeout_ms: 70_000,
                    ..Settings::default()
                },
            ),
            (
                "/maxRequestTimeoutMs",
                Settings {
                    max_request_timeout_ms: 70_000,
                    ..Settings::default()
                },
            ),
        ];
        for (pointer, settings) in cases {
            assert_eq!(check(&settings).expect_err(pointer).0.pointer.as_deref(), Some(pointer));
        }
    }
}
