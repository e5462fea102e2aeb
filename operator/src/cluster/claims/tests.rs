use kvfleet_crds::cluster::ShardStatus;

use super::*;
use crate::cluster::fixtures::{claim, observed};

const THREE: &str = "{storage: {size: 1Gi}}";
const ONE: &str = "{replicas: 1, storage: {size: 1Gi}}";

fn names() -> ClusterNames {
    ClusterNames::new("prod")
}

/// `data-prod-s0-<ordinal>` of a cluster.
fn own(ordinal: u32, cluster: Option<&str>, formed: bool) -> Claim {
    claim(&names().claim(SHARD, ordinal), cluster, formed)
}

#[test]
fn a_claim_is_the_cluster_s_by_its_exact_name_and_no_other() {
    for (name, expected) in [
        ("data-prod-s0-0", Some(0)),
        ("data-prod-s0-6", Some(6)),
        ("data-prod-s0-7", None),
        ("data-prod-s0-00", None),
        ("data-prod-s1-0", None),
        ("data-prod-s0-0-copy", None),
        ("restored-data-prod-s0-0", None),
        ("backup-0", None),
    ] {
        assert_eq!(ordinal(&names(), name), expected, "{name}");
    }
    let all = vec![claim("backup-0", Some("one"), true), own(1, Some("one"), true)];
    let kept: Vec<String> = named(&names(), all).iter().map(|claim| claim.name_any()).collect();
    assert_eq!(kept, ["data-prod-s0-1"]);
}

#[test]
fn the_claims_say_which_cluster_they_are_of_and_how_large_its_group_may_be() {
    let one = Some("one");
    let found = |claims: &[Claim], replicas| identity(&names(), None, claims, replicas).map_err(|error| error.to_string());
    let size = |claims: &[Claim], replicas| places(&names(), found(claims, replicas).unwrap().as_deref(), claims);
    assert_eq!((found(&[], 3), size(&[], 3)), (Ok(None), 0));
    let three = [own(0, one, true), own(1, one, true), own(2, one, true)];
    assert_eq!((found(&three, 1), size(&three, 1)), (Ok(Some("one".to_owned())), 3));
    // The first one is lost: the two others may be a majority.
    assert_eq!((found(&three[1..], 1), size(&three[1..], 1)), (Ok(Some("one".to_owned())), 3));
    // Never formed: nothing is on them.
    let unformed = [own(0, one, false), own(4, one, false)];
    assert_eq!((found(&unformed, 3), size(&unformed, 3)), (Ok(Some("one".to_owned())), 0));
    // A later one of another cluster is mounted by no pod.
    let mixed = [own(0, one, true), own(5, Some("two"), true)];
    assert_eq!((found(&mixed, 1), size(&mixed, 1)), (Ok(Some("one".to_owned())), 1));

    for disagree in [
        vec![own(0, one, true), own(1, Some("two"), true)],
        vec![own(0, None, false)],
        vec![own(3, one, true), own(4, Some("two"), true)],
    ] {
        let error = found(&disagree, 3).unwrap_err();
        assert!(!error.contains("delete"), "{error}");
    }
}

fn seen(spec: &str, formation: Formation, size: u32, claims: Vec<Claim>) -> Observed {
    let mut observed = observed(spec);
    observed.status.cluster_id = Some("one".to_owned());
    observed.status.shards = vec![ShardStatus::of(SHARD, formation)];
    (observed.size, observed.claims) = (size, claims);
    observed
}

#[test]
fn a_stranger_s_claim_stops_what_would_mount_it_and_nothing_else() {
    let five = "{replicas: 5, storage: {size: 1Gi}}";
    for stranger in [None, Some("two")] {
        let claims = vec![own(0, Some("one"), true), own(3, stranger, false)];
        let growing = seen(five, Formation::Formed, 3, claims.clone());
        assert_eq!(cluster_id(&growing).unwrap(), "one");
        let why = no_growth(&growing).unwrap();
        assert!(
            why.contains("data-prod-s0-3") && why.contains("keeps 3 pods") && !why.contains("delete"),
            "{why}"
        );
        // It does not ask for that pod.
        assert_eq!(no_growth(&seen(THREE, Formation::Formed, 3, claims.clone())), None);
        // Before the group runs there is nothing that could go on.
        assert!(cluster_id(&seen(five, Formation::Pending, 5, claims.clone())).is_err());
        // A group that is larger than its KvCluster would mount it.
        assert!(cluster_id(&seen(ONE, Formation::Pending, 5, claims)).is_err());
    }
    assert_eq!(no_growth(&seen(five, Formation::Formed, 3, vec![own(3, Some("one"), true)])), None);
}

#[test]
fn the_formed_claims_are_those_of_this_cluster() {
    let claims = vec![own(0, Some("one"), true), own(1, Some("one"), false), own(4, Some("two"), true)];
    let formed = formed(&seen(THREE, Formation::Formed, 3, claims));
    let found: Vec<(&str, &str)> = formed.iter().map(|claim| (claim.name.as_str(), claim.pod.as_str())).collect();
    assert_eq!(found, [("data-prod-s0-0", "prod-s0-0")]);
}
