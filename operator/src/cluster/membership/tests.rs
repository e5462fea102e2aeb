use kvfleet_api::admin::{ChangeKind, Role};
use kvfleet_crds::cluster::ShardStatus;

use super::*;
use crate::cluster::fixtures::{claim, observed, report};

fn formed(spec: &str, size: u32) -> Observed {
    let mut observed = observed(spec);
    observed.size = size;
    observed.status.cluster_id = Some("one".to_owned());
    observed.status.shards = vec![ShardStatus::of(SHARD, Formation::Formed)];
    observed
}

const THREE: &str = "{storage: {size: 1Gi}}";
const ONE: &str = "{replicas: 1, storage: {size: 1Gi}}";
const FIVE: &str = "{replicas: 5, storage: {size: 1Gi}}";

#[test]
fn pods_come_at_once_and_go_after_their_members() {
    let mut growing = formed(FIVE, 3);
    assert_eq!(size(&growing), 5);
    growing.members[0].report = Some(report(0, Role::Primary));
    assert_eq!(size(&growing), 5);

    // Nobody says who belongs to the group: nobody goes.
    let mut shrinking = formed(ONE, 3);
    assert_eq!(size(&shrinking), 3);
    // All three belong to it.
    shrinking.members[0].report = Some(report(0, Role::Primary));
    assert_eq!(size(&shrinking), 3);
    let told = shrinking.members[0].report.as_mut().unwrap();
    told.members.truncate(2);
    assert_eq!(size(&shrinking), 2, "the third has left");
    let told = shrinking.members[0].report.as_mut().unwrap();
    told.change = Some(MembershipChange {
        kind: ChangeKind::Remove,
        id: 3,
        replaces: None,
        since_ms: 0,
        stage: ChangeStage::Committing,
        entries_behind: None,
        bytes_behind: None,
    });
    assert_eq!(size(&shrinking), 3, "it is about to leave");
    // A follower may know an older group; nobody goes on its word.
    let follower = shrinking.members[0].report.as_mut().unwrap();
    follower.role = Some(Role::Follower);
    follower.change = None;
    assert_eq!(size(&shrinking), 3);
}

#[test]
fn a_group_that_is_larger_than_its_new_kvcluster_gets_its_pods_back() {
    let mut small = formed(ONE, 1);
    small.members[0].report = Some(report(0, Role::Follower));
    assert_eq!(size(&small), 3);
}

#[test]
fn before_a_group_runs_its_size_is_that_of_its_founders() {
    let mut founding = formed(FIVE, 3);
    founding.status.shards[0].formation = Formation::Intended;
    assert_eq!(size(&founding), 3);
    // Not chosen yet: as many as the fetch found to be needed.
    founding.status.shards.clear();
    founding.size = 5;
    assert_eq!(size(&founding), 5);
}

/// A KvCluster made again with one replica: the member that answers names two more, and both get their places.
#[test]
fn members_that_a_report_names_have_places_before_the_group_is_known_to_run() {
    let names = ClusterNames::new("prod");
    let mut again = observed(ONE);
    (again.size, again.members[0].report) = (1, Some(report(0, Role::Follower)));
    again.members.truncate(1);
    take_in_those_named(&mut again, &names);
    let pods: Vec<&str> = again.members.iter().map(|member| member.pod.as_str()).collect();
    assert_eq!(pods, ["prod-s0-0", "prod-s0-1", "prod-s0-2"]);
    assert_eq!(size(&again), 3);
    // Without a word of a group, pods beyond the wanted ones are no places.
    let mut fresh = observed(ONE);
    fresh.size = 1;
    take_in_those_named(&mut fresh, &names);
    assert_eq!((fresh.members.len(), size(&fresh)), (1, 1));
}

#[test]
fn a_stranger_s_claim_keeps_the_cluster_as_large_as_it_is() {
    let mut growing = formed(FIVE, 3);
    growing.claims = vec![claim("data-prod-s0-3", None, false)];
    assert_eq!((size(&growing), desired(&growing)), (3, 3));
    growing.claims = vec![claim("data-prod-s0-3", Some("one"), false)];
    assert_eq!((size(&growing), desired(&growing)), (5, 5));
}

#[test]
fn progress_holds_no_figure_that_moves() {
    let mut seen = formed(THREE, 3);
    let mut told = report(0, Role::Primary);
    told.change = Some(MembershipChange {
        kind: ChangeKind::Replace,
        id: 3,
        replaces: Some(9),
        since_ms: 0,
        stage: ChangeStage::CatchingUp,
        entries_behind: Some(123_456),
        bytes_behind: Some(123_456),
    });
    seen.members[0].report = Some(told);
    let running = group(&seen, &ClusterNames::new("prod")).unwrap().running.unwrap();
    assert_eq!((running.id, running.progress.as_str()), (3, "prod-s0-2 catches up"));
}

#[test]
fn the_leader_tells_who_is_behind_and_what_runs() {
    let names = ClusterNames::new("prod");
    let mut seen = formed(THREE, 3);
    assert_eq!(group(&seen, &names), None);
    let mut told = report(0, Role::Primary);
    told.members[1].heard_ms = Some(30);
    told.members[2].heard_ms = Some(SILENT_MS + 1);
    told.members[2].name = "stranger-s0-2".to_owned();
    told.members[2].caught_up = false;
    seen.members[0].report = Some(told);
    let group = group(&seen, &names).unwrap();
    let figures: Vec<_> = group
        .members
        .iter()
        .map(|member| (member.ordinal, member.heard, member.caught_up))
        .collect();
    assert_eq!(figures, [(Some(0), true, true), (Some(1), true, true), (None, false, false)]);
}
