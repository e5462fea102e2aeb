//! What the weaker reads promise, and what the stronger ones refuse, when members are cut off.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use openraft::raft::VoteRequest;
use tokio::{sync::watch, time::Instant};

use super::fleet::{Fleet, get, put, soon};
use crate::{
    peer::{Lane, Method, PeerAddress},
    raft::{
        Group, NotEverywhere, ReadError,
        encoding::{decode_vote_answer, encode_vote_call},
        types::{log_id, vote},
    },
    state::{Done, Response},
};

fn shortly() -> Instant {
    Instant::now() + Duration::from_millis(300)
}

/// covers row 69
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_cut_off_says_how_old_it_is_and_refuses_what_must_be_fresh() {
    let fleet = Fleet::formed(3).await;
    let leader = fleet.leader().await;
    let (cut, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let old = fleet.put(leader, "k", "old").await;
    fleet.group(cut).wait_revision(old, soon()).await.unwrap();
    fleet.until(cut, "fresh", |group| fresh(group, Duration::from_secs(1))).await;
    fleet.cut(cut);
    let new = fleet.put(leader, "k", "new").await;
    let written = Instant::now();

    let group = fleet.group(cut);
    loop {
        let since = written.elapsed();
        let point = group.local_read().unwrap();
        let age = point.age.unwrap();
        assert!(age >= since, "it says {age:?}, and has missed a write for {since:?}");
        assert_eq!(get(point, "k").await.as_deref(), Some("old"));
        if since > Duration::from_secs(1) {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert!(group.read_barrier(shortly()).await.is_err());
    assert!(group.read_leased(shortly()).await.is_err());
    assert_eq!(group.wait_revision(new, shortly()).await, Err(ReadError::Deadline));

    for at in [leader, other] {
        fleet.group(at).wait_revision(new, soon()).await.unwrap();
        fleet.until(at, "fresh again", |group| fresh(group, Duration::from_secs(1))).await;
        assert_eq!(get(fleet.group(at).local_read().unwrap(), "k").await.as_deref(), Some("new"));
        assert_eq!(
            get(fleet.group(at).read_leased(soon()).await.unwrap(), "k").await.as_deref(),
            Some("new")
        );
    }
}

fn fresh(group: &Group, bound: Duration) -> bool {
    group.local_read().is_ok_and(|point| point.age.is_some_and(|age| age < bound))
}

/// Reads, one after the other, until told to stop. Each as (begun, revision, age).
type Reads = Vec<(Instant, u64, Option<Duration>)>;

async fn read_locally(group: Group, stop: watch::Receiver<bool>) -> Reads {
    let mut reads = Vec::new();
    while !*stop.borrow() {
        let begun = Instant::now();
        if let Ok(point) = group.local_read() {
            reads.push((begun, point.view.revision(), point.age));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    reads
}

/// The bound that a member states holds whatever happens to the leader: also on the leader that is cut off and does not know it yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_longer_ago_than_the_stated_age_is_missing() {
    let fleet = Fleet::formed(3).await;
    let leader = fleet.leader().await;
    let others: Vec<_> = (0..3).filter(|at| *at != leader).collect();
    let (stop, stopped) = watch::channel(false);
    let readers: Vec<_> = (0..3)
        .map(|at| tokio::spawn(read_locally(fleet.group(at).clone(), stopped.clone())))
        .collect();
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let writer = {
        let (group, acknowledged, stopped) = (fleet.group(others[0]).clone(), Arc::clone(&acknowledged), stopped.clone());
        tokio::spawn(async move {
            while !*stopped.borrow() {
                let answer = group.propose(put("k", "v"), soon()).await;
                if let Ok(Some(Done::Put(written))) = answer.as_ref().map(Response::done) {
                    acknowledged.lock().unwrap().push((Instant::now(), written.revision));
                }
            }
        })
    };
    let count = || acknowledged.lock().unwrap().len();
    let more = async |wanted: usize| {
        let limit = soon();
        while count() < wanted {
            assert!(Instant::now() < limit, "{} of {wanted} writes", count());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    more(100).await;
    fleet.cut(leader);
    let at_cut = count();
    more(at_cut + 300).await;
    // Long enough for the leader that is cut off to have missed much, and to be asked about it.
    stop.send(true).unwrap();
    writer.await.unwrap();

    let acknowledged = std::mem::take(&mut *acknowledged.lock().unwrap());
    let mut behind = 0;
    for (at, reader) in readers.into_iter().enumerate() {
        let reads = reader.await.unwrap();
        let mut last = 0;
        let mut known = 0;
        for (begun, revision, age) in reads {
            assert!(revision >= last, "a member went back");
            last = revision;
            let age = age.unwrap();
            known += 1;
            let until = begun - age;
            let owed = acknowledged.iter().take_while(|(moment, _)| *moment < until).last();
            assert!(
                owed.is_none_or(|(_, owed)| *owed <= revision),
                "member {at} said {age:?} and was at {revision}, {owed:?} was acknowledged before"
            );
            behind += usize::from(acknowledged.iter().any(|(moment, newer)| *moment < begun && *newer > revision));
        }
        assert!(known > 50, "member {at} knew its age {known} times");
    }
    assert!(behind > 0, "no read was ever behind: any age would have passed");
}

/// A leader that has been replaced without knowing it serves nothing that must be fresh: by its lease not longer than the lease, by a
/// quorum not at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_replaced_serves_no_fresh_reads() {
    let fleet = Fleet::formed(3).await;
    let leader = fleet.leader().await;
    let others: Vec<_> = (0..3).filter(|at| *at != leader).collect();
    fleet.put(leader, "k", "old").await;
    let (stop, stopped) = watch::channel(false);
    let asked = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
    let more = async |wanted: usize| {
        for asked in &asked {
            let enough = asked.load(Ordering::Relaxed) + wanted;
            let limit = soon();
            while asked.load(Ordering::Relaxed) < enough {
                assert!(Instant::now() < limit, "a reader asks no more");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    };
    let readers: Vec<_> = [true, false]
        .into_iter()
        .zip(asked.clone())
        .map(|(leased, asked)| {
            let (group, stopped) = (fleet.group(leader).clone(), stopped.clone());
            tokio::spawn(async move {
                let mut reads = Vec::new();
                while !*stopped.borrow() {
                    asked.fetch_add(1, Ordering::Relaxed);
                    let begun = Instant::now();
                    let deadline = begun + Duration::from_millis(100);
                    let point = if leased {
                        group.read_leased(deadline).await
                    } else {
                        group.read_barrier(deadline).await
                    };
                    reads.push((begun, point.is_ok()));
                }
                reads
            })
        })
        .collect();
    more(20).await;
    fleet.cut(leader);
    let cut = Instant::now();
    let next = fleet.leader_of(&others).await;
    fleet.put(next, "k", "new").await;
    let replaced = Instant::now();
    // Each of them waits for 100 ms now.
    more(5).await;
    stop.send(true).unwrap();
    for (reader, leased) in readers.into_iter().zip([true, false]) {
        let reads = reader.await.unwrap();
        assert!(reads.iter().any(|(begun, served)| *served && *begun < cut), "it led before");
        assert!(reads.iter().any(|(begun, _)| *begun > replaced));
        let last = reads.iter().filter(|(_, served)| *served).map(|(begun, _)| *begun).max().unwrap();
        println!(
            "leased {leased}: the last read {:?} after the cut, the next leader's first write {:?} after it",
            last.saturating_duration_since(cut),
            replaced - cut
        );
        assert!(last < replaced, "leased {leased}");
        // Half of the lease of 600 ms, from the last message that a quorum acknowledged; the rest is for a busy machine.
        let longest = Duration::from_millis(if leased { 600 } else { 300 });
        assert!(
            last < cut + longest,
            "leased {leased}: served {:?} after it was cut off",
            last.saturating_duration_since(cut)
        );
    }
}

/// A member forgets with its process whom it has promised not to replace yet, so it waits for as long as a promise lasts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_just_started_votes_for_nobody() {
    let mut fleet = Fleet::formed(3).await;
    for at in 0..3 {
        fleet.stop(at).await;
    }
    let begun = Instant::now();
    fleet.start(0).await;
    let started = Instant::now();
    // Another member's seat, whose group does not run: it asks in that member's name.
    let caller = fleet.caller(1).await;
    let seat = &fleet.seats[0];
    let peer = PeerAddress {
        id: seat.id,
        address: seat.address.clone(),
    };
    let ask = async || {
        let request = encode_vote_call(&VoteRequest::new(
            vote(1_000, fleet.seats[1].id, false),
            Some(log_id(1_000, 1_000_000)),
        ));
        let answer = caller.call(&peer, Lane::Control, Method::PreVote, request, soon()).await;
        answer.is_ok_and(|body| decode_vote_answer(body).unwrap().vote_granted)
    };
    let limit = soon();
    let mut refused = 0;
    while !ask().await {
        refused += 1;
        assert!(Instant::now() < limit);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(refused > 0 || started - begun > Duration::from_millis(600), "it voted at once");
    assert!(
        begun.elapsed() >= Duration::from_millis(600),
        "it voted {:?} after its start",
        begun.elapsed()
    );
}

/// covers row 69
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_names_the_revision_of_its_write_reads_it_on_every_member() {
    let fleet = Fleet::formed(3).await;
    let mut behind = 0;
    for number in 0..100_usize {
        let value = number.to_string();
        let revision = fleet.put(number % 3, "k", &value).await;
        for at in 0..3 {
            behind += u32::from(fleet.group(at).local_read().unwrap().view.revision() < revision);
            fleet.group(at).wait_revision(revision, soon()).await.unwrap();
            assert_eq!(get(fleet.group(at).local_read().unwrap(), "k").await, Some(value.clone()));
        }
    }
    assert!(behind > 0, "no member was ever behind: not waiting would have passed too");
}

/// covers row 106
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_every_voter_has_applied_is_in_every_local_read() {
    let mut fleet = Fleet::formed(3).await;
    let mut behind = 0;
    for number in 0..100_usize {
        let value = number.to_string();
        let revision = fleet.put(number % 3, "k", &value).await;
        behind += (0..3)
            .filter(|at| fleet.group(*at).local_read().unwrap().view.revision() < revision)
            .count();
        fleet.group((number + 1) % 3).wait_everywhere(revision, soon()).await.unwrap();
        for at in 0..3 {
            assert_eq!(
                get(fleet.group(at).local_read().unwrap(), "k").await,
                Some(value.clone()),
                "on {at}"
            );
        }
    }
    assert!(behind > 0, "no member was ever behind: not waiting would have passed too");

    let leader = fleet.leader().await;
    let gone = (leader + 1) % 3;
    fleet.stop(gone).await;
    let revision = fleet.put(leader, "k", "without one").await;
    let begun = Instant::now();
    let waited = fleet.group(leader).wait_everywhere(revision, shortly()).await;
    assert_eq!(waited, Err(NotEverywhere { missing: 1, voters: 3 }));
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert_eq!(fleet.get(leader, "k").await.as_deref(), Some("without one"));

    // Whoever waits longer is answered when the member is back.
    let group = fleet.group(leader).clone();
    let waiting = tokio::spawn(async move { group.wait_everywhere(revision, soon()).await });
    fleet.start(gone).await;
    assert_eq!(waiting.await.unwrap(), Ok(()));
    fleet.until(gone, "answering", |group| group.local_read().is_ok()).await;
    assert_eq!(
        get(fleet.group(gone).local_read().unwrap(), "k").await.as_deref(),
        Some("without one")
    );
}
