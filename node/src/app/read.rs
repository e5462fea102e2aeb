//! Reads. In: who calls and what it wants to see. Out: records, pages, usage, with the revision and the moment that they are as of.
//!
//! Access is decided on the very view that is read, so a linearizable read is linearizable in this too. The store blocks: a record that
//! is not in memory is a read of the disk, and one slow disk must not hold up requests that only wait for the network. So every look at
//! rows runs on tokio's threads for blocking work (`blocking`); only the tables (tenants) and hot records are read in place.
//!
//! What a read costs is bounded: a page by the rows and bytes that it looks at, a large answer by its tenant's share of memory (`memory`).

use std::{sync::Arc, time::Duration};

use kvfleet_api::usage::{Gauge, Usage};
use tokio::time::Instant;

use super::{
    Action, Admission, App, FREE_BYTES, Principal, Share, Verb,
    admission::admit,
    blocking::{blocking, look, place},
    failure,
    memory::{Memory, no_room, wait},
};
use crate::{
    problem::Failure,
    raft::{ReadError, ReadPoint},
    state::{Collect, Ended, Record, ScanLimits, ScanRange, TenantId},
};

/// Bytes of rows that one page reads: twice the largest page. Only a page of keys comes near it, for small values are read with their
/// headers; a large value is read only for a page that takes it.
const READ_BYTES: u64 = 16 << 20;

/// How far ahead of what this member has applied a reader may want to see. A member that lacks more is catching up, and another one answers
/// sooner; most likely no write has ever had that revision.
const AHEAD: u64 = 1_000_000;

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
#[derive(Debug)]
pub struct Found {
    /// The record.
    pub record: Option<Record>,
    /// What a large answer holds of the tenant's memory.
    pub share: Option<Share>,
    /// By which it was read.
    pub admission: Admission,
    /// What was read.
    pub seen: Seen,
}

/// How large a page may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLimits {
    /// Records, at least 1.
    pub items: usize,
    /// What it takes of the tenant's memory, unless its first record alone needs more.
    pub memory: u64,
}

/// A page that was read.
#[derive(Debug)]
pub struct Listing<P> {
    /// The records.
    pub page: P,
    /// Where there may be more: the last key that was looked at, the next page's `start_after`.
    pub next: Option<String>,
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
    /// One record. `answer` tells how many bytes the answer will have.
    ///
    /// # Errors
    /// Those of [`App::admit`]; that no leader answered in time; `too-stale`; `overloaded` when there is no memory for a large answer.
    pub async fn get(
        &self,
        principal: &Principal,
        (tenant, key): (&str, &str),
        reading: Reading,
        deadline: Instant,
        answer: impl Fn(&Record, u64) -> u64,
    ) -> Result<Found, Failure> {
        let action = Action::one(tenant, Verb::Get, key, 0);
        let (admission, point) = self.point(principal, &action, reading, deadline).await?;
        let (seen, tenant) = (Seen::of(&point), admission.tenant().id);
        let recalled = point
            .view
            .recall(tenant, key, seen.now_ms)
            .map_err(|error| failure::store(&error))?;
        let record = match recalled {
            Some(record) => record,
            None => Box::pin(self.look_at(&point, tenant, key, deadline)).await?,
        };
        let bytes = record.as_ref().map_or(0, |record| answer(record, seen.now_ms));
        if bytes <= FREE_BYTES {
            let share = None;
            return Ok(Found {
                record,
                share,
                admission,
                seen,
            });
        }
        let memory = self.memory(&admission);
        if let Some(share) = memory.try_take(bytes) {
            let share = Some(share);
            return Ok(Found {
                record,
                share,
                admission,
                seen,
            });
        }
        Box::pin(async move {
            // Who waits for memory holds none: the record is read again, in the same view, when there is room for it.
            drop(record);
            let share = Some(memory.take(bytes, deadline).await?);
            let record = self.look_at(&point, tenant, key, deadline).await?;
            Ok(Found {
                record,
                share,
                admission,
                seen,
            })
        })
        .await
    }

    async fn look_at(&self, point: &ReadPoint, tenant: TenantId, key: &str, deadline: Instant) -> Result<Option<Record>, Failure> {
        let (view, key, now_ms) = (Arc::clone(&point.view), key.to_owned(), point.now_ms);
        blocking(&self.lanes.points, tenant, deadline, move || view.get(tenant, &key, now_ms)).await
    }

    /// A page of records. `begin` makes the empty page, as of a moment (Unix milliseconds) and with memory for what it may hold.
    ///
    /// A page ends early, with a place to go on from, when it has looked at 10,000 rows or read 16 MiB of them.
    ///
    /// # Errors
    /// Those of [`App::admit`]; that no leader answered in time; `too-stale`; `overloaded` when there is no memory for the page.
    pub async fn scan<P: Collect + Send + 'static>(
        &self,
        principal: &Principal,
        (tenant, range): (&str, ScanRange),
        limits: PageLimits,
        reading: Reading,
        deadline: Instant,
        begin: impl FnOnce(u64, Share) -> P + Send + 'static,
    ) -> Result<Listing<P>, Failure> {
        let action = Action::page(tenant, &range, limits.memory);
        let (admission, point) = self.point(principal, &action, reading, deadline).await?;
        let (seen, tenant, cost) = (Seen::of(&point), admission.tenant().id, admission.cost());
        // Memory last: who waits for a place holds none.
        let place = place(&self.lanes.scans, tenant, deadline).await?;
        let share = self.memory(&admission).take(cost.bytes_out, deadline).await?;
        let limits = ScanLimits {
            items: limits.items,
            rows: cost.rows,
            read_bytes: READ_BYTES,
        };
        let looked = look(place, deadline, move |wanted| {
            let mut page = begin(seen.now_ms, share);
            let ended = point
                .view
                .scan(tenant, &range, limits, seen.now_ms, &|| wanted.is_wanted(), &mut page)?;
            Ok(match ended {
                Ended::AtTheEnd => Some(Ok((page, None))),
                Ended::After(last) => Some(Ok((page, Some(last)))),
                Ended::NoRoom => Some(Err(no_room())),
                Ended::Unwanted => None,
            })
        });
        let (page, next) = looked.await??;
        Ok(Listing { page, next, seen })
    }

    /// What the tenant uses, and what it may use.
    ///
    /// # Errors
    /// Those of [`App::admit`]; that no leader answered in time; `too-stale`.
    pub async fn usage(&self, principal: &Principal, tenant: &str, reading: Reading, deadline: Instant) -> Result<Measured, Failure> {
        let action = Action::look(tenant, Verb::Usage);
        let (admission, point) = self.point(principal, &action, reading, deadline).await?;
        let (seen, tenant) = (Seen::of(&point), admission.tenant());
        let id = tenant.id;
        let used = blocking(&self.lanes.scans, id, deadline, move || point.view.used(id, seen.now_ms)).await?;
        let limits = tenant.config.limits.clone();
        let gauge = |used, provisioned| Gauge { used, provisioned };
        let usage = Usage {
            storage: gauge(used.storage, limits.quota_storage),
            keys: gauge(used.keys, limits.quota_keys),
            limits,
        };
        Ok(Measured { usage, seen })
    }

    /// Has a large answer made off the async threads, in a place for reads of many rows: it takes as long.
    ///
    /// # Errors
    /// `deadline-exceeded`
    pub async fn aside<T: Send + 'static>(
        &self,
        admission: &Admission,
        deadline: Instant,
        make: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let place = place(&self.lanes.scans, admission.tenant().id, deadline).await?;
        look(place, deadline, move |_| Ok(Some(make()))).await
    }

    /// The member's memory, as this tenant sees it.
    pub fn memory(&self, admission: &Admission) -> Memory<'_> {
        Memory::new(&self.memory, &self.waiting, admission.tenant().id)
    }

    /// Lets a read in, and says where to read. Every wait is boxed: a local read has none, and would carry the room for all of them.
    async fn point(
        &self,
        principal: &Principal,
        action: &Action<'_>,
        reading: Reading,
        deadline: Instant,
    ) -> Result<(Admission, ReadPoint), Failure> {
        let Reading { consistency, min_revision } = reading;
        if let Some(revision) = min_revision {
            Box::pin(self.reach(principal, revision, deadline)).await?;
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
        match (admit(&point.view, principal, action), consistency) {
            (Ok(admission), _) => Ok((admission, point)),
            (Err(denial), Consistency::Linearizable) => Err(denial.into()),
            // Only a view that is certainly up to date may say no.
            (Err(_), Consistency::Leader | Consistency::Bounded(_) | Consistency::Any) => {
                let admission = Box::pin(self.admit(principal, *action, deadline)).await?;
                Ok((admission, point))
            }
        }
    }

    /// Waits until this member has applied a revision.
    async fn reach(&self, principal: &Principal, revision: u64, deadline: Instant) -> Result<(), Failure> {
        let applied = self.views.peek().revision();
        if revision <= applied {
            return Ok(());
        }
        if revision > applied.saturating_add(AHEAD) {
            return Err(failure::far_ahead(revision, applied));
        }
        // The token is genuine; whether it still opens the tenant is told by the view that is waited for.
        let _place = wait(&self.waiting, principal.claimed())?;
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
