//! The port as its clients see it: the production calls on a real member (`app::tests`), and the production server on a real socket.

mod access;
mod limits;
mod neighbours;
mod records;
mod refusals;
mod scans;
mod server;

use std::sync::Arc;

use axum::{
    body::Body,
    http::{HeaderValue, Request, StatusCode, header},
};
use bytes::Bytes;
use http_body_util::BodyExt;
use kvfleet_api::{Code, Problem, tenant::TenantLimits};
use serde_json::Value;

use super::Port;
use crate::{app::tests::Member, metrics::Requests};

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: axum::http::HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// The problem, after a look at what every problem must have.
    pub(super) fn problem(&self) -> Problem {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{:?}", self.body);
        let problem: Problem = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem.status, self.status.as_u16());
        assert_eq!(problem.trace_id.len(), 32);
        assert!(self.header("traceparent").unwrap().contains(&problem.trace_id));
        assert_eq!(self.header("kv-node"), Some("m0"));
        problem
    }

    pub(super) fn refused(&self) -> (u16, Code) {
        let problem = self.problem();
        (problem.status, problem.code)
    }

    pub(super) fn revision(&self) -> u64 {
        let tag = self.header("etag").unwrap();
        tag.trim_matches('"').parse().unwrap()
    }
}

/// A member with the tenant `acme`, and its token.
pub(super) struct Client {
    pub(super) member: Member,
    pub(super) port: Arc<Port>,
    pub(super) token: String,
    pub(super) requests: Requests,
}

impl Client {
    pub(super) async fn new() -> Self {
        Self::with(TenantLimits::default()).await
    }

    pub(super) async fn with(limits: TenantLimits) -> Self {
        let member = Member::start().await;
        let acme = member.tenant("acme", 1, limits).await;
        let token = member.token(&acme);
        let requests = Requests::new();
        let port = Arc::new(Port {
            app: member.app.clone(),
            auth: member.auth.clone(),
            requests: requests.clone(),
            name: Some(HeaderValue::from_static("m0")),
        });
        Client {
            member,
            port,
            token,
            requests,
        }
    }

    /// Any request.
    pub(super) async fn send(&self, request: Request<Body>) -> Answer {
        let (head, body) = Arc::clone(&self.port).answer(request).await.into_parts();
        Answer {
            status: head.status,
            headers: head.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    /// A request with this token to this path.
    pub(super) async fn request(&self, token: &str, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {token}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(body.into()).unwrap()).await
    }

    /// A request of the tenant's own, below its path.
    pub(super) async fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let path = format!("/api/v1/tenants/acme/{path}");
        self.request(&self.token, method, &path, headers, body).await
    }

    pub(super) async fn put(&self, key: &str, value: &'static str) -> Answer {
        self.call("PUT", &format!("keys/{key}"), &[], value).await
    }

    pub(super) async fn get(&self, key: &str) -> Answer {
        self.call("GET", &format!("keys/{key}"), &[], Body::empty()).await
    }

    /// Bytes and keys in use.
    pub(super) async fn used(&self) -> (u64, u64) {
        let usage = self.call("GET", "usage", &[], Body::empty()).await.json();
        let figure = |path| usage.pointer(path).unwrap().as_u64().unwrap();
        (figure("/storage/used"), figure("/keys/used"))
    }
}
