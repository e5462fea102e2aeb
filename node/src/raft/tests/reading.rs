//! Reads see what was acknowledged before them.

use super::fleet::{Fleet, get, is_put, put_for, soon};
use crate::state::{Done, Response, Ttl, Written};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_linearizable_read_on_a_follower_is_never_stale() {
    let fleet = Fleet::formed(3).await;
    let leader = fleet.leader().await;
    let followers: Vec<_> = (0..3).filter(|at| *at != leader).collect();
    let mut behind = 0;
    for number in 0..300_u32 {
        let value = number.to_string();
        let revision = fleet.put(leader, "k", &value).await;
        // What the follower holds before it asks the leader: if it were never behind, the barrier would not be tested.
        let follower = fleet.group(followers[number as usize % 2]);
        behind += u32::from(follower.local_read().unwrap().view.revision() < revision);
        let point = follower.read_barrier(soon()).await.unwrap();
        assert!(point.view.revision() >= revision);
        assert_eq!(get(point, "k").await, Some(value));
    }
    assert!(
        behind > 0,
        "no follower was ever behind: reading without the barrier would have passed too"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_share_calls_and_each_sees_its_own_writes() {
    let fleet = Fleet::formed(3).await;
    let readers: Vec<_> = (0..60)
        .map(|number| {
            let group = fleet.group(number % 3).clone();
            tokio::spawn(async move {
                for round in 0..10 {
                    let key = format!("k{number}");
                    let value = format!("{round}");
                    let answer = group.propose(put_for(&key, &value, Ttl::Default), soon()).await;
                    assert!(is_put(&answer), "{answer:?}");
                    assert_eq!(get(group.read_barrier(soon()).await.unwrap(), &key).await, Some(value));
                }
            })
        })
        .collect();
    for reader in readers {
        reader.await.unwrap();
    }
}

/// What is absent for one reader because its time is over is absent for every later reader, whichever member answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_record_does_not_come_back() {
    let fleet = Fleet::formed(3).await;
    let answer = fleet.group(0).propose(put_for("brief", "v", Ttl::For(1_000)), soon()).await;
    let Ok(Some(Done::Put(Written {
        expires_at_ms: Some(expires),
        ..
    }))) = answer.as_ref().map(Response::done)
    else {
        panic!("{answer:?}")
    };
    let mut gone = false;
    let limit = soon();
    for at in (0..3).cycle() {
        let point = fleet.group(at).read_barrier(soon()).await.unwrap();
        let now_ms = point.now_ms;
        let found = get(point, "brief").await;
        assert!(!(gone && found.is_some()), "it came back on member {at}");
        assert!(found.is_some() || now_ms >= expires, "it went before its time");
        if found.is_none() && gone {
            break;
        }
        gone = found.is_none();
        assert!(tokio::time::Instant::now() < limit);
    }
}
