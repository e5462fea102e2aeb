//! Requests that are wrong in form.

use axum::body::Body;
use kvfleet_api::error::Outcome;

use super::*;

/// covers row 43
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_problem_leads_to_a_page() {
    let client = Client::new().await;
    for code in Code::ALL {
        let problem = Problem::new(*code, "", "");
        let page = client.send(Request::get(&problem.kind).body(Body::empty()).unwrap()).await;
        assert_eq!(
            (page.status.as_u16(), page.header("content-type")),
            (200, Some("text/markdown; charset=utf-8"))
        );
        assert!(page.body.starts_with(format!("# {}\n", code.as_str()).as_bytes()));
    }
    let none = client
        .send(Request::get("/api/v1/docs/errors/none").body(Body::empty()).unwrap())
        .await;
    assert_eq!(none.refused(), (404, Code::RouteNotFound));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paths_and_methods() {
    let client = Client::new().await;
    for path in [
        "/",
        "/metrics",
        "/readyz",
        "/api/v1",
        "/api/v2/tenants/acme/keys/a",
        "/api/v1/tenants",
        "/api/v1/tenants/acme",
        "/api/v1/tenants/acme/",
        "/api/v1/tenants/acme/key/a",
        "/api/v1/tenants/acme/usage/",
        "/api/v1/tenants/acme/lists/a",
        "/api/v1/whoami/",
    ] {
        let answer = client.request(&client.token, "GET", path, &[], Body::empty()).await;
        assert_eq!(answer.refused(), (404, Code::RouteNotFound), "{path}");
    }
    for (method, path, allow) in [
        ("POST", "keys", "GET, HEAD, PUT, DELETE"),
        ("PATCH", "keys/a", "GET, HEAD, PUT, DELETE"),
        ("POST", "keys/a", "GET, HEAD, PUT, DELETE"),
        ("BREW", "keys/a", "GET, HEAD, PUT, DELETE"),
        ("PUT", "usage", "GET, HEAD"),
        ("DELETE", "usage", "GET, HEAD"),
    ] {
        let answer = client.call(method, path, &[], Body::empty()).await;
        assert_eq!(answer.refused(), (405, Code::MethodNotAllowed), "{method} {path}");
        assert_eq!(answer.header("allow"), Some(allow));
    }
}

/// Method, path, headers, and what the problem must point at.
type Case = (&'static str, &'static str, &'static [(&'static str, &'static str)], &'static str);

/// covers row 44
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_obeyed_is_refused_by_name() {
    let client = Client::new().await;
    assert_eq!(client.put("a", "1").await.status, 201);
    let before = client.used().await;
    let cases: &[Case] = &[
        ("PUT", "keys/a?tll=1s", &[], "tll"),
        ("PUT", "keys/a?ack=1", &[], "ack"),
        ("DELETE", "keys/a?ack=none", &[], "ack"),
        ("GET", "keys/a?ack=all", &[], "ack"),
        ("PUT", "keys/a?timestamp=1", &[], "timestamp"),
        ("PUT", "keys/a?%zz=1", &[], "%zz"),
        ("PUT", "keys/a?ttl=%FF", &[], "ttl"),
        ("PUT", "keys", &[], "key"),
        ("DELETE", "keys", &[], "key"),
        ("DELETE", "keys?prefix=a", &[], "key"),
        ("DELETE", "keys/a?ttl=1s", &[], "ttl"),
        ("GET", "keys/a?consistency=eventual", &[], "consistency"),
        ("GET", "keys/a?consistency=", &[], "consistency"),
        ("GET", "keys/a?consistency=any&consistency=any", &[], "consistency"),
        ("GET", "keys/a?max_staleness=1s", &[], "max_staleness"),
        ("GET", "keys/a?consistency=any&max_staleness=1s", &[], "max_staleness"),
        ("GET", "keys/a?consistency=eventual&max_staleness=1s", &[], "consistency"),
        ("GET", "keys/a?consistency=bounded&max_staleness=soon", &[], "max_staleness"),
        ("GET", "keys/a?consistency=bounded&max_staleness=5", &[], "max_staleness"),
        ("GET", "keys/a?consistency=bounded&max_staleness=0s", &[], "max_staleness"),
        ("GET", "keys/a?min_revision=-1", &[], "min_revision"),
        ("GET", "keys?min_revision=new", &[], "min_revision"),
        ("GET", "usage?consistency=best", &[], "consistency"),
        ("PUT", "keys/a?consistency=any", &[], "consistency"),
        ("PUT", "keys/a?min_revision=1", &[], "min_revision"),
        ("GET", "keys/a?view=all", &[], "view"),
        ("GET", "usage?x", &[], "x"),
        ("PUT", "keys/a", &[("kv-frobnicate", "1")], "kv-frobnicate"),
        ("PUT", "keys/a", &[("kv-kind", "list")], "KV-Kind"),
        ("PUT", "keys/a", &[("kv-timeout", "soon")], "KV-Timeout"),
        ("PUT", "keys/a", &[("kv-timeout", "0s")], "KV-Timeout"),
        ("PUT", "keys/a", &[("kv-timeout", "61s")], "KV-Timeout"),
        ("PUT", "keys/a", &[("if-match", "1")], "If-Match"),
        ("PUT", "keys/a", &[("if-none-match", "\"1\"")], "If-None-Match"),
        ("PUT", "keys/a", &[("if-unmodified-since", "x")], "if-unmodified-since"),
        ("PUT", "keys/a", &[("idempotency-key", "x")], "Idempotency-Key"),
        ("PUT", "keys/a", &[("content-range", "bytes 0-1/2")], "content-range"),
        ("PUT", "keys/a", &[("kv-meta-", "x")], "KV-Meta-"),
        ("PUT", "keys/a", &[("kv-meta-a", "1"), ("kv-meta-a", "2")], "kv-meta-a"),
        ("PUT", "keys/a", &[("content-type", "a/b"), ("content-type", "a/c")], "content-type"),
        ("GET", "keys/a", &[("kv-if-revision", "1")], "kv-if-revision"),
        ("GET", "keys/a", &[("if-modified-since", "x")], "if-modified-since"),
        ("DELETE", "keys/a", &[("kv-meta-a", "1")], "kv-meta-a"),
        ("DELETE", "keys/a", &[("if-none-match", "*")], "if-none-match"),
        ("GET", "keys", &[("if-match", "*")], "if-match"),
    ];
    for (method, path, headers, pointer) in cases {
        let problem = client.call(method, path, headers, Body::empty()).await.problem();
        assert_eq!(
            (problem.code, problem.pointer.as_deref()),
            (Code::InvalidParameter, Some(*pointer)),
            "{method} {path} {headers:?}: {}",
            problem.detail
        );
    }
    for path in ["keys/", "keys/a%00b", "keys/%FF", "keys/%2", "keys?key="] {
        assert_eq!(
            client.call("PUT", path, &[], "1").await.refused(),
            (400, Code::InvalidKey),
            "{path}"
        );
    }
    assert_eq!(
        client.call("DELETE", "keys/a", &[], "a body").await.refused(),
        (400, Code::InvalidBody)
    );
    let gzip = client.call("PUT", "keys/a", &[("content-encoding", "gzip")], "1").await;
    assert_eq!(gzip.refused(), (415, Code::UnsupportedMediaType));
    assert_eq!(client.used().await, before, "what is refused changes nothing");
    assert_eq!(client.get("a").await.body.as_ref(), b"1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_have_limits() {
    let client = Client::new().await;
    let long = client.get(&"k".repeat(40_000)).await.problem();
    assert_eq!((long.status, long.code), (414, Code::RequestTooLarge));
    let many = "x".repeat(40_000);
    let large = client.call("GET", "keys/a", &[("x-large", &many)], Body::empty()).await.problem();
    assert_eq!((large.status, large.code), (431, Code::RequestTooLarge));
}

/// A member that leaves its group says so at once, and that nothing was done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_closing_answers() {
    let client = Client::new().await;
    assert_eq!(client.put("a", "1").await.status, 201);
    client.member.stop().await;
    let put = client.put("a", "2").await.problem();
    assert_eq!(
        (put.status, put.code, put.outcome),
        (503, Code::Draining, Some(Outcome::NotApplied))
    );
    assert!(put.retryable);
    assert_eq!(client.get("a").await.refused(), (503, Code::Draining));
    assert_eq!(client.get("a?consistency=any").await.refused(), (503, Code::Draining));
}

/// covers row 25
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_counted_by_route_and_code() {
    let client = Client::new().await;
    client.put("a", "1").await;
    client.get("b").await;
    client.request(&client.token, "GET", "/nowhere", &[], Body::empty()).await;
    let registry = crate::metrics::registry(&client.requests, Vec::new(), std::sync::Arc::new(|| None));
    let text = crate::metrics::exposition(&registry).unwrap();
    for labels in [
        r#"route="/api/v1/tenants/{tenant}/keys/{key}",method="PUT",status="201",code="""#,
        r#"route="/api/v1/tenants/{tenant}/keys/{key}",method="GET",status="404",code="key-not-found""#,
        r#"route="unmatched",method="GET",status="404",code="route-not-found""#,
    ] {
        assert!(
            text.contains(&format!("kvfleet_http_requests_total{{{labels}}} 1")),
            "{labels} in:\n{text}"
        );
    }
}
