//! Members that die, one and all: nothing that was acknowledged is missing.

use std::time::Duration;

use anyhow::Result;
use kvfleet_e2e::{
    manifest,
    namespace::Namespace,
    probe::{Credentials, Probe},
    wait,
};
use serde_json::Value;

fn store<'a>(namespace: &'a Namespace, name: &str) -> Result<(Probe<'a>, Credentials)> {
    let probe = Probe::start(namespace)?;
    namespace.apply(&format!(
        "{}---\n{}",
        manifest::cluster(name, 3),
        manifest::tenant("acme", name, "")
    ))?;
    namespace.ready(&format!("kvcluster/{name}"))?;
    namespace.ready("tenant/acme")?;
    let credentials = Credentials::of(namespace, "acme")?;
    Ok((probe, credentials))
}

/// (f) The primary's pod is deleted under load: it hands leadership over, writes go on, nothing acknowledged is missing, and status and the
/// role label follow.
/// covers rows 55, 66
#[test]
fn the_primarys_pod_is_deleted() -> Result<()> {
    let namespace = Namespace::new("handover")?;
    let (probe, acme) = store(&namespace, "handover")?;
    let old = namespace.primary("handover")?;
    let load = probe.load(&acme, "handover", 16, 10)?;
    namespace.kubectl(&["delete", "pod", &old, "--wait=false"])?;
    let (new, _) = wait::until("another primary in status", Duration::from_secs(20), || {
        Ok(Some(namespace.primary("handover")?).filter(|new| *new != old))
    })?;
    wait::until("the role label follows", Duration::from_secs(20), || {
        let pods = namespace.kubectl(&[
            "get",
            "pods",
            "-l",
            "kvfleet.dev/role=primary",
            "-o",
            "jsonpath={.items[*].metadata.name}",
        ])?;
        Ok((pods == new).then_some(()))
    })?;
    let report = load.report()?;
    println!("pod deleted: {report:?}");
    assert_eq!(report.lost, Vec::<String>::new());
    assert!(report.acknowledged > 100, "{report:?}");
    namespace.ready("kvcluster/handover")?;
    Ok(())
}

/// The primary's process is killed with SIGKILL under load: the others elect, nothing acknowledged is missing, and the member comes back.
/// covers rows 15, 66
#[test]
fn the_primarys_process_is_killed() -> Result<()> {
    let namespace = Namespace::new("killed")?;
    let (probe, acme) = store(&namespace, "killed")?;
    let old = namespace.primary("killed")?;
    let load = probe.load(&acme, "killed", 16, 12)?;
    namespace.kill(&old)?;
    wait::until("another primary in status", Duration::from_secs(20), || {
        Ok(Some(namespace.primary("killed")?).filter(|new| *new != old))
    })?;
    let report = load.report()?;
    println!("process killed: {report:?}");
    assert_eq!(report.lost, Vec::<String>::new());
    assert!(report.acknowledged > 100, "{report:?}");
    wait::until("the container is started again", Duration::from_secs(60), || {
        Ok((namespace.pod_field(&old, ".status.containerStatuses[0].restartCount")? == "1").then_some(()))
    })?;
    namespace.ready("kvcluster/killed")?;
    Ok(())
}

/// (g) All pods are deleted at once: the data is back with them.
/// covers rows 17, 73
#[test]
fn all_pods_are_deleted() -> Result<()> {
    let namespace = Namespace::new("restart")?;
    let (probe, acme) = store(&namespace, "restart")?;
    for number in 0..20 {
        assert_eq!(
            probe
                .key(&acme, "PUT", &format!("k{number}"), &["--body", &number.to_string()])?
                .status,
            201
        );
    }
    let identity = namespace
        .json(&["get", "kvcluster", "restart"])?
        .pointer("/status/clusterId")
        .and_then(Value::as_str)
        .map(str::to_owned);
    let old = namespace.kubectl(&[
        "get",
        "pods",
        "-l",
        "app.kubernetes.io/name=kvnode",
        "-o",
        "jsonpath={.items[*].metadata.uid}",
    ])?;
    namespace.kubectl(&["delete", "pods", "-l", "app.kubernetes.io/name=kvnode", "--wait=false"])?;
    wait::until("three new pods that are ready", Duration::from_secs(120), || {
        let pods = namespace.json(&["get", "pods", "-l", "app.kubernetes.io/name=kvnode"])?;
        let items = pods.pointer("/items").and_then(Value::as_array).cloned().unwrap_or_default();
        let ready = items.iter().filter(|pod| {
            let new = pod
                .pointer("/metadata/uid")
                .and_then(Value::as_str)
                .is_some_and(|uid| !old.contains(uid));
            let ready = pod.pointer("/status/containerStatuses/0/ready").and_then(Value::as_bool) == Some(true);
            new && ready
        });
        Ok((ready.count() == 3).then_some(()))
    })?;
    namespace.ready("kvcluster/restart")?;
    for number in 0..20 {
        let read = probe.key(&acme, "GET", &format!("k{number}"), &[])?;
        assert_eq!((read.status, read.body), (200, number.to_string()));
    }
    let now = namespace
        .json(&["get", "kvcluster", "restart"])?
        .pointer("/status/clusterId")
        .and_then(Value::as_str)
        .map(str::to_owned);
    assert_eq!(
        (identity.is_some(), now),
        (true, identity),
        "it is the same group, not one formed anew"
    );
    Ok(())
}
