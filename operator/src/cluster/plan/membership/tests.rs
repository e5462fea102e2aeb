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
        formed_claims: Vec::new(),
        places: places
            .iter()
            .enumerate()
            .map(|(ordinal, heard)| Place {
                pod: format!("p{ordinal}"),
                heard: *heard,
            })
            .collect(),
        desired,
        no_growth: None,
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
        caught_up: true,
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

fn running(kind: ChangeKind, id: u64, progress: &str) -> Running {
    Running {
        kind,
        id,
        progress: progress.to_owned(),
    }
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
        caught_up: false,
        ..member(3, 14, false)
    });
    waits(act(&evidence, &group), Cause::Scaling, "p3 is a learner and catches up");
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
    assert_eq!(act(&seen(5, &places), &group), Some((Cause::Scaling, remove.clone())));
    // The same for one that cannot vouch for its data: it has no vote that could be missed.
    places[3] = Some((14, MemberState::Quarantined));
    assert_eq!(act(&seen(5, &places), &group), Some((Cause::Scaling, remove)));
    group.members.pop();
    let release = Act::Release { pod: "p3".to_owned() };
    assert_eq!(act(&seen(5, &places), &group), Some((Cause::Scaling, release)));
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

    // There is no copy left that could be spared: it waits for no other.
    (group.members[2].caught_up, group.members[2].heard) = (false, false);
    assert_eq!(act(&lost(BLANK), &group), replace(2, 12));
}

#[test]
fn two_lost_volumes_of_five_are_replaced_one_after_the_other() {
    let mut places = heard(3);
    places.extend([Some((14, BLANK)), Some((15, BLANK))]);
    let mut group = voters(5);
    for lost in [3, 4] {
        (group.members[lost].heard, group.members[lost].caught_up) = (false, false);
    }
    let replace = |pod: &str, old, new| {
        let pod = pod.to_owned();
        Some((Cause::Replacing, Act::Replace { pod, old, new }))
    };
    assert_eq!(act(&seen(5, &places), &group), replace("p3", 4, 14));
    group.members[3] = member(3, 14, true);
    places[3] = Some((14, MEMBER));
    assert_eq!(act(&seen(5, &places), &group), replace("p4", 5, 15));
}

/// p1 lost its volume a second time while its first successor, 12, caught up. 12 has the name and would keep 13 out.
#[test]
fn a_member_that_lost_its_volume_twice_is_replaced_by_the_second_successor() {
    let evidence = seen(3, &[Some((1, MEMBER)), Some((13, BLANK)), Some((3, MEMBER))]);
    let mut group = voters(3);
    (group.members[1].heard, group.members[1].caught_up) = (false, false);
    group.members.push(GroupMember {
        heard: false,
        caught_up: false,
        ..member(1, 12, false)
    });
    let remove = |id| {
        let pod = "p1".to_owned();
        Some((Cause::Replacing, Act::Remove { pod, id }))
    };
    assert_eq!(act(&evidence, &group), remove(12));
    // The leader would wait for 12 for a minute; its removal ends that.
    group.running = Some(running(ChangeKind::Replace, 12, "p1 catches up"));
    assert_eq!(act(&evidence, &group), remove(12));
    group.running = None;
    group.members.pop();
    let replace = Act::Replace {
        pod: "p1".to_owned(),
        old: 2,
        new: 13,
    };
    assert_eq!(act(&evidence, &group), Some((Cause::Replacing, replace)));
    // The old volume was put back instead.
    group.members.push(member(1, 12, false));
    assert_eq!(act(&seen(3, &heard(3)), &group), remove(12));
}

#[test]
fn a_learner_does_not_vote_beside_the_voter_that_it_replaces() {
    let mut group = voters(3);
    (group.members[1].heard, group.members[1].caught_up) = (false, false);
    group.members.push(member(1, 12, false));
    let silent = seen(3, &[Some((1, MEMBER)), None, Some((3, MEMBER))]);
    waits(act(&silent, &group), Cause::Scaling, "waiting to hear from p1");
    // It was let in all the same: the lost one goes.
    group.members[3].voter = true;
    let evidence = seen(3, &[Some((1, MEMBER)), Some((12, MEMBER)), Some((3, MEMBER))]);
    let remove = Act::Remove {
        pod: "p1".to_owned(),
        id: 2,
    };
    assert_eq!(act(&evidence, &group), Some((Cause::Replacing, remove)));
}

/// 5 → 3 because p4's node died, and p1 lost its volume.
#[test]
fn a_dead_member_that_shall_go_is_removed_before_anything_waits_for_it() {
    let places = [Some((1, MEMBER)), Some((12, BLANK)), Some((3, MEMBER)), Some((4, MEMBER)), None];
    let mut group = voters(5);
    for dead in [1, 4] {
        (group.members[dead].heard, group.members[dead].caught_up) = (false, false);
    }
    let remove = Act::Remove {
        pod: "p4".to_owned(),
        id: 5,
    };
    assert_eq!(act(&seen(3, &places), &group), Some((Cause::Scaling, remove)));
    group.members.pop();
    let replace = Act::Replace {
        pod: "p1".to_owned(),
        old: 2,
        new: 12,
    };
    assert_eq!(act(&seen(3, &places), &group), Some((Cause::Replacing, replace)));
    // A quarantined member waits for all others, and not for one that shall go.
    let mut places = heard(5);
    places[1] = Some((0, MemberState::Quarantined));
    places[4] = None;
    let mut group = voters(5);
    for dead in [1, 4] {
        (group.members[dead].heard, group.members[dead].caught_up) = (false, false);
    }
    assert!(matches!(act(&seen(3, &places), &group), Some((_, Act::Remove { id: 5, .. }))));
}

/// A leader that has just been elected has not heard everybody yet: that makes nobody dead.
#[test]
fn a_member_that_answers_or_that_a_new_leader_has_not_heard_yet_is_not_taken_for_dead() {
    let mut group = voters(5);
    (group.members[0].heard, group.members[0].caught_up) = (false, false);
    (group.members[4].heard, group.members[4].caught_up) = (false, false);
    let mut places = heard(5);
    places[0] = None;
    waits(act(&seen(3, &places), &group), Cause::Scaling, "waiting for p0");
    // It does not answer here either, but the leader has heard no majority yet.
    places[4] = None;
    for member in &mut group.members[1..4] {
        member.heard = false;
    }
    group.members[3].heard = true;
    waits(act(&seen(3, &places), &group), Cause::Scaling, "waiting for p0");
}

/// 4 live voters of 5 survive one more loss, 3 of 4 none.
#[test]
fn a_live_voter_leaves_only_while_every_voter_that_stays_is_there() {
    let mut group = voters(5);
    for (heard_there, caught_up) in [(false, false), (true, false)] {
        (group.members[0].heard, group.members[0].caught_up) = (heard_there, caught_up);
        waits(
            act(&seen(3, &heard(5)), &group),
            Cause::Scaling,
            "p4 leaves the group when all voters that stay are caught up: waiting for p0",
        );
    }
    group.members[0] = member(0, 1, true);
    // One that must go as well is not waited for; it goes first.
    group.members[3].caught_up = false;
    assert!(matches!(act(&seen(3, &heard(5)), &group), Some((_, Act::Remove { id: 4, .. }))));
    // A learner has no vote that could be missed.
    let mut group = voters(3);
    group.members[0].caught_up = false;
    group.members.push(member(3, 14, false));
    assert!(matches!(act(&seen(3, &heard(3)), &group), Some((_, Act::Remove { id: 14, .. }))));
}

#[test]
fn a_lost_member_that_shall_go_anyway_is_not_replaced_first() {
    let mut places = heard(4);
    places.push(Some((25, BLANK)));
    let remove = Act::Remove {
        pod: "p4".to_owned(),
        id: 5,
    };
    let mut group = voters(5);
    (group.members[4].heard, group.members[4].caught_up) = (false, false);
    assert_eq!(act(&seen(3, &places), &group), Some((Cause::Scaling, remove)));
}

#[test]
fn a_member_that_cannot_vouch_for_its_data_is_released_when_the_others_have_everything() {
    let quarantined = seen(3, &[Some((1, MEMBER)), Some((0, MemberState::Quarantined)), Some((3, MEMBER))]);
    let mut group = voters(3);
    group.members[1].heard = false;
    let release = Act::Release { pod: "p1".to_owned() };
    assert_eq!(act(&quarantined, &group), Some((Cause::Replacing, release.clone())));
    group.members[0].caught_up = false;
    waits(act(&quarantined, &group), Cause::Replacing, "waiting for p0");
    group.members[0].caught_up = true;
    group.members[2].heard = false;
    waits(act(&quarantined, &group), Cause::Replacing, "waiting for p2");
    group.members[2].heard = true;
    // Whoever has left the group meanwhile has nothing to wait for.
    let mut two = voters(3);
    two.members.remove(1);
    assert_eq!(act(&quarantined, &two), Some((Cause::Scaling, release)));
}

#[test]
fn one_change_at_a_time() {
    let mut group = voters(3);
    group.running = Some(running(ChangeKind::Replace, 12, "p1 catches up"));
    waits(act(&seen(5, &heard(3)), &group), Cause::Replacing, "catches up");
    group.running = Some(running(ChangeKind::Promote, 12, "p1 is being promoted"));
    waits(act(&seen(5, &heard(3)), &group), Cause::Scaling, "promoted");
}
