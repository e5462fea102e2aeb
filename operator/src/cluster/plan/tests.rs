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
        claims_formed: false,
        desired: 3,
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
    annotated.claims_formed = true;
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
            lag: 0,
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
