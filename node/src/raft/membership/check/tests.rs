//! Every rule, kept and broken.

use std::{collections::BTreeMap, time::Duration};

use super::*;
use crate::raft::membership::picture::Seen;

const ALIVE: Duration = Duration::from_millis(1_800);

fn member(id: u64, voter: bool) -> MemberAddress {
    MemberAddress {
        id,
        name: format!("m{id}"),
        peer: format!("m{id}:7400"),
        voter,
    }
}

/// Member 1 leads at index 5,000; all are heard and have everything.
fn group(voters: &[u64], learners: &[u64]) -> Picture {
    let members: Vec<_> = voters
        .iter()
        .map(|id| member(*id, true))
        .chain(learners.iter().map(|id| member(*id, false)))
        .collect();
    let seen = Seen {
        matched: Some(5_000),
        heard: Some(Duration::from_millis(40)),
        ..Seen::default()
    };
    Picture {
        own: 1,
        others: members
            .iter()
            .map(|member| (member.id, seen))
            .filter(|(id, _)| *id != 1)
            .collect::<BTreeMap<_, _>>(),
        members,
        last_log_index: 5_000,
        alive_within: ALIVE,
    }
}

fn silence(picture: &mut Picture, id: u64) {
    picture.others.insert(
        id,
        Seen {
            matched: Some(5_000),
            heard: Some(ALIVE + Duration::from_millis(1)),
            ..Seen::default()
        },
    );
}

#[track_caller]
fn refused(answer: Checked, refusal: Refusal, words: &[&str]) {
    match answer {
        Err(MembershipError::Refused { refusal: found, detail }) => {
            assert_eq!(found, refusal, "{detail}");
            for word in words {
                assert!(detail.contains(word), "`{word}` is not in: {detail}");
            }
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_learner_needs_an_id_a_name_and_an_address_of_its_own() {
    let group = group(&[1, 2, 3], &[]);
    assert_eq!(check(&group, &Change::AddLearner(member(4, false))), Ok(Verdict::Go));
    assert_eq!(check(&group, &Change::AddLearner(member(3, false))), Ok(Verdict::Holds));
    let mut other = member(3, false);
    other.peer = "elsewhere:7400".to_owned();
    refused(
        check(&group, &Change::AddLearner(other)),
        Refusal::IdTaken,
        &["m3:7400", "elsewhere:7400"],
    );
    let mut same_name = member(4, false);
    same_name.name = "m2".to_owned();
    refused(
        check(&group, &Change::AddLearner(same_name)),
        Refusal::AddressTaken,
        &["m2 (2)", "replace"],
    );
    let mut same_address = member(4, false);
    same_address.peer = "m2:7400".to_owned();
    refused(
        check(&group, &Change::AddLearner(same_address)),
        Refusal::AddressTaken,
        &["m2:7400"],
    );
}

#[test]
fn a_learner_votes_when_it_is_caught_up() {
    let promote = Change::Promote { id: 4 };
    let mut group = group(&[1, 2, 3], &[4]);
    assert_eq!(check(&group, &promote), Ok(Verdict::Go));
    assert_eq!(check(&group, &Change::Promote { id: 3 }), Ok(Verdict::Holds));
    refused(check(&group, &Change::Promote { id: 9 }), Refusal::NoSuchMember, &["9", "add it"]);

    let heard = Some(Duration::ZERO);
    for (matched, lacks) in [(Some(3_999), "1001 entries"), (None, "5001 entries")] {
        let seen = Seen {
            matched,
            heard,
            ..Seen::default()
        };
        group.others.insert(4, seen);
        refused(check(&group, &promote), Refusal::NotCaughtUp, &["m4 (4)", lacks]);
    }
    let just = Seen {
        matched: Some(4_000),
        heard,
        bytes: CAUGHT_UP_BYTES,
        lacks_dropped: false,
    };
    group.others.insert(4, just);
    assert_eq!(check(&group, &promote), Ok(Verdict::Go));
    for (seen, words) in [
        (
            Seen {
                bytes: CAUGHT_UP_BYTES + 1,
                ..just
            },
            ["1000 entries of 4097 KiB", "1000 entries and 4096 KiB"],
        ),
        (
            Seen {
                matched: Some(4_999),
                lacks_dropped: true,
                ..just
            },
            ["1 entries", "the whole state"],
        ),
    ] {
        group.others.insert(4, seen);
        refused(check(&group, &promote), Refusal::NotCaughtUp, &words);
        let replace = check_replaced(&group, 3, 4).map(|()| Verdict::Go);
        refused(replace, Refusal::NotCaughtUp, &words);
    }
    silence(&mut group, 4);
    refused(check(&group, &promote), Refusal::NotCaughtUp, &["not heard"]);
}

#[test]
fn seven_voters_are_the_most() {
    let group = group(&[1, 2, 3, 4, 5, 6, 7], &[8]);
    refused(
        check(&group, &Change::Promote { id: 8 }),
        Refusal::TooManyVoters,
        &["7", "remove one"],
    );
}

#[test]
fn a_removal_leaves_a_live_quorum() {
    let mut three = group(&[1, 2, 3], &[4]);
    assert_eq!(check(&three, &Change::Remove { id: 3 }), Ok(Verdict::Go));
    assert_eq!(
        check(&three, &Change::Remove { id: 4 }),
        Ok(Verdict::Go),
        "a learner counts for no quorum"
    );
    assert_eq!(check(&three, &Change::Remove { id: 9 }), Ok(Verdict::Holds));
    assert_eq!(check(&three, &Change::Remove { id: 1 }), Ok(Verdict::HandOver));
    silence(&mut three, 2);
    assert_eq!(check(&three, &Change::Remove { id: 2 }), Ok(Verdict::Go), "the silent one may go");
    refused(
        check(&three, &Change::Remove { id: 3 }),
        Refusal::QuorumAtRisk,
        &["2 voters", "1 are heard", "2 are needed", "m2 (2)"],
    );
    refused(check(&three, &Change::Remove { id: 1 }), Refusal::QuorumAtRisk, &["m2 (2)"]);
    refused(
        check(&group(&[1], &[]), &Change::Remove { id: 1 }),
        Refusal::LastVoter,
        &["m1 (1)", "only voter"],
    );
    refused(
        check(&group(&[1], &[2]), &Change::Remove { id: 1 }),
        Refusal::LastVoter,
        &["promote"],
    );
}

#[test]
fn a_promotion_leaves_a_live_quorum() {
    let mut group = group(&[1, 2, 3, 4, 5], &[6]);
    silence(&mut group, 4);
    silence(&mut group, 5);
    assert_eq!(check(&group, &Change::Promote { id: 6 }), Ok(Verdict::Go), "four of six");
    silence(&mut group, 3);
    refused(
        check(&group, &Change::Promote { id: 6 }),
        Refusal::QuorumAtRisk,
        &["6 voters", "3 are heard", "4 are needed"],
    );
}

#[test]
fn a_replacement_takes_the_place_of_a_voter() {
    let replace = |old, new| Change::Replace { old, new };
    let mut three = group(&[1, 2, 3], &[]);
    let mut same_place = member(9, false);
    same_place.name = "m3".to_owned();
    same_place.peer = "m3:7400".to_owned();
    assert_eq!(
        check(&three, &replace(3, same_place.clone())),
        Ok(Verdict::Go),
        "the address of the one that goes is free"
    );
    refused(check(&three, &replace(2, same_place)), Refusal::AddressTaken, &["m3 (3)"]);
    assert_eq!(check(&three, &replace(1, member(4, false))), Ok(Verdict::HandOver));
    assert_eq!(
        check(&group(&[1], &[]), &replace(1, member(4, false))),
        Ok(Verdict::Go),
        "nobody else can lead"
    );
    refused(check(&three, &replace(3, member(3, false))), Refusal::IdTaken, &["new id"]);
    refused(check(&three, &replace(8, member(4, false))), Refusal::NoSuchMember, &["8", "m4"]);
    refused(
        check(&group(&[1, 2], &[3]), &replace(3, member(4, false))),
        Refusal::NoSuchMember,
        &["does not vote"],
    );
    refused(
        check(&group(&[1, 2, 3, 4], &[]), &replace(3, member(4, true))),
        Refusal::NoSuchMember,
        &["votes already"],
    );
    assert_eq!(check(&group(&[1, 2, 4], &[]), &replace(3, member(4, false))), Ok(Verdict::Holds));

    silence(&mut three, 3);
    assert_eq!(check(&three, &replace(3, member(4, false))), Ok(Verdict::Go), "the lost one may go");
    silence(&mut three, 2);
    assert_eq!(
        check(&three, &replace(3, member(4, false))),
        Ok(Verdict::Go),
        "two of three: the leader and the new one"
    );

    let mut joined = group(&[1, 2, 3], &[4]);
    assert_eq!(check_replaced(&joined, 3, 4), Ok(()));
    silence(&mut joined, 4);
    assert!(check_replaced(&joined, 3, 4).is_err());
}
