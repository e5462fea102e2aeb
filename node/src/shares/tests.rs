use std::time::Duration;

use futures::FutureExt;

use super::*;

const A: TenantId = TenantId(1);
const B: TenantId = TenantId(2);
const C: TenantId = TenantId(3);

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// All that a tenant gets in pieces of one.
fn fill(shares: &Arc<Shares>, tenant: TenantId) -> Vec<Share> {
    std::iter::from_fn(|| shares.try_take(tenant, 1)).collect()
}

#[tokio::test]
async fn each_of_k_greedy_tenants_leaves_as_much_as_it_has() {
    let shares = Shares::new(120);
    let first = fill(&shares, A);
    assert_eq!(first.len(), 60, "alone: half");
    let second = fill(&shares, B);
    assert_eq!(second.len(), 30, "half of what is left");
    assert!(shares.try_take(C, 15).is_some(), "a newcomer finds room at once");
    assert!(shares.try_take(A, 1).is_none());
    drop(first);
    // 90 are free, and B has 30 of 120: it may have a half again.
    assert_eq!(fill(&shares, B).len(), 30);
    drop(second);
    assert_eq!(shares.held(), 0);
    assert!(shares.state().accounts.is_empty(), "nothing is kept of tenants that are gone");
    assert!(shares.try_take(A, 120).is_some(), "one request may be as large as all of it");
    assert!(shares.try_take(A, 121).is_none());
}

#[tokio::test]
async fn no_tenant_waits_behind_another() {
    let shares = Shares::new(100);
    let mut held_by_a = fill(&shares, A);
    let waiting_a: Vec<_> = (0..3).map(|_| shares.take(A, 10, soon())).collect();
    let mut waiting_a = futures::future::join_all(waiting_a).boxed();
    assert!(waiting_a.as_mut().now_or_never().is_none(), "A is at its threshold");
    assert!(shares.take(B, 20, soon()).now_or_never().is_some(), "B is not");

    // Both wait; what comes back is given in turn.
    let large = shares.try_take(B, 25).unwrap();
    let mut waiting_b = shares.take(B, 30, soon()).boxed();
    assert!(waiting_b.as_mut().now_or_never().is_none());
    held_by_a.truncate(20);
    assert!(waiting_b.as_mut().now_or_never().is_none());
    drop(large);
    assert!(waiting_b.as_mut().now_or_never().is_some_and(|share| share.is_ok()));
    held_by_a.clear();
    let granted = waiting_a.now_or_never().unwrap();
    assert!(granted.iter().all(Result::is_ok));
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_vain_is_refused_and_leaves_nothing_behind() {
    let shares = Shares::new(10);
    let five = shares.try_take(A, 5).unwrap();
    let begun = Instant::now();
    let wait = Duration::from_millis(500);
    assert!(shares.take(A, 6, begun + wait).await.is_err());
    assert_eq!(begun.elapsed(), wait);
    let mut large = shares.take(A, 6, soon()).boxed();
    assert!(large.as_mut().now_or_never().is_none());
    let mut small = shares.take(A, 1, soon()).boxed();
    assert!(small.as_mut().now_or_never().is_none(), "behind the larger one of the same tenant");
    drop(five);
    assert!(large.now_or_never().unwrap().is_ok());
    // Given up after it was granted, before anybody looked.
    drop(small);
    assert_eq!(shares.held(), 0);
    let state = shares.state();
    assert!(state.accounts.is_empty() && state.turns.is_empty());
}

#[tokio::test]
async fn what_is_half_grown_gets_done_one_after_the_other() {
    let shares = Shares::new(100);
    // Ten bodies of 20 of one tenant: each has 5, and the threshold is reached.
    let mut bodies: Vec<Share> = (0..10).map(|_| shares.try_take(A, 5).unwrap()).collect();
    assert!(shares.take(A, 1, soon()).now_or_never().is_none(), "nothing new begins");
    let order = Arc::new(Mutex::new(Vec::new()));
    let growing = bodies.drain(..).enumerate().map(|(number, mut body)| {
        let order = Arc::clone(&order);
        async move {
            for size in 6..=20 {
                body.grow(size, soon()).await.unwrap();
                tokio::task::yield_now().await;
            }
            order.lock().unwrap().push(number);
        }
    });
    futures::future::join_all(growing).await;
    assert_eq!(order.lock().unwrap().len(), 10);
    assert_eq!(order.lock().unwrap()[0], 0, "the oldest goes ahead");
    assert_eq!(shares.held(), 0);
}

#[tokio::test]
async fn a_share_that_shrinks_makes_room() {
    let shares = Shares::new(10);
    let mut page = shares.try_take(A, 5).unwrap();
    let mut waiting = shares.take(A, 2, soon()).boxed();
    assert!(waiting.as_mut().now_or_never().is_none());
    page.shrink(1);
    let other = waiting.now_or_never().unwrap().unwrap();
    assert_eq!(shares.held(), 3);
    assert!(page.try_grow(3) && !page.try_grow(9));
    drop((page, other));
    assert_eq!(shares.held(), 0);
}
