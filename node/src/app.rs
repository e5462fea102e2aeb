//! What a tenant may ask of the shard, one method per call.
//!
//! In: a caller whose token is genuine, and what it wants, already parsed. Out: the answer, or a problem that names the reason and the
//! remedy. `app` decides access, builds commands, asks `raft`, and turns refusals into problems. Absent by design: HTTP, tokens' bytes,
//! and the deciding check of any limit: that is in `state`, where racing writes meet. The checks here only spare the log a command that
//! would be refused anyway.

mod admission;
mod blocking;
mod failure;
mod memory;
mod read;
mod room;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
pub(crate) mod tests;
mod write;

use std::{sync::Arc, time::Duration};

pub use admission::{Action, Admission, Cost, Keys, Principal, Verb};
use blocking::Lanes;
pub(crate) use failure::{key_not_found, precondition_failed, value_too_large};
use kvfleet_api::{Code, Problem};
pub use memory::{FREE_BYTES, Memory};
pub use read::{Consistency, Found, Listing, Measured, PageLimits, Reading, Seen};
use tokio::time::Instant;
pub use write::Ack;
pub(crate) use write::check_sizes;

pub use crate::shares::{Full, Share, Shares};
use crate::{
    problem::Failure,
    raft::Group,
    state::{View, Views},
};

/// The calls of the data port. A cheap handle.
#[derive(Clone)]
pub struct App {
    group: Group,
    views: Views,
    /// For large bodies and answers of all tenants together.
    memory: Arc<Shares>,
    /// For requests that wait for their clients, or for a revision.
    waiting: Arc<Shares>,
    lanes: Arc<Lanes>,
    room: Arc<room::Room>,
}

impl App {
    /// Serves the tenants of this group, on the runtime that this is called in.
    pub fn new(group: Group, views: Views) -> Self {
        App {
            group: group.for_readers_here(),
            views,
            memory: memory::whole(),
            waiting: memory::waiting(),
            lanes: Arc::new(Lanes::new()),
            room: Arc::default(),
        }
    }

    /// What this member has applied last.
    pub fn latest(&self) -> Arc<View> {
        self.views.latest()
    }

    /// The shard's time as far as this member knows it, Unix milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.group.now_ms()
    }

    /// When a request that comes now must be answered: after `wanted`, or after the cluster's default.
    ///
    /// # Errors
    /// `invalid-parameter` above the cluster's longest timeout: a limit is never clamped.
    pub fn deadline(&self, wanted: Option<Duration>) -> Result<Instant, Failure> {
        let view = self.views.peek();
        let settings = view.settings();
        let longest = Duration::from_millis(settings.max_request_timeout_ms);
        let patience = match wanted {
            None => Duration::from_millis(settings.request_timeout_ms),
            Some(wanted) if wanted <= longest => wanted,
            Some(_) => {
                let detail = format!("KV-Timeout may be at most {} ms here", settings.max_request_timeout_ms);
                let mut problem = Problem::new(Code::InvalidParameter, detail, "");
                problem.pointer = Some("KV-Timeout".to_owned());
                problem.limit = Some(settings.max_request_timeout_ms);
                return Err(problem.into());
            }
        };
        Ok(Instant::now() + patience)
    }
}
