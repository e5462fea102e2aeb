//! The health port: may this process live, may it be sent requests.
//!
//! In: a [`Health`] that the lifecycle sets. Out: `/livez`, `/readyz`, `/startupz`, 200 `ok` or a problem with the reason. Liveness never
//! depends on peers, on the disk's contents or on Kubernetes: a process that can answer here is alive, and one that has met a storage
//! failure ends by itself. Absent by design: every other path.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::{
    Router,
    extract::State,
    http::header::CACHE_CONTROL,
    response::{IntoResponse, Response},
    routing::get,
};
use kvfleet_api::{Code, Problem, admin::MemberState};

use crate::problem;

/// What the health port answers. A clone shows the same.
#[derive(Clone)]
pub struct Health {
    shown: Arc<ArcSwap<Shown>>,
}

struct Shown {
    started: bool,
    readiness: Readiness,
}

/// Asked at every `/readyz`.
#[derive(Clone)]
pub enum Readiness {
    /// Not ready, and why; `draining` tells the reason's code.
    No {
        /// For a person.
        reason: String,
        /// `no-leader`, `draining` or `quarantined`.
        code: Code,
    },
    /// As the group says at that moment, with its reason.
    Ask(Arc<dyn Fn() -> Result<(), String> + Send + Sync>),
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl Health {
    /// Alive, not started, not ready.
    pub fn new() -> Self {
        let readiness = Readiness::No {
            reason: "the member is starting".to_owned(),
            code: Code::NoLeader,
        };
        Health {
            shown: Arc::new(ArcSwap::from_pointee(Shown { started: false, readiness })),
        }
    }

    /// The data directory is open and every port listens.
    pub fn started(&self, readiness: Readiness) {
        self.shown.store(Arc::new(Shown { started: true, readiness }));
    }

    /// The member goes away: it stays alive and started, and is not ready any more.
    pub fn draining(&self) {
        let readiness = Readiness::No {
            reason: "the member is shutting down".to_owned(),
            code: Code::Draining,
        };
        self.shown.store(Arc::new(Shown { started: true, readiness }));
    }

    /// The member cannot vouch for its data: it is alive and started, and not ready until it has been replaced.
    pub fn quarantined(&self, reason: &str) {
        let readiness = Readiness::No {
            reason: format!("the member is quarantined: {reason}"),
            code: Code::Quarantined,
        };
        self.shown.store(Arc::new(Shown { started: true, readiness }));
    }

    /// What a member whose group says `formed` tells of itself.
    pub fn member_state(&self, formed: MemberState) -> MemberState {
        match &self.shown.load().readiness {
            Readiness::No { code: Code::Draining, .. } => MemberState::Draining,
            _ => formed,
        }
    }

    /// What `/readyz` answers at this moment.
    pub fn is_ready(&self) -> bool {
        match &self.shown.load().readiness {
            Readiness::No { .. } => false,
            Readiness::Ask(ready) => ready().is_ok(),
        }
    }
}

/// `/livez`, `/readyz`, `/startupz` and nothing else.
pub fn router(health: Health) -> Router {
    Router::new()
        .route("/livez", get(async || ok()))
        .route("/readyz", get(ready))
        .route("/startupz", get(started))
        .fallback(problem::route_not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .with_state(health)
}

async fn started(State(health): State<Health>) -> Response {
    if health.shown.load().started {
        ok()
    } else {
        refuse(Code::NoLeader, "the member is starting")
    }
}

async fn ready(State(health): State<Health>) -> Response {
    match &health.shown.load().readiness {
        Readiness::No { reason, code } => refuse(*code, reason),
        Readiness::Ask(ready) => match ready() {
            Ok(()) => ok(),
            Err(reason) => refuse(Code::NoLeader, &reason),
        },
    }
}

fn ok() -> Response {
    ([(CACHE_CONTROL, "no-store")], "ok\n").into_response()
}

fn refuse(code: Code, reason: &str) -> Response {
    problem::answer(Problem::new(code, reason, problem::trace_id()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use axum::{body::Body, http::Request};
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;

    use super::*;

    async fn ask(health: &Health, path: &str) -> (u16, String) {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let answer = TowerToHyperService::new(router(health.clone()))
            .call(request)
            .await
            .expect("a router does not fail");
        let status = answer.status().as_u16();
        let body = axum::body::to_bytes(answer.into_body(), 4096).await.expect("a short body");
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    #[tokio::test]
    async fn a_member_is_alive_before_it_is_started_and_started_before_it_is_ready() {
        let health = Health::new();
        let led = Arc::new(AtomicBool::new(false));
        assert_eq!(ask(&health, "/livez").await.0, 200);
        assert_eq!(ask(&health, "/startupz").await.0, 503);
        assert_eq!(ask(&health, "/readyz").await.0, 503);

        let asked = Arc::clone(&led);
        health.started(Readiness::Ask(Arc::new(move || {
            asked.load(Ordering::SeqCst).then_some(()).ok_or_else(|| "no leader".to_owned())
        })));
        assert_eq!(ask(&health, "/startupz").await.0, 200);
        let (status, body) = ask(&health, "/readyz").await;
        assert_eq!(status, 503);
        assert!(body.contains(r#""code":"no-leader""#), "{body}");
        led.store(true, Ordering::SeqCst);
        assert_eq!(ask(&health, "/readyz").await, (200, "ok\n".to_owned()));
        assert_eq!(health.member_state(MemberState::Member), MemberState::Member);

        health.draining();
        let (status, body) = ask(&health, "/readyz").await;
        assert_eq!(status, 503);
        assert!(body.contains(r#""code":"draining""#), "{body}");
        assert_eq!(ask(&health, "/livez").await.0, 200);
        assert_eq!(ask(&health, "/startupz").await.0, 200);
        assert_eq!(health.member_state(MemberState::Member), MemberState::Draining);
    }

    /// covers row 41
    #[tokio::test]
    async fn there_is_nothing_else() {
        for path in ["/", "/metrics", "/livez/", "/admin/members"] {
            let (status, body) = ask(&Health::new(), path).await;
            assert_eq!(status, 404, "{path}");
            assert!(body.contains("route-not-found"), "{body}");
        }
    }
}
