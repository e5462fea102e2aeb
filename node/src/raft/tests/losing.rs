//! Members are lost.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Mutex, time::Instant};

use super::fleet::{Fleet, get, is_put, is_unknown, put, soon};
use crate::raft::Group;

/// Writes through one member, one after the other, and keeps what was acknowledged, until told to stop.
async fn write(
    group: Group,
    name: usize,
    acknowledged: Arc<Mutex<BTreeMap<String, String>>>,
    stop: tokio::sync::watch::Receiver<bool>,
) -> Duration {
    let mut longest = Duration::ZERO;
    let mut last = Instant::now();
    for number in 0.. {
        if *stop.borrow() {
            break;
        }
        let (key, value) = (format!("w{name}-{number}"), format!("{number}"));
        let answer = group.propose(put(&key, &value), soon()).await;
        if is_put(&answer) {
            longest = longest.max(last.elapsed());
            last = Instant::now();
            acknowledged.lock().await.insert(key, value);
        }
    }
    longest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_write_is_lost_with_the_leader() {
    let mut fleet = Fleet::formed(3).await;
    let acknowledged = Arc::new(Mutex::new(BTreeMap::new()));
    let mut rounds = Vec::new();
    for _ in 0..3 {
        let leader = fleet.leader().await;
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let before = acknowledged.lock().await.len();
        let writers: Vec<_> = (0..3)
            .filter(|at| *at != leader)
            .flat_map(|at| [(at, rounds.len() * 10 + at), (at, rounds.len() * 10 + at + 5)])
            .map(|(at, name)| tokio::spawn(write(fleet.group(at).clone(), name, Arc::clone(&acknowledged), stopped.clone())))
            .collect();
        wait_for(&acknowledged, before + 50).await;
        fleet.stop(leader).await;
        let after = acknowledged.lock().await.len();
        wait_for(&acknowledged, after + 50).await;
        stop.send(true).unwrap();
        for writer in writers {
            rounds.push(writer.await.unwrap());
        }
        fleet.assert_holds(&*acknowledged.lock().await).await;
        fleet.start(leader).await;
        fleet.assert_holds(&*acknowledged.lock().await).await;
    }
    let longest = rounds.into_iter().max().unwrap();
    println!("longest gap between two acknowledged writes of one writer: {longest:?}");
    assert!(
        longest < Duration::from_secs(10),
        "the longest gap between two acknowledged writes was {longest:?}"
    );
}

async fn wait_for(acknowledged: &Mutex<BTreeMap<String, String>>, count: usize) {
    let limit = soon();
    while acknowledged.lock().await.len() < count {
        assert!(Instant::now() < limit, "{} of {count} writes", acknowledged.lock().await.len());
        tokio::task::yield_now().await;
    }
}

/// A proposal is never left to its deadline: whatever had it is gone, and that is known long before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proposals_under_way_are_answered_when_the_leader_stops() {
    let mut fleet = Fleet::formed(3).await;
    let leader = fleet.leader().await;
    let patient = Instant::now() + Duration::from_secs(300);
    let under_way: Vec<_> = (0..300)
        .map(|number| {
            let group = fleet.group(number % 3).clone();
            tokio::spawn(async move {
                let key = format!("u{number}");
                (number, group.propose(put(&key, "v"), patient).await)
            })
        })
        .collect();
    fleet.stop(leader).await;
    let started = Instant::now();
    let mut acknowledged = BTreeMap::new();
    for proposal in under_way {
        let (number, answer) = tokio::time::timeout_at(started + Duration::from_secs(20), proposal)
            .await
            .expect("an answer long before the deadline")
            .unwrap();
        match answer {
            Ok(_) => drop(acknowledged.insert(format!("u{number}"), "v".to_owned())),
            Err(error) => assert!(is_unknown(&error) || number % 3 == leader, "{number}: {error:?}"),
        }
    }
    fleet.leader().await;
    fleet.assert_holds(&acknowledged).await;
}

/// A leader that has lost its quorum says within two leases and an election that it does not know; once the others are back, all goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_nothing_is_acknowledged_and_nobody_waits_for_it() {
    let mut fleet = Fleet::formed(3).await;
    let leader = fleet.leader().await;
    fleet.put(leader, "before", "v").await;
    let others: Vec<_> = (0..3).filter(|at| *at != leader).collect();
    for at in &others {
        fleet.stop(*at).await;
    }
    let started = Instant::now();
    let answer = fleet.group(leader).propose(put("cut off", "v"), started + Duration::from_secs(300));
    let answer = tokio::time::timeout(Duration::from_secs(20), answer).await;
    // Proposed before its lease ran out: unknown, soon. After that it is not proposed at all, and waits for a quorum.
    if let Ok(answer) = answer {
        assert!(is_unknown(&answer.clone().unwrap_err()), "{answer:?}");
    }
    assert!(
        fleet
            .group(leader)
            .read_barrier(Instant::now() + Duration::from_millis(500))
            .await
            .is_err()
    );
    fleet.until(leader, "unready", |group| !group.is_ready()).await;
    for at in &others {
        fleet.start(*at).await;
    }
    fleet.put(leader, "after", "v").await;
    assert_eq!(fleet.get(others[0], "before").await.as_deref(), Some("v"));
    assert_eq!(fleet.get(others[1], "after").await.as_deref(), Some("v"));
}

/// A log that takes nothing more ends the member: it says why, answers whoever waits, and the others go on without it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_log_fails_says_so_and_is_replaced_as_leader() {
    let mut fleet = Fleet::formed(3).await;
    let leader = fleet.leader().await;
    fleet.put(leader, "before", "v").await;
    fleet.close_log(leader).await;
    let group = fleet.group(leader).clone();
    let waiting = tokio::spawn(async move {
        group
            .propose(put("under way", "v"), Instant::now() + Duration::from_secs(300))
            .await
    });
    let reason = tokio::time::timeout(Duration::from_secs(20), fleet.group(leader).failed())
        .await
        .unwrap();
    assert!(!reason.is_empty());
    let answer = tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap().unwrap();
    assert!(is_unknown(answer.as_ref().unwrap_err()), "{answer:?}");
    assert!(!fleet.group(leader).is_ready());
    assert!(fleet.group(leader).local_read().is_err());
    fleet.stop(leader).await;
    let next = fleet.leader().await;
    fleet.put(next, "after", "v").await;
    assert_eq!(fleet.get(next, "before").await.as_deref(), Some("v"));
}

/// Nor is a read: it is asked of the next leader as soon as there is one, whether the connection to the last one broke or has only fallen
/// silent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_under_way_are_answered_when_the_leader_is_lost() {
    for leased in [false, true] {
        let fleet = Fleet::formed(3).await;
        let leader = fleet.leader().await;
        fleet.put(leader, "k", "v").await;
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let answered: [AtomicUsize; 20] = Default::default();
        let answered = Arc::new(answered);
        let more = async |wanted: usize| {
            for answered in answered.iter() {
                let enough = answered.load(Ordering::Relaxed) + wanted;
                let limit = soon();
                while answered.load(Ordering::Relaxed) < enough {
                    assert!(Instant::now() < limit, "a reader waits for ever");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        };
        let readers: Vec<_> = (0..answered.len())
            .map(|number| {
                let group = fleet.group((leader + 1 + number % 2) % 3).clone();
                let answered = Arc::clone(&answered);
                let stopped = stopped.clone();
                tokio::spawn(async move {
                    let mut longest = Duration::ZERO;
                    while !*stopped.borrow() {
                        let begun = Instant::now();
                        let patient = begun + Duration::from_secs(300);
                        let point = if leased {
                            group.read_leased(patient).await
                        } else {
                            group.read_barrier(patient).await
                        };
                        assert_eq!(get(point.unwrap(), "k").await.as_deref(), Some("v"));
                        longest = longest.max(begun.elapsed());
                        answered[number].fetch_add(1, Ordering::Relaxed);
                    }
                    longest
                })
            })
            .collect();
        more(3).await;
        fleet.cut(leader);
        let others: Vec<_> = (0..3).filter(|at| *at != leader).collect();
        fleet.leader_of(&others).await;
        more(3).await;
        stop.send(true).unwrap();
        let mut longest = Duration::ZERO;
        for reader in readers {
            longest = longest.max(reader.await.unwrap());
        }
        println!("leased {leased}: the longest wait for a read was {longest:?}");
        assert!(longest < Duration::from_secs(10), "a read waited {longest:?}");
    }
}
