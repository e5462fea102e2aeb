//! Writes. In: a tenant that takes them, and a record or a key. Out: the new revision.
//!
//! What certainly will be refused is refused before it is proposed. "Certainly" is the point: this member may be behind, so a *no* that
//! depends on what others wrote is made sure of with a read first.

use std::sync::Arc;

use bytes::Bytes;
use kvfleet_api::tenant::bounds;
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
    state::{Command, Condition, Kind, PutMode, Refusal, Response, Tenant, TenantId, Ttl, View},
};

/// How often a write is proposed that its tenant's quota has no room for. Between two of them the tenant's expired records are swept until
/// there should be room; more than one is needed only when others take it first. Each logs the value again.
const ATTEMPTS: u32 = 4;

/// A record to be written.
#[derive(Clone, Debug)]
pub struct Put {
    /// Where.
    pub key: String,
    /// The value as sent.
    pub value: Bytes,
    /// Its kind.
    pub kind: Kind,
    /// `Content-Type` as sent.
    pub content_type: Option<String>,
    /// Names lower case without the prefix, sorted.
    pub metadata: Vec<(String, String)>,
    /// How long it lives.
    pub ttl: Ttl,
    /// What must hold before.
    pub condition: Condition,
}

/// A record that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its revision.
    pub revision: u64,
    /// Whether it was absent before.
    pub created: bool,
    /// When it expires, Unix milliseconds.
    pub expires_at_ms: Option<u64>,
}

/// When a write is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ack {
    /// A majority has it on disk.
    #[default]
    Quorum,
    /// Besides, every voter has applied it.
    All,
}

/// A record that is absent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// The revision that this took; none when there was nothing to delete.
    pub revision: Option<u64>,
}

impl Put {
    fn charge(&self) -> u64 {
        let metadata: usize = self.metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
        (self.key.len() + self.value.len() + metadata) as u64
    }

    fn command(self, tenant: TenantId) -> Command {
        let Put {
            key,
            value,
            kind,
            content_type,
            metadata,
            ttl,
            condition,
        } = self;
        Command::Put {
            tenant,
            key,
            value,
            kind,
            content_type,
            metadata,
            ttl,
            condition,
            mode: PutMode::Upsert,
        }
    }
}

/// What this tenant will refuse whatever is stored. Before the body is read, so that a key that is too long costs nothing.
///
/// # Errors
/// `invalid-key`, `invalid-parameter`.
pub(crate) fn check_sizes(tenant: &Tenant, key: &str, metadata: &[(String, String)]) -> Result<(), Failure> {
    let limits = &tenant.config.limits;
    if key.chars().count() > limits.max_key_length as usize {
        return Err(failure::key_too_long(limits.max_key_length));
    }
    if key.len() > bounds::KEY_LENGTH_MAX as usize {
        return Err(failure::key_too_long(bounds::KEY_LENGTH_MAX));
    }
    let bytes: usize = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes as u64 > limits.max_metadata_size {
        return Err(failure::metadata_too_large(limits.max_metadata_size));
    }
    Ok(())
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
            let response = self.propose(put.clone().command(tenant.id), cost, deadline).await?;
            // Expired records are in the way. The leader sweeps them too, but later than this caller wants its answer.
            let (Response::Refused(Refusal::StorageQuotaExceeded { expired_waiting: true, .. })
            | Response::Refused(Refusal::KeyCountExceeded { expired_waiting: true, .. })) = response
            else {
                return written(response);
            };
            // Out of the hot path's future, which is large enough.
            match Box::pin(self.make_room(tenant, &put, deadline)).await? {
                Swept::Some => {}
                // The room that there is was made by others, so it is tried; but the answer is the last.
                Swept::NoneLeft => return written(self.propose(put.command(tenant.id), cost, deadline).await?),
                Swept::NotFound => break,
            }
        }
        Err(failure::untouched(failure::not_swept()))
    }

    /// Has the tenant's own expired records swept until there should be room for the write, or none is left.
    async fn make_room(&self, tenant: &Tenant, put: &Put, deadline: Instant) -> Result<Swept, Failure> {
        loop {
            let swept = self.sweep_tenant(tenant.id, deadline).await.map_err(failure::untouched)?;
            if swept != Swept::Some || !may_be_over(&self.views.latest(), tenant, put) {
                return Ok(swept);
            }
        }
    }

    /// Deletes one record, if it is there.
    ///
    /// # Errors
    /// As [`App::put`].
    pub async fn delete(&self, admission: &Admission, key: String, condition: Condition, deadline: Instant) -> Result<Deletion, Failure> {
        let command = Command::Delete {
            tenant: admission.tenant().id,
            key,
            condition,
        };
        match self.propose(command, admission.cost(), deadline).await? {
            Response::Deleted { revision } => Ok(Deletion { revision }),
            Response::Refused(refusal) => Err(failure::refusal(refusal)),
            other => Err(failure::response(&other)),
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

    /// Keeps a tenant at its quota from filling the log with writes that will be refused. Costs nothing while there is room; otherwise a
    /// look at the record that would be replaced, and a round to the leader before anything is refused.
    async fn check_quota(&self, tenant: &Tenant, put: &Put, deadline: Instant) -> Result<(), Failure> {
        let latest = self.views.latest();
        // A condition that does not hold is the better answer, and only the state machine can give it.
        if put.condition != Condition::None || !may_be_over(&latest, tenant, put) {
            return Ok(());
        }
        let now_ms = latest.stamp_ms();
        if let Ok(Quota::Allows) = quota_allows(&self.lanes, latest, now_ms, tenant, put, deadline).await {
            return Ok(());
        }
        let barrier = self.group.read_barrier(deadline).await;
        let point = barrier.map_err(|error| failure::untouched(failure::read(error)))?;
        match quota_allows(&self.lanes, point.view, point.now_ms, tenant, put, deadline).await? {
            Quota::Allows => Ok(()),
            // Before the value is logged: the state machine would refuse it now.
            Quota::AllowsWhenSwept => match Box::pin(self.make_room(tenant, put, deadline)).await? {
                Swept::Some | Swept::NoneLeft => Ok(()),
                Swept::NotFound => Err(failure::untouched(failure::not_swept())),
            },
        }
    }
}

/// From memory, as far as it is counted there.
fn may_be_over(view: &View, tenant: &Tenant, put: &Put) -> bool {
    let limits = &tenant.config.limits;
    let used = view.counted(tenant.id);
    used.keys >= limits.quota_keys || used.storage.saturating_add(put.charge()) > limits.quota_storage
}

/// What is to be said of a write that is not refused.
enum Quota {
    Allows,
    /// The tenant has, or may have, expired records whose bytes or keys are in the way.
    AllowsWhenSwept,
}

/// What the state machine would say of the quotas in this view.
async fn quota_allows(
    lanes: &Lanes,
    view: Arc<View>,
    now_ms: u64,
    tenant: &Tenant,
    put: &Put,
    deadline: Instant,
) -> Result<Quota, Failure> {
    let Some(tenant) = view.tenant(&tenant.name).filter(|now| now.id == tenant.id) else {
        return Ok(Quota::Allows);
    };
    let (id, key, charge) = (tenant.id, put.key.clone(), put.charge());
    let look = blocking(&lanes.points, id, deadline, move || {
        let limits = &tenant.config.limits;
        let usage = view.usage(id, now_ms)?;
        let used = usage.used;
        let old = view.get(id, &key, now_ms)?.map(|record| record.charge(&key));
        let too_many = old.is_none() && used.keys >= limits.quota_keys;
        let wanted = used.storage.saturating_sub(old.unwrap_or(0)).saturating_add(charge);
        let too_much = wanted > limits.quota_storage && wanted > used.storage;
        Ok(if too_many && usage.whole {
            Err(failure::key_quota(limits.quota_keys))
        } else if too_much && usage.whole && !usage.expired {
            Err(failure::storage_quota(limits.quota_storage, used.storage, wanted))
        } else if too_many || too_much {
            Ok(Quota::AllowsWhenSwept)
        } else {
            Ok(Quota::Allows)
        })
    });
    look.await.map_err(failure::untouched)?
}

fn written(response: Response) -> Result<Written, Failure> {
    match response {
        Response::Put {
            revision,
            created,
            expires_at_ms,
        } => Ok(Written {
            revision,
            created,
            expires_at_ms,
        }),
        Response::Refused(refusal) => Err(failure::refusal(refusal)),
        other => Err(failure::response(&other)),
    }
}
