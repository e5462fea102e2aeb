//! Reads. In: a caller and what it wants to see. Out: records, pages, usage, with the revision and the moment that they are as of.
//!
//! Access is decided on the very view that is read, so a linearizable read is linearizable in this too. The store blocks: a record that
//! is not in memory is a read of the disk, and one slow disk must not hold up requests that only wait for the network. So every look at
//! rows runs on tokio's threads for blocking work; only the tables (usage without expiries, tenants) and hot records are read in place.

use std::{sync::Arc, time::Duration};

use kvfleet_api::usage::{Gauge, Usage};
use tokio::time::Instant;

use super::{App, Caller, Need, access::check, failure};
use crate::{
    problem::Failure,
    raft::{ReadError, ReadPoint},
    state::{Page, Record, ScanLimits, ScanRange, Tenant},
    storage::StoreError,
};

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// It sees every write that was acknowledged, by any member, before it began.
    #[default]
    Linearizable,
    /// The same, by the leader's lease: unless the members' monotonic clocks run at very different speeds.
    Leader,
    /// It sees every write that was acknowledged longer ago than this before it began, or is refused.
    Bounded(Duration),
    /// It sees what the answering member has applied.
    Any,
}

/// What a read asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// How fresh.
    pub consistency: Consistency,
    /// And at least this revision: the reader's own last write, say.
    pub min_revision: Option<u64>,
}

/// What a read saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The last revision of the state that was read.
    pub revision: u64,
    /// The moment as of which it was read, Unix milliseconds.
    pub now_ms: u64,
    /// For a local read: how old the state may have been at most.
    pub age: Option<Duration>,
}

/// A record, if it is there.
#[derive(Clone, Debug)]
pub struct Found {
    /// The record.
    pub record: Option<Record>,
    /// What was read.
    pub seen: Seen,
}

/// A page that was read.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The records.
    pub page: Page,
    /// What was read.
    pub seen: Seen,
}

/// What a tenant uses.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The figures.
    pub usage: Usage,
    /// What was read.
    pub seen: Seen,
}

impl App {
    /// One record.
    ///
    /// # Errors
    /// Those of [`App::admit`]; that no leader answered in time; `too-stale`.
    pub async fn get(&self, caller: &Caller, key: String, reading: Reading, deadline: Instant) -> Result<Found, Failure> {
        let (tenant, point) = self.point(caller, reading, deadline).await?;
        let seen = Seen::of(&point);
        let recalled = point
            .view
            .recall(tenant.id, &key, seen.now_ms)
            .map_err(|error| failure::store(&error))?;
        let record = match recalled {
            Some(record) => record,
            None => Box::pin(blocking(deadline, move || point.view.get(tenant.id, &key, seen.now_ms))).await?,
        };
        Ok(Found { record, seen })
    }

    /// A page of records.
    ///
    /// # Errors
    /// Those of [`App::admit`]; that no leader answered in time; `too-stale`.
    pub async fn scan(
        &self,
        caller: &Caller,
        range: ScanRange,
        limits: ScanLimits,
        reading: Reading,
        deadline: Instant,
    ) -> Result<Listing, Failure> {
        let (tenant, point) = self.point(caller, reading, deadline).await?;
        let seen = Seen::of(&point);
        let page = blocking(deadline, move || point.view.scan(tenant.id, &range, limits, seen.now_ms)).await?;
        Ok(Listing { page, seen })
    }

    /// What the tenant uses, and what it may use.
    ///
    /// # Errors
    /// Those of [`App::admit`]; that no leader answered in time; `too-stale`.
    pub async fn usage(&self, caller: &Caller, reading: Reading, deadline: Instant) -> Result<Measured, Failure> {
        let (tenant, point) = self.point(caller, reading, deadline).await?;
        let seen = Seen::of(&point);
        let id = tenant.id;
        let used = blocking(deadline, move || point.view.used(id, seen.now_ms)).await?;
        let limits = tenant.config.limits.clone();
        let gauge = |used, provisioned| Gauge { used, provisioned };
        let usage = Usage {
            storage: gauge(used.storage, limits.quota_storage),
            keys: gauge(used.keys, limits.quota_keys),
            limits,
        };
        Ok(Measured { usage, seen })
    }

    /// Where to read, and whose. Every wait is boxed: a local read has none, and would carry the room for all of them.
    async fn point(&self, caller: &Caller, reading: Reading, deadline: Instant) -> Result<(Arc<Tenant>, ReadPoint), Failure> {
        let Reading { consistency, min_revision } = reading;
        if let Some(revision) = min_revision {
            Box::pin(self.reach(revision, deadline)).await?;
        }
        let point = match consistency {
            Consistency::Linearizable => Box::pin(self.group.read_barrier(deadline)).await,
            Consistency::Leader => Box::pin(self.group.read_leased(deadline)).await,
            Consistency::Bounded(_) | Consistency::Any => self.group.local_read(),
        };
        let point = point.map_err(failure::read)?;
        if let Consistency::Bounded(bound) = consistency
            && point.age.is_none_or(|age| age > bound)
        {
            return Err(failure::older_than(bound, point.age));
        }
        match (check(&point.view, caller, Need::Read), consistency) {
            (Ok(tenant), _) => Ok((tenant, point)),
            (Err(denial), Consistency::Linearizable) => Err(denial.into()),
            // Only a view that is certainly up to date may say no.
            (Err(_), Consistency::Leader | Consistency::Bounded(_) | Consistency::Any) => {
                let tenant = Box::pin(self.admit(caller, Need::Read, deadline)).await?;
                Ok((tenant, point))
            }
        }
    }

    /// Waits until this member has applied a revision.
    async fn reach(&self, revision: u64, deadline: Instant) -> Result<(), Failure> {
        match self.group.wait_revision(revision, deadline).await {
            Err(ReadError::Deadline) => Err(failure::not_reached(revision, self.views.latest().revision())),
            other => other.map_err(failure::read),
        }
    }
}

impl Seen {
    fn of(point: &ReadPoint) -> Self {
        Seen {
            revision: point.view.revision(),
            now_ms: point.now_ms,
            age: point.age,
        }
    }
}

/// Looks at rows off the async threads, and no longer than the caller waits.
pub(super) async fn blocking<T: Send + 'static>(
    deadline: Instant,
    look: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::time::timeout_at(deadline, tokio::task::spawn_blocking(look)).await {
        Ok(Ok(outcome)) => outcome.map_err(|error| failure::store(&error)),
        Ok(Err(_)) => Err(failure::problem(
            kvfleet_api::Code::Internal,
            "the member failed while it read its store; please report this",
        )),
        Err(_) => Err(failure::problem(
            kvfleet_api::Code::DeadlineExceeded,
            "the store did not answer before the deadline",
        )),
    }
}
