//! Members come and go while clients write: nothing that was acknowledged is missing, and nobody comes back under an id that has left.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context, Result};
use kvfleet_e2e::{
    manifest,
    namespace::Namespace,
    probe::{Credentials, Probe},
    wait,
};

/// Long enough for five members on a busy machine, one after the other.
const PATIENCE: Duration = Duration::from_secs(240);

fn scale(namespace: &Namespace, cluster: &str, replicas: usize) -> Result<BTreeMap<String, String>> {
    namespace.kubectl(&["scale", &format!("kvcluster/{cluster}"), &format!("--replicas={replicas}")])?;
    let (voters, took) = wait::until(&format!("{replicas} members that vote"), PATIENCE, || {
        let ready = namespace.condition(&format!("kvcluster/{cluster}"), "Ready", "True")?;
        Ok(Some(namespace.voters(cluster)?).filter(|voters| ready && voters.len() == replicas))
    })?;
    println!("{replicas} members after {took:?}");
    let pods: BTreeSet<String> = (0..replicas).map(|ordinal| format!("{cluster}-s0-{ordinal}")).collect();
    assert_eq!(voters.keys().cloned().collect::<BTreeSet<_>>(), pods);
    Ok(voters)
}

fn pods(namespace: &Namespace) -> Result<usize> {
    let pods = namespace.kubectl(&["get", "pods", "-l", "app.kubernetes.io/name=kvnode", "-o", "name"])?;
    Ok(pods.lines().count())
}

/// 3 → 5 → 3 → 5 under load: no acknowledged write is missing; the volumes of members that went stay, and their ids do not come back.
/// covers rows 67, 70, 113
#[test]
fn a_cluster_grows_and_shrinks_under_load() -> Result<()> {
    let namespace = Namespace::new("scaling")?;
    let probe = Probe::start(&namespace)?;
    namespace.apply(&format!(
        "{}---\n{}",
        manifest::cluster("scaled", 3),
        manifest::tenant("acme", "scaled", "")
    ))?;
    namespace.ready("kvcluster/scaled")?;
    namespace.ready("tenant/acme")?;
    let acme = Credentials::of(&namespace, "acme")?;
    let load = probe.load(&acme, "scaling", 8, 60)?;

    let three = namespace.voters("scaled")?;
    let five = scale(&namespace, "scaled", 5)?;
    assert!(three.iter().all(|(pod, id)| five.get(pod) == Some(id)), "{three:?} {five:?}");
    let again = scale(&namespace, "scaled", 3)?;
    assert_eq!(again, three);
    wait::until("two pods go", PATIENCE, || Ok((pods(&namespace)? == 3).then_some(())))?;
    let claims = namespace.kubectl(&["get", "pvc", "-o", "name"])?;
    assert_eq!(claims.lines().count(), 5, "the volumes stay: {claims}");
    let grown = scale(&namespace, "scaled", 5)?;
    for ordinal in [3, 4] {
        let pod = format!("scaled-s0-{ordinal}");
        assert_ne!(grown[&pod], five[&pod], "{pod} came back under an id that has left");
    }

    let report = load.report()?;
    println!("scaled under load: {report:?}");
    assert_eq!(report.lost, Vec::<String>::new());
    assert!(report.acknowledged > 100, "{report:?}");
    namespace.ready("kvcluster/scaled")?;
    Ok(())
}

/// A claim and its pod are deleted under load: the pod comes back with an empty volume, and takes its own place as a new member.
/// covers row 113
#[test]
fn a_member_that_lost_its_volume_is_replaced() -> Result<()> {
    let namespace = Namespace::new("volume")?;
    let probe = Probe::start(&namespace)?;
    namespace.apply(&format!(
        "{}---\n{}",
        manifest::cluster("volume", 3),
        manifest::tenant("acme", "volume", "")
    ))?;
    namespace.ready("kvcluster/volume")?;
    namespace.ready("tenant/acme")?;
    let acme = Credentials::of(&namespace, "acme")?;
    let before = namespace.voters("volume")?;
    let primary = namespace.primary("volume")?;
    let lost = before.keys().find(|pod| **pod != primary).context("a follower")?.clone();
    let load = probe.load(&acme, "volume", 8, 20)?;

    namespace.kubectl(&["delete", "pvc", &format!("data-{lost}"), "--wait=false"])?;
    namespace.kubectl(&["delete", "pod", &lost, "--wait=false"])?;
    let (after, took) = wait::until("the member is another one", PATIENCE, || {
        let voters = namespace.voters("volume")?;
        let replaced = voters.len() == 3 && voters.get(&lost).is_some_and(|id| *id != before[&lost]);
        Ok(Some(voters).filter(|_| replaced))
    })?;
    println!("replaced after {took:?}");
    for (pod, id) in before.iter().filter(|(pod, _)| **pod != lost) {
        assert_eq!(&after[pod], id, "{pod} is who it was");
    }
    namespace.ready("kvcluster/volume")?;
    let report = load.report()?;
    println!("a volume lost under load: {report:?}");
    assert_eq!(report.lost, Vec::<String>::new());
    assert!(report.acknowledged > 100, "{report:?}");

    // The new one counts: with the first primary gone, the two others hold everything.
    namespace.kubectl(&["delete", "pod", &primary])?;
    namespace.ready("kvcluster/volume")?;
    Ok(())
}
