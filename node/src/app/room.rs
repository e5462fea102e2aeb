//! Room for the writes of tenants at their quotas: their own expired records are swept, whatever else has expired.
//!
//! In: a tenant. Out: whether something was swept, and whether more is left. The search is made here, off the apply thread, because the
//! expired records of all tenants lie mixed; the log gets the keys alone. Absent: the deciding check of the quota (`state`), and the sweeps of
//! what no write waits for (`raft`).
//!
//! What it costs: one search and one log entry at a time for each tenant, however many of its writes wait; all of them take its outcome.
//! One search at a time on this member for all tenants together, in the order in which they came.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use super::{
    App, Cost,
    blocking::{look, place},
    failure,
};
use crate::{
    problem::Failure,
    state::{Bound, Command, Expired, Response, TenantId},
};

/// Tenants that are remembered although none of their writes waits. A turn is some 100 bytes.
const IDLE_TURNS: usize = 1_000;

/// What a sweep of one tenant's records has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Swept {
    /// Some were found; more may be left.
    Some,
    /// None is left.
    NoneLeft,
    /// None was found among so many of other tenants; there may be some.
    NotFound,
}

/// The turns of all tenants.
pub(super) struct Room {
    turns: Mutex<HashMap<TenantId, Arc<Turn>>>,
    searches: Semaphore,
}

impl Default for Room {
    fn default() -> Self {
        Room {
            turns: Mutex::default(),
            searches: Semaphore::new(1),
        }
    }
}

/// One tenant's sweeps, one after the other.
#[derive(Default)]
struct Turn {
    begun: AtomicU64,
    /// What the last one that ended has done; none when it failed, or its caller has gone.
    last: tokio::sync::Mutex<Option<Swept>>,
}

impl Room {
    fn turn(&self, tenant: TenantId) -> Arc<Turn> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if turns.len() > IDLE_TURNS {
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        }
        Arc::clone(turns.entry(tenant).or_default())
    }
}

impl Turn {
    /// What `sweep` does, or another one that begins from now on.
    async fn share<E>(
        &self,
        deadline: Instant,
        late: impl FnOnce() -> E,
        sweep: impl Future<Output = Result<Swept, E>>,
    ) -> Result<Swept, E> {
        let came = self.begun.load(Ordering::Acquire);
        let Ok(mut last) = timeout_at(deadline, self.last.lock()).await else {
            return Err(late());
        };
        if self.begun.load(Ordering::Acquire) > came
            && let Some(swept) = *last
        {
            return Ok(swept);
        }
        self.begun.fetch_add(1, Ordering::Release);
        *last = None;
        let swept = sweep.await?;
        *last = Some(swept);
        Ok(swept)
    }
}

impl App {
    /// Sweeps some of the tenant's expired records, or waits for another write of this tenant that does.
    pub(super) async fn sweep_tenant(&self, tenant: TenantId, deadline: Instant) -> Result<Swept, Failure> {
        let turn = self.room.turn(tenant);
        turn.share(deadline, failure::not_swept, self.sweep_some_of(tenant, deadline)).await
    }

    async fn sweep_some_of(&self, tenant: TenantId, deadline: Instant) -> Result<Swept, Failure> {
        let Expired { keys, whole } = {
            // What was refused was refused by the newest state, so the search must see it.
            let point = self.group.read_barrier(deadline).await.map_err(failure::read)?;
            let place = place(&self.lanes.points, tenant, deadline).await?;
            // Last, because all tenants share it: a tenant that waits for a place of its own holds up no other.
            let Ok(Ok(_search)) = timeout_at(deadline, self.room.searches.acquire()).await else {
                return Err(failure::not_swept());
            };
            look(place, deadline, move |_| point.view.expired_of(tenant, point.now_ms).map(Some)).await?
        };
        if keys.is_empty() {
            return Ok(if whole { Swept::NoneLeft } else { Swept::NotFound });
        }
        let cost = Cost {
            bytes_in: keys.iter().map(|key| key.len() as u64).sum(),
            ..Cost::default()
        };
        let sweep = Command::SweepTenant {
            tenant,
            keys,
            bytes: Bound::STEP.bytes,
        };
        match self.propose(sweep, cost, deadline).await? {
            Response::Swept { .. } => Ok(Swept::Some),
            other => Err(failure::response(&other)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Two hundred writers of one tenant at its quota make two sweeps: the one under way when they came, and one that they share.
    #[tokio::test(start_paused = true)]
    async fn writers_that_wait_share_a_sweep() {
        let turn = Arc::new(Turn::default());
        let sweeps = Arc::new(AtomicU64::new(0));
        let deadline = Instant::now() + Duration::from_secs(60);
        let share = |outcome: Swept| {
            let (turn, sweeps) = (Arc::clone(&turn), Arc::clone(&sweeps));
            tokio::spawn(async move {
                let sweep = async {
                    sweeps.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    Ok(outcome)
                };
                turn.share(deadline, || (), sweep).await
            })
        };
        let first = share(Swept::Some);
        tokio::time::sleep(Duration::from_millis(10)).await;
        let rest: Vec<_> = (0..200).map(|_| share(Swept::NoneLeft)).collect();
        assert_eq!(first.await.unwrap(), Ok(Swept::Some));
        for one in rest {
            assert_eq!(
                one.await.unwrap(),
                Ok(Swept::NoneLeft),
                "one that began before it came is not the answer"
            );
        }
        assert_eq!(sweeps.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_goes_leaves_no_answer_behind() {
        let turn = Turn::default();
        let deadline = Instant::now() + Duration::from_secs(60);
        let hangs = turn.share(deadline, || (), std::future::pending());
        assert!(tokio::time::timeout(Duration::from_millis(10), hangs).await.is_err());
        assert_eq!(turn.share(deadline, || (), async { Ok(Swept::Some) }).await, Ok(Swept::Some));
    }
}
