//! (k) What goes and what stays when a KvCluster is deleted.

use std::time::Duration;

use anyhow::Result;
use kvfleet_e2e::{
    kubectl, manifest,
    namespace::Namespace,
    probe::{Credentials, Probe},
    wait,
};

/// The KvCluster goes and its volumes stay; applied again, it has its data back; the namespace terminates with everything in it.
/// covers rows 17, 73
#[test]
fn volumes_outlive_the_cluster_and_the_namespace_terminates() -> Result<()> {
    let namespace = Namespace::new("deletion")?;
    let probe = Probe::start(&namespace)?;
    let manifests = format!(
        "{}---\n{}",
        manifest::cluster("deletion", 3),
        manifest::tenant("acme", "deletion", "  deletionPolicy: Delete")
    );
    namespace.apply(&manifests)?;
    namespace.ready("kvcluster/deletion")?;
    namespace.ready("tenant/acme")?;
    let acme = Credentials::of(&namespace, "acme")?;
    assert_eq!(probe.key(&acme, "PUT", "kept", &["--body", "x"])?.status, 201);

    namespace.kubectl(&["delete", "kvcluster", "deletion", "--timeout=60s"])?;
    wait::until("pods, Services and Secrets are gone", Duration::from_secs(120), || {
        let left = namespace.kubectl(&[
            "get",
            "statefulsets,services,secrets,poddisruptionbudgets,pods",
            "-l",
            "app.kubernetes.io/instance=deletion",
            "-o",
            "name",
        ])?;
        Ok(left.trim().is_empty().then_some(()))
    })?;
    let claims = namespace.kubectl(&["get", "persistentvolumeclaims", "-o", "name"])?;
    assert_eq!(claims.lines().count(), 3, "the volumes stay: {claims}");

    // The Tenant is still there, so its data is: the same KvCluster serves it again.
    namespace.apply(&manifest::cluster("deletion", 3))?;
    namespace.ready("kvcluster/deletion")?;
    namespace.ready("tenant/acme")?;
    let acme = Credentials::of(&namespace, "acme")?;
    assert_eq!(probe.key(&acme, "GET", "kept", &[])?.body, "x", "the old volumes were found again");

    kubectl::run(&["delete", "namespace", &namespace.name, "--timeout=240s"])?;
    Ok(())
}
