//! Writes. In: a tenant that takes them, and a record or a key. Out: the new revision.
//!
//! What certainly will be refused is refused before it is proposed. "Certainly" is the point: this member may be behind, so a *no* that
//! depends on what others wrote is made sure of with a read first.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    Admission, App, Cost,
    blocking::{Lanes, blocking},
    failure,
    room::Swept,
};
use crate::{
    problem::Failure,
    raft,
    state::{Answer, Command, Condition, Delete, Deletion, Done, Operation, Put, Refusal, Response, Tenant, View, Written, checks},
};

/// How often a write is proposed that its tenant's quota has no room for. Between two of them the tenant's expired records are swept until
/// there should be room; more than one is needed only when others take it first. Each logs the value again.
const ATTEMPTS: u32 = 4;

/// When a write is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ack {
    /// A majority has it on disk.
    #[default]
    Quorum,
    /// Besides, every voter has applied it.
    All,
}

/// What this tenant will refuse whatever is stored. Before the body is read, so that a key that is too long costs nothing.
///
/// # Errors
/// `invalid-key`, `invalid-parameter`.
pub(crate) fn check_sizes(tenant: &Tenant, key: &str, metadata: &[(String, String)]) -> Result<(), Failure> {
    checks::sizes(&tenant.config.limits, key, metadata).map_err(failure::refusal)
}

impl App {
    /// Writes one record.
    ///
    /// # Errors
    /// Every refusal of the state machine as its problem; that the shard did not answer in time, with the outcome.
    pub async fn put(&self, admission: &Admission, put: Put, deadline: Instant) -> Result<Written, Failure> {
        let tenant = admission.tenant();
        // What came, in place of what was announced.
        let cost = Cost {
            bytes_in: put.charge(),
            ..admission.cost()
        };
        self.check_quota(tenant, &put, deadline).await?;
        for _ in 0..ATTEMPTS {
            let answer = self.propose_one(tenant, Operation::Put(put.clone()), cost, deadline).await?;
            // Expired records are in the way. The leader sweeps them too, but later than this caller wants its answer.
            let Err(Refusal::StorageQuotaExceeded { expired_waiting: true, .. } | Refusal::KeyCountExceeded { expired_waiting: true, .. }) =
                answer
            else {
                return written(answer);
            };
            // Out of the hot path's future, which is large enough.
            match Box::pin(self.make_room(tenant, &put, deadline)).await? {
                Swept::Some => {}
                // The room that there is was made by others, so it is tried; but the answer is the last.
                Swept::NoneLeft => return written(self.propose_one(tenant, Operation::Put(put), cost, deadline).await?),
                Swept::NotFound => break,
            }
        }
        Err(failure::untouched(failure::not_swept()))
    }

    /// Has the tenant's own expired records swept until there should be room for the write, or none is left.
    async fn make_room(&self, tenant: &Tenant, put: &Put, deadline: Instant) -> Result<Swept, Failure> {
        loop {
            let swept = self.sweep_tenant(tenant.id, deadline).await.map_err(failure::untouched)?;
            if swept != Swept::Some || put.glance_at_quota(&self.views.latest(), tenant).is_ok() {
                return Ok(swept);
            }
        }
    }

    /// Deletes one record, if it is there.
    ///
    /// # Errors
    /// As [`App::put`].
    pub async fn delete(&self, admission: &Admission, key: String, condition: Condition, deadline: Instant) -> Result<Deletion, Failure> {
        let delete = Operation::Delete(Delete { key, condition });
        match self.propose_one(admission.tenant(), delete, admission.cost(), deadline).await? {
            Ok(Done::Deleted(deletion)) => Ok(deletion),
            answer => Err(other(answer)),
        }
    }

    /// Waits until every voter has applied a write that was just made: from then on even a read with `consistency=any` sees it, on every
    /// one of them. A deletion that found nothing has no revision; then everything is waited for that it may have seen.
    ///
    /// # Errors
    /// `deadline-exceeded`, with the revision of the write, which stands nevertheless.
    pub async fn acknowledge(&self, ack: Ack, revision: Option<u64>, deadline: Instant) -> Result<(), Failure> {
        let revision = match (ack, revision) {
            (Ack::Quorum, _) => return Ok(()),
            (Ack::All, Some(revision)) => revision,
            (Ack::All, None) => {
                let point = self.group.read_barrier(deadline).await;
                point.map_err(|error| failure::unconfirmed(failure::read(error)))?.view.revision()
            }
        };
        let spread = self.group.wait_everywhere(revision, deadline).await;
        spread.map_err(|error| failure::not_everywhere(revision, error))
    }

    /// The cost goes with the command to wherever the leader is.
    pub(super) async fn propose(&self, command: Command, cost: Cost, deadline: Instant) -> Result<Response, Failure> {
        let held = raft::Cost(cost.bytes_in);
        self.group.propose_for(command, held, deadline).await.map_err(failure::proposal)
    }

    /// Has a write of one operation done.
    async fn propose_one(&self, tenant: &Tenant, operation: Operation, cost: Cost, deadline: Instant) -> Result<Answer, Failure> {
        match self.propose(Command::one(tenant.id, operation), cost, deadline).await?.only() {
            Ok(done) => Ok(Ok(done)),
            Err(Response::Refused(refusal)) => Ok(Err(refusal)),
            Err(other) => Err(failure::response(&other)),
        }
    }

    /// Keeps a tenant at its quota from filling the log with writes that will be refused. Costs nothing while there is room; otherwise a
    /// look at the record that would be replaced, and a round to the leader before anything is refused.
    async fn check_quota(&self, tenant: &Tenant, put: &Put, deadline: Instant) -> Result<(), Failure> {
        let latest = self.views.latest();
        // A condition that does not hold is the better answer, and only the state machine can give it.
        if put.condition != Condition::None || put.glance_at_quota(&latest, tenant).is_ok() {
            return Ok(());
        }
        let now_ms = latest.stamp_ms();
        if let Ok(Ok(())) = look_at_quota(&self.lanes, latest, now_ms, tenant, put, deadline).await {
            return Ok(());
        }
        let barrier = self.group.read_barrier(deadline).await;
        let point = barrier.map_err(|error| failure::untouched(failure::read(error)))?;
        match look_at_quota(&self.lanes, point.view, point.now_ms, tenant, put, deadline).await? {
            Ok(()) => Ok(()),
            Err(Refusal::StorageQuotaExceeded { expired_waiting: true, .. } | Refusal::KeyCountExceeded { expired_waiting: true, .. }) => {
                // Before the value is logged: the state machine would refuse it now.
                match Box::pin(self.make_room(tenant, put, deadline)).await? {
                    Swept::Some | Swept::NoneLeft => Ok(()),
                    Swept::NotFound => Err(failure::untouched(failure::not_swept())),
                }
            }
            Err(refusal) => Err(failure::untouched(failure::refusal(refusal))),
        }
    }
}

/// What the state machine would say of the quotas in this view.
async fn look_at_quota(
    lanes: &Lanes,
    view: Arc<View>,
    now_ms: u64,
    tenant: &Tenant,
    put: &Put,
    deadline: Instant,
) -> Result<Result<(), Refusal>, Failure> {
    let Some(tenant) = view.tenant(&tenant.name).filter(|now| now.id == tenant.id) else {
        return Ok(Ok(()));
    };
    let (id, put) = (tenant.id, put.clone());
    let look = blocking(&lanes.points, id, deadline, move || put.look_at_quota(&view, &tenant, now_ms));
    look.await.map_err(failure::untouched)
}

fn written(answer: Answer) -> Result<Written, Failure> {
    match answer {
        Ok(Done::Put(written)) => Ok(written),
        answer => Err(other(answer)),
    }
}

/// Why a write was not done as it was asked.
fn other(answer: Answer) -> Failure {
    match answer {
        Err(refusal) => failure::refusal(refusal),
        Ok(done) => failure::response(&Response::Written { answers: vec![Ok(done)] }),
    }
}
