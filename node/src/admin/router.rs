//! The paths of the admin port.

use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    middleware,
    response::Response,
    routing::{delete, get, post},
};

use super::{Member, access, body, formation, members, membership, settings, stats, tenants};
use crate::{metrics, problem};

/// One router for production and tests. Every request must carry a [`crate::tls::Identity`] among its extensions.
pub fn router(member: Member) -> Router {
    let cluster = member.identity.cluster;
    Router::new()
        .route("/admin/members", get(members::report).post(membership::add))
        .route("/admin/members/{id}", delete(membership::remove))
        .route("/admin/members/{id}/promote", post(membership::promote))
        .route("/admin/members/{id}/replace", post(membership::replace))
        .route("/admin/membership/initialize", post(formation::initialize))
        .route("/admin/leadership/transfer", post(formation::transfer))
        .route("/admin/tenants", get(tenants::list))
        .route(
            "/admin/tenants/{name}",
            get(tenants::read).put(tenants::put).delete(tenants::delete),
        )
        .route("/admin/settings", get(settings::read).put(settings::put))
        .route("/admin/stats", get(stats::read))
        .route("/admin/metrics", get(scrape))
        .fallback(problem::route_not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(DefaultBodyLimit::max(body::LIMIT))
        .layer(middleware::from_fn_with_state(cluster, access::check))
        .layer(middleware::map_response(problem::in_every_error))
        .with_state(member)
}

async fn scrape(State(member): State<Member>) -> Response {
    metrics::render(&member.registry)
}
