//! Leadership moves on purpose.

use std::time::Duration;

use tokio::time::Instant;

use super::fleet::{Fleet, is_put, put, soon};
use crate::raft::TransferError;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_moves_without_an_election_timeout_and_without_a_failed_write() {
    let fleet = Fleet::formed(3).await;
    for _ in 0..3 {
        let leader = fleet.leader().await;
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let writers: Vec<_> = (0..3)
            .map(|at| {
                let (group, stopped) = (fleet.group(at).clone(), stopped.clone());
                tokio::spawn(async move {
                    let mut written = 0_u32;
                    while !*stopped.borrow() {
                        let answer = group.propose(put(&format!("w{at}"), "v"), soon()).await;
                        assert!(is_put(&answer), "through member {at}: {answer:?}");
                        written += 1;
                    }
                    written
                })
            })
            .collect();
        let started = Instant::now();
        fleet.group(leader).transfer_leadership(soon()).await.unwrap();
        let took = started.elapsed();
        println!("leadership moved in {took:?}");
        let next = fleet.leader().await;
        assert_ne!(next, leader);
        fleet.put(leader, "moved", "on").await;
        stop.send(true).unwrap();
        for writer in writers {
            assert!(writer.await.unwrap() > 0);
        }
        // An election waits for the lease (600 ms) and then up to 600 ms more.
        assert!(took < Duration::from_millis(900), "{took:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_has_nothing_to_hand_over_and_one_member_nobody() {
    let fleet = Fleet::formed(3).await;
    let leader = fleet.leader().await;
    let follower = (leader + 1) % 3;
    let term = fleet.group(follower).status().term;
    assert_eq!(fleet.group(follower).transfer_leadership(soon()).await, Ok(()));
    assert_eq!(fleet.group(follower).status().term, term);

    let alone = Fleet::formed(1).await;
    assert_eq!(alone.group(0).transfer_leadership(soon()).await, Err(TransferError::Alone));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_asked_to_lead_who_cannot() {
    let mut fleet = Fleet::formed(3).await;
    let leader = fleet.leader().await;
    let others: Vec<_> = (0..3).filter(|at| *at != leader).collect();
    for at in &others {
        fleet.stop(*at).await;
    }
    let metrics_age = Duration::from_millis(600);
    let started = Instant::now();
    // Once both have been silent for two heartbeats there is nobody to ask, and the deadline passes.
    fleet
        .until(leader, "alone", |group| {
            group.status().last_heartbeat_age.is_none_or(|age| age > metrics_age)
        })
        .await;
    let deadline = Instant::now() + Duration::from_millis(200);
    assert_eq!(
        fleet.group(leader).transfer_leadership(deadline).await,
        Err(TransferError::Deadline)
    );
    assert!(started.elapsed() < Duration::from_secs(20));
    for at in &others {
        fleet.start(*at).await;
    }
    fleet.put(leader, "k", "v").await;
}
