//! Pages of records.

use axum::body::Body;

use super::*;

fn keys(page: &Value) -> Vec<&str> {
    let items = page["items"].as_array().unwrap();
    items.iter().map(|item| item["key"].as_str().unwrap()).collect()
}

/// covers rows 59, 123
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_is_read_page_by_page_in_bytewise_order() {
    let client = Client::new().await;
    for key in ["b", "a/2", "a/10", "a/1", "a%2Fz", "A", "%C3%BC", "a/"] {
        assert_eq!(
            client
                .call("PUT", &format!("keys/{key}"), &[("content-type", "text/plain")], "v")
                .await
                .status,
            201
        );
    }
    let scan = async |query: &str| client.call("GET", &format!("keys?{query}"), &[], Body::empty()).await.json();
    assert_eq!(keys(&scan("").await), ["A", "a/", "a/1", "a/10", "a/2", "a/z", "b", "ü"]);
    assert_eq!(keys(&scan("prefix=a/").await), ["a/", "a/1", "a/10", "a/2", "a/z"]);
    assert_eq!(keys(&scan("start=a/10&end=b").await), ["a/10", "a/2", "a/z"]);
    assert_eq!(keys(&scan("start_after=a/2&reverse=true&prefix=a").await), ["a/10", "a/1", "a/"]);
    assert_eq!(keys(&scan("prefix=nothing").await), [""; 0]);

    for reverse in [false, true] {
        let base = format!("prefix=a/&limit=2&reverse={reverse}");
        let (mut all, mut query) = (Vec::new(), base.clone());
        loop {
            let page = scan(&query).await;
            assert!(keys(&page).len() <= 2);
            all.extend(keys(&page).iter().map(|key| (*key).to_owned()));
            match page["cursor"].as_str() {
                Some(cursor) => query = format!("{base}&cursor={cursor}"),
                None => break,
            }
        }
        let mut wanted = ["a/", "a/1", "a/10", "a/2", "a/z"];
        if reverse {
            wanted.reverse();
        }
        assert_eq!(all, wanted);
    }
    let page = scan("limit=1").await;
    assert_eq!(
        (page["items"][0]["value"].as_str(), page["items"][0]["kind"].as_str()),
        (Some("v"), Some("string"))
    );
    assert_eq!(page["revision"].as_u64(), Some(client.member.app.latest().revision()));
    let short = scan("limit=1&keys_only=true").await;
    assert_eq!((short["items"][0].get("value"), short["items"][0].get("meta")), (None, None));
    assert!(short["items"][0]["revision"].as_u64().is_some());
    // The byte limit counts; the first record always comes.
    let small = scan("max_bytes=1").await;
    assert_eq!(keys(&small), ["A"]);

    let cursor = page["cursor"].as_str().unwrap();
    let refused = async |query: &str| client.call("GET", &format!("keys?{query}"), &[], Body::empty()).await.problem();
    assert_eq!(refused(&format!("prefix=b&cursor={cursor}")).await.code, Code::InvalidCursor);
    assert_eq!(refused("cursor=nonsense").await.code, Code::InvalidCursor);
    let above = refused("limit=1001").await;
    assert_eq!((above.status, above.code, above.limit), (400, Code::InvalidParameter, Some(1_000)));
    for query in [
        "limit=0",
        "limit=x",
        "limit=-1",
        "max_bytes=8388609",
        "reverse",
        "keys_only=1",
        "delimiter=/",
        "count=true",
        "consistency=weak",
        "max_staleness=1s",
        "key=a&prefix=b",
    ] {
        assert_eq!(refused(query).await.code, Code::InvalidParameter, "{query}");
    }
    let long = format!("prefix={}", "p".repeat(2_049));
    assert_eq!(refused(&long).await.code, Code::InvalidParameter);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clusters_page_is_the_default() {
    let client = Client::new().await;
    for key in ["a", "b", "c"] {
        client.put(key, "1").await;
    }
    let settings = kvfleet_api::admin::Settings {
        generation: 1,
        scan_items: 2,
        max_request_timeout_ms: 2_000,
        request_timeout_ms: 2_000,
        ..Default::default()
    };
    client.member.settings(settings).await;
    let page = client.call("GET", "keys", &[], Body::empty()).await.json();
    assert_eq!(keys(&page), ["a", "b"]);
    let over = client
        .call("GET", "keys/a", &[("kv-timeout", "2001ms")], Body::empty())
        .await
        .problem();
    assert_eq!((over.code, over.limit), (Code::InvalidParameter, Some(2_000)));
    assert_eq!(
        client.call("GET", "keys/a", &[("kv-timeout", "2s")], Body::empty()).await.status,
        200
    );
}

/// A control character is one byte in a value and six in JSON.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_cut_by_the_bytes_that_it_has_as_json() {
    let client = Client::new().await;
    for key in ["a", "b", "c", "d", "e"] {
        let value = vec![1; 10_000];
        let path = format!("keys/{key}");
        let put = client.call("PUT", &path, &[("content-type", "text/plain")], value);
        assert_eq!(put.await.status, 201);
    }
    let scan = async |query: &str| client.call("GET", &format!("keys?{query}"), &[], Body::empty()).await;
    let (mut pages, mut query) = (Vec::new(), "max_bytes=130000".to_owned());
    loop {
        let page = scan(&query).await;
        assert_eq!(page.header("content-type"), Some("application/json"));
        assert!(page.body.len() <= 130_000 + (4 << 10), "{}", page.body.len());
        let page = page.json();
        pages.push(keys(&page).join(" "));
        let Some(cursor) = page["cursor"].as_str() else { break };
        query = format!("max_bytes=130000&cursor={cursor}");
    }
    assert_eq!(pages, ["a b", "c d", "e"]);
    // By exactly what they have.
    let two = scan("limit=2").await.json();
    // A moment with fewer digits is shorter, so the two may differ.
    let lengths = [0, 1].map(|number: usize| two["items"][number].to_string().len());
    let both = lengths.iter().sum::<usize>() + ",".len();
    assert_eq!(keys(&scan(&format!("max_bytes={both}")).await.json()), ["a", "b"]);
    assert_eq!(keys(&scan(&format!("max_bytes={}", both - 1)).await.json()), ["a"]);
    let head = client.call("HEAD", "keys?limit=3", &[], Body::empty()).await;
    let length: usize = head.header("content-length").unwrap().parse().unwrap();
    assert_eq!((length, head.body.len()), (scan("limit=3").await.body.len(), 0));
}
