//! How a group is run. In: a member's configuration. Out: openraft's, checked.

use std::{sync::Arc, time::Duration};

use openraft::{Config, SnapshotPolicy};

use super::StartError;
use crate::{cluster_id::ClusterId, peer::Levels, state::Level};

/// The feature levels that this program knows.
pub const LEVELS: Levels = Levels {
    lowest: Level::FIRST.0,
    highest: Level::NEWEST.0,
    holds: false,
};

/// openraft wants two longest elections between two looks for a lost quorum, and less than this is nervous.
const PROBE_MS: u64 = 1_200;

/// What one member of a group needs to know.
#[derive(Clone, Debug)]
pub struct GroupSettings {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The shard's index.
    pub shard: u32,
    /// This member's id, made with its data directory.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Where the others reach its peer port, `host:port`.
    pub peer_advertise: String,
    /// How often a leader says that it is there.
    pub heartbeat_interval: Duration,
    /// E: after a leader is lost, the next one is elected within E/3 to 2E/3 after its lease of 2E/3 has run out.
    pub election_timeout: Duration,
    /// How many proposals go to the log together at most.
    pub max_batch: u64,
}

impl GroupSettings {
    /// How long a follower that has acknowledged a leader votes for nobody else.
    pub(super) fn lease(&self) -> Duration {
        self.election_timeout * 2 / 3
    }

    /// The longest time that a proposal under way is still worth waiting for once its leader is gone: by then the next one has committed
    /// it or overwritten it.
    pub(super) fn grace(&self) -> Duration {
        self.election_timeout
    }

    pub(super) fn openraft(&self) -> Result<Arc<Config>, StartError> {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let election = millis(self.election_timeout);
        let heartbeat = millis(self.heartbeat_interval);
        let longest = (election / 3).saturating_mul(2);
        let config = Config {
            cluster_name: format!("{}/{}", self.cluster_id, self.shard),
            heartbeat_interval: heartbeat,
            heartbeat_min_interval: Some(heartbeat / 2),
            election_timeout_min: election / 3,
            election_timeout_max: longest,
            enable_pre_vote: Some(true),
            // A leader that restarts is elected like any other: its state machine may be behind.
            enable_leader_restore: Some(false),
            // A member that lost its disk comes back under another id.
            allow_log_reversion: None,
            quorum_loss_probe_interval: Some(PROBE_MS.max(longest.saturating_mul(2))),
            max_payload_entries: 1024,
            max_append_entries: Some(self.max_batch),
            api_batch_capacity: self.max_batch,
            api_batch_linger_ms: 0,
            // `retention` decides when, and how much of the log goes then: by bytes, which openraft does not know.
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX,
            purge_batch_size: 1,
            // A follower that restarts is found within a few heartbeats.
            backoff: "20ms 40ms ...160ms".to_owned(),
            ..Config::default()
        };
        config
            .validate()
            .map(Arc::new)
            .map_err(|error| StartError::Settings { reason: error.to_string() })
    }
}
