//! Who gets in.

use axum::body::Body;
use kvfleet_api::{tenant::Access, token::Claims};

use super::*;
use crate::state::Command;

const KEY: &str = "/api/v1/tenants/acme/keys/a";

/// covers rows 14, 48, 104
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_opens_its_own_tenant_and_no_other() {
    let client = Client::new().await;
    let other = client.member.tenant("other", 1, TenantLimits::default()).await;
    let stranger = client.member.token(&other);
    assert_eq!(client.put("a", "mine").await.status, 201);
    let own = client
        .request(&client.token, "GET", "/api/v1/tenants/@me/keys/a", &[], Body::empty())
        .await;
    assert_eq!(own.body.as_ref(), b"mine");
    let get = async |token: &str, path: &str| client.request(token, "GET", path, &[], Body::empty()).await;

    let wrong = get(&stranger, KEY).await;
    assert_eq!(wrong.refused(), (403, Code::TenantForbidden));
    let missing = get(&stranger, "/api/v1/tenants/nobody/keys/a").await;
    let odd = get(&stranger, "/api/v1/tenants/%FF/keys/a").await;
    for other in [&missing, &odd] {
        let (wrong, other) = (wrong.problem(), other.problem());
        assert_eq!(
            (other.status, other.code, &other.detail),
            (wrong.status, wrong.code, &wrong.detail),
            "they look the same"
        );
    }
    assert_eq!(
        client.request(&stranger, "PUT", KEY, &[], "x").await.refused(),
        (403, Code::TenantForbidden)
    );
    assert_eq!(
        client
            .request(&stranger, "PUT", "/api/v1/tenants/other/keys/a", &[], "theirs")
            .await
            .status,
        201
    );
    assert_eq!(client.get("a").await.body.as_ref(), b"mine");

    let none = client.send(Request::get(KEY).body(Body::empty()).unwrap()).await;
    assert_eq!(none.refused(), (401, Code::TokenMissing));
    assert_eq!(none.header("www-authenticate"), Some("Bearer realm=\"kvfleet\""));
    let forged = get("nonsense", KEY).await;
    assert_eq!(forged.refused(), (401, Code::TokenInvalid));
    assert!(forged.header("www-authenticate").unwrap().contains("invalid_token"));
}

/// covers rows 14, 48
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_must_fit_the_tenant_of_now() {
    let client = Client::new().await;
    let acme = client.member.app.latest().tenant_status("acme").unwrap();
    let good = client.member.claims(&acme);
    let get = async |claims: &Claims| {
        let token = client.member.signer.token(claims);
        client.request(&token, "GET", KEY, &[], Body::empty()).await.refused()
    };
    assert_eq!(get(&good).await, (404, Code::KeyNotFound), "let in");
    let cases = [
        (
            "another id",
            Claims {
                tid: good.tid + 1,
                ..good.clone()
            },
            (401, Code::TokenInvalid),
        ),
        ("another generation", Claims { r#gen: 2, ..good.clone() }, (401, Code::TokenInvalid)),
        (
            "issued before these credentials",
            Claims {
                iat: good.iat - 1,
                ..good.clone()
            },
            (401, Code::TokenInvalid),
        ),
        (
            "a tenant that is not there",
            Claims {
                sub: "nobody".into(),
                ..good.clone()
            },
            (401, Code::TokenInvalid),
        ),
        (
            "over",
            Claims {
                exp: Some(1),
                ..good.clone()
            },
            (401, Code::TokenExpired),
        ),
        (
            "no scope",
            Claims {
                scope: "write".into(),
                ..good.clone()
            },
            (403, Code::ScopeMissing),
        ),
        (
            "a longer scope",
            Claims {
                scope: "readers".into(),
                ..good.clone()
            },
            (403, Code::ScopeMissing),
        ),
    ];
    for (what, claims, wanted) in cases {
        assert_eq!(get(&claims).await, wanted, "{what}");
    }
    let reader = client.member.signer.token(&Claims {
        scope: "read".into(),
        ..good.clone()
    });
    assert_eq!(
        client.request(&reader, "PUT", KEY, &[], "x").await.refused(),
        (403, Code::ScopeMissing)
    );
    assert_eq!(
        client.request(&reader, "DELETE", KEY, &[], Body::empty()).await.refused(),
        (403, Code::ScopeMissing)
    );

    let whoami = client.request(&reader, "GET", "/api/v1/whoami", &[], Body::empty()).await.json();
    assert_eq!(
        (whoami["tenant"].as_str(), &whoami["scope"]),
        (Some("acme"), &serde_json::json!(["read"]))
    );

    // New credentials are in force at once, also for a token that is in the cache.
    let renewed = client.member.tenant("acme", 2, TenantLimits::default()).await;
    assert_eq!(client.get("a").await.refused(), (401, Code::TokenInvalid));
    assert_eq!(get(&client.member.claims(&renewed)).await, (404, Code::KeyNotFound));
}

/// A token may have one scope only: each call asks for the one of its verb, and for no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_asks_for_the_scope_of_its_verb() {
    let client = Client::new().await;
    let acme = client.member.app.latest().tenant_status("acme").unwrap();
    let only = |scope: &str| {
        let claims = Claims {
            scope: scope.into(),
            ..client.member.claims(&acme)
        };
        client.member.signer.token(&claims)
    };
    let (reader, writer) = (only("read"), only("write"));
    let calls = [
        ("PUT", KEY, "write"),
        ("GET", KEY, "read"),
        ("HEAD", KEY, "read"),
        ("GET", "/api/v1/tenants/acme/keys", "read"),
        ("GET", "/api/v1/tenants/acme/keys?consistency=any", "read"),
        ("GET", "/api/v1/tenants/acme/usage", "read"),
        ("GET", "/api/v1/whoami", "read"),
        ("DELETE", KEY, "write"),
    ];
    for (method, path, scope) in calls {
        let (with, without) = if scope == "read" { (&reader, &writer) } else { (&writer, &reader) };
        let refused = client.request(without, method, path, &[], "").await;
        assert_eq!(refused.status, 403, "{method} {path}");
        if method != "HEAD" {
            let problem = refused.problem();
            assert_eq!(problem.code, Code::ScopeMissing);
            assert!(problem.detail.contains(&format!("`{scope}`")), "{}", problem.detail);
        }
        let served = client.request(with, method, path, &[], "").await;
        assert!(served.status.is_success(), "{method} {path}: {}", served.status);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn access_follows_the_tenant() {
    let client = Client::new().await;
    assert_eq!(client.put("a", "1").await.status, 201);
    let set = async |access| {
        let limits = TenantLimits {
            access,
            ..TenantLimits::default()
        };
        client.member.tenant("acme", 1, limits).await;
    };
    set(Access::ReadOnly).await;
    assert_eq!(client.put("a", "2").await.refused(), (403, Code::TenantReadOnly));
    assert_eq!(
        client.call("DELETE", "keys/a", &[], Body::empty()).await.refused(),
        (403, Code::TenantReadOnly)
    );
    assert_eq!(client.get("a").await.body.as_ref(), b"1");
    set(Access::Suspended).await;
    assert_eq!(client.get("a").await.refused(), (403, Code::TenantSuspended));
    assert_eq!(client.get("a?consistency=any").await.refused(), (403, Code::TenantSuspended));
    assert_eq!(client.put("a", "2").await.refused(), (403, Code::TenantSuspended));
    assert_eq!(
        client.call("GET", "usage", &[], Body::empty()).await.refused(),
        (403, Code::TenantSuspended)
    );
    set(Access::ReadWrite).await;
    assert_eq!(client.put("a", "2").await.status, 204);

    client
        .member
        .command(Command::ReleaseTenant {
            name: "acme".into(),
            uid: "uid-of-acme".into(),
        })
        .await;
    assert_eq!(
        client.get("a").await.refused(),
        (401, Code::TokenInvalid),
        "released: the data is kept, nobody gets in"
    );
    assert_eq!(client.put("a", "3").await.refused(), (401, Code::TokenInvalid));
}
