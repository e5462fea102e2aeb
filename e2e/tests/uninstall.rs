//! (l) `helm uninstall` leaves data alone. Alone in its file, because it takes the operator from every namespace; it installs it again.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::{path::Path, process::Command};

use anyhow::{Context, Result};
use kvfleet_e2e::{
    kubectl, manifest,
    namespace::Namespace,
    probe::{Credentials, Probe},
};

fn make(target: &str) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let status = Command::new("make")
        .arg("--no-print-directory")
        .arg(target)
        .current_dir(root)
        .env("KUBECONFIG", kubectl::kubeconfig()?)
        .status()
        .context("make")?;
    anyhow::ensure!(status.success(), "make {target} failed");
    Ok(())
}

#[test]
fn uninstalling_the_operator_leaves_data_alone() -> Result<()> {
    let namespace = Namespace::new("uninstall")?;
    let probe = Probe::start(&namespace)?;
    namespace.apply(&format!(
        "{}---\n{}",
        manifest::cluster("uninstall", 1),
        manifest::tenant("acme", "uninstall", "  deletionPolicy: Delete")
    ))?;
    namespace.ready("kvcluster/uninstall")?;
    namespace.ready("tenant/acme")?;
    let acme = Credentials::of(&namespace, "acme")?;
    assert_eq!(probe.key(&acme, "PUT", "kept", &["--body", "x"])?.status, 201);

    make("uninstall")?;
    let objects = namespace.kubectl(&["get", "kvclusters,tenants,statefulsets,persistentvolumeclaims", "-o", "name"])?;
    assert_eq!(
        objects.lines().count(),
        4,
        "the custom resources and what they made stay: {objects}"
    );
    assert_eq!(
        probe.key(&acme, "GET", "kept", &[])?.body,
        "x",
        "the fleet goes on without its operator"
    );
    assert_eq!(probe.key(&acme, "PUT", "new", &["--body", "y"])?.status, 201);
    let finalizers = namespace.kubectl(&["get", "tenant", "acme", "-o", "jsonpath={.metadata.finalizers}"])?;
    assert_eq!(
        finalizers, "",
        "with nobody left to lift it, a finalizer would block the namespace for ever"
    );

    make("install")?;
    namespace.ready("kvcluster/uninstall")?;
    namespace.ready("tenant/acme")?;
    let acme = Credentials::of(&namespace, "acme")?;
    assert_eq!(probe.key(&acme, "GET", "kept", &[])?.body, "x");
    assert_eq!(probe.key(&acme, "GET", "new", &[])?.body, "y");
    Ok(())
}
