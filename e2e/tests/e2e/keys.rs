//! Two manifests in, keys in and out.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result};
use kvfleet_e2e::{
    kubectl, manifest,
    namespace::Namespace,
    probe::{Credentials, Probe},
    wait,
};
use serde_json::Value;

/// (a) Both manifests are Ready within 30 seconds; put, get and delete work through the Service from another pod and from outside.
/// covers rows 2, 3, 9, 10, 28, 56, 72, 78, 79, 82, 96, 97, 99, 105
#[test]
fn two_manifests_give_a_store() -> Result<()> {
    let namespace = Namespace::new("store")?;
    let probe = Probe::start(&namespace)?;
    namespace.apply(&format!(
        "{}---\n{}",
        manifest::cluster("store", 3),
        manifest::tenant("acme", "store", "")
    ))?;
    let cluster = namespace.ready("kvcluster/store")?;
    let tenant = namespace.ready("tenant/acme")?;
    println!("KvCluster Ready after {cluster:?}, Tenant {tenant:?} later");
    assert!(
        cluster + tenant <= Duration::from_secs(30),
        "Ready only after {:?}",
        cluster + tenant
    );

    let acme = Credentials::of(&namespace, "acme")?;
    assert_eq!(
        acme.endpoint,
        format!("http://store.{}.svc:8080/api/v1/tenants/acme", namespace.name)
    );
    let put = probe.key(&acme, "PUT", "greeting", &["--body", "hello", "-H", "Content-Type: text/plain"])?;
    assert_eq!(put.status, 201, "{put:?}");
    let get = probe.key(&acme, "GET", "greeting", &[])?;
    assert_eq!((get.status, get.body.as_str()), (200, "hello"));
    assert_eq!(get.headers["content-type"], "text/plain");
    assert_eq!(get.headers["etag"], put.headers["etag"]);
    assert_eq!(probe.key(&acme, "PUT", "greeting", &["--body", "hello again"])?.status, 204);
    let usage = probe.tenant(&acme, "GET", "usage", &[])?.json()?;
    assert_eq!(
        usage.pointer("/storage/used").and_then(Value::as_u64),
        Some("greeting".len() as u64 + "hello again".len() as u64)
    );
    assert_eq!(probe.key(&acme, "GET", "none", &[])?.code().as_deref(), Some("key-not-found"));

    let mut forward = kubectl::command(&["--namespace", &namespace.name, "port-forward", "service/store", ":8080"])?
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    // Kept open to the end: kubectl writes a line for each connection and ends when it cannot.
    let mut output = BufReader::new(forward.stdout.take().context("no output")?);
    output.read_line(&mut line)?;
    let address = line
        .split_whitespace()
        .find(|word| word.starts_with("127.0.0.1:"))
        .context(line.clone())?
        .to_owned();
    let outside = kvfleet_client_from(&acme.at(&address))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(async {
        let read = outside.get("greeting").await?.context("absent")?;
        let existed = outside.delete("greeting").await?;
        let again = outside.delete("greeting").await?;
        anyhow::Ok((read.value, existed, again))
    });
    forward.kill()?;
    forward.wait()?;
    let (value, existed, again) = answer?;
    assert_eq!((value.as_ref(), existed, again), (&b"hello again"[..], true, false));
    assert_eq!(probe.key(&acme, "GET", "greeting", &[])?.status, 404);
    let usage = probe.tenant(&acme, "GET", "usage", &[])?.json()?;
    assert_eq!(usage.pointer("/storage/used").and_then(Value::as_u64), Some(0));
    Ok(())
}

/// (b) and (d): a write to every pod's address succeeds, every pod reads what any pod wrote, and a record that expires is gone everywhere.
/// covers rows 12, 68, 69, 104, 106
#[test]
fn every_member_serves_every_request() -> Result<()> {
    let namespace = Namespace::new("members")?;
    let probe = Probe::start(&namespace)?;
    namespace.apply(&format!(
        "{}---\n{}---\n{}",
        manifest::cluster("members", 3),
        manifest::tenant("acme", "members", ""),
        manifest::tenant("other", "members", "")
    ))?;
    namespace.ready("kvcluster/members")?;
    namespace.ready("tenant/acme")?;
    namespace.ready("tenant/other")?;
    let acme = Credentials::of(&namespace, "acme")?;
    let members = (0..3)
        .map(|number| {
            Ok(acme.at(&format!(
                "{}:8080",
                namespace.pod_field(&format!("members-s0-{number}"), ".status.podIP")?
            )))
        })
        .collect::<Result<Vec<_>>>()?;

    for (number, member) in members.iter().enumerate() {
        let key = format!("from/{number}");
        assert_eq!(
            probe.key(member, "PUT", &key, &["--body", &key])?.status,
            201,
            "a write to member {number}"
        );
        for reader in &members {
            assert_eq!(probe.key(reader, "GET", &key, &[])?.body, key, "a read right after the write");
        }
    }
    // The same key of another tenant is another record.
    let other = Credentials::of(&namespace, "other")?;
    assert_eq!(probe.key(&other, "GET", "from/0", &[])?.status, 404);
    assert_eq!(probe.key(&other, "PUT", "from/0", &["--body", "mine"])?.status, 201);
    assert_eq!(probe.key(&acme, "GET", "from/0", &[])?.body, "from/0");

    assert_eq!(probe.tenant(&acme, "PUT", "keys/brief?ttl=2s", &["--body", "x"])?.status, 201);
    let expires = probe.key(&acme, "GET", "brief", &[])?;
    assert_eq!(expires.status, 200, "it lives for two seconds");
    assert!(expires.headers.contains_key("kv-expires"), "{expires:?}");
    for (number, member) in members.iter().enumerate() {
        wait::until("the record is gone", Duration::from_secs(10), || {
            Ok((probe.key(member, "GET", "brief", &[])?.status == 404).then_some(()))
        })
        .with_context(|| format!("member {number}"))?;
    }
    // Its bytes come back to the quota by themselves.
    wait::until("the quota is free again", Duration::from_secs(10), || {
        let usage = probe.tenant(&acme, "GET", "usage", &[])?.json()?;
        Ok((usage.pointer("/keys/used").and_then(Value::as_u64) == Some(3)
            && usage.pointer("/storage/used").and_then(Value::as_u64) == Some(36))
        .then_some(()))
    })?;
    Ok(())
}

/// A scan answers a prefix in bytewise order, page by page, on every member.
/// covers rows 59, 123
#[test]
fn a_prefix_is_scanned_in_order() -> Result<()> {
    let namespace = Namespace::new("scan")?;
    let probe = Probe::start(&namespace)?;
    namespace.apply(&format!(
        "{}---\n{}",
        manifest::cluster("scan", 1),
        manifest::tenant("acme", "scan", "")
    ))?;
    namespace.ready("tenant/acme")?;
    let acme = Credentials::of(&namespace, "acme")?;
    for key in ["b/1", "a/2", "a/10", "a/1", "a%2Fz", "c"] {
        assert_eq!(probe.key(&acme, "PUT", key, &["--body", key])?.status, 201, "{key}");
    }
    let mut keys = Vec::new();
    let mut path = "keys?prefix=a/&limit=2&keys_only=true".to_owned();
    loop {
        let page = probe.tenant(&acme, "GET", &path, &[])?.json()?;
        let items = page.pointer("/items").and_then(Value::as_array).context("no items")?;
        assert!(items.len() <= 2);
        keys.extend(items.iter().filter_map(|item| Some(item.get("key")?.as_str()?.to_owned())));
        match page.get("cursor").and_then(Value::as_str) {
            Some(cursor) => path = format!("keys?prefix=a/&limit=2&keys_only=true&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(keys, ["a/1", "a/10", "a/2", "a/z"]);
    Ok(())
}

fn kvfleet_client_from(credentials: &Credentials) -> Result<kvfleet_client::data::Client> {
    Ok(kvfleet_client::data::Client::new(&credentials.endpoint, &credentials.token)?)
}
