//! (k) What goes and what stays when a KvCluster is deleted.

use std::time::Duration;

use anyhow::Result;
use kvfleet_e2e::{
    kubectl, manifest,
    namespace::Namespace,
    probe::{Credentials, Probe},
    wait,
};

/// The KvCluster goes, and its volumes and the keys of their data stay; applied again, it has its data back, which a token from before opens;
/// the keys go with the last volume; the namespace terminates with everything in it.
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
    let left = || {
        let kinds = "statefulsets,services,secrets,poddisruptionbudgets,pods";
        let left = namespace.kubectl(&["get", kinds, "-l", "app.kubernetes.io/instance=deletion", "-o", "name"])?;
        let mut left: Vec<String> = left.lines().map(str::to_owned).collect();
        left.sort();
        Ok::<_, anyhow::Error>(left)
    };
    let keys = ["secret/deletion-ca", "secret/deletion-jwt"];
    wait::until("pods, Services and the other Secrets are gone", Duration::from_secs(120), || {
        Ok((left()? == keys).then_some(()))
    })?;
    let claims = namespace.kubectl(&["get", "persistentvolumeclaims", "-o", "name"])?;
    assert_eq!(claims.lines().count(), 3, "the volumes stay: {claims}");

    // The Tenant is still there, so its data is: the same KvCluster serves it again.
    namespace.apply(&manifest::cluster("deletion", 3))?;
    namespace.ready("kvcluster/deletion")?;
    namespace.ready("tenant/acme")?;
    assert_eq!(
        probe.key(&acme, "GET", "kept", &[])?.body,
        "x",
        "the old volumes were found again, and the token from before opens them"
    );
    assert_eq!(Credentials::of(&namespace, "acme")?.token, acme.token);

    namespace.kubectl(&["delete", "tenant", "acme", "--timeout=60s"])?;
    namespace.kubectl(&["delete", "kvcluster", "deletion", "--timeout=60s"])?;
    namespace.kubectl(&["delete", "persistentvolumeclaims", "--all", "--timeout=120s"])?;
    wait::until("the keys go with the last volume", Duration::from_secs(120), || {
        Ok(left()?.is_empty().then_some(()))
    })?;

    kubectl::run(&["delete", "namespace", &namespace.name, "--timeout=240s"])?;
    Ok(())
}
