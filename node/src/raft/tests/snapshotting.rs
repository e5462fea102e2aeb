//! Members that the log can no longer bring up to date.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use openraft::async_runtime::watch::WatchReceiver as _;

use super::fleet::{Fleet, is_put, open_rows, put, soon};
use crate::{
    raft::{Change, Group},
    state::TenantId,
    storage::{Keyspace, Store as _, Write, keys},
};

/// Makes the state durable and drops the whole log behind it, as time and load do.
async fn purge(group: &Group) -> u64 {
    group.inner.flush().await.unwrap();
    let upto = group.inner.raft.metrics().borrow_watched().snapshot.unwrap().index;
    group.inner.raft.trigger().purge_log(upto).await.unwrap();
    group
        .inner
        .raft
        .wait(Some(super::fleet::LIMIT))
        .metrics(|now| now.purged.is_some_and(|purged| purged.index >= upto), "purged")
        .await
        .unwrap();
    upto
}

/// covers rows 62, 67
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_follower_that_was_away_while_the_log_was_cut_gets_a_snapshot_and_writes_go_on() {
    let mut fleet = Fleet::formed(3).await;
    let mut written = BTreeMap::new();
    for n in 0..50 {
        let (key, value) = (format!("before/{n}"), format!("v{n}"));
        fleet.put(0, &key, &value).await;
        written.insert(key, value);
    }
    let leader = fleet.leader().await;
    let away = (leader + 1) % 3;
    fleet.stop(away).await;
    for n in 0..200 {
        // Large enough for many frames.
        let (key, value) = (format!("missed/{n}"), format!("{n}").repeat(20_000));
        fleet.put(leader, &key, &value).await;
        written.insert(key, value);
    }
    let purged = purge(fleet.group(leader)).await;

    // Writers go on while the snapshot is sent.
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (group, stop) = (fleet.group(leader).clone(), Arc::clone(&stop));
        tokio::spawn(async move {
            let (mut slowest, mut count) = (Duration::ZERO, 0);
            while !stop.load(Ordering::Relaxed) {
                let began = tokio::time::Instant::now();
                let answer = group.propose(put(&format!("meanwhile/{count}"), "x"), soon()).await;
                assert!(is_put(&answer), "{answer:?}");
                slowest = slowest.max(began.elapsed());
                count += 1;
            }
            (count, slowest)
        })
    };
    fleet.start(away).await;
    let behind = fleet.group(away).status().applied_index.unwrap_or(0);
    assert!(behind < purged, "it has to need a snapshot");
    fleet
        .until(away, "caught up", |group| group.status().applied_index >= Some(purged))
        .await;
    stop.store(true, Ordering::Relaxed);
    let (count, slowest) = writer.await.unwrap();
    eprintln!("{count} writes meanwhile, the slowest took {slowest:?}");
    assert_eq!(fleet.group(leader).snapshots().sent, 1, "one snapshot was sent");
    assert_eq!(fleet.group(away).snapshots().received, 1, "and received");
    for n in 0..count {
        written.insert(format!("meanwhile/{n}"), "x".to_owned());
    }
    fleet.assert_holds(&written).await;

    // It is whole after a restart, too, and leads if need be.
    fleet.stop(away).await;
    fleet.start(away).await;
    fleet.until(away, "ready", |group| group.is_ready()).await;
    fleet.stop(leader).await;
    fleet.assert_holds(&written).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_a_cut_and_a_restart_nothing_is_missing() {
    let mut fleet = Fleet::formed(1).await;
    let mut written = BTreeMap::new();
    for n in 0..100 {
        let (key, value) = (format!("k{}", n % 60), format!("v{n}"));
        fleet.put(0, &key, &value).await;
        written.insert(key, value);
        if n == 70 {
            purge(fleet.group(0)).await;
        }
    }
    fleet.stop(0).await;
    fleet.start(0).await;
    fleet.until(0, "ready", |group| group.is_ready()).await;
    fleet.assert_holds(&written).await;
    let metrics = fleet.group(0).inner.raft.metrics();
    assert!(metrics.borrow_watched().purged.is_some(), "the log starts behind the cut");
    fleet.put(0, "and", "on").await;
}

/// covers row 102
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_members_hold_the_same_bytes() {
    let fleet = Fleet::formed(3).await;
    let writers = (0..3).map(|at| {
        let group = fleet.group(at).clone();
        tokio::spawn(async move {
            for n in 0..300_u64 {
                let key = format!("k{}", (n * 7919 + at as u64) % 97);
                let _ = group.propose(put(&key, &format!("{at}/{n}")), soon()).await.unwrap();
            }
        })
    });
    futures::future::join_all(writers).await.into_iter().for_each(Result::unwrap);
    let last = fleet.group(0).inner.raft.metrics().borrow_watched().last_log_index;
    let mut digests = Vec::new();
    for at in 0..3 {
        fleet.until(at, "caught up", |group| group.status().applied_index >= last).await;
        let inner = &fleet.group(at).inner;
        inner.compare_once().await;
        assert_eq!(fleet.group(at).damage(), None);
        let (view, origin) = (inner.views.latest(), inner.snapshots.origin());
        digests.push(
            tokio::task::spawn_blocking(move || {
                view.scrub().unwrap();
                (view.applied(), view.digest(), view.whole_digest(origin).unwrap())
            })
            .await
            .unwrap(),
        );
    }
    assert_eq!(digests[0], digests[1]);
    assert_eq!(digests[0], digests[2]);
}

/// covers row 67
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_new_member_gets_a_snapshot() {
    let mut fleet = Fleet::formed(3).await;
    let mut written = BTreeMap::new();
    for n in 0..100 {
        let (key, value) = (format!("k{n}"), format!("v{n}"));
        fleet.put(0, &key, &value).await;
        written.insert(key, value);
    }
    let leader = fleet.leader().await;
    let purged = purge(fleet.group(leader)).await;
    let joiner = fleet.join().await;
    let change = Change::AddLearner(fleet.learner(joiner));
    fleet.group(leader).change_members(change, soon()).await.unwrap();
    fleet
        .until(joiner, "caught up", |group| group.status().applied_index >= Some(purged))
        .await;
    assert_eq!(fleet.group(joiner).snapshots().received, 1);
    let promote = Change::Promote {
        id: fleet.seats[joiner].id,
    };
    fleet.group(leader).change_members(promote, soon()).await.unwrap();
    fleet.until(joiner, "ready", |group| group.is_ready()).await;
    fleet.assert_holds(&written).await;
}

/// Rewrites a row behind the back of a member that is stopped.
fn tamper(fleet: &Fleet, at: usize, keyspace: Keyspace, key: Vec<u8>, change: impl Fn(&mut [u8])) {
    let mut store = open_rows(&fleet.home(at).join("sm"));
    let mut value = store.reader().get(keyspace, &key).unwrap().unwrap().to_vec();
    change(&mut value);
    let write = Write {
        keyspace,
        key,
        value: Some(value.into()),
    };
    store.write(vec![write]).unwrap();
    store.persist().unwrap();
}

fn flip_last(value: &mut [u8]) {
    if let Some(last) = value.last_mut() {
        *last ^= 1;
    }
}

/// covers rows 64, 111
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_whose_rows_have_changed_finds_it_and_stops() {
    let mut fleet = Fleet::formed(3).await;
    fleet.put(0, "k", "value").await;
    let damaged = (fleet.leader().await + 1) % 3;
    assert_eq!(fleet.get(damaged, "k").await.as_deref(), Some("value"), "it has the row");
    fleet.stop(damaged).await;
    tamper(&fleet, damaged, Keyspace::Records, keys::record(TenantId(1), "k"), flip_last);
    fleet.start(damaged).await;
    fleet.until(damaged, "ready", |group| group.is_ready()).await;
    let group = fleet.group(damaged).clone();
    group.scrub().await;
    let reason = group.damage().unwrap();
    assert!(reason.contains("the disk has changed them"), "{reason}");
    assert!(group.failed().await.contains(&reason));
    assert!(!group.is_ready(), "nobody is sent to it");
    assert!(group.local_read().is_err(), "and it answers nobody");
    for sound in (0..3).filter(|at| *at != damaged) {
        fleet.group(sound).scrub().await;
        assert_eq!(fleet.group(sound).damage(), None);
    }
}

/// covers rows 64, 111
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_that_most_others_contradict_stops() {
    let mut fleet = Fleet::formed(3).await;
    fleet.put(0, "k", "value").await;
    let damaged = (fleet.leader().await + 1) % 3;
    assert_eq!(fleet.get(damaged, "k").await.as_deref(), Some("value"), "it has the row");
    fleet.stop(damaged).await;
    // The record and what is kept of it agree, so only others can tell.
    tamper(&fleet, damaged, Keyspace::Meta, keys::DIGEST.to_vec(), flip_last);
    fleet.start(damaged).await;
    fleet.until(damaged, "ready", |group| group.is_ready()).await;
    let last = fleet.group(damaged).inner.raft.metrics().borrow_watched().last_log_index;
    for at in 0..3 {
        fleet.until(at, "caught up", |group| group.status().applied_index >= last).await;
    }
    for at in 0..3 {
        fleet.group(at).inner.compare_once().await;
    }
    let reason = fleet.group(damaged).damage().unwrap();
    assert!(reason.contains("another digest than that of most voters"), "{reason}");
    for sound in (0..3).filter(|at| *at != damaged) {
        assert_eq!(fleet.group(sound).damage(), None, "two of three are not outvoted by one");
    }
}

/// A member whose rows are damaged sends them to nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn damage_is_not_sent_on() {
    let mut fleet = Fleet::formed(1).await;
    fleet.put(0, "k", "value").await;
    fleet.stop(0).await;
    tamper(&fleet, 0, Keyspace::Records, keys::record(TenantId(1), "k"), flip_last);
    fleet.start(0).await;
    fleet.until(0, "ready", |group| group.is_ready()).await;
    purge(fleet.group(0)).await;
    let joiner = fleet.join().await;
    let leader = fleet.group(0).clone();
    let learner = fleet.learner(joiner);
    let change = tokio::spawn({
        let leader = leader.clone();
        async move { leader.change_members(Change::AddLearner(learner), soon()).await }
    });
    assert!(leader.failed().await.contains("a snapshot cannot be made"));
    change.abort();
    assert_eq!(fleet.group(joiner).snapshots().received, 0);
    assert_eq!(fleet.group(joiner).inner.views.latest().applied(), None);
}

/// The purge point is where the state machine is durable: a state machine that lacks what was dropped is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_machine_that_was_lost_is_refused() {
    let mut fleet = Fleet::formed(1).await;
    fleet.put(0, "k", "value").await;
    purge(fleet.group(0)).await;
    fleet.stop(0).await;
    std::fs::remove_dir_all(fleet.home(0).join("sm")).unwrap();
    let error = fleet.try_start(0).await.unwrap_err().to_string();
    assert!(error.contains("replace this member"), "{error}");
}
