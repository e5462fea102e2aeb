use super::*;

const BLANK: MemberState = MemberState::Blank;
const MEMBER: MemberState = MemberState::Member;

fn founders(ids: &[u64]) -> Vec<Founder> {
    ids.iter()
        .enumerate()
        .map(|(ordinal, id)| Founder {
            pod: format!("p{ordinal}"),
            id: *id,
        })
        .collect()
}

fn evidence(formation: Formation, places: [Option<(u64, MemberState)>; 3]) -> Evidence {
    let chosen = match formation {
        Formation::Pending => Vec::new(),
        Formation::Intended | Formation::Formed => founders(&[1, 2, 3]),
    };
    Evidence {
        formation,
        bootstrap: (formation != Formation::Pending).then_some(1),
        chosen,
        formed_claims: Vec::new(),
        desired: 3,
        no_growth: None,
        voters: if formation == Formation::Formed {
            founders(&[1, 2, 3])
        } else {
            Vec::new()
        },
        group: None,
        places: places
            .into_iter()
            .enumerate()
            .map(|(ordinal, heard)| Place {
                pod: format!("p{ordinal}"),
                heard,
            })
            .collect(),
    }
}

/// The claims of `p0` …, all formed.
fn claims(count: usize) -> Vec<FormedClaim> {
    (0..count)
        .map(|ordinal| FormedClaim {
            name: format!("data-p{ordinal}"),
            pod: format!("p{ordinal}"),
        })
        .collect()
}

fn is_lost(step: &Step) -> bool {
    matches!(step, Step::FormationLost(_))
}

fn is_wait(step: &Step) -> bool {
    matches!(step, Step::Wait(_))
}

#[test]
fn a_group_is_formed_only_when_everyone_says_blank_and_no_claim_says_otherwise() {
    let all_blank = [Some((1, BLANK)), Some((2, BLANK)), Some((3, BLANK))];
    let fresh = evidence(Formation::Pending, all_blank);
    assert_eq!(plan(&fresh), Step::Intend(founders(&[1, 2, 3])));

    let mut annotated = fresh;
    annotated.formed_claims = claims(1);
    assert!(is_lost(&plan(&annotated)));

    for silent in [None, Some((3, MemberState::Draining))] {
        let step = plan(&evidence(Formation::Pending, [Some((1, BLANK)), Some((2, BLANK)), silent]));
        assert_eq!(step, Step::Wait("waiting to hear from p2".to_owned()));
    }
}

#[test]
fn data_that_outlived_its_kvcluster_is_found_by_a_majority() {
    let all = [Some((7, MEMBER)), Some((8, MEMBER)), Some((9, MEMBER))];
    assert_eq!(plan(&evidence(Formation::Pending, all)), Step::MarkFormed);
    for third in [None, Some((9, BLANK))] {
        let two = [Some((7, MEMBER)), Some((8, MEMBER)), third];
        assert_eq!(plan(&evidence(Formation::Pending, two)), Step::MarkFormed);
    }
    let one = [Some((7, MEMBER)), Some((8, BLANK)), None];
    assert!(is_wait(&plan(&evidence(Formation::Pending, one))));
    let one = [Some((7, MEMBER)), Some((8, BLANK)), Some((9, BLANK))];
    assert!(is_lost(&plan(&evidence(Formation::Pending, one))));
}

#[test]
fn an_intention_is_carried_out_by_the_named_member_and_nobody_else() {
    let told = |places| plan(&evidence(Formation::Intended, places));
    let initialize = Step::Initialize {
        bootstrap: founders(&[1]).remove(0),
        founders: founders(&[1, 2, 3]),
    };
    assert_eq!(told([Some((1, BLANK)), Some((2, BLANK)), Some((3, BLANK))]), initialize);
    // The others need not be heard again: their ids are written down.
    assert_eq!(told([Some((1, BLANK)), None, None]), initialize);
    assert!(is_wait(&told([None, Some((2, BLANK)), Some((3, BLANK))])));
    // Formed, but it has reached nobody yet: the blank ones have lost nothing.
    assert!(is_wait(&told([Some((1, MEMBER)), Some((2, BLANK)), Some((3, BLANK))])));
    assert!(is_wait(&told([Some((1, MEMBER)), None, None])));
    assert_eq!(told([Some((1, MEMBER)), Some((2, MEMBER)), Some((3, BLANK))]), Step::MarkFormed);
    assert_eq!(told([None, Some((2, MEMBER)), Some((3, MEMBER))]), Step::MarkFormed);
    // A volume that was replaced in between makes another member.
    assert!(is_lost(&told([Some((4, BLANK)), Some((2, BLANK)), Some((3, BLANK))])));
    assert!(is_lost(&told([Some((1, BLANK)), Some((2, BLANK)), Some((5, BLANK))])));
}

/// The members that are not heard may be the majority that the formation had reached before the volume was lost.
#[test]
fn a_volume_lost_while_a_group_forms_is_judged_when_all_are_heard() {
    let told = |places| plan(&evidence(Formation::Intended, places));
    for silent in [
        [Some((4, BLANK)), None, None],
        [Some((4, BLANK)), Some((2, MEMBER)), None],
        [Some((4, BLANK)), Some((2, BLANK)), Some((3, MemberState::Quarantined))],
    ] {
        assert!(is_wait(&told(silent)), "{silent:?}");
    }
    assert_eq!(told([Some((4, BLANK)), Some((2, MEMBER)), Some((3, MEMBER))]), Step::MarkFormed);
    assert!(is_lost(&told([Some((4, BLANK)), Some((2, MEMBER)), Some((3, BLANK))])));
}

/// A claim may hold what a volume that comes back completes. Only where every member says that it is blank, in a group that never ran, may a
/// person be told to begin again on the same claims.
#[test]
fn no_message_tells_to_destroy_what_a_majority_might_need() {
    let data = [Some((1, MEMBER)), Some((8, BLANK)), Some((9, BLANK))];
    let blank = [Some((7, BLANK)), Some((8, BLANK)), Some((9, BLANK))];
    for (formation, places, formed) in [
        (Formation::Pending, data, 0),
        (Formation::Pending, data, 3),
        (Formation::Pending, blank, 3),
        (Formation::Pending, blank, 5),
        (Formation::Intended, [Some((7, BLANK)), Some((2, MEMBER)), Some((3, BLANK))], 3),
        (Formation::Intended, blank, 5),
        (Formation::Formed, data, 3),
        (Formation::Formed, blank, 3),
        (Formation::Formed, [Some((7, BLANK)), Some((8, BLANK)), None], 3),
    ] {
        let mut evidence = evidence(formation, places);
        evidence.formed_claims = claims(formed);
        let Step::FormationLost(message) = plan(&evidence) else {
            panic!("{formation:?} {places:?}: {:?}", plan(&evidence));
        };
        assert!(!message.contains("delete"), "{message}");
        assert!(message.contains("Keep every volume claim"), "{message}");
        assert!(formed < 5 || message.contains("data-p3, data-p4"), "{message}");
        if places.contains(&None) {
            assert!(message.contains("data-p2 exist"), "{message}");
        }
    }
    let mut never_ran = evidence(Formation::Intended, blank);
    never_ran.formed_claims = claims(3);
    assert!(matches!(plan(&never_ran), Step::FormationLost(message) if message.contains("delete the KvCluster and its volume claims")));
}

/// The KvCluster was made again with one replica, and its group has three members: all of them have places.
#[test]
fn a_group_is_recognised_by_a_kvcluster_that_asks_for_fewer() {
    let mut smaller = evidence(Formation::Pending, [Some((1, MEMBER)), None, None]);
    smaller.desired = 1;
    smaller.voters = founders(&[1, 2, 3]);
    smaller.formed_claims = claims(3);
    assert_eq!(plan(&smaller), Step::Wait("waiting to hear from p1, p2".to_owned()));
    smaller.places[2].heard = Some((3, MEMBER));
    assert_eq!(plan(&smaller), Step::MarkFormed);
}

#[test]
fn a_cluster_that_must_not_grow_says_so_with_and_without_a_leader() {
    let mut held = evidence(Formation::Formed, [Some((1, MEMBER)), Some((2, MEMBER)), Some((3, MEMBER))]);
    held.no_growth = Some("a stranger's volume".to_owned());
    let halted = Step::Change(Change {
        cause: Cause::Scaling,
        act: Act::Halt("a stranger's volume".to_owned()),
    });
    assert_eq!(plan(&held), halted);
    let member = |id: u64| GroupMember {
        id,
        pod: format!("p{}", id - 1),
        ordinal: u32::try_from(id - 1).ok(),
        voter: true,
        caught_up: true,
        heard: true,
    };
    held.group = Some(Group {
        members: (1..=3).map(member).collect(),
        running: None,
    });
    assert_eq!(plan(&held), halted);
    // What the group needs goes on.
    held.places[1].heard = Some((12, BLANK));
    assert!(matches!(
        plan(&held),
        Step::Change(Change {
            act: Act::Replace { old: 2, new: 12, .. },
            ..
        })
    ));
}

#[test]
fn an_intention_without_its_members_is_for_a_person() {
    let mut broken = evidence(Formation::Intended, [Some((1, BLANK)), Some((2, BLANK)), Some((3, BLANK))]);
    broken.bootstrap = None;
    assert!(is_lost(&plan(&broken)));
    broken.bootstrap = Some(1);
    broken.chosen.pop();
    assert!(is_lost(&plan(&broken)));
}

#[test]
fn a_formed_group_is_never_formed_again() {
    let formed = |places| plan(&evidence(Formation::Formed, places));
    assert_eq!(formed([Some((1, MEMBER)), Some((2, MEMBER)), Some((3, MEMBER))]), Step::Converged);
    assert_eq!(formed([None, None, None]), Step::Converged);
    assert_eq!(formed([Some((1, MEMBER)), Some((2, MEMBER)), Some((9, BLANK))]), Step::Converged);
    assert!(is_lost(&formed([Some((1, MEMBER)), Some((8, BLANK)), Some((9, BLANK))])));
    assert!(is_lost(&formed([Some((7, BLANK)), Some((8, BLANK)), Some((9, BLANK))])));
}

#[test]
fn a_single_member_forms_a_group_of_its_own() {
    let mut single = evidence(Formation::Pending, [Some((1, BLANK)), None, None]);
    single.places.truncate(1);
    assert_eq!(plan(&single), Step::Intend(founders(&[1])));
}

#[test]
fn blank_pods_of_a_cluster_that_grows_have_lost_nothing() {
    let mut grown = evidence(Formation::Formed, [None, Some((8, BLANK)), Some((9, BLANK))]);
    grown.voters = founders(&[1]);
    assert_eq!(plan(&grown), Step::Converged);
    grown.voters = founders(&[1, 2, 3]);
    assert!(is_lost(&plan(&grown)));
    grown.voters.clear();
    assert!(is_lost(&plan(&grown)), "nobody knows who voted");
}

#[test]
fn the_members_change_only_once_the_group_runs_and_leads() {
    let group = Group {
        members: vec![GroupMember {
            id: 1,
            pod: "p0".to_owned(),
            ordinal: Some(0),
            voter: true,
            caught_up: true,
            heard: true,
        }],
        running: None,
    };
    for formation in [Formation::Pending, Formation::Intended] {
        let mut early = evidence(formation, [Some((1, BLANK)), Some((2, BLANK)), Some((3, BLANK))]);
        early.group = Some(group.clone());
        assert!(!matches!(plan(&early), Step::Change(_)));
    }
    let mut led = evidence(Formation::Formed, [Some((1, MEMBER)), Some((2, BLANK)), Some((3, BLANK))]);
    led.voters = founders(&[1]);
    led.group = Some(group);
    assert!(matches!(
        plan(&led),
        Step::Change(Change {
            cause: Cause::Scaling,
            act: Act::AddLearner { id: 2, .. }
        })
    ));
}

#[test]
fn data_that_outlived_its_kvcluster_may_be_of_a_group_of_another_size() {
    let mut one_of_three = evidence(Formation::Pending, [Some((7, MEMBER)), Some((8, BLANK)), Some((9, BLANK))]);
    let voter = |id: u64| Founder {
        pod: format!("p{}", id - 7),
        id,
    };
    one_of_three.voters = vec![voter(7)];
    assert_eq!(
        plan(&one_of_three),
        Step::MarkFormed,
        "the group had one member, and now there shall be three"
    );
    one_of_three.voters = vec![voter(7), voter(10), voter(11)];
    assert!(is_lost(&plan(&one_of_three)));
}
