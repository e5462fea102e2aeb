//! `GET /admin/stats`: figures of this member, for a person.

use axum::{Json, extract::State};
use serde::Serialize;

use super::Member;
use crate::metrics;

/// The answer.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// The format version of the data directory.
    pub format: u32,
    /// The version of the program.
    pub version: &'static str,
    /// Bytes of the data directory.
    pub storage_used: u64,
    /// Resident memory, bytes; none where the system does not say.
    pub resident_memory: Option<u64>,
    /// The last applied revision.
    pub revision: u64,
    /// The write-ahead log since the process started.
    pub log: LogStats,
}

/// Counters of the write-ahead log.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LogStats {
    /// Groups written.
    pub groups: u64,
    /// Flushes.
    pub fsyncs: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Entries appended.
    pub entries: u64,
    /// Segments in use.
    pub segments: u64,
    /// The longest that a group took, milliseconds.
    pub slowest_group_ms: u64,
    /// Whether it waits for free space.
    pub waiting_for_space: bool,
}

pub(super) async fn read(State(member): State<Member>) -> Json<Stats> {
    let log = member.log.metrics();
    Json(Stats {
        format: member.identity.format,
        version: env!("CARGO_PKG_VERSION"),
        storage_used: member.storage_used().await,
        resident_memory: metrics::resident_bytes(),
        revision: member.views.latest().revision(),
        log: LogStats {
            groups: log.groups,
            fsyncs: log.fsyncs,
            bytes: log.bytes,
            entries: log.entries,
            segments: log.segments,
            slowest_group_ms: u64::try_from(log.slowest_group.as_millis()).unwrap_or(u64::MAX),
            waiting_for_space: log.waiting_for_space,
        },
    })
}
