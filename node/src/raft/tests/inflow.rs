//! What waits at the leader for one tenant is bounded, whichever members hand it over.

use super::{
    fleet::{Fleet, put, soon},
    gate::Mood,
};
use crate::{
    raft::{Cost, ProposeError},
    state::{Command, Condition, Delete, Operation, Refusal, Response, TenantId},
};

const PART: u64 = 20 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_that_hands_over_too_much_is_refused_and_no_other() {
    let fleet = Fleet::formed(3).await;
    let leader = fleet.leader().await;
    let followers: Vec<_> = (0..3).filter(|at| *at != leader).collect();
    let waits = |bytes: u64| move |group: &crate::raft::Group| group.inner.inflow.waiting() > bytes;
    let hand_over = |at: usize, command: Command| {
        let group = fleet.group(at).clone();
        tokio::spawn(async move { group.propose_for(command, Cost(PART), soon()).await })
    };
    // No quorum has anything on disk, so nothing is answered; heartbeats go on.
    for at in &followers {
        fleet.gate(*at).set(Mood::Hangs);
    }
    let first = hand_over(followers[0], put("a", "v"));
    let second = hand_over(followers[1], put("b", "v"));
    fleet.until(leader, "holding both", waits(2 * PART)).await;
    for at in &followers {
        let third = fleet.group(*at).propose_for(put("c", "v"), Cost(PART), soon()).await;
        assert_eq!(third, Err(ProposeError::Overloaded), "by member {at}");
    }
    let of_another = Command::one(
        TenantId(2),
        Operation::Delete(Delete {
            key: "a".to_owned(),
            condition: Condition::None,
        }),
    );
    let other = hand_over(followers[0], of_another);
    fleet.until(leader, "holding another tenant's", waits(3 * PART)).await;

    for at in &followers {
        fleet.gate(*at).set(Mood::Well);
    }
    for waiting in [first, second] {
        let answer = waiting.await.unwrap();
        assert!(matches!(answer, Ok(Response::Written { .. })), "{answer:?}");
    }
    // It came to the state machine, which knows no such tenant.
    assert_eq!(other.await.unwrap(), Ok(Response::Refused(Refusal::TenantUnknown)));
    fleet
        .until(leader, "holding nothing", |group| group.inner.inflow.waiting() == 0)
        .await;
    let again = fleet.group(followers[0]).propose_for(put("c", "v"), Cost(PART), soon()).await;
    assert!(matches!(again, Ok(Response::Written { .. })), "{again:?}");
}
