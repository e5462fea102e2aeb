//! Looks at rows, off the async threads. In: what to look at, for which tenant, until when. Out: what was found. Absent: what rows mean.
//!
//! tokio has 512 threads for blocking work, and a queue without an end before them that knows no tenants. So only a few looks are let in at
//! a time, each tenant has its share of those places ([`Shares`]), and the others wait here, until their deadlines. A look that no request waits
//! for any more, because its client has gone or its deadline has passed, ends at the next row; it keeps its place until then.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::available_parallelism,
};

use kvfleet_api::Code;
use tokio::time::Instant;

use super::{Share, Shares, failure};
use crate::{problem::Failure, state::TenantId, storage::StoreError};

/// Looks at many rows that run at a time, for each processor: they keep it busy, and one may wait for the disk meanwhile.
const SCANS_PER_CPU: u64 = 2;

/// Looks at one row that run at a time: they mostly wait for the disk, which is fast only when it is asked for many things at once. Each may
/// hold a value of 8 MiB for a moment: 128 MiB beside what `memory` gives out.
const POINTS: u64 = 16;

/// How many looks run at a time.
pub(super) struct Lanes {
    /// At one row.
    pub(super) points: Arc<Shares>,
    /// At many.
    pub(super) scans: Arc<Shares>,
}

impl Lanes {
    pub(super) fn new() -> Self {
        let cpus = available_parallelism().map_or(1, |cpus| cpus.get() as u64);
        Lanes {
            points: Shares::new(POINTS),
            // One tenant alone has half of them, and at least one.
            scans: Shares::new((SCANS_PER_CPU * cpus).max(2)),
        }
    }
}

/// Whether anyone waits for what a thread reads.
pub(super) struct Wanted {
    gone: Arc<AtomicBool>,
    deadline: std::time::Instant,
}

impl Wanted {
    pub(super) fn is_wanted(&self) -> bool {
        !self.gone.load(Ordering::Relaxed) && std::time::Instant::now() < self.deadline
    }
}

/// Tells the thread when the future that waits for it is dropped.
struct TellWhenGone(Arc<AtomicBool>);

impl Drop for TellWhenGone {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Looks at few rows, in a place of this lane.
///
/// # Errors
/// Those of the store; `deadline-exceeded`.
pub(super) async fn blocking<T: Send + 'static>(
    lane: &Arc<Shares>,
    tenant: TenantId,
    deadline: Instant,
    rows: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Failure> {
    let place = place(lane, tenant, deadline).await?;
    look(place, deadline, move |_| rows().map(Some)).await
}

/// A place to look from.
///
/// # Errors
/// `deadline-exceeded` when there is none in time.
pub(super) async fn place(lane: &Arc<Shares>, tenant: TenantId, deadline: Instant) -> Result<Share, Failure> {
    let place = lane.take(tenant, 1, deadline).await;
    place.map_err(|_| late("other reads kept the disk busy until the deadline; make fewer at a time, or wait longer (KV-Timeout)"))
}

/// Looks at rows, and no longer than its request waits: the look gives nothing when it finds that it is not wanted.
///
/// # Errors
/// Those of the store; `deadline-exceeded`.
pub(super) async fn look<T: Send + 'static>(
    place: Share,
    deadline: Instant,
    look: impl FnOnce(&Wanted) -> Result<Option<T>, StoreError> + Send + 'static,
) -> Result<T, Failure> {
    let gone = Arc::new(AtomicBool::new(false));
    let wanted = Wanted {
        gone: Arc::clone(&gone),
        deadline: deadline.into_std(),
    };
    let _tell = TellWhenGone(gone);
    let looking = tokio::task::spawn_blocking(move || {
        let _place = place;
        if wanted.is_wanted() { look(&wanted) } else { Ok(None) }
    });
    match tokio::time::timeout_at(deadline, looking).await {
        Ok(Ok(Ok(Some(found)))) => Ok(found),
        Ok(Ok(Err(error))) => Err(failure::store(&error)),
        Ok(Err(_)) => Err(failure::problem(
            Code::Internal,
            "the member failed while it read its store; please report this",
        )),
        Ok(Ok(Ok(None))) | Err(_) => Err(late("the store did not answer before the deadline")),
    }
}

fn late(detail: &str) -> Failure {
    failure::problem(Code::DeadlineExceeded, detail)
}
