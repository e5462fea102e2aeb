//! Each row of a table is what was seen and the one step that follows.

use kvfleet_crds::cluster::Formation;

use super::*;

const BLANK: MemberState = MemberState::Blank;
const MEMBER: MemberState = MemberState::Member;

/// Places `p0`, `p1` …, each with who is heard there.
fn seen(desired: u32, places: &[Option<(u64, MemberState)>]) -> Evidence {
    Evidence {
        formation: Formation::Formed,
        bootstrap: Some(1),
        chosen: Vec::new(),
        claims_formed: true,
        places: places
            .iter()
            .enumerate()
            .map(|(ordinal, heard)| Place {
                pod: format!("p{ordinal}"),
                heard: *heard,
            })
            .collect(),
        desired,
        voters: Vec::new(),
        group: None,
    }
}

fn member(ordinal: u32, id: u64, voter: bool) -> GroupMember {
    GroupMember {
        id,
        pod: format!("p{ordinal}"),
        ordinal: Some(ordinal),
        voter,
        lag: 0,
        heard: true,
    }
}

/// Voters `p0` … with the ids 1 …
fn voters(count: u32) -> Group {
    Group {
        members: (0..count).map(|ordinal| member(ordinal, u64::from(ordinal) + 1, true)).collect(),
        running: None,
    }
}

fn heard(count: u64) -> Vec<Option<(u64, MemberState)>> {
    (1..=count).map(|id| Some((id, MEMBER))).collect()
}

fn act(evidence: &Evidence, group: &Group) -> Option<(Cause, Act)> {
    next(evidence, group).map(|change| (change.cause, change.act))
}

#[track_caller]
fn waits(answer: Option<(Cause, Act)>, cause: Cause, words: &str) {
    match answer {
        Some((found, Act::Wait(what))) => {
            assert_eq!(found, cause);
            assert!(what.contains(words), "`{words}` is not in: {what}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_group_that_is_as_it_shall_be_is_left_alone() {
    for size in [1, 3, 5, 7_u32] {
        assert_eq!(act(&seen(size, &heard(size.into())), &voters(size)), None);
    }
    // Who is not heard for a while is still a member.
    assert_eq!(act(&seen(3, &[Some((1, MEMBER)), None, Some((3, MEMBER))]), &voters(3)), None);
}

/// covers row 67
#[test]
fn new_pods_come_in_one_after_the_other() {
    let mut places = heard(3);
    places.extend([Some((14, BLANK)), Some((15, BLANK))]);
    let evidence = seen(5, &places);
    let mut group = voters(3);
    let added = |pod: &str, id| Some((Cause::Scaling, Act::AddLearner { pod: pod.to_owned(), id }));
    assert_eq!(act(&evidence, &group), added("p3", 14));

    group.members.push(GroupMember {
        lag: 1_001,
        ..member(3, 14, false)
    });
    waits(act(&evidence, &group), Cause::Scaling, "p3 is a learner and lacks 1001 entries");
    group.members[3].heard = false;
    waits(act(&evidence, &group), Cause::Scaling, "not heard");
    group.members[3] = member(3, 14, false);
    let promote = Act::Promote {
        pod: "p3".to_owned(),
        id: 14,
    };
    assert_eq!(act(&evidence, &group), Some((Cause::Scaling, promote)));
    group.members[3].voter = true;
    assert_eq!(act(&evidence, &group), added("p4", 15));

    group.members.push(member(4, 15, true));
    let mut all = heard(3);
    all.extend([Some((14, MEMBER)), Some((15, MEMBER))]);
    assert_eq!(act(&seen(5, &all), &group), None);
}

#[test]
fn a_pod_that_is_not_there_or_still_somebody_else_is_waited_for() {
    for strange in [
        None,
        Some((9, MEMBER)),
        Some((9, MemberState::Removed)),
        Some((9, MemberState::Draining)),
    ] {
        let mut places = heard(3);
        places.extend([strange, Some((15, BLANK))]);
        waits(act(&seen(5, &places), &voters(3)), Cause::Scaling, "p3");
    }
}

#[test]
fn a_learner_that_lost_its_data_begins_again() {
    let mut places = heard(3);
    places.extend([Some((24, BLANK)), None]);
    let mut group = voters(3);
    group.members.push(member(3, 14, false));
    let remove = Act::Remove {
        pod: "p3".to_owned(),
        id: 14,
    };
    assert_eq!(act(&seen(5, &places), &group), Some((Cause::Scaling, remove)));
}

#[test]
fn the_highest_leave_first_and_their_pods_after_them() {
    let places = heard(5);
    let evidence = seen(3, &places);
    let mut group = voters(5);
    for (ordinal, id) in [(4, 5), (3, 4)] {
        let remove = Act::Remove {
            pod: format!("p{ordinal}"),
            id,
        };
        assert_eq!(act(&evidence, &group), Some((Cause::Scaling, remove)));
        group.members.pop();
    }
    waits(act(&evidence, &group), Cause::Scaling, "p3 has left the group");
    assert_eq!(act(&seen(3, &heard(3)), &group), None);
}

#[test]
fn whoever_is_no_pod_of_the_cluster_is_left_alone() {
    let mut group = voters(3);
    group.members.push(GroupMember {
        ordinal: None,
        pod: "elsewhere".to_owned(),
        ..member(9, 99, false)
    });
    assert_eq!(act(&seen(3, &heard(3)), &group), None);
}

#[test]
fn a_member_that_lost_its_volume_takes_its_own_place_as_a_new_one() {
    let replace = |old, new| {
        let pod = "p1".to_owned();
        Some((Cause::Replacing, Act::Replace { pod, old, new }))
    };
    let lost = |state| seen(3, &[Some((1, MEMBER)), Some((12, state)), Some((3, MEMBER))]);
    let mut group = voters(3);
    group.members[1].heard = false;
    assert_eq!(act(&lost(BLANK), &group), replace(2, 12));
    // Its leader was lost while it caught up: it goes on, and is not let in as a fourth.
    group.members.push(member(1, 12, false));
    assert_eq!(act(&lost(MEMBER), &group), replace(2, 12));

    // Not while another voter could not bear it.
    group.members[2].lag = 1_001;
    waits(act(&lost(BLANK), &group), Cause::Replacing, "waiting for p2");
    group.members[2].lag = 0;
    group.members[2].heard = false;
    waits(act(&lost(BLANK), &group), Cause::Replacing, "waiting for p2");
}

#[test]
fn a_lost_member_that_shall_go_anyway_is_not_replaced_first() {
    let mut places = heard(4);
    places.push(Some((25, BLANK)));
    let remove = Act::Remove {
        pod: "p4".to_owned(),
        id: 5,
    };
    assert_eq!(act(&seen(3, &places), &voters(5)), Some((Cause::Scaling, remove)));
}

#[test]
fn a_member_that_cannot_vouch_for_its_data_is_released_when_the_others_have_everything() {
    let quarantined = seen(3, &[Some((1, MEMBER)), Some((0, MemberState::Quarantined)), Some((3, MEMBER))]);
    let mut group = voters(3);
    group.members[1].heard = false;
    let release = Act::Release { pod: "p1".to_owned() };
    assert_eq!(act(&quarantined, &group), Some((Cause::Replacing, release.clone())));
    group.members[0].lag = 1_001;
    waits(act(&quarantined, &group), Cause::Replacing, "waiting for p0");
    // Whoever has left the group meanwhile has nothing to wait for.
    let mut two = voters(3);
    two.members.remove(1);
    assert_eq!(act(&quarantined, &two), Some((Cause::Scaling, release)));
}

#[test]
fn one_change_at_a_time() {
    let mut group = voters(3);
    group.running = Some((ChangeKind::Replace, "p1 lacks 7 entries".to_owned()));
    waits(act(&seen(5, &heard(3)), &group), Cause::Replacing, "lacks 7");
    group.running = Some((ChangeKind::Promote, "p1 is being promoted".to_owned()));
    waits(act(&seen(5, &heard(3)), &group), Cause::Scaling, "promoted");
}
