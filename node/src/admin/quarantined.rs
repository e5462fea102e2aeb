//! The admin port of a member that cannot vouch for its data: who it is, why it takes no part, and the one call that helps.
//!
//! In: requests over mTLS. Out: `GET /admin/members`, `/admin/stats` and `/admin/metrics` of a member without a group; `POST /admin/release`;
//! 503 `quarantined` for every other call. Absent: everything that needs a group.

use std::{path::PathBuf, sync::Arc};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    middleware,
    response::Response,
    routing::{get, post},
};
use kvfleet_api::{
    Code, Problem,
    admin::{LevelRange, MemberReport, MemberState, Released},
};
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::{access, body, failure};
use crate::{
    cluster_id::ClusterId,
    data_dir::{DataDir, FORMAT},
    metrics,
    problem::{self, Failure, trace_id},
};

/// Where the outcome of a release goes: the new member's id, or why there is none.
pub type ReleaseReply = oneshot::Sender<Result<u64, String>>;

/// A quarantined member. Cheap to clone.
#[derive(Clone)]
pub struct Quarantined {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its shard.
    pub shard: u32,
    /// Its id; none when its identity cannot be read.
    pub member: Option<u64>,
    /// Its name.
    pub name: Arc<str>,
    /// The feature levels that its program knows.
    pub supported_levels: LevelRange,
    /// Why it takes no part.
    pub reason: Arc<str>,
    /// Its data directory.
    pub data_dir: Arc<PathBuf>,
    /// The metrics.
    pub registry: Arc<Registry>,
    /// Takes releases, one at a time.
    pub release: mpsc::Sender<ReleaseReply>,
}

/// Every request must carry a [`crate::tls::Identity`] among its extensions.
pub fn router(member: Quarantined) -> Router {
    let cluster = member.cluster;
    Router::new()
        .route("/admin/members", get(report))
        .route("/admin/stats", get(stats))
        .route("/admin/metrics", get(scrape))
        .route("/admin/release", post(release))
        .fallback(refuse)
        .method_not_allowed_fallback(refuse)
        .layer(DefaultBodyLimit::max(body::LIMIT))
        .layer(middleware::from_fn_with_state(cluster, access::check))
        .layer(middleware::map_response(problem::in_every_error))
        .with_state(member)
}

impl Quarantined {
    async fn storage_used(&self) -> u64 {
        let path = Arc::clone(&self.data_dir);
        tokio::task::spawn_blocking(move || DataDir::used_bytes(&path)).await.unwrap_or(0)
    }
}

async fn report(State(member): State<Quarantined>) -> Json<MemberReport> {
    Json(MemberReport {
        cluster_id: member.cluster.to_string(),
        shard: member.shard,
        // No member has this id.
        id: member.member.unwrap_or(0),
        name: member.name.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        format: FORMAT,
        state: MemberState::Quarantined,
        reason: Some(member.reason.to_string()),
        role: None,
        ready: false,
        term: 0,
        leader: None,
        last_log_index: None,
        applied_index: None,
        applied_revision: 0,
        members: Vec::new(),
        change: None,
        level: None,
        level_held_by: Vec::new(),
        supported_levels: member.supported_levels,
        storage_used: member.storage_used().await,
        tenants: 0,
    })
}

/// What can be said without log and state machine.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    format: u32,
    version: &'static str,
    state: MemberState,
    reason: String,
    storage_used: u64,
    resident_memory: Option<u64>,
}

async fn stats(State(member): State<Quarantined>) -> Json<Stats> {
    Json(Stats {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION"),
        state: MemberState::Quarantined,
        reason: member.reason.to_string(),
        storage_used: member.storage_used().await,
        resident_memory: metrics::resident_bytes(),
    })
}

async fn scrape(State(member): State<Quarantined>) -> Response {
    metrics::render(&member.registry)
}

/// Asks the leader whether the data may be put aside, and does so if it may; then the member starts as a new one.
async fn release(State(member): State<Quarantined>) -> Result<Json<Released>, Failure> {
    let (reply, released) = oneshot::channel();
    let gone = || failure::conflict("this member is being released already; ask GET /admin/members");
    member.release.try_send(reply).map_err(|_| gone())?;
    match released.await {
        Ok(Ok(id)) => Ok(Json(Released { id })),
        Ok(Err(reason)) => Err(failure::conflict(format!("not released: {reason}")).into()),
        Err(_) => Err(gone().into()),
    }
}

async fn refuse(State(member): State<Quarantined>) -> Response {
    let detail = format!(
        "this member is quarantined: {}; ask another member, and POST /admin/release here to have this one replaced",
        member.reason
    );
    problem::answer(Problem::new(Code::Quarantined, detail, trace_id()))
}
