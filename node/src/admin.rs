//! The admin port: members, formation, tenants, settings, leadership, figures.
//!
//! In: requests over mTLS, each with the identity of its certificate. Out: the answers of `kvfleet_api::admin`; a write is proposed to the
//! group, on a follower by way of the leader. Members and the operator may read, the operator alone may write. Absent by design: records;
//! nobody reaches a tenant's data through here.

mod access;
mod body;
mod failure;
mod formation;
mod members;
mod membership;
mod quarantined;
mod release;
mod router;
mod server;
mod settings;
mod stats;
mod tenants;

use std::{path::PathBuf, sync::Arc};

use kvfleet_api::admin::LevelRange;
use prometheus_client::registry::Registry;

pub use quarantined::{Quarantined, ReleaseReply, router as quarantined_router};
pub use router::router;
pub use server::serve;
pub use stats::Stats;

use crate::{data_dir::Identity, health::Health, log::Wal, raft::Group, state::Views};

/// What the admin port speaks of. Cheap to clone.
#[derive(Clone)]
pub struct Member {
    /// The group that it takes part in.
    pub group: Group,
    /// The state machine.
    pub views: Views,
    /// The log.
    pub log: Wal,
    /// Who it is.
    pub identity: Identity,
    /// Its name.
    pub name: Arc<str>,
    /// Its data directory.
    pub data_dir: Arc<PathBuf>,
    /// What `/readyz` says.
    pub health: Health,
    /// The metrics.
    pub registry: Arc<Registry>,
}

impl Member {
    /// The moment after which nobody waits for an answer any more.
    pub(crate) fn deadline(&self) -> tokio::time::Instant {
        let milliseconds = self.views.latest().settings().request_timeout_ms;
        tokio::time::Instant::now() + std::time::Duration::from_millis(milliseconds)
    }

    /// The feature levels that its program knows.
    pub(crate) fn supported_levels(&self) -> LevelRange {
        let (lowest, highest) = self.group.supported_levels();
        LevelRange {
            lowest: lowest.0,
            highest: highest.0,
        }
    }

    /// Bytes of the data directory. Walks it, off the async threads.
    pub(crate) async fn storage_used(&self) -> u64 {
        let path = Arc::clone(&self.data_dir);
        tokio::task::spawn_blocking(move || crate::data_dir::DataDir::used_bytes(&path))
            .await
            .unwrap_or(0)
    }
}
