//! Which volumes a cluster needs, and which it leaves alone.

use std::time::Duration;

use anyhow::Result;
use kvfleet_e2e::{
    manifest,
    namespace::Namespace,
    probe::{Credentials, Probe},
    wait,
};
use serde_json::json;

/// Long enough for five members on a busy machine, one after the other.
const PATIENCE: Duration = Duration::from_secs(240);

/// Two claims of five and their pods are deleted at once: the quorum is intact, and both members are replaced, one after the other.
#[test]
fn two_lost_volumes_of_five_are_replaced() -> Result<()> {
    let namespace = Namespace::new("two-lost")?;
    let probe = Probe::start(&namespace)?;
    namespace.apply(&format!(
        "{}---\n{}",
        manifest::cluster("five", 5),
        manifest::tenant("acme", "five", "")
    ))?;
    wait::until("five members", PATIENCE, || {
        Ok(namespace.condition("kvcluster/five", "Ready", "True")?.then_some(()))
    })?;
    namespace.ready("tenant/acme")?;
    let acme = Credentials::of(&namespace, "acme")?;
    assert_eq!(probe.key(&acme, "PUT", "kept", &["--body", "x"])?.status, 201);
    let before = namespace.voters("five")?;
    let primary = namespace.primary("five")?;
    let lost: Vec<&String> = before.keys().filter(|pod| **pod != primary).take(2).collect();

    for pod in &lost {
        namespace.kubectl(&["delete", "pvc", &format!("data-{pod}"), "--wait=false"])?;
    }
    for pod in &lost {
        namespace.kubectl(&["delete", "pod", pod, "--wait=false"])?;
    }
    let (after, took) = wait::until("both members are other ones", PATIENCE, || {
        let voters = namespace.voters("five")?;
        let replaced = lost.iter().all(|pod| voters.get(*pod).is_some_and(|id| *id != before[*pod]));
        Ok(Some(voters).filter(|voters| replaced && voters.len() == 5))
    })?;
    println!("two replaced after {took:?}");
    for (pod, id) in before.iter().filter(|(pod, _)| !lost.contains(pod)) {
        assert_eq!(&after[pod], id, "{pod} is who it was");
    }
    namespace.ready("kvcluster/five")?;
    assert_eq!(probe.key(&acme, "GET", "kept", &[])?.body, "x");
    Ok(())
}

/// The KvCluster of a group of three is deleted and applied again with one replica: the group is found again, whole, and then scaled.
#[test]
fn a_cluster_made_again_with_fewer_replicas_has_its_data() -> Result<()> {
    let namespace = Namespace::new("fewer")?;
    let probe = Probe::start(&namespace)?;
    namespace.apply(&format!(
        "{}---\n{}",
        manifest::cluster("fewer", 3),
        manifest::tenant("acme", "fewer", "")
    ))?;
    namespace.ready("kvcluster/fewer")?;
    namespace.ready("tenant/acme")?;
    let acme = Credentials::of(&namespace, "acme")?;
    assert_eq!(probe.key(&acme, "PUT", "kept", &["--body", "x"])?.status, 201);
    namespace.kubectl(&["delete", "kvcluster", "fewer", "--timeout=60s"])?;
    wait::until("its objects are gone", PATIENCE, || {
        // The Secrets of the authority and of the tokens' key stay with the volumes.
        let kinds = "statefulsets,services,pods";
        let left = namespace.kubectl(&["get", kinds, "-l", "app.kubernetes.io/instance=fewer", "-o", "name"])?;
        Ok(left.trim().is_empty().then_some(()))
    })?;

    namespace.apply(&manifest::cluster("fewer", 1))?;
    wait::until("one member that has the data", PATIENCE, || {
        assert_ne!(namespace.reason("kvcluster/fewer", "Degraded")?.as_deref(), Some("FormationLost"));
        let ready = namespace.condition("kvcluster/fewer", "Ready", "True")?;
        Ok((ready && namespace.voters("fewer")?.len() == 1).then_some(()))
    })?;
    namespace.ready("tenant/acme")?;
    let acme = Credentials::of(&namespace, "acme")?;
    assert_eq!(probe.key(&acme, "GET", "kept", &[])?.body, "x");
    Ok(())
}

/// A user's copy of a claim, with its labels, outlives a KvCluster whose volumes go with it.
#[test]
fn a_copy_of_a_claim_is_its_owner_s() -> Result<()> {
    let namespace = Namespace::new("copy")?;
    namespace.apply(&manifest::cluster("copied", 1))?;
    namespace.ready("kvcluster/copied")?;
    let original = namespace.json(&["get", "pvc", "data-copied-s0-0"])?;
    let copy = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": { "name": "backup-0", "labels": original.pointer("/metadata/labels") },
        "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "256Mi" } } },
    });
    namespace.apply(&copy.to_string())?;
    let goes = r#"{"spec":{"storage":{"retention":{"whenDeleted":"Delete"}}}}"#;
    namespace.kubectl(&["patch", "kvcluster", "copied", "--type=merge", "-p", goes])?;
    wait::until("the cluster owns its claim", PATIENCE, || {
        let claim = namespace.json(&["get", "pvc", "data-copied-s0-0"])?;
        Ok(claim.pointer("/metadata/ownerReferences/0").map(drop))
    })?;
    namespace.kubectl(&["delete", "kvcluster", "copied", "--timeout=60s"])?;
    wait::until("its claim is gone", PATIENCE, || {
        let claims = namespace.kubectl(&["get", "pvc", "-o", "name"])?;
        Ok((!claims.contains("data-copied-s0-0")).then_some(()))
    })?;
    let left = namespace.json(&["get", "pvc", "backup-0"])?;
    for taken in [
        "/metadata/ownerReferences",
        "/metadata/annotations/kvfleet.dev~1formed",
        "/metadata/deletionTimestamp",
    ] {
        assert_eq!(left.pointer(taken), None, "{taken}");
    }
    Ok(())
}
