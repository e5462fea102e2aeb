//! Every limit refuses with its status and code, and then nothing is written.

use axum::body::Body;

use super::*;

fn small() -> TenantLimits {
    TenantLimits {
        quota_storage: 64 << 10,
        quota_keys: 5,
        max_key_length: 32,
        max_value_size: 16 << 10,
        max_metadata_size: 16,
        ..TenantLimits::default()
    }
}

/// covers rows 7, 8, 44, 89
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sizes_are_limited() {
    let client = Client::with(small()).await;
    // Characters, not bytes.
    assert_eq!(client.put(&"%C3%BC".repeat(32), "1").await.status, 201);
    assert_eq!(client.put("v", "").await.status, 201);
    let full = vec![b'x'; 16 << 10];
    assert_eq!(client.call("PUT", "keys/v", &[], full.clone()).await.status, 204);
    assert_eq!(
        client.call("PUT", "keys/m", &[("kv-meta-abcdefgh", "12345678")], "").await.status,
        201
    );
    let before = client.used().await;

    let long = client.put(&"k".repeat(33), "1").await.problem();
    assert_eq!((long.status, long.code, long.limit), (400, Code::InvalidKey, Some(32)));
    assert_eq!(
        client.get(&"k".repeat(33)).await.refused(),
        (404, Code::KeyNotFound),
        "no such key can be there"
    );
    let mut over = full.clone();
    over.push(b'x');
    let large = client.call("PUT", "keys/v", &[], over.clone()).await;
    let problem = large.problem();
    assert_eq!(
        (problem.status, problem.code, problem.limit),
        (413, Code::ValueTooLarge, Some(16 << 10))
    );
    let pieces = over
        .chunks(1_000)
        .map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece)))
        .collect::<Vec<_>>();
    let streamed = client
        .call("PUT", "keys/v", &[], Body::from_stream(futures::stream::iter(pieces)))
        .await;
    assert_eq!(streamed.refused(), (413, Code::ValueTooLarge));
    let pieces = full
        .chunks(1_000)
        .map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece)))
        .collect::<Vec<_>>();
    let streamed = client
        .call("PUT", "keys/v", &[], Body::from_stream(futures::stream::iter(pieces)))
        .await;
    assert_eq!(streamed.status, 204, "exactly the limit, in pieces");
    assert_eq!(client.get("v").await.body, full);
    let meta = client
        .call("PUT", "keys/m", &[("kv-meta-abcdefgh", "123456789")], "")
        .await
        .problem();
    assert_eq!((meta.status, meta.code, meta.limit), (400, Code::InvalidParameter, Some(16)));
    let json = client
        .call("PUT", "keys/v", &[("content-type", "application/json")], "{")
        .await
        .problem();
    assert_eq!(
        (json.status, json.code, json.pointer.as_deref()),
        (400, Code::InvalidBody, Some(""))
    );
    assert_eq!(client.used().await, before, "what is refused writes nothing");
}

/// covers rows 10, 11, 89
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quotas_are_kept() {
    let client = Client::with(small()).await;
    let put = async |key: &str, size: usize| client.call("PUT", &format!("keys/{key}"), &[], vec![b'x'; size]).await;
    for key in ["a", "b", "c"] {
        assert_eq!(put(key, 16 << 10).await.status, 201);
    }
    let rest = (64 << 10) - usize::try_from(client.used().await.0).unwrap() - 1;
    let over = put("d", rest + 1).await.problem();
    assert_eq!(
        (over.status, over.code, over.limit),
        (403, Code::StorageQuotaExceeded, Some(64 << 10))
    );
    assert_eq!(client.get("d").await.status, 404);
    assert_eq!(put("d", rest).await.status, 201, "exactly full fits");
    assert_eq!(client.used().await, (64 << 10, 4));
    assert_eq!(put("a", 16 << 10).await.status, 204, "what does not grow passes");
    assert_eq!(put("e", 0).await.refused(), (403, Code::StorageQuotaExceeded));
    assert_eq!(put("a", 0).await.status, 204);
    assert_eq!(put("e", 1).await.status, 201);
    let many = put("f", 1).await.problem();
    assert_eq!((many.status, many.code, many.limit), (403, Code::KeyCountExceeded, Some(5)));
    assert_eq!(put("e", 2).await.status, 204, "an overwrite is no new key");

    // Below the use: what is there stays, shrinking goes on, growing does not. In force with the answer to the edit.
    client
        .member
        .tenant(
            "acme",
            1,
            TenantLimits {
                quota_storage: 1 << 10,
                ..small()
            },
        )
        .await;
    assert_eq!(put("b", (16 << 10) - 1).await.status, 204);
    assert_eq!(put("b", 16 << 10).await.refused(), (403, Code::StorageQuotaExceeded));
    assert_eq!(client.get("c").await.body.len(), 16 << 10);
    assert_eq!(client.call("DELETE", "keys/b", &[], Body::empty()).await.status, 204);
}

/// covers row 11
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expired_records_make_room() {
    let client = Client::with(TenantLimits {
        quota_storage: 100,
        ..small()
    })
    .await;
    // No sweep comes by itself while this test runs.
    let calm = kvfleet_api::admin::Settings {
        generation: 1,
        sweep_interval_ms: 3_600_000,
        ..Default::default()
    };
    client.member.settings(calm).await;
    assert_eq!(
        client
            .put("a?ttl=1s", "0123456789012345678901234567890123456789012345678901234567890123456789")
            .await
            .status,
        201
    );
    tokio::time::timeout(crate::app::tests::LIMIT, async {
        while client.get("a").await.status != 404 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(
        client
            .put("b", "0123456789012345678901234567890123456789012345678901234567890123456789")
            .await
            .status,
        201
    );
    assert_eq!(client.used().await, (71, 1));
}
