//! One record: written, read, deleted, on conditions, with an end.

use axum::body::Body;

use super::*;
use crate::app::tests::LIMIT;

/// covers rows 2, 3, 9, 10, 28, 56, 78, 82, 96, 97, 99
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_is_written_read_and_deleted() {
    let client = Client::new().await;
    let value: Vec<u8> = (0..=255).collect();
    let put = client.call("PUT", "keys/a%2Fb?ttl=1h", &[], value.clone()).await;
    assert_eq!(put.status, 201);
    assert_eq!(put.header("location"), Some("/api/v1/tenants/acme/keys/a/b"));
    assert_eq!(put.header("kv-revision"), Some(put.revision().to_string().as_str()));
    assert!(put.header("kv-expires").is_some());
    assert!(put.body.is_empty());
    assert_eq!(client.used().await, (3 + 256, 1));

    let get = client.get("a/b").await;
    assert_eq!((get.status.as_u16(), get.body.as_ref()), (200, value.as_slice()));
    assert_eq!(get.header("content-type"), Some("application/octet-stream"));
    assert_eq!((get.header("kv-kind"), get.revision()), (Some("bytes"), put.revision()));
    assert_eq!(get.header("kv-expires"), put.header("kv-expires"));
    assert_eq!(
        (get.header("kv-revision"), get.header("kv-node")),
        (None, None),
        "only when asked for"
    );
    let head = client.call("HEAD", "keys/a/b", &[], Body::empty()).await;
    assert_eq!(
        (head.status.as_u16(), head.body.len(), head.header("content-length")),
        (200, 0, Some("256"))
    );
    assert_eq!(head.header("etag"), get.header("etag"));

    let again = client.call("PUT", "keys/a/b", &[("content-type", "text/plain")], "ü").await;
    assert_eq!(again.status, 204);
    assert!(again.revision() > put.revision());
    assert_eq!(
        again.header("kv-expires"),
        None,
        "a put without a ttl takes the tenant's default: none"
    );
    assert_eq!(client.used().await, (3 + 2, 1));
    let get = client.get("a/b").await;
    assert_eq!(
        (get.body.as_ref(), get.header("content-type"), get.header("kv-kind")),
        ("ü".as_bytes(), Some("text/plain"), Some("string"))
    );

    let gone = client.call("DELETE", "keys/a/b", &[], Body::empty()).await;
    assert_eq!((gone.status.as_u16(), gone.header("kv-existed")), (204, Some("true")));
    assert!(gone.header("kv-revision").unwrap().parse::<u64>().unwrap() > again.revision());
    let gone = client.call("DELETE", "keys/a/b", &[], Body::empty()).await;
    assert_eq!(
        (gone.status.as_u16(), gone.header("kv-existed"), gone.header("kv-revision")),
        (204, Some("false"), None)
    );
    assert_eq!(client.get("a/b").await.refused(), (404, Code::KeyNotFound));
    assert_eq!(client.used().await, (0, 0));
}

/// covers rows 29, 79
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_has_an_envelope_and_other_addresses() {
    let client = Client::new().await;
    let headers = [("content-type", "application/json"), ("kv-meta-owner", "me"), ("kv-meta-Äge", "7")];
    let put = client.call("PUT", "keys?key=../x&ttl=90", &headers[..2], r#"{"n": 1.10}"#).await;
    assert_eq!(put.status, 201);
    assert_eq!(put.header("location"), Some("/api/v1/tenants/acme/keys?key=%2E%2E%2Fx"));
    for (path, headers) in [
        ("keys/../x?view=item", &[][..]),
        ("keys?key=../x", &[("accept", "text/html, application/vnd.kv.item+json; q=0.9")]),
        ("keys/Li4veA?key_encoding=base64url&view=item", &[]),
    ] {
        let answer = client.call("GET", path, headers, Body::empty()).await;
        assert_eq!(answer.header("content-type"), Some("application/vnd.kv.item+json"), "{path}");
        let item = answer.json();
        assert_eq!(
            (item["key"].as_str(), item["kind"].as_str()),
            (Some("../x"), Some("json")),
            "{path}"
        );
        assert_eq!(item["value"], serde_json::json!({"n": 1.10}));
        assert_eq!(item["revision"], item["create_revision"]);
        assert_eq!(item["created_at"], item["updated_at"]);
        assert!((85..=90).contains(&item["ttl_seconds"].as_u64().unwrap()), "{item}");
        assert_eq!(item["meta"], serde_json::json!({"owner": "me"}));
    }
    let get = client.call("GET", "keys?key=../x", &[], Body::empty()).await;
    assert_eq!(
        (get.body.as_ref(), get.header("kv-meta-owner")),
        (&br#"{"n": 1.10}"#[..], Some("me"))
    );
    assert_eq!(client.call("HEAD", "keys?key=../x", &[], Body::empty()).await.status, 200);
    assert_eq!(
        client
            .call("DELETE", "keys?key=../x", &[], Body::empty())
            .await
            .header("kv-existed"),
        Some("true")
    );
}

/// covers row 120
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conditions_are_kept() {
    let client = Client::new().await;
    let put = |headers: &'static [(&'static str, &'static str)]| client.call("PUT", "keys/a", headers, "1");
    let missed = put(&[("if-match", "*")]).await.problem();
    assert_eq!((missed.code, missed.current_revision), (Code::PreconditionFailed, Some(0)));
    let first = put(&[("if-none-match", "*")]).await;
    assert_eq!(first.status, 201);
    let missed = put(&[("kv-if-revision", "0")]).await.problem();
    assert_eq!((missed.status, missed.current_revision), (412, Some(first.revision())));

    let tag = first.header("etag").unwrap().to_owned();
    let weak = format!("W/{tag}");
    let with = async |name: &str, value: &str| client.call("PUT", "keys/a", &[(name, value)], "2").await;
    assert_eq!(with("if-match", &weak).await.refused(), (412, Code::PreconditionFailed));
    let second = with("if-match", &tag).await;
    assert_eq!(second.status, 204);
    assert_eq!(
        with("if-match", &tag).await.problem().current_revision,
        Some(second.revision()),
        "it is stale now"
    );
    let third = with("kv-if-revision", &second.revision().to_string()).await;
    assert_eq!(third.status, 204);
    assert_eq!(
        client
            .call("DELETE", "keys/a", &[("if-match", &tag)], Body::empty())
            .await
            .refused()
            .0,
        412
    );

    let tag = third.header("etag").unwrap();
    let read = async |name: &str, value: &str| client.call("GET", "keys/a", &[(name, value)], Body::empty()).await;
    let unchanged = read("if-none-match", tag).await;
    assert_eq!(
        (unchanged.status.as_u16(), unchanged.body.len(), unchanged.header("etag")),
        (304, 0, Some(tag))
    );
    assert_eq!(read("if-none-match", "\"1\"").await.status, 200);
    assert_eq!(read("if-match", tag).await.status, 200);
    assert_eq!(read("if-match", "\"1\"").await.problem().current_revision, Some(third.revision()));
    assert_eq!(
        client.call("DELETE", "keys/a", &[("if-match", tag)], Body::empty()).await.status,
        204
    );
    assert_eq!(read("if-match", tag).await.problem().current_revision, Some(0));
    assert_eq!(
        client
            .call("DELETE", "keys/a", &[("kv-if-revision", "7")], Body::empty())
            .await
            .refused()
            .0,
        412
    );
}

/// covers rows 12, 35
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_ends() {
    let limits = TenantLimits {
        ttl_default_ms: Some(3_600_000),
        ttl_max_ms: Some(7_200_000),
        ..TenantLimits::default()
    };
    let client = Client::with(limits).await;
    assert!(client.put("kept", "1").await.header("kv-expires").is_some(), "by default");
    assert_eq!(client.put("brief?ttl=1s", "1").await.status, 201);
    assert_eq!(client.get("brief").await.status, 200);
    tokio::time::timeout(LIMIT, async {
        while client.get("brief").await.status != 404 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap();
    // From that moment it is absent for everything.
    let scan = client.call("GET", "keys?keys_only=true", &[], Body::empty()).await.json();
    assert_eq!(scan["items"].as_array().unwrap().len(), 1);
    assert_eq!(client.used().await.1, 1);
    assert_eq!(client.call("PUT", "keys/brief", &[("if-none-match", "*")], "2").await.status, 201);
    for query in ["ttl=3h", "ttl=0", "ttl=500ms", "expires_at=2100-01-01T00:00:00Z"] {
        assert_eq!(
            client.put(&format!("b?{query}"), "1").await.refused(),
            (400, Code::InvalidTtl),
            "{query}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_may_ask_for_details_and_for_a_local_read() {
    let client = Client::new().await;
    let put = client.call("PUT", "keys/a", &[("prefer", "return=minimal, kv-details")], "1").await;
    assert_eq!(put.header("kv-node"), Some("m0"));
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let headers = [("prefer", "kv-details"), ("traceparent", parent.as_str())];
    let get = client.call("GET", "keys/a", &headers, Body::empty()).await;
    assert!(get.header("traceparent").unwrap().contains(trace));
    assert_eq!(get.header("kv-staleness-ms"), None);
    let local = client.call("GET", "keys/a?consistency=any", &[], Body::empty()).await;
    assert_eq!((local.status.as_u16(), local.body.as_ref()), (200, &b"1"[..]));
    assert_eq!(
        (local.header("kv-staleness-ms"), local.header("kv-revision")),
        (Some("0"), put.header("kv-revision"))
    );
    let missing = client.call("GET", "keys/none", &headers[1..], Body::empty()).await;
    assert_eq!(missing.problem().trace_id, trace);
}

/// covers row 69
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_read_says_how_fresh_it_must_be() {
    let client = Client::new().await;
    let put = client.put("a", "1").await;
    let revision = put.revision();
    let ask = async |path: String, headers: &[(&str, &str)]| client.call("GET", &path, headers, Body::empty()).await;
    for mode in ["linearizable", "leader", "bounded", "any", "bounded&max_staleness=1h"] {
        for resource in ["keys/a?", "keys?prefix=a&", "usage?"] {
            let local = mode.starts_with("bounded") || mode == "any";
            let path = format!("{resource}consistency={mode}&min_revision={revision}");
            let answer = ask(path.clone(), &[]).await;
            assert_eq!(answer.status, 200, "{path}: {:?}", answer.body);
            // A group of one is never behind itself.
            let told = [
                answer.header("kv-staleness-ms"),
                answer.header("kv-node"),
                answer.header("kv-revision"),
            ];
            let wanted =
                [Some("0"), Some("m0"), Some(revision.to_string().as_str())].map(|value| value.filter(|_| local).map(str::to_owned));
            assert_eq!(told.map(|value| value.map(str::to_owned)), wanted, "{path}");
        }
        let head = client.call("HEAD", &format!("keys/a?consistency={mode}"), &[], Body::empty()).await;
        assert_eq!((head.status, head.revision()), (axum::http::StatusCode::OK, revision));
        let missing = ask(format!("keys/b?consistency={mode}"), &[]).await;
        assert_eq!(missing.refused(), (404, Code::KeyNotFound));
        assert_eq!(
            missing.header("kv-revision"),
            Some(revision.to_string().as_str()),
            "absent as of this revision"
        );
        let begun = std::time::Instant::now();
        let future = ask(
            format!("keys/a?consistency={mode}&min_revision={}", revision + 1),
            &[("kv-timeout", "200ms")],
        )
        .await;
        assert_eq!(future.header("retry-after"), Some("1"));
        let problem = future.problem();
        assert_eq!(
            (problem.status, problem.code, problem.retryable),
            (503, Code::TooStale, true),
            "{mode}"
        );
        assert!(problem.detail.contains(&format!("revision {revision}")), "{}", problem.detail);
        assert!(begun.elapsed() >= std::time::Duration::from_millis(200));
    }

    // What no write will have for long is refused at once, whatever the deadline.
    let begun = std::time::Instant::now();
    let far = ask(
        "keys/a?consistency=any&min_revision=99999999999".to_owned(),
        &[("kv-timeout", "20s")],
    )
    .await;
    assert_eq!((far.refused(), far.header("retry-after")), ((503, Code::TooStale), Some("1")));
    assert!(far.problem().detail.contains("too far ahead"), "{}", far.problem().detail);
    assert!(begun.elapsed() < std::time::Duration::from_secs(10));

    // Who asks for a revision that is on its way gets it when it comes.
    let path = format!("keys/a?consistency=any&min_revision={}", revision + 1);
    let waiting = client.call("GET", &path, &[], Body::empty());
    let (answer, put) = tokio::join!(waiting, client.put("a", "2"));
    assert_eq!(put.revision(), revision + 1);
    assert_eq!((answer.status.as_u16(), answer.body.as_ref()), (200, &b"2"[..]));
}

/// covers row 106
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_may_wait_for_every_member() {
    let client = Client::new().await;
    let call = async |method: &str, path: &str| client.call(method, path, &[], Body::empty()).await;
    for ack in ["quorum", "all"] {
        let key = format!("keys/a?ack={ack}");
        assert_eq!(call("PUT", &key).await.status, 201, "{ack}");
        assert_eq!(call("PUT", &key).await.status, 204, "{ack}");
        assert_eq!(call("DELETE", &key).await.header("kv-existed"), Some("true"), "{ack}");
        assert_eq!(call("DELETE", &key).await.header("kv-existed"), Some("false"), "{ack}");
    }
}
