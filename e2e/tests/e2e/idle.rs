//! The operator is silent when nothing changes.

use std::{process::Command, time::Duration};

use anyhow::{Context, Result};
use kvfleet_e2e::{
    manifest,
    namespace::{Namespace, PATIENCE},
    wait,
};
use serde_json::Value;

/// How long nothing may be written.
const QUIET: Duration = Duration::from_secs(300);

/// The API server's audit log holds no write by the operator to a converged cluster's namespace for five minutes.
#[test]
fn a_converged_cluster_causes_no_writes() -> Result<()> {
    let namespace = Namespace::new("idle")?;
    namespace.apply(&format!(
        "{}---\n{}",
        manifest::cluster("idle", 3),
        manifest::tenant("acme", "idle", "")
    ))?;
    namespace.ready("kvcluster/idle")?;
    namespace.ready("tenant/acme")?;
    // What follows Ready by a look of the operator at the members: a tenant more, and the feature level, which rises when the group has formed.
    wait::until("the level and the tenant in status", PATIENCE, || {
        let status = namespace.json(&["get", "kvcluster", "idle"])?;
        let is_told = status.pointer("/status/shards/0/level").is_some_and(|level| *level == 2);
        Ok((is_told && status.pointer("/status/tenants").is_some_and(|tenants| *tenants == 1)).then_some(()))
    })?;
    // On a busy machine a cluster may elect while nobody touches it. Then something has changed and is written; so the five minutes begin anew.
    for _ in 0..3 {
        let term = term(&namespace)?;
        // The writes of the formation are there: the log is the right one, and it would show a write.
        let before = writes(&namespace.name)?;
        assert!(!before.is_empty(), "the audit log shows none of the writes that made the cluster");
        // The passing of time is the subject here.
        std::thread::sleep(QUIET);
        let after = writes(&namespace.name)?;
        let late = after.get(before.len()..).unwrap_or_default();
        if late.is_empty() {
            return Ok(());
        }
        assert_ne!(term, self::term(&namespace)?, "written while nothing changed: {late:#?}");
    }
    anyhow::bail!("three elections in a quarter of an hour: the machine is too busy for this test")
}

fn term(namespace: &Namespace) -> Result<Option<u64>> {
    Ok(namespace
        .json(&["get", "kvcluster", "idle"])?
        .pointer("/status/shards/0/term")
        .and_then(Value::as_u64))
}

fn writes(namespace: &str) -> Result<Vec<String>> {
    let program = std::env::var("KVFLEET_E2E_AUDIT")
        .context("KVFLEET_E2E_AUDIT is not set: it names the command that prints the API server's audit log")?;
    let output = Command::new(&program).output().with_context(|| program.clone())?;
    anyhow::ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    let mut found = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(event) = serde_json::from_str::<Value>(line) else { continue };
        let text = |path: &str| event.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let write = matches!(text("/verb"), "create" | "update" | "patch" | "delete" | "deletecollection");
        let operator = text("/user/username").starts_with("system:serviceaccount:kvfleet-system:");
        if write && operator && text("/objectRef/namespace") == namespace && text("/stage") == "ResponseComplete" {
            found.push(format!(
                "{} {} {}",
                text("/verb"),
                text("/objectRef/resource"),
                text("/objectRef/name")
            ));
        }
    }
    Ok(found)
}
