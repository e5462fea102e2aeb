//! How much of the log the members keep, while others are there, away or slow.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use kvfleet_api::admin::MemberStanding;

use super::{
    fleet::{Fleet, is_put, put, soon},
    gate::Mood,
};
use crate::{
    log::Size,
    raft::{Change, Group, MembershipError, MembershipRefusal as Refusal, retention::Pace},
};

const KIB: u64 = 1 << 10;
const VALUE: u64 = 64 * KIB;

fn value(bytes: u64, mark: u64) -> String {
    let mut text = format!("{mark}:");
    text.push_str(&"v".repeat(usize::try_from(bytes).unwrap() - text.len()));
    text
}

/// Has every running member look at its log all the time.
fn hurry(fleet: &Fleet, pace: Pace) {
    for at in fleet.running() {
        fleet.group(at).inner.retention.set_pace(pace);
    }
}

fn held(fleet: &Fleet, at: usize) -> Size {
    fleet.log_metrics(at).held
}

async fn until_held_below(fleet: &Fleet, at: usize, bytes: u64) {
    fleet
        .until(at, "short of log", |group| group.inner.wal.metrics().held.bytes < bytes)
        .await;
}

/// covers row 62
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn overwriting_one_key_leaves_little_log_on_every_member() {
    let mut fleet = Fleet::formed(3).await;
    hurry(&fleet, Pace::QUICK);
    for n in 0..200 {
        fleet.put(0, "k", &value(VALUE, n)).await;
    }
    // Nobody writes any more, and it goes down all the same. The last entry stays.
    for at in 0..3 {
        until_held_below(&fleet, at, 2 * VALUE).await;
        assert!(
            held(&fleet, at).entries >= 1,
            "a log without entries would need a snapshot for everybody"
        );
        assert!(fleet.group(at).snapshots().made >= 1);
    }
    // What is left is enough for a restart of each, and for another leader.
    for at in 0..3 {
        fleet.stop(at).await;
        fleet.start(at).await;
        fleet.until(at, "ready", Group::is_ready).await;
        assert_eq!(fleet.get(at, "k").await, Some(value(VALUE, 199)));
    }
    let received: u64 = (0..3).map(|at| fleet.group(at).snapshots().received).sum();
    assert_eq!(received, 0, "nobody needed the whole state");
}

/// Ten thousand entries used to be kept, whatever they weighed; a follower that lacked one more needed the whole state.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_follower_that_was_away_for_a_while_needs_no_snapshot_whoever_leads_then() {
    const WRITES: u64 = 12_000;
    let mut fleet = Fleet::formed(3).await;
    hurry(&fleet, Pace::QUICK);
    let leader = fleet.leader().await;
    let away = (leader + 1) % 3;
    fleet.stop(away).await;
    let before = fleet.group(leader).status().last_log_index.unwrap();
    let writers = (0..50).map(|writer| {
        let group = fleet.group(leader).clone();
        tokio::spawn(async move {
            for n in 0..WRITES / 50 {
                let answer = group.propose(put(&format!("{writer}/{n}"), "v"), soon()).await;
                assert!(is_put(&answer), "{answer:?}");
            }
        })
    });
    futures::future::join_all(writers).await.into_iter().for_each(Result::unwrap);
    // Many writes share an entry.
    let last = fleet.group(leader).status().last_log_index.unwrap();
    let entries = last - before;
    for at in fleet.running() {
        // All of it is on disk, so it could go.
        fleet
            .until(at, "flushed", |group| group.snapshots().durable_index >= Some(last))
            .await;
        assert!(held(&fleet, at).entries >= entries, "member {at} holds {:?}", held(&fleet, at));
    }
    fleet.group(leader).transfer_leadership(soon()).await.unwrap();
    fleet.start(away).await;
    fleet.until(away, "ready", Group::is_ready).await;
    let written: BTreeMap<_, _> = (0..50)
        .flat_map(|writer| (0..WRITES / 50).map(move |n| (format!("{writer}/{n}"), "v".to_owned())))
        .collect();
    fleet.assert_holds(&written).await;
    for at in 0..3 {
        let snapshots = fleet.group(at).snapshots();
        assert_eq!((snapshots.sent, snapshots.received), (0, 0), "member {at}");
    }
    // Once it is there, nobody needs the entries.
    hurry(&fleet, Pace::QUICK);
    for at in fleet.running() {
        fleet
            .until(at, "short of log", |group| group.inner.wal.metrics().held.entries < entries / 2)
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_that_is_away_for_too_long_is_held_for_no_longer() {
    let mut fleet = Fleet::formed(3).await;
    let most = Size {
        entries: u64::MAX,
        bytes: 8 * VALUE,
    };
    hurry(&fleet, Pace::holding(most));
    let leader = fleet.leader().await;
    let away = (leader + 1) % 3;
    fleet.stop(away).await;
    for n in 0..6 {
        fleet.put(leader, "k", &value(VALUE, n)).await;
    }
    let last = fleet.group(leader).status().last_log_index;
    fleet
        .until(leader, "flushed", |group| group.snapshots().durable_index >= last)
        .await;
    assert!(held(&fleet, leader).bytes >= 6 * VALUE, "{:?}", held(&fleet, leader));
    for n in 6..20 {
        fleet.put(leader, "k", &value(VALUE, n)).await;
    }
    for at in fleet.running() {
        until_held_below(&fleet, at, 2 * VALUE).await;
    }
    fleet.start(away).await;
    fleet.until(away, "ready", Group::is_ready).await;
    assert_eq!(fleet.group(away).snapshots().received, 1);
    assert_eq!(fleet.get(away, "k").await, Some(value(VALUE, 19)));
}

/// openraft cuts a leader's log at no entry that a stream of appends has not passed.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_follower_that_is_slow_but_there_does_not_hold_the_log_of_the_leader() {
    let fleet = Fleet::formed(3).await;
    let most = Size {
        entries: u64::MAX,
        bytes: 16 * VALUE,
    };
    let leader = fleet.leader().await;
    let slow = (leader + 1) % 3;
    fleet.gate(slow).set(Mood::Slow);
    hurry(&fleet, Pace::holding(most));
    let stop = Arc::new(AtomicBool::new(false));
    let written = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (group, stop, written) = (fleet.group(leader).clone(), Arc::clone(&stop), Arc::clone(&written));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let n = written.fetch_add(VALUE, Ordering::Relaxed);
                    let answer = group.propose(put(&format!("k{writer}"), &value(VALUE, n)), soon()).await;
                    assert!(is_put(&answer), "{answer:?}");
                }
            })
        })
        .collect();
    fleet
        .until(leader, "written to", |_| written.load(Ordering::Relaxed) > 128 * VALUE)
        .await;
    // The disk is as slow as before, and the writers go on.
    until_held_below(&fleet, leader, 24 * VALUE).await;
    assert!(!stop.swap(true, Ordering::Relaxed));
    for writer in writers {
        writer.await.unwrap();
    }
    fleet.gate(slow).set(Mood::Well);
    let last = fleet.group(leader).status().last_log_index;
    fleet.until(slow, "caught up", |group| group.status().applied_index >= last).await;
    assert!(fleet.group(slow).snapshots().received >= 1, "it was sent the state instead");
    for writer in 0..4 {
        let key = format!("k{writer}");
        assert_eq!(fleet.get(slow, &key).await, fleet.get(leader, &key).await);
    }
}

/// Under a steady load a member that is sent a snapshot would otherwise find the entries after it gone, again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_log_is_held_from_where_a_snapshot_ends_that_is_being_sent() {
    let mut fleet = Fleet::formed(3).await;
    let most = Size {
        entries: u64::MAX,
        bytes: 8 * VALUE,
    };
    hurry(&fleet, Pace::holding(most));
    let leader = fleet.leader().await;
    let away = (leader + 1) % 3;
    fleet.stop(away).await;
    for n in 0..20 {
        fleet.put(leader, "k", &value(VALUE, n)).await;
    }
    until_held_below(&fleet, leader, 2 * VALUE).await;
    let from = fleet.group(leader).status().applied_index.unwrap() + 1;
    let sender = fleet.group(leader).clone();
    let sending = sender.inner.snapshots.pretend_to_send(fleet.seats[away].id, from).await;
    for n in 0..5 {
        fleet.put(leader, "k", &value(VALUE, n)).await;
    }
    let last = fleet.group(leader).status().last_log_index;
    fleet
        .until(leader, "flushed", |group| group.snapshots().durable_index >= last)
        .await;
    let wal = &fleet.group(leader).inner.wal;
    assert!(wal.purged().unwrap().index < from, "the first entry after the snapshot is there");
    assert_eq!(wal.size_from(from).entries, 5);
    drop(sending);
    fleet.start(away).await;
    fleet.until(away, "ready", Group::is_ready).await;
    until_held_below(&fleet, leader, 2 * VALUE).await;
}

/// As the leader sees the member.
fn standing(fleet: &Fleet, leader: usize, at: usize) -> MemberStanding {
    let id = fleet.seats[at].id;
    let found = fleet.group(leader).standings().into_iter().find(|member| member.id == id);
    found.unwrap()
}

/// Its vote would be counted on at once, and every write that needs it would wait for those bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_learner_that_lacks_few_entries_of_many_bytes_gets_no_vote() {
    let mut fleet = Fleet::formed(1).await;
    let joiner = fleet.join().await;
    let group = fleet.group(0).clone();
    group
        .change_members(Change::AddLearner(fleet.learner(joiner)), soon())
        .await
        .unwrap();
    fleet.until(0, "sure of it", |_| standing(&fleet, 0, joiner).caught_up).await;

    fleet.gate(joiner).set(Mood::Hangs);
    for n in 0..6 {
        fleet.put(0, "k", &value(1_000_000, n)).await;
    }
    let seen = standing(&fleet, 0, joiner);
    assert!(!seen.caught_up, "{seen:?}");
    assert!(
        (6..1_000).contains(&seen.lag.unwrap()) && seen.lag_bytes >= Some(6_000_000),
        "{seen:?}"
    );
    assert!(standing(&fleet, 0, 0).caught_up, "the leader lacks nothing");
    let promote = Change::Promote {
        id: fleet.seats[joiner].id,
    };
    match group.change_members(promote.clone(), soon()).await {
        Err(MembershipError::Refused {
            refusal: Refusal::NotCaughtUp,
            detail,
        }) => assert!(detail.contains("KiB"), "{detail}"),
        other => panic!("{other:?}"),
    }
    fleet.gate(joiner).set(Mood::Well);
    fleet.until(0, "sure of it", |_| standing(&fleet, 0, joiner).caught_up).await;
    group.change_members(promote, soon()).await.unwrap();
    assert!(
        fleet.group(joiner).standings().iter().all(|member| !member.caught_up),
        "only the leader tells"
    );
}

/// What an earlier process applied may not be on disk yet, however long ago that was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_the_log_is_cut_only_behind_a_flush_and_without_a_new_entry() {
    let mut fleet = Fleet::formed(1).await;
    for n in 0..50 {
        fleet.put(0, "k", &value(VALUE, n)).await;
    }
    fleet.stop(0).await;
    fleet.start(0).await;
    fleet.until(0, "ready", Group::is_ready).await;
    assert_eq!(fleet.group(0).snapshots().made, 0);
    assert!(held(&fleet, 0).bytes > 50 * VALUE);
    hurry(&fleet, Pace::QUICK);
    until_held_below(&fleet, 0, 2 * VALUE).await;
    assert!(fleet.group(0).snapshots().made >= 1);
    tokio::time::timeout(Duration::from_secs(1), fleet.get(0, "k")).await.unwrap();
}
