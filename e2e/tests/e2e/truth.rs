//! What status says while something is in the way: of a spec that cannot be applied, of pods that cannot run, of members that cannot be asked.

use std::time::Duration;

use anyhow::{Context, Result};
use kvfleet_e2e::{
    manifest,
    namespace::{Namespace, PATIENCE},
    probe::{Credentials, Probe},
    wait,
};
use serde_json::Value;

/// A person is told within this.
const TOLD: Duration = Duration::from_secs(15);

/// The status and the message of a condition, once it has the reason.
fn until_said(namespace: &Namespace, object: &str, type_: &str, reason: &str, limit: Duration) -> Result<(String, String)> {
    let what = format!("{object} {type_} {reason}");
    let (said, took) = wait::until(&what, limit, || {
        let conditions = namespace
            .json(&["get", object])?
            .pointer("/status/conditions")
            .cloned()
            .unwrap_or_default();
        let text = |condition: &Value, field: &str| condition.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let found = conditions.as_array().into_iter().flatten();
        let mut found = found.filter(|condition| text(condition, "type") == type_ && text(condition, "reason") == reason);
        Ok(found
            .next()
            .map(|condition| (text(condition, "status"), text(condition, "message"))))
    })?;
    println!("{what} after {took:?}: {}", said.1);
    Ok(said)
}

/// A spec whose pods cannot run is told in words, and put right it is followed at once: pods that never ran are made again.
fn told_and_put_right(purpose: &str, field: &str, words: &str, cure: &str) -> Result<()> {
    let namespace = Namespace::new(purpose)?;
    namespace.apply(&manifest::cluster_with(purpose, 3, field))?;
    let object = format!("kvcluster/{purpose}");
    let (status, message) = until_said(&namespace, &object, "Degraded", "PodBlocked", TOLD)?;
    assert_eq!(status, "True");
    assert!(message.contains(words), "{message}");
    namespace.kubectl(&["patch", &object, "--type=json", "-p", cure])?;
    println!("{purpose} ready after {:?}", namespace.ready(&object)?);
    Ok(())
}

#[test]
fn an_image_that_does_not_exist_is_told_and_put_right() -> Result<()> {
    let cure = r#"[{"op": "remove", "path": "/spec/image"}]"#;
    told_and_put_right("image", "  image: {tag: nope}", ":nope cannot be pulled", cure)
}

#[test]
fn pods_that_fit_no_node_are_told_and_put_right() -> Result<()> {
    let cure = r#"[{"op": "remove", "path": "/spec/nodeSelector"}]"#;
    told_and_put_right("nodes", "  nodeSelector: {example.org/none: such}", "cannot be scheduled", cure)
}

/// Of a storage class and an account that are not there, the claim's and the StatefulSet's own controllers know.
#[test]
fn a_class_and_an_account_that_are_not_there_are_told() -> Result<()> {
    let namespace = Namespace::new("absent")?;
    let named = |name: &str, more: &str| {
        let manifest = manifest::cluster_with(name, 1, more);
        manifest.replace(
            "{size: 256Mi}",
            if name == "class" {
                "{size: 256Mi, storageClassName: nope}"
            } else {
                "{size: 256Mi}"
            },
        )
    };
    namespace.apply(&named("class", ""))?;
    namespace.apply(&named("account", "  serviceAccountName: nobody"))?;
    for (object, words) in [("kvcluster/class", "nope"), ("kvcluster/account", "nobody")] {
        let (_, message) = until_said(&namespace, object, "Degraded", "PodBlocked", TOLD)?;
        assert!(message.contains(words), "{message}");
    }
    Ok(())
}

/// A quota that wants limits on pods: the StatefulSet's controller is refused, and its words are told. With limits the pods come by themselves.
#[test]
fn a_quota_on_pods_is_told_and_obeyed() -> Result<()> {
    let namespace = Namespace::new("quota")?;
    namespace.kubectl(&["create", "quota", "q", "--hard=limits.cpu=4"])?;
    namespace.apply(&manifest::cluster("quota", 1))?;
    let (_, message) = until_said(&namespace, "kvcluster/quota", "Degraded", "PodBlocked", TOLD)?;
    assert!(message.contains("limits.cpu"), "{message}");
    let limits = r#"{"spec": {"resources": {"limits": {"cpu": "1"}}}}"#;
    namespace.kubectl(&["patch", "kvcluster/quota", "--type=merge", "-p", limits])?;
    // Its controller tries again after a pause that has grown meanwhile.
    namespace.kubectl(&["delete", "quota", "q"])?;
    namespace.ready("kvcluster/quota")?;
    Ok(())
}

/// Ready is never said of a generation that a quota keeps from being applied, and a Tenant whose Secret is refused says so.
#[test]
fn what_a_quota_refuses_is_not_ready() -> Result<()> {
    let namespace = Namespace::new("refused")?;
    namespace.apply(&manifest::cluster("refused", 1))?;
    namespace.ready("kvcluster/refused")?;
    namespace.kubectl(&["create", "quota", "q", "--hard=services.loadbalancers=0"])?;
    // Until its controller has counted, the API server refuses with other words.
    wait::until("the quota counts", PATIENCE, || {
        let used = namespace.kubectl(&["get", "quota", "q", "-o", "jsonpath={.status.used}"])?;
        Ok((!used.is_empty()).then_some(()))
    })?;
    let edit = r#"{"spec": {"service": {"type": "LoadBalancer"}}}"#;
    namespace.kubectl(&["patch", "kvcluster/refused", "--type=merge", "-p", edit])?;
    let (_, message) = until_said(&namespace, "kvcluster/refused", "Ready", "Applying", TOLD)?;
    assert!(message.contains("exceeded quota"), "{message}");
    let (status, _) = until_said(&namespace, "kvcluster/refused", "Degraded", "ApplyFailed", PATIENCE)?;
    assert_eq!(status, "True");
    assert!(!namespace.condition("kvcluster/refused", "Ready", "True")?);
    namespace.kubectl(&["delete", "quota", "q"])?;
    namespace.ready("kvcluster/refused")?;

    let secrets = namespace.kubectl(&["get", "secrets", "-o", "name"])?.lines().count();
    namespace.kubectl(&["create", "quota", "s", &format!("--hard=count/secrets={secrets}")])?;
    wait::until("the quota counts", PATIENCE, || {
        let used = namespace.kubectl(&["get", "quota", "s", "-o", "jsonpath={.status.used}"])?;
        Ok((!used.is_empty()).then_some(()))
    })?;
    namespace.apply(&manifest::tenant("acme", "refused", ""))?;
    let (status, message) = until_said(&namespace, "tenant/acme", "Ready", "ApplyFailed", TOLD)?;
    assert_eq!(status, "False");
    assert!(message.contains("exceeded quota"), "{message}");
    namespace.kubectl(&["delete", "quota", "s"])?;
    namespace.ready("tenant/acme")?;
    Ok(())
}

/// When Available and Ready last changed.
fn changed(namespace: &Namespace, object: &str) -> Result<Vec<String>> {
    let paths = ["Available", "Ready"].map(|type_| format!("jsonpath={{.status.conditions[?(@.type==\"{type_}\")].lastTransitionTime}}"));
    paths.iter().map(|path| namespace.kubectl(&["get", object, "-o", path])).collect()
}

/// The operator's key is spoilt and its right on Secrets taken away: it goes on with what it has, puts both right, and status does not move.
#[test]
fn a_way_to_the_members_that_is_spoilt_is_no_loss() -> Result<()> {
    let namespace = Namespace::new("way")?;
    namespace.apply(&manifest::cluster("way", 3))?;
    namespace.ready("kvcluster/way")?;
    let before = changed(&namespace, "kvcluster/way")?;
    namespace.kubectl(&["delete", "rolebinding", "kvfleet-clusters"])?;
    wait::until("the right is given again", PATIENCE, || {
        Ok(namespace.kubectl(&["get", "rolebinding", "kvfleet-clusters"]).is_ok().then_some(()))
    })?;
    let spoilt = r#"{"stringData": {"tls.key": "x"}}"#;
    namespace.kubectl(&["patch", "secret", "way-operator-tls", "--type=merge", "-p", spoilt])?;
    wait::until("the key is put right", PATIENCE, || {
        let secret = namespace.secret("way-operator-tls")?;
        Ok(secret.get("tls.key").filter(|key| *key != "x").map(|_| ()))
    })?;
    // A status of after that: a generation that is seen.
    namespace.kubectl(&[
        "patch",
        "kvcluster/way",
        "--type=merge",
        "-p",
        r#"{"spec": {"logging": {"level": "debug"}}}"#,
    ])?;
    namespace.await_condition("kvcluster/way", "Available", "True")?;
    assert_eq!(
        changed(&namespace, "kvcluster/way")?.first(),
        before.first(),
        "Available has not moved"
    );
    Ok(())
}

/// During a pause nothing of a Tenant is changed or destroyed, and all of it follows afterwards.
#[test]
fn a_paused_cluster_destroys_nothing() -> Result<()> {
    let namespace = Namespace::new("paused")?;
    let probe = Probe::start(&namespace)?;
    namespace.apply(&format!(
        "{}---\n{}",
        manifest::cluster("paused", 1),
        manifest::tenant("acme", "paused", "  deletionPolicy: Delete")
    ))?;
    namespace.ready("kvcluster/paused")?;
    namespace.ready("tenant/acme")?;
    let acme = Credentials::of(&namespace, "acme")?;
    assert_eq!(probe.key(&acme, "PUT", "kept", &["--body", "x"])?.status, 201);
    let pause = |paused: bool| format!(r#"{{"spec": {{"maintenance": {{"paused": {paused}}}}}}}"#);
    namespace.kubectl(&["patch", "kvcluster/paused", "--type=merge", "-p", &pause(true)])?;
    let (status, _) = until_said(&namespace, "tenant/acme", "Accepted", "ClusterPaused", TOLD)?;
    assert_eq!(status, "Unknown");
    namespace.kubectl(&["delete", "tenant", "acme", "--wait=false"])?;
    until_said(&namespace, "tenant/acme", "Ready", "Deleting", TOLD)?;
    assert_eq!(probe.key(&acme, "GET", "kept", &[])?.body, "x", "its data is there");
    namespace.kubectl(&["patch", "kvcluster/paused", "--type=merge", "-p", &pause(false)])?;
    wait::until("the Tenant is gone", PATIENCE, || {
        Ok(namespace.kubectl(&["get", "tenant", "acme"]).is_err().then_some(()))
    })?;
    let after = probe.key(&acme, "GET", "kept", &[])?;
    assert_ne!(after.status, 200, "its data went with it");
    namespace.ready("kvcluster/paused").context("the pause is over")?;
    Ok(())
}
