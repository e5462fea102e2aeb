//! Every limit refuses with its documented status and code, and then nothing is written; an edit is in force without a restart.

use std::time::Duration;

use anyhow::Result;
use kvfleet_e2e::{
    manifest,
    namespace::Namespace,
    probe::{Credentials, Probe},
    wait,
};
use serde_json::Value;

const LIMITS: &str = "  quota: {storage: 64Ki, keys: 5}\n  limits: {maxKeyLength: 32, maxValueSize: 16Ki}\n  ttl: {default: 1h, max: 2h}";

fn used(probe: &Probe, tenant: &Credentials) -> Result<(Option<u64>, Option<u64>)> {
    let usage = probe.tenant(tenant, "GET", "usage", &[])?.json()?;
    let figure = |path| usage.pointer(path).and_then(Value::as_u64);
    Ok((figure("/storage/used"), figure("/keys/used")))
}

/// (c) and (e).
/// covers rows 7, 8, 9, 10, 11, 35, 89
#[test]
fn limits_refuse_and_follow_an_edit() -> Result<()> {
    let namespace = Namespace::new("limits")?;
    let probe = Probe::start(&namespace)?;
    namespace.apply(&format!(
        "{}---\n{}",
        manifest::cluster("limits", 3),
        manifest::tenant("acme", "limits", LIMITS)
    ))?;
    namespace.ready("kvcluster/limits")?;
    namespace.ready("tenant/acme")?;
    let acme = Credentials::of(&namespace, "acme")?;
    let put = |path: &str, size: usize| probe.tenant(&acme, "PUT", path, &["--body-size", &size.to_string()]);

    // The length of a key counts characters, not bytes.
    let longest = "ü".repeat(32);
    assert_eq!(put(&format!("keys/{longest}"), 1)?.status, 201);
    assert_eq!(used(&probe, &acme)?, (Some(64 + 1), Some(1)));
    let before = used(&probe, &acme)?;
    let cases = [
        (format!("keys/{}", "k".repeat(33)), 1, 400, "invalid-key"),
        ("keys/large".to_owned(), 16 * 1024 + 1, 413, "value-too-large"),
        ("keys/k?ttl=3h".to_owned(), 1, 400, "invalid-ttl"),
        ("keys/k?ttl=0".to_owned(), 1, 400, "invalid-ttl"),
        ("keys/k?ttl=10ms".to_owned(), 1, 400, "invalid-ttl"),
        ("keys/k?ttl=soon".to_owned(), 1, 400, "invalid-ttl"),
        ("keys/".to_owned(), 1, 400, "invalid-key"),
        ("keys/a%00b".to_owned(), 1, 400, "invalid-key"),
        ("keys/k?tll=1s".to_owned(), 1, 400, "invalid-parameter"),
    ];
    for (path, size, status, code) in cases {
        let answer = put(&path, size)?;
        assert_eq!(
            (answer.status, answer.code().as_deref()),
            (status, Some(code)),
            "{path}: {answer:?}"
        );
        assert_eq!(answer.headers["content-type"], "application/problem+json");
    }
    assert_eq!(used(&probe, &acme)?, before, "a refused write writes nothing");

    // Exactly full fits; one byte more does not; what does not grow still passes.
    for key in ["a", "b", "c"] {
        assert_eq!(put(&format!("keys/{key}"), 16 * 1024)?.status, 201);
    }
    let rest = 64 * 1024 - usize::try_from(used(&probe, &acme)?.0.unwrap_or(0))? - 1;
    let over = put("keys/d", rest + 1)?;
    assert_eq!(
        (over.status, over.code().as_deref()),
        (403, Some("storage-quota-exceeded")),
        "{over:?}"
    );
    assert_eq!(probe.key(&acme, "GET", "d", &[])?.status, 404);
    assert_eq!(put("keys/d", rest)?.status, 201);
    assert_eq!(used(&probe, &acme)?.0, Some(64 * 1024));
    let key = put("keys/e", 0)?;
    assert_eq!(
        (key.status, key.code().as_deref()),
        (403, Some("key-count-exceeded")).max((key.status, key.code().as_deref())),
        "{key:?}"
    );
    assert!(
        matches!(key.code().as_deref(), Some("key-count-exceeded" | "storage-quota-exceeded")),
        "{key:?}"
    );
    assert_eq!(put("keys/a", 16 * 1024)?.status, 204);

    // An edit is in force on every member within two seconds of the API server's answer, and no pod restarts.
    let starts = || {
        namespace.kubectl(&[
            "get",
            "pods",
            "-l",
            "app.kubernetes.io/name=kvnode",
            "-o",
            "jsonpath={.items[*].status.containerStatuses[*].containerID}",
        ])
    };
    let running = starts()?;
    namespace.kubectl(&[
        "patch",
        "tenant",
        "acme",
        "--type=merge",
        "-p",
        r#"{"spec":{"quota":{"storage":"128Ki","keys":6}}}"#,
    ])?;
    let ((), took) = wait::until("the new quota", Duration::from_secs(10), || {
        Ok((put("keys/e", 16 * 1024)?.status == 201).then_some(()))
    })?;
    println!("an edited quota was in force after {took:?}");
    namespace.ready("tenant/acme")?;
    for number in 0..3 {
        let member = acme.at(&format!(
            "{}:8080",
            namespace.pod_field(&format!("limits-s0-{number}"), ".status.podIP")?
        ));
        let usage = probe.tenant(&member, "GET", "usage", &[])?.json()?;
        assert_eq!(
            usage.pointer("/keys/provisioned").and_then(Value::as_u64),
            Some(6),
            "member {number}"
        );
    }
    // Below the use: reads and deletes go on, growth is refused, nothing is deleted.
    namespace.kubectl(&[
        "patch",
        "tenant",
        "acme",
        "--type=merge",
        "-p",
        r#"{"spec":{"quota":{"storage":"1Ki"}}}"#,
    ])?;
    wait::until("the lower quota", Duration::from_secs(10), || {
        Ok((put("keys/a?ttl=1h", 16 * 1024 - 1)?.status == 204 && put("keys/f", 1)?.status == 403).then_some(()))
    })?;
    assert_eq!(probe.key(&acme, "GET", "b", &[])?.body.len(), 16 * 1024);
    assert_eq!(probe.key(&acme, "DELETE", "b", &[])?.status, 204);
    assert_eq!(starts()?, running, "no container was restarted");

    // Access modes.
    namespace.kubectl(&["patch", "tenant", "acme", "--type=merge", "-p", r#"{"spec":{"access":"ReadOnly"}}"#])?;
    wait::until("read-only", Duration::from_secs(10), || {
        Ok((put("keys/a", 1)?.code().as_deref() == Some("tenant-read-only")).then_some(()))
    })?;
    assert_eq!(probe.key(&acme, "GET", "a", &[])?.status, 200);
    namespace.kubectl(&[
        "patch",
        "tenant",
        "acme",
        "--type=merge",
        "-p",
        r#"{"spec":{"access":"Suspended"}}"#,
    ])?;
    wait::until("suspended", Duration::from_secs(10), || {
        Ok((probe.key(&acme, "GET", "a", &[])?.code().as_deref() == Some("tenant-suspended")).then_some(()))
    })?;
    namespace.ready("tenant/acme")?;
    Ok(())
}
