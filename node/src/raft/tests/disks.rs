//! Disks that are full, hang or fail, and clocks that are off.

use std::{collections::BTreeMap, time::Duration};

use kvfleet_api::{
    admin::{Role, Settings},
    tenant::{TenantConfig, TenantLimits},
};
use tokio::time::Instant;

use super::{
    fleet::{Fleet, put, soon},
    gate::Mood,
};
use crate::{
    raft::{Group, ProposeError},
    state::{Command, Condition, Delete, Deletion, Done, Operation, Response, TenantId},
};

fn delete(key: &str) -> Command {
    Command::one(
        TenantId(1),
        Operation::Delete(Delete {
            key: key.to_owned(),
            condition: Condition::None,
        }),
    )
}

fn tenant(name: &str, generation: u64) -> Command {
    Command::PutTenant {
        name: name.to_owned(),
        config: TenantConfig {
            uid: if name == "t" { "u".to_owned() } else { name.to_owned() },
            owner: format!("tests/{name}"),
            generation,
            cluster_generation: 1,
            credential_generation: 1,
            limits: TenantLimits::default(),
        },
    }
}

impl Fleet {
    fn set_room(&self, at: usize, bytes: u64) {
        self.transport(at).rooms().set_own(bytes);
    }

    /// Proposes until the answer is as wanted; the members look at their disks ten times a second.
    async fn propose_until(&self, at: usize, command: Command, wanted: impl Fn(&Result<Response, ProposeError>) -> bool) {
        let limit = soon();
        loop {
            let answer = self
                .group(at)
                .propose(command.clone(), Instant::now() + Duration::from_secs(5))
                .await;
            if wanted(&answer) {
                return;
            }
            assert!(Instant::now() < limit, "through {at}: {answer:?}");
            tokio::task::yield_now().await;
        }
    }

    async fn until_led_by_another(&self, than: usize) -> usize {
        let limit = soon();
        loop {
            let leads = |at: &usize| *at != than && self.group(*at).status().role == Some(Role::Primary);
            if let Some(at) = self.running().into_iter().find(leads) {
                return at;
            }
            assert!(Instant::now() < limit, "member {than} still leads: {:?}", self.group(than).status());
            let _ = tokio::time::timeout(Duration::from_millis(10), self.group(than).watch().changed()).await;
        }
    }
}

fn no_room(answer: &Result<Response, ProposeError>) -> bool {
    *answer == Err(ProposeError::NoRoom)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_no_quorum_has_room_growth_is_refused_everywhere_and_the_rest_goes_on() {
    let fleet = Fleet::formed(3).await;
    let leader = fleet.leader().await;
    let others: Vec<_> = (0..3).filter(|at| *at != leader).collect();
    fleet.put(leader, "k", "v").await;

    fleet.set_room(others[0], 0);
    fleet.put(leader, "one follower short", "v").await;
    fleet.set_room(others[1], 0);
    for at in 0..3 {
        fleet.propose_until(at, put("new", "v"), no_room).await;
    }
    assert_eq!(
        fleet.group(others[0]).propose(tenant("second", 1), soon()).await,
        Err(ProposeError::NoRoom)
    );
    let changed = fleet.group(others[0]).propose(tenant("t", 2), soon()).await;
    assert!(
        matches!(changed, Ok(Response::Tenant(_))),
        "a tenant that is there may be configured: {changed:?}"
    );
    let settings = Command::PutSettings(Settings::default());
    assert!(fleet.group(leader).propose(settings, soon()).await.is_ok());
    assert_eq!(fleet.get(others[1], "k").await.as_deref(), Some("v"), "reads go on");
    let deleted = fleet.group(others[0]).propose(delete("k"), soon()).await;
    assert!(
        matches!(
            deleted.as_ref().map(Response::done),
            Ok(Some(Done::Deleted(Deletion { revision: Some(_) })))
        ),
        "{deleted:?}"
    );
    assert_eq!(fleet.leader().await, leader, "nobody could do better");

    fleet.set_room(others[0], 1 << 30);
    fleet.propose_until(others[1], put("k", "again"), Result::is_ok).await;
    assert_eq!(fleet.get(leader, "k").await.as_deref(), Some("again"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_alone_short_of_room_hands_leadership_over() {
    let fleet = Fleet::formed(3).await;
    let leader = fleet.leader().await;
    fleet.set_room(leader, 0);
    let next = fleet.until_led_by_another(leader).await;
    fleet.put(leader, "through the one without room", "v").await;
    assert_eq!(fleet.leader().await, next, "it stays there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_without_space_acknowledges_nothing_and_resumes() {
    let fleet = Fleet::formed(3).await;
    let leader = fleet.leader().await;
    let mut written = BTreeMap::new();
    fleet.put(leader, "before", "v").await;
    written.insert("before".to_owned(), "v".to_owned());
    for at in 0..3 {
        fleet.gate(at).set(Mood::Full);
    }
    // Whatever meets the full disk first waits; from then on nothing more is queued.
    let under_way = fleet.group(leader).clone();
    let mut under_way = tokio::spawn(async move {
        under_way
            .propose(put("under way", "v"), Instant::now() + Duration::from_secs(300))
            .await
    });
    for at in 0..3 {
        fleet.propose_until(at, put("refused", "v"), no_room).await;
        fleet.propose_until(at, delete("refused"), no_room).await;
    }
    let early = if under_way.is_finished() {
        Some((&mut under_way).await.unwrap())
    } else {
        None
    };
    assert!(!matches!(early, Some(Ok(_))), "nothing is acknowledged without the disk: {early:?}");
    let local = fleet.group(leader).local_read().unwrap();
    assert_eq!(super::fleet::get(local, "before").await.as_deref(), Some("v"), "reads go on");
    for at in 0..3 {
        fleet.gate(at).set(Mood::Well);
    }
    for at in 0..3 {
        let key = format!("after {at}");
        fleet.propose_until(at, put(&key, "v"), Result::is_ok).await;
        written.insert(key, "v".to_owned());
    }
    fleet.assert_holds(&written).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_disk_hangs_hands_leadership_over_and_is_not_ready() {
    let fleet = Fleet::formed(3).await;
    let leader = fleet.leader().await;
    fleet.put(leader, "before", "v").await;
    fleet.gate(leader).set(Mood::Hangs);
    let hung = Instant::now();
    let other = (leader + 1) % 3;
    // Something must want the disk.
    let under_way = fleet.group(leader).clone();
    let under_way = tokio::spawn(async move { under_way.propose(put("under way", "v"), soon()).await });
    fleet.until_led_by_another(leader).await;
    let moved = hung.elapsed();
    fleet.put(other, "after", "v").await;
    println!("led by another after {moved:?}, writes resumed after {:?}", hung.elapsed());
    let reason = fleet.group(leader).readiness().unwrap_err();
    assert!(reason.contains("the log has waited") && reason.contains("for the disk"), "{reason}");
    assert!(fleet.group(leader).stall().is_some());

    fleet.gate(leader).set(Mood::Well);
    fleet.until(leader, "ready again", Group::is_ready).await;
    assert!(fleet.group(leader).stall().is_none_or(|stall| stall.since < Duration::from_secs(1)));
    let mut written = BTreeMap::from([("before", "v"), ("after", "v")].map(|(key, value)| (key.to_owned(), value.to_owned())));
    if under_way.await.unwrap().is_ok() {
        written.insert("under way".to_owned(), "v".to_owned());
    }
    fleet.assert_holds(&written).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_that_fails_ends_the_member() {
    let mut fleet = Fleet::formed(3).await;
    let leader = fleet.leader().await;
    fleet.put(leader, "before", "v").await;
    fleet.gate(leader).set(Mood::Fails);
    let group = fleet.group(leader).clone();
    let under_way = tokio::spawn(async move { group.propose(put("under way", "v"), soon()).await });
    let reason = tokio::time::timeout(Duration::from_secs(20), fleet.group(leader).failed())
        .await
        .unwrap();
    // Whoever meets it first: the log itself, or the apply thread that waits for the log.
    assert!(
        reason.contains("input/output error") || reason.contains("the log has failed"),
        "{reason}"
    );
    assert!(!fleet.group(leader).is_ready());
    let _ = under_way.await.unwrap();
    fleet.stop_failed(leader).await;
    let next = fleet.leader().await;
    fleet.put(next, "after", "v").await;
    assert_eq!(fleet.get(next, "before").await.as_deref(), Some("v"));
}

/// A member whose clock is off does not stamp what others' records live by; and leadership does not wander for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_clock_is_off_hands_leadership_over_once_to_one_whose_clock_is_not() {
    let fleet = Fleet::formed(3).await;
    let leader = fleet.leader().await;
    let others: Vec<_> = (0..3).filter(|at| *at != leader).collect();
    // One of the others is off as well: it is no successor.
    fleet.transport(leader).clock().set_offset(-5_000);
    fleet.transport(others[0]).clock().set_offset(4_000);
    fleet
        .until(leader, "off by seconds", |group| group.status().clock_skew_ms < -1_000)
        .await;
    let begun = Instant::now();
    let next = fleet.until_led_by_another(leader).await;
    println!("led by another after {:?}", begun.elapsed());
    assert_eq!(next, others[1]);
    assert!(
        begun.elapsed() >= Duration::from_secs(2),
        "a moment's skew is no reason: {:?}",
        begun.elapsed()
    );
    let term = fleet.group(next).status().term;
    for number in 0..50 {
        fleet.put(number % 3, &format!("k{number}"), "v").await;
    }
    assert_eq!((fleet.leader().await, fleet.group(next).status().term), (next, term));
}
