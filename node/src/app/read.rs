//! Reads. In: a caller and what it wants to see. Out: records, pages, usage, with the revision and the moment that they are as of.
//!
//! Access is decided on the very view that is read, so a linearizable read is linearizable in this too. The store blocks: a record that
//! is not in memory is a read of the disk, and one slow disk must not hold up requests that only wait for the network. So every look at
//! rows runs on tokio's threads for blocking work; only the tables (usage without expiries, tenants) and hot records are read in place.

use kvfleet_api::usage::{Gauge, Usage};
use tokio::time::Instant;

use super::{App, Caller, Need, access::check, failure};
use crate::{
    problem::Failure,
    raft::ReadPoint,
    state::{Page, Record, ScanLimits, ScanRange, Tenant},
    storage::StoreError,
};

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// It sees every write that was acknowledged, by any member, before it began.
    #[default]
    Linearizable,
    /// It sees what the answering member has applied.
    Any,
}

/// A record that was read.
#[derive(Clone, Debug)]
pub struct Found {
    /// The record.
    pub record: Record,
    /// The last revision of the state that was read.
    pub revision: u64,
    /// The moment as of which it was read, Unix milliseconds.
    pub now_ms: u64,
}

/// A page that was read.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The records.
    pub page: Page,
    /// The last revision of the state that was read.
    pub revision: u64,
    /// The moment as of which it was read, Unix milliseconds.
    pub now_ms: u64,
}

impl App {
    /// One record.
    ///
    /// # Errors
    /// `key-not-found`; those of [`App::admit`]; that no leader answered in time.
    pub async fn get(&self, caller: &Caller, key: String, consistency: Consistency, deadline: Instant) -> Result<Found, Failure> {
        let (tenant, point) = self.point(caller, consistency, deadline).await?;
        let revision = point.view.revision();
        let now_ms = point.now_ms;
        let recalled = point.view.recall(tenant.id, &key, now_ms).map_err(|error| failure::store(&error))?;
        let record = match recalled {
            Some(record) => record,
            None => blocking(deadline, move || point.view.get(tenant.id, &key, now_ms)).await?,
        };
        record
            .map(|record| Found { record, revision, now_ms })
            .ok_or_else(failure::key_not_found)
    }

    /// A page of records.
    ///
    /// # Errors
    /// Those of [`App::admit`]; that no leader answered in time.
    pub async fn scan(
        &self,
        caller: &Caller,
        range: ScanRange,
        limits: ScanLimits,
        consistency: Consistency,
        deadline: Instant,
    ) -> Result<Listing, Failure> {
        let (tenant, point) = self.point(caller, consistency, deadline).await?;
        let revision = point.view.revision();
        let now_ms = point.now_ms;
        let page = blocking(deadline, move || point.view.scan(tenant.id, &range, limits, now_ms)).await?;
        Ok(Listing { page, revision, now_ms })
    }

    /// What the tenant uses, and what it may use.
    ///
    /// # Errors
    /// Those of [`App::admit`]; that no leader answered in time.
    pub async fn usage(&self, caller: &Caller, consistency: Consistency, deadline: Instant) -> Result<Usage, Failure> {
        let (tenant, point) = self.point(caller, consistency, deadline).await?;
        let id = tenant.id;
        let used = blocking(deadline, move || point.view.used(id, point.now_ms)).await?;
        let limits = tenant.config.limits.clone();
        let gauge = |used, provisioned| Gauge { used, provisioned };
        Ok(Usage {
            storage: gauge(used.storage, limits.quota_storage),
            keys: gauge(used.keys, limits.quota_keys),
            limits,
        })
    }

    /// Where to read, and whose.
    async fn point(
        &self,
        caller: &Caller,
        consistency: Consistency,
        deadline: Instant,
    ) -> Result<(std::sync::Arc<Tenant>, ReadPoint), Failure> {
        let point = match consistency {
            Consistency::Linearizable => self.group.read_barrier(deadline).await,
            Consistency::Any => self.group.local_read(),
        };
        let point = point.map_err(failure::read)?;
        match (check(&point.view, caller, Need::Read), consistency) {
            (Ok(tenant), _) => Ok((tenant, point)),
            (Err(denial), Consistency::Linearizable) => Err(denial.into()),
            // Only a view that is certainly up to date may say no.
            (Err(_), Consistency::Any) => {
                let tenant = self.admit(caller, Need::Read, deadline).await?;
                Ok((tenant, point))
            }
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
