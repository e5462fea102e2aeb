//! (i) The operator is gone: reads, writes and failover go on. Alone in its file, because it takes the operator from every namespace.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::time::Duration;

use anyhow::Result;
use kvfleet_e2e::{
    kubectl, manifest,
    namespace::Namespace,
    probe::{Credentials, Probe},
    wait,
};

const OPERATOR: &str = "deployment/kvfleet";

/// Puts the operator back, also when the test fails.
struct OperatorReturns;

impl Drop for OperatorReturns {
    fn drop(&mut self) {
        let scaled = kubectl::run(&["--namespace", "kvfleet-system", "scale", OPERATOR, "--replicas=1"]);
        let ready = kubectl::run(&["--namespace", "kvfleet-system", "rollout", "status", OPERATOR, "--timeout=60s"]);
        if let Err(error) = scaled.and(ready) {
            eprintln!("the operator is not back: {error:#}");
        }
    }
}

#[test]
fn the_fleet_serves_and_fails_over_without_its_operator() -> Result<()> {
    let namespace = Namespace::new("alone")?;
    let probe = Probe::start(&namespace)?;
    namespace.apply(&format!(
        "{}---\n{}",
        manifest::cluster("alone", 3),
        manifest::tenant("acme", "alone", "")
    ))?;
    namespace.ready("kvcluster/alone")?;
    namespace.ready("tenant/acme")?;
    let acme = Credentials::of(&namespace, "acme")?;
    let primary = namespace.primary("alone")?;
    {
        let _returns = OperatorReturns;
        kubectl::run(&["--namespace", "kvfleet-system", "scale", OPERATOR, "--replicas=0"])?;
        kubectl::run(&[
            "--namespace",
            "kvfleet-system",
            "wait",
            "pods",
            "-l",
            "app.kubernetes.io/name=kvfleet-operator",
            "--for=delete",
            "--timeout=60s",
        ])?;
        let load = probe.load(&acme, "alone", 8, 10)?;
        namespace.kubectl(&["delete", "pod", &primary, "--wait=false"])?;
        let report = load.report()?;
        println!("without an operator: {report:?}");
        assert!(report.lost.is_empty() && report.acknowledged > 100, "{report:?}");
        assert_eq!(probe.key(&acme, "PUT", "k", &["--body", "x"])?.status, 201);
        assert_eq!(probe.key(&acme, "GET", "k", &[])?.body, "x");
    }
    // It comes back and sees who leads now: status and the role label agree, whoever it is.
    wait::until("status and the role label name one primary", Duration::from_secs(30), || {
        let labelled = namespace.kubectl(&[
            "get",
            "pods",
            "-l",
            "kvfleet.dev/role=primary",
            "-o",
            "jsonpath={.items[*].metadata.name}",
        ])?;
        Ok((labelled == namespace.primary("alone")?).then_some(()))
    })?;
    namespace.ready("kvcluster/alone")?;
    Ok(())
}
