//! The operator's pod goes, and comes back to several clusters: each is looked at again. Alone in its file, because it takes the operator
//! from every namespace for a moment.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::time::Duration;

use anyhow::Result;
use kvfleet_e2e::{kubectl, manifest, namespace::Namespace, wait};

#[test]
fn every_cluster_and_tenant_is_looked_at_after_a_restart() -> Result<()> {
    let namespace = Namespace::new("restart")?;
    let clusters = ["one", "two", "three"];
    for cluster in clusters {
        namespace.apply(&format!(
            "{}---\n{}",
            manifest::cluster(cluster, 1),
            manifest::tenant(&format!("t-{cluster}"), cluster, "")
        ))?;
    }
    for cluster in clusters {
        namespace.ready(&format!("kvcluster/{cluster}"))?;
        namespace.ready(&format!("tenant/t-{cluster}"))?;
    }
    let operator = "app.kubernetes.io/name=kvfleet-operator";
    for level in ["debug", "info"] {
        kubectl::run(&["--namespace", "kvfleet-system", "delete", "pod", "-l", operator, "--timeout=60s"])?;
        for cluster in clusters {
            let change = format!(r#"{{"spec":{{"logging":{{"level":"{level}"}}}}}}"#);
            namespace.kubectl(&["patch", "kvcluster", cluster, "--type=merge", "-p", &change])?;
            let change = format!(r#"{{"spec":{{"quota":{{"keys":{}}}}}}}"#, 1_000 + level.len());
            namespace.kubectl(&["patch", "tenant", &format!("t-{cluster}"), "--type=merge", "-p", &change])?;
        }
        for object in clusters
            .iter()
            .flat_map(|cluster| [format!("kvcluster/{cluster}"), format!("tenant/t-{cluster}")])
        {
            wait::until(&format!("{object} is looked at"), Duration::from_secs(60), || {
                let generations =
                    namespace.kubectl(&["get", &object, "-o", "jsonpath={.metadata.generation} {.status.observedGeneration}"])?;
                let (is, seen) = generations.split_once(' ').unwrap_or_default();
                Ok((is == seen).then_some(()))
            })?;
        }
    }
    Ok(())
}
