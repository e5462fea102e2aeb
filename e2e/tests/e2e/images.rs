//! The image that members run is what came up, not what was asked for.

use std::time::Duration;

use anyhow::{Context, Result};
use kvfleet_e2e::{manifest, namespace::Namespace, wait};

const PATIENCE: Duration = Duration::from_secs(120);

fn template(namespace: &Namespace) -> Result<String> {
    let path = "jsonpath={.spec.template.spec.containers[0].image}";
    namespace.kubectl(&["get", "statefulset", "revert-s0", "-o", path])
}

fn progressing(namespace: &Namespace) -> Result<String> {
    let path = "jsonpath={.status.conditions[?(@.type==\"Progressing\")].message}";
    namespace.kubectl(&["get", "kvcluster", "revert", "-o", path])
}

/// A tag that does not exist is set and taken back: the image that runs comes back, and no healthy pod is to be deleted at any time.
#[test]
fn a_wrong_image_is_taken_back() -> Result<()> {
    let namespace = Namespace::new("image")?;
    namespace.apply(&manifest::cluster("revert", 3))?;
    namespace.ready("kvcluster/revert")?;
    let runs = template(&namespace)?;
    wait::until("status records the image", PATIENCE, || {
        let path = "jsonpath={.status.shards[0].image}";
        let recorded = namespace.kubectl(&["get", "kvcluster", "revert", "-o", path])?;
        Ok((recorded == runs).then_some(()))
    })?;
    let primary = namespace.primary("revert")?;
    let pods: Vec<String> = (0..3).map(|ordinal| format!("revert-s0-{ordinal}")).collect();
    let victim = pods.iter().find(|pod| **pod != primary).context("a follower")?;

    let wrong = r#"{"spec":{"image":{"tag":"nope"}}}"#;
    namespace.kubectl(&["patch", "kvcluster", "revert", "--type=merge", "-p", wrong])?;
    wait::until("the wrong image is applied", PATIENCE, || {
        Ok(template(&namespace)?.ends_with(":nope").then_some(()))
    })?;
    namespace.kubectl(&["delete", "pod", victim])?;
    wait::until("status warns of it", PATIENCE, || {
        let message = progressing(&namespace)?;
        let warns = message.contains(victim.as_str()) && message.contains("delete no other pod") && message.contains(":nope");
        Ok(warns.then_some(()))
    })?;

    namespace.kubectl(&[
        "patch",
        "kvcluster",
        "revert",
        "--type=json",
        "-p",
        r#"[{"op":"remove","path":"/spec/image"}]"#,
    ])?;
    wait::until("the image that runs is applied again", PATIENCE, || {
        Ok((template(&namespace)? == runs).then_some(()))
    })?;
    // Whether the operator makes it again or a person does: a pod that never came up is in nobody's way.
    namespace.kubectl(&["delete", "pod", victim, "--ignore-not-found"])?;
    wait::until("all run what ran before", PATIENCE, || {
        let message = progressing(&namespace)?;
        for healthy in pods.iter().filter(|pod| *pod != victim) {
            assert!(
                !(message.contains("earlier spec") && message.contains(healthy.as_str())),
                "{message}"
            );
        }
        Ok(namespace.condition("kvcluster/revert", "Ready", "True")?.then_some(()))
    })?;
    assert_eq!(namespace.pod_field(victim, ".spec.containers[0].image")?, runs);
    Ok(())
}
