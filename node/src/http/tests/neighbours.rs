//! What one tenant takes is not taken from the others.

use axum::body::Body;
use hyper::body::Body as _;

use super::*;
use crate::{app::Share, state::TenantId};

const MIB: u64 = 1 << 20;

/// A second tenant, and its token.
async fn other(client: &Client) -> String {
    let status = client.member.tenant("other", 1, TenantLimits::default()).await;
    client.member.token(&status)
}

/// As much of the memory as acme alone may have.
async fn all_of_acmes_memory(client: &Client) -> Share {
    let acme = client.member.app.latest().tenant("acme").unwrap().id;
    assert_eq!(acme, TenantId(1));
    let mut share = None;
    client.member.app.memory_of(acme).hold(&mut share, 64 * MIB).await.unwrap();
    share.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_without_memory_is_told_so_and_others_go_on() {
    let client = Client::new().await;
    let token = other(&client).await;
    let large = vec![b'x'; 100_000];
    assert_eq!(client.call("PUT", "keys/large", &[], large.clone()).await.status, 201);
    assert_eq!(client.put("small", "1").await.status, 201);
    let held = all_of_acmes_memory(&client).await;

    let soon = [("kv-timeout", "200ms")];
    let get = client.call("GET", "keys/large", &soon, Body::empty());
    let enveloped = client.call("GET", "keys/large?view=item", &soon, Body::empty());
    let page = client.call("GET", "keys", &soon, Body::empty());
    let put = client.call("PUT", "keys/more", &[], large.clone());
    let (get, enveloped, page, put) = tokio::join!(get, enveloped, page, put);
    for (refused, outcome) in [
        (get, None),
        (enveloped, None),
        (page, None),
        (put, Some(kvfleet_api::error::Outcome::NotApplied)),
    ] {
        assert_eq!(
            (refused.refused(), refused.header("retry-after")),
            ((503, Code::Overloaded), Some("1"))
        );
        assert_eq!(refused.problem().outcome, outcome);
    }
    // What is small costs none.
    assert_eq!(client.get("small").await.status, 200);
    assert_eq!(client.put("small", "2").await.status, 204);
    assert_eq!(client.call("HEAD", "usage", &[], Body::empty()).await.status, 200);
    // Another tenant finds its own share free, and does not wait.
    let begun = std::time::Instant::now();
    let path = |rest: &str| format!("/api/v1/tenants/other/{rest}");
    assert_eq!(client.request(&token, "PUT", &path("keys/a"), &[], large.clone()).await.status, 201);
    for resource in ["keys/a", "keys/a?view=item", "keys"] {
        let answer = client.request(&token, "GET", &path(resource), &[], Body::empty()).await;
        assert_eq!(answer.status, 200, "{resource}");
    }
    assert!(begun.elapsed() < std::time::Duration::from_secs(4), "{:?}", begun.elapsed());

    // Who waits gets it when it comes back.
    let waiting = client.call("GET", "keys/large", &[], Body::empty());
    let release = async {
        tokio::task::yield_now().await;
        drop(held);
    };
    let (answer, ()) = tokio::join!(waiting, release);
    assert_eq!((answer.status, answer.body), (StatusCode::OK, Bytes::from(large)));
    assert_eq!(client.member.app.memory_held(), 0, "all is given back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_holds_its_memory_until_it_has_been_sent() {
    let client = Client::new().await;
    assert_eq!(client.call("PUT", "keys/large", &[], vec![1; 100_000]).await.status, 201);
    assert_eq!(client.member.app.memory_held(), 0);
    for (resource, least) in [("keys/large", 100_000), ("keys/large?view=item", 600_000), ("keys", 600_000)] {
        let request = Request::get(format!("/api/v1/tenants/acme/{resource}"))
            .header(header::AUTHORIZATION, format!("Bearer {}", client.token))
            .header("content-type", "text/plain");
        let answer = Arc::clone(&client.port).answer(request.body(Body::empty()).unwrap()).await;
        let length = answer.body().size_hint().exact().unwrap();
        let held = client.member.app.memory_held();
        assert!(held >= least && held >= length, "{resource}: {held} of {length}");
        assert!(held <= length + (64 << 10), "{resource}: {held} of {length}");
        drop(answer);
        assert_eq!(client.member.app.memory_held(), 0, "{resource}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_of_one_tenant_leave_places_for_others() {
    let client = Client::new().await;
    let token = other(&client).await;
    let places = client.member.app.all_places_for_scans(TenantId(1));
    assert!(!places.is_empty());
    let soon = [("kv-timeout", "100ms")];
    let refused = client.call("GET", "keys", &soon, Body::empty()).await;
    assert_eq!(refused.refused(), (504, Code::DeadlineExceeded));
    let answer = client
        .request(&token, "GET", "/api/v1/tenants/other/keys", &[], Body::empty())
        .await;
    assert_eq!(answer.status, 200);
    drop(places);
    assert_eq!(client.call("GET", "keys", &[], Body::empty()).await.status, 200);
}

/// A request under way is never cut off: were their number not bounded by tenant, one that lets requests wait would close the port.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_wait_leave_connections_for_others() {
    let client = Client::new().await;
    let token = other(&client).await;
    let ahead = client.member.app.latest().revision() + 100;
    let far = format!("keys/a?consistency=any&min_revision={ahead}");
    let body = || Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
    let places = client.member.app.all_places_to_wait(TenantId(1));

    let soon = [("kv-timeout", "20s")];
    let begun = std::time::Instant::now();
    let upload = client.call("PUT", "keys/a", &soon, body()).await;
    assert_eq!(upload.refused(), (503, Code::Overloaded));
    assert_eq!(upload.problem().outcome, Some(kvfleet_api::error::Outcome::NotApplied));
    let read = client.call("GET", &far, &soon, Body::empty()).await;
    assert_eq!((read.refused(), read.problem().outcome), ((503, Code::Overloaded), None));
    assert_eq!((upload.header("retry-after"), read.header("retry-after")), (Some("1"), Some("1")));
    assert!(
        begun.elapsed() < std::time::Duration::from_secs(5),
        "at once: {:?}",
        begun.elapsed()
    );
    // What need not wait goes on, and so does another tenant's waiting.
    assert_eq!(client.put("a", "1").await.status, 201);
    assert_eq!(client.get("a").await.status, 200);
    let path = format!("/api/v1/tenants/other/{far}");
    let waited = client
        .request(&token, "GET", &path, &[("kv-timeout", "100ms")], Body::empty())
        .await;
    assert_eq!(waited.refused(), (503, Code::TooStale));

    drop(places);
    let waited = client.call("GET", &far, &[("kv-timeout", "100ms")], Body::empty()).await;
    assert_eq!(waited.refused(), (503, Code::TooStale));
}
