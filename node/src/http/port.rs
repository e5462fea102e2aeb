//! The router, and what every handler shares.

use axum::Router;

use super::handle;
use crate::{app::App, auth::Authenticator, metrics::Requests};

/// What the data port serves from. A cheap handle.
#[derive(Clone)]
pub struct Port {
    /// The calls.
    pub app: App,
    /// Who calls.
    pub auth: Authenticator,
    /// Where answers are counted.
    pub requests: Requests,
}

/// The whole data port, in production and in tests.
pub fn router(port: Port) -> Router {
    Router::new().fallback(handle::handle).with_state(port)
}
