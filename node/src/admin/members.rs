//! `GET /admin/members`: what this member knows of itself and its group.

use axum::{Json, extract::State};
use kvfleet_api::admin::MemberReport;

use super::Member;

pub(super) async fn report(State(member): State<Member>) -> Json<MemberReport> {
    let status = member.group.status();
    let view = member.views.latest();
    Json(MemberReport {
        cluster_id: member.identity.cluster.to_string(),
        shard: member.identity.shard,
        id: member.identity.member,
        name: member.name.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        format: member.identity.format,
        state: member.health.member_state(status.state),
        reason: None,
        role: status.role,
        ready: member.health.is_ready(),
        term: status.term,
        leader: status.leader,
        last_log_index: status.last_log_index,
        applied_index: view.applied().map(|applied| applied.index),
        applied_revision: view.revision(),
        members: member.group.standings(),
        change: member.group.running_change(),
        level: view.applied().map(|_| view.level().0),
        level_held_by: member.group.level_held_by(),
        supported_levels: member.supported_levels(),
        storage_used: member.storage_used().await,
        tenants: u64::try_from(view.served_tenants()).unwrap_or(u64::MAX),
    })
}
