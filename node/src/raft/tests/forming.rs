//! Groups come into being, and come back.

use std::collections::BTreeMap;

use kvfleet_api::admin::{MemberState, Role};

use super::fleet::{CLUSTER, Fleet, LIMIT, put_for, settings_of, soon};
use crate::{
    log::{Options, Wal},
    peer::{Transport, TransportSettings},
    raft::{Group, InitializeError, ProposeError, StartError},
    state::{Machine, Ttl},
    storage::FjallStores,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blank_members_say_so_and_form_once() {
    let fleet = Fleet::blank(3).await;
    for (at, seat) in fleet.seats.iter().enumerate() {
        let found = fleet.transport((at + 1) % 3).identify(&seat.address, soon()).await.unwrap();
        assert_eq!((found.id, found.blank), (seat.id, true));
        assert_eq!(fleet.group(at).status().state, MemberState::Blank);
        assert!(!fleet.group(at).is_ready());
        assert!(fleet.group(at).local_read().is_err());
    }
    let strangers = fleet
        .addresses()
        .into_iter()
        .filter(|member| member.id != fleet.seats[0].id)
        .collect();
    assert_eq!(
        fleet.group(0).initialize(strangers).await,
        Err(InitializeError::NotAmongThem { id: fleet.seats[0].id })
    );

    fleet.group(0).initialize(fleet.addresses()).await.unwrap();
    for at in 0..3 {
        fleet.until(at, "ready", Group::is_ready).await;
        let status = fleet.group(at).status();
        assert_eq!(status.state, MemberState::Member);
        assert_eq!(status.members, fleet.addresses());
    }
    assert_eq!(
        fleet.group(0).initialize(fleet.addresses()).await,
        Ok(()),
        "the same formation again"
    );
    let other = fleet.addresses().into_iter().take(1).collect();
    assert!(matches!(fleet.group(0).initialize(other).await, Err(InitializeError::Conflict { members }) if members.len() == 3));
    assert!(!fleet.transport(1).identify(&fleet.seats[0].address, soon()).await.unwrap().blank);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_member_takes_writes_and_answers_reads() {
    let fleet = Fleet::formed(3).await;
    let mut written = BTreeMap::new();
    for number in 0..30 {
        let (key, value) = (format!("k{number}"), format!("v{number}"));
        fleet.put(number % 3, &key, &value).await;
        assert_eq!(fleet.get((number + 1) % 3, &key).await, Some(value.clone()));
        written.insert(key, value);
    }
    fleet.assert_holds(&written).await;
    let leader = fleet.leader().await;
    let roles: Vec<_> = (0..3).map(|at| fleet.group(at).status().role).collect();
    for (at, role) in roles.iter().enumerate() {
        assert_eq!(*role, Some(if at == leader { Role::Primary } else { Role::Follower }));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_members_come_back_from_their_disks() {
    let mut fleet = Fleet::formed(3).await;
    let mut written = BTreeMap::new();
    for number in 0..50 {
        let (key, value) = (format!("k{number}"), format!("v{number}"));
        fleet.put(number % 3, &key, &value).await;
        written.insert(key, value);
    }
    let before = fleet.group(0).status().term;
    for at in 0..3 {
        fleet.stop(at).await;
    }
    for at in 0..3 {
        fleet.start(at).await;
    }
    fleet.assert_holds(&written).await;
    assert!(fleet.group(0).status().term > before, "nobody leads on because it led before");
    fleet.put(1, "after", "restart").await;
    assert_eq!(fleet.get(2, "after").await.as_deref(), Some("restart"));
}

/// One member without any peer port, as `kvnode --dev` runs it; its own sweep removes what has expired.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_member_alone_serves_and_sweeps() {
    let directory = tempfile::tempdir().unwrap();
    let wal = Wal::open(&directory.path().join("raft"), Options::default()).unwrap();
    let (machine, views) = Machine::open(FjallStores::open(&directory.path().join("sm")).unwrap()).unwrap();
    let transport = Transport::alone(TransportSettings {
        cluster: CLUSTER,
        id: 9,
        name: "alone".to_owned(),
        compress_above: 4 << 10,
    });
    let group = Group::start(settings_of(9, "alone", "nowhere:1"), wal, machine, views.clone(), transport)
        .await
        .unwrap();
    let me = kvfleet_api::admin::MemberAddress {
        id: 9,
        name: "alone".to_owned(),
        peer: "nowhere:1".to_owned(),
        voter: true,
    };
    group.initialize(vec![me]).await.unwrap();
    let config = kvfleet_api::tenant::TenantConfig {
        uid: "u".to_owned(),
        owner: "tests/t".to_owned(),
        generation: 1,
        cluster_generation: 1,
        credential_generation: 1,
        limits: kvfleet_api::tenant::TenantLimits::default(),
    };
    group
        .propose(
            crate::state::Command::PutTenant {
                name: "t".to_owned(),
                config,
            },
            soon(),
        )
        .await
        .unwrap();
    let revision = match group.propose(put_for("brief", "v", Ttl::For(1_000)), soon()).await {
        Ok(crate::state::Response::Put { revision, .. }) => revision,
        other => panic!("{other:?}"),
    };
    let mut applied = views.subscribe();
    let swept = async {
        // A swept record takes a revision of its own.
        while views.latest().revision() <= revision {
            applied.changed().await.unwrap();
        }
    };
    tokio::time::timeout(LIMIT, swept).await.unwrap();
    let point = group.read_barrier(soon()).await.unwrap();
    assert_eq!(super::fleet::get(point, "brief").await, None);
    assert!(group.is_ready());
    group.shutdown().await;
    assert_eq!(
        group.propose(put_for("late", "v", Ttl::Never), soon()).await,
        Err(ProposeError::Draining)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn impossible_timing_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let wal = Wal::open(&directory.path().join("raft"), Options::default()).unwrap();
    let (machine, views) = Machine::open(FjallStores::open(&directory.path().join("sm")).unwrap()).unwrap();
    let transport = Transport::alone(TransportSettings {
        cluster: CLUSTER,
        id: 9,
        name: "alone".to_owned(),
        compress_above: 4 << 10,
    });
    let mut settings = settings_of(9, "alone", "nowhere:1");
    settings.election_timeout = settings.heartbeat_interval;
    let error = Group::start(settings, wal, machine, views, transport).await.err().unwrap();
    assert!(matches!(error, StartError::Settings { .. }));
    assert!(error.to_string().contains("electionTimeout"), "{error}");
}

/// Many writers at once share their flushes: one `fdatasync` each would be the limit of the whole service.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_come_together_are_flushed_together() {
    let fleet = Fleet::formed(3).await;
    let leader = fleet.leader().await;
    let before = fleet.log_metrics(leader);
    let writers: Vec<_> = (0..256)
        .map(|number| {
            let group = fleet.group(number % 3).clone();
            tokio::spawn(async move {
                for round in 0..8 {
                    let answer = group
                        .propose(put_for(&format!("k{number}-{round}"), "v", Ttl::Default), soon())
                        .await;
                    assert!(matches!(answer, Ok(crate::state::Response::Put { .. })), "{answer:?}");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let after = fleet.log_metrics(leader);
    let flushes = after.fsyncs - before.fsyncs;
    assert!(flushes * 4 < 256 * 8, "{flushes} flushes for 2,048 writes");
}
