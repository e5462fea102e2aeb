//! Members come and go.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use kvfleet_api::admin::{MemberState, Role};
use tokio::time::Instant;

use super::fleet::{Fleet, is_unknown, put, soon};
use crate::{
    raft::{Change, Group, MembershipError, MembershipRefusal as Refusal},
    state::Done,
};

/// Writers on some members, until they are told to stop; what was acknowledged is theirs to tell.
struct Load {
    stop: tokio::sync::watch::Sender<bool>,
    writers: Vec<tokio::task::JoinHandle<BTreeMap<String, String>>>,
}

impl Load {
    fn start(fleet: &Fleet, through: &[usize]) -> Self {
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let writers = through.iter().map(|at| {
            let (at, group, stopped) = (*at, fleet.group(*at).clone(), stopped.clone());
            tokio::spawn(async move {
                let mut written = BTreeMap::new();
                let mut number = 0_u64;
                while !*stopped.borrow() {
                    let (key, value) = (format!("w{at}-{number}"), format!("v{number}"));
                    match group.propose(put(&key, &value), soon()).await {
                        Ok(answer) if matches!(answer.done(), Some(Done::Put(_))) => {
                            written.insert(key, value);
                        }
                        Ok(other) => panic!("through member {at}: {other:?}"),
                        Err(error) => assert!(is_unknown(&error), "through member {at}: {error:?}"),
                    }
                    number += 1;
                }
                written
            })
        });
        Load {
            writers: writers.collect(),
            stop,
        }
    }

    async fn end(self) -> BTreeMap<String, String> {
        self.stop.send(true).unwrap();
        let mut all = BTreeMap::new();
        for writer in self.writers {
            let written = writer.await.unwrap();
            assert!(!written.is_empty());
            all.extend(written);
        }
        all
    }
}

async fn change(fleet: &Fleet, through: usize, change: Change) {
    fleet.group(through).change_members(change, soon()).await.unwrap();
}

/// Adds a learner and lets it vote as soon as that is not refused.
async fn grow(fleet: &Fleet, through: usize, at: usize) {
    change(fleet, through, Change::AddLearner(fleet.learner(at))).await;
    let promote = Change::Promote { id: fleet.seats[at].id };
    let limit = soon();
    loop {
        match fleet.group(through).change_members(promote.clone(), soon()).await {
            Ok(()) => return,
            Err(MembershipError::Refused {
                refusal: Refusal::NotCaughtUp,
                ..
            }) if Instant::now() < limit => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}

fn voters(group: &Group) -> BTreeSet<u64> {
    let members = group.status().members;
    members.iter().filter(|member| member.voter).map(|member| member.id).collect()
}

fn ids(fleet: &Fleet, seats: &[usize]) -> BTreeSet<u64> {
    seats.iter().map(|at| fleet.seats[*at].id).collect()
}

async fn until_voters(fleet: &Fleet, at: usize, seats: &[usize]) {
    let expected = ids(fleet, seats);
    fleet.until(at, "of the right voters", |group| voters(group) == expected).await;
}

#[track_caller]
fn refused(answer: Result<(), MembershipError>, refusal: Refusal, words: &[&str]) {
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

/// covers rows 67, 70, 113
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_grows_and_shrinks_under_load_and_loses_nothing() {
    let mut fleet = Fleet::formed(1).await;
    let load = Load::start(&fleet, &[0]);
    for size in 2..=5_usize {
        let at = fleet.join().await;
        grow(&fleet, size % at, at).await;
        fleet.until(at, "ready", Group::is_ready).await;
        until_voters(&fleet, 0, &(0..size).collect::<Vec<_>>()).await;
    }
    let followers = Load::start(&fleet, &[2, 4]);
    fleet.put(3, "k", "v").await;
    let mut written = followers.end().await;
    written.insert("k".to_owned(), "v".to_owned());
    for size in (1..=4_usize).rev() {
        // Whoever leads: the one with the highest number goes, so a leader goes too sooner or later.
        let goes = fleet.seats[size].id;
        change(&fleet, size - 1, Change::Remove { id: goes }).await;
        until_voters(&fleet, 0, &(0..size).collect::<Vec<_>>()).await;
        fleet.stop(size).await;
    }
    written.extend(load.end().await);
    fleet.assert_holds(&written).await;
    assert_eq!(fleet.group(0).status().role, Some(Role::Primary));
}

/// covers row 113
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_is_lost_is_replaced_at_its_own_address() {
    let mut fleet = Fleet::formed(3).await;
    let lost = (fleet.leader().await + 1) % 3;
    let asked = (lost + 1) % 3;
    let third = (lost + 2) % 3;
    let load = Load::start(&fleet, &[asked]);
    fleet.stop(lost).await;
    let new = fleet.join_in_place_of(lost).await;
    let replace = Change::Replace {
        old: fleet.seats[lost].id,
        new: fleet.learner(new),
    };
    // Two that ask at once, on two members, wait for one change.
    let (one, other) = tokio::join!(
        fleet.group(asked).change_members(replace.clone(), soon()),
        fleet.group(third).change_members(replace.clone(), soon()),
    );
    assert_eq!((one, other), (Ok(()), Ok(())));
    assert_eq!(fleet.group(asked).change_members(replace, soon()).await, Ok(()), "asked again");
    until_voters(&fleet, asked, &[asked, third, new]).await;
    fleet.until(new, "ready", Group::is_ready).await;
    let written = load.end().await;
    fleet.assert_holds(&written).await;

    // The new one counts: with another voter gone, writes still find a majority.
    fleet.stop(third).await;
    fleet.put(new, "with", "two").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_hands_over_before_it_goes() {
    let fleet = Fleet::formed(3).await;
    let leader = fleet.leader().await;
    let others: Vec<_> = (0..3).filter(|at| *at != leader).collect();
    let load = Load::start(&fleet, &others);
    let begun = Instant::now();
    change(
        &fleet,
        leader,
        Change::Remove {
            id: fleet.seats[leader].id,
        },
    )
    .await;
    // An election alone waits 600 ms for the lease.
    assert!(begun.elapsed() < Duration::from_secs(5));
    until_voters(&fleet, others[0], &others).await;
    fleet.group(leader).removed().await;
    let status = fleet.group(leader).status();
    assert_eq!((status.state, status.role), (MemberState::Removed, None));
    assert!(!fleet.group(leader).is_ready());
    let term = fleet.group(others[0]).status().term;
    load.end().await;
    fleet.put(others[1], "k", "v").await;
    assert_eq!(
        fleet.group(others[0]).status().term,
        term,
        "nobody is disturbed by the one that left"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_away_learns_that_it_was_removed() {
    let mut fleet = Fleet::formed(3).await;
    let away = (fleet.leader().await + 1) % 3;
    let others: Vec<_> = (0..3).filter(|at| *at != away).collect();
    fleet.stop(away).await;
    change(&fleet, others[0], Change::Remove { id: fleet.seats[away].id }).await;
    until_voters(&fleet, others[1], &others).await;
    fleet.start(away).await;
    let limit = tokio::time::timeout_at(soon(), fleet.group(away).removed());
    limit.await.unwrap();
    assert_eq!(fleet.group(away).status().state, MemberState::Removed);

    // Its id is used up, though nobody in the group remembers it.
    refused(
        fleet
            .group(others[0])
            .change_members(Change::AddLearner(fleet.learner(away)), soon())
            .await,
        Refusal::NotBlank,
        &["never used again", "empty data directory"],
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_do_harm_is_refused() {
    let mut fleet = Fleet::formed(3).await;
    let leader = fleet.leader().await;
    let (follower, third) = ((leader + 1) % 3, (leader + 2) % 3);
    let new = fleet.join().await;
    let ask = async |fleet: &Fleet, change: Change| fleet.group(follower).change_members(change, soon()).await;

    let mut wrong_id = fleet.learner(new);
    wrong_id.id += 1;
    refused(ask(&fleet, Change::AddLearner(wrong_id)).await, Refusal::Unreachable, &["not m4"]);
    let mut nobody = fleet.learner(new);
    nobody.peer = "127.0.0.1:1".to_owned();
    refused(
        ask(&fleet, Change::AddLearner(nobody)).await,
        Refusal::Unreachable,
        &["start it first"],
    );
    let mut same_name = fleet.learner(new);
    same_name.name = fleet.learner(third).name;
    refused(ask(&fleet, Change::AddLearner(same_name)).await, Refusal::AddressTaken, &[]);
    let mut taken = fleet.learner(new);
    taken.id = fleet.seats[third].id;
    refused(ask(&fleet, Change::AddLearner(taken)).await, Refusal::IdTaken, &[]);
    refused(
        ask(&fleet, Change::Promote { id: fleet.seats[new].id }).await,
        Refusal::NoSuchMember,
        &[],
    );

    // A learner that is not there any more does not get a vote.
    change(&fleet, follower, Change::AddLearner(fleet.learner(new))).await;
    change(&fleet, follower, Change::AddLearner(fleet.learner(new))).await;
    fleet.stop(new).await;
    refused(
        ask(&fleet, Change::Promote { id: fleet.seats[new].id }).await,
        Refusal::NotCaughtUp,
        &["m4"],
    );
    change(&fleet, follower, Change::Remove { id: fleet.seats[new].id }).await;
    assert_eq!(voters(fleet.group(leader)), ids(&fleet, &[0, 1, 2]));

    // With one voter gone, no other may go.
    fleet.stop(third).await;
    refused(
        ask(
            &fleet,
            Change::Remove {
                id: fleet.seats[follower].id,
            },
        )
        .await,
        Refusal::QuorumAtRisk,
        &["1 are heard", "2 are needed"],
    );
    assert_eq!(voters(fleet.group(leader)), ids(&fleet, &[0, 1, 2]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_voter_stays() {
    let fleet = Fleet::formed(1).await;
    let remove = Change::Remove { id: fleet.seats[0].id };
    refused(
        fleet.group(0).change_members(remove, soon()).await,
        Refusal::LastVoter,
        &["only voter"],
    );
    fleet.put(0, "k", "v").await;
}

/// covers row 113
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_change_runs_at_a_time_and_the_other_hears_which() {
    let mut fleet = Fleet::formed(3).await;
    let leader = fleet.leader().await;
    let (old, third) = ((leader + 1) % 3, (leader + 2) % 3);
    // A learner that is known and gone: the replacement by it waits.
    let new = fleet.join().await;
    change(&fleet, third, Change::AddLearner(fleet.learner(new))).await;
    fleet.stop(new).await;
    let replace = Change::Replace {
        old: fleet.seats[old].id,
        new: fleet.learner(new),
    };
    let deadline = Instant::now() + Duration::from_millis(300);
    let answer = fleet.group(third).change_members(replace.clone(), deadline).await;
    assert!(
        matches!(&answer, Err(MembershipError::StillRunning(how)) if how.contains("replacing")),
        "{answer:?}"
    );
    let running = fleet.group(leader).running_change().unwrap();
    assert_eq!((running.id, running.replaces), (fleet.seats[new].id, Some(fleet.seats[old].id)));

    let remove = Change::Remove { id: fleet.seats[third].id };
    refused(
        fleet.group(third).change_members(remove, soon()).await,
        Refusal::OtherChange,
        &["replacing", "m4"],
    );
    assert_eq!(voters(fleet.group(leader)), ids(&fleet, &[0, 1, 2]), "never a fourth voter");

    // Whoever waits is told when its new member is removed instead.
    let waiting = fleet.group(third).clone();
    let waiter = tokio::spawn(async move { waiting.change_members(replace, soon()).await });
    change(&fleet, third, Change::Remove { id: fleet.seats[new].id }).await;
    match waiter.await.unwrap() {
        Err(MembershipError::Refused {
            refusal: Refusal::OtherChange | Refusal::Unreachable,
            ..
        }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(fleet.group(leader).running_change(), None);
    assert_eq!(fleet.group(leader).status().members.len(), 3);
}

/// What a leader leaves behind that is lost between the two steps of a change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_was_left_half_done_is_finished_by_whoever_leads() {
    use crate::raft::types::{Member, Membership};
    let fleet = Fleet::formed(3).await;
    let leader = fleet.leader().await;
    let goes = (leader + 1) % 3;
    let all = ids(&fleet, &[0, 1, 2]);
    let stay: Vec<_> = (0..3).filter(|at| *at != goes).collect();
    let nodes: BTreeMap<u64, Member> = fleet
        .addresses()
        .into_iter()
        .map(|member| {
            (
                member.id,
                Member {
                    name: member.name,
                    peer: member.peer,
                },
            )
        })
        .collect();
    let joint = Membership::new(vec![all, ids(&fleet, &stay)], nodes).unwrap();
    fleet
        .group(leader)
        .inner
        .raft
        .append_membership(joint, openraft::EntryPayload::Blank, [])
        .await
        .unwrap();
    for at in &stay {
        until_voters(&fleet, *at, &stay).await;
        assert_eq!(
            fleet.group(*at).status().members.len(),
            2,
            "who is in neither configuration is forgotten"
        );
    }
    fleet.put(leader, "k", "v").await;
}
