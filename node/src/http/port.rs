//! What every handler shares.

use std::sync::Arc;

use axum::{body::Body, extract::Request, http::HeaderValue, response::Response};

use super::handle;
use crate::{app::App, auth::Authenticator, metrics::Requests};

/// What the data port serves from.
pub struct Port {
    /// The calls.
    pub app: App,
    /// Who calls.
    pub auth: Authenticator,
    /// Where answers are counted.
    pub requests: Requests,
    /// The member's name, for answers that tell who gave them; none when it is no header value.
    pub name: Option<HeaderValue>,
}

impl Port {
    /// The answer to a request, whatever it asks for. Nobody routes before: a path is taken apart once, and only here.
    pub async fn answer(self: Arc<Self>, request: Request<Body>) -> Response {
        handle::handle(self, request).await
    }
}
