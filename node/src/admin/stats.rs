//! `GET /admin/stats`: figures of this member, for a person.

use axum::{Json, extract::State};
use kvfleet_api::admin::LevelRange;
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
    /// The feature level of the group, as far as this member has applied it.
    pub level: u32,
    /// The feature levels that the program knows.
    pub supported_levels: LevelRange,
    /// The last applied revision.
    pub revision: u64,
    /// The last applied log index.
    pub applied_index: Option<u64>,
    /// The digest of all records and tenants after that entry: equal on members that have applied the same entries.
    pub digest: String,
    /// The write-ahead log since the process started.
    pub log: LogStats,
    /// Snapshots since the process started.
    pub snapshots: SnapshotStats,
}

/// How far the log is cut, and what members were sent instead of it.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotStats {
    /// The last log index that was dropped.
    pub purged_index: Option<u64>,
    /// The last log index at which the state machine was flushed or received.
    pub durable_index: Option<u64>,
    /// Flushes of the state machine that let the log drop entries.
    pub made: u64,
    /// Snapshots sent.
    pub sent: u64,
    /// Snapshots received.
    pub received: u64,
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
    let snapshots = member.group.snapshots();
    let view = member.views.latest();
    Json(Stats {
        format: member.identity.format,
        version: env!("CARGO_PKG_VERSION"),
        storage_used: member.storage_used().await,
        resident_memory: metrics::resident_bytes(),
        level: view.level().0,
        supported_levels: member.supported_levels(),
        revision: view.revision(),
        applied_index: view.applied().map(|applied| applied.index),
        digest: view.digest().to_string(),
        log: LogStats {
            groups: log.groups,
            fsyncs: log.fsyncs,
            bytes: log.bytes,
            entries: log.entries,
            segments: log.segments,
            slowest_group_ms: u64::try_from(log.slowest_group.as_millis()).unwrap_or(u64::MAX),
            waiting_for_space: log.waiting_for_space,
        },
        snapshots: SnapshotStats {
            purged_index: snapshots.purged_index,
            durable_index: snapshots.durable_index,
            made: snapshots.made,
            sent: snapshots.sent,
            received: snapshots.received,
        },
    })
}
