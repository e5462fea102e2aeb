//! The admin port: members, formation, settings.
//!
//! Calls (all mTLS; writes only for the identity `kvfleet://<clusterId>/operator`):
//! `GET /admin/members` → [`MemberReport`]; `POST /admin/membership/initialize` [`Initialize`] → 204;
//! `GET /admin/tenants` → `[TenantStatus]`; `GET|PUT|DELETE /admin/tenants/{name}`; `GET|PUT /admin/settings` [`Settings`] → [`SettingsStatus`];
//! `POST /admin/leadership/transfer` → 204; `GET /admin/stats`, `GET /admin/metrics`.
//! A write to a follower is forwarded to the leader. Reads of tenants are linearizable; `GET /admin/members` speaks of the answering member only.

use serde::{Deserialize, Serialize};

/// Ids travel as decimal strings: JSON numbers lose bits above 2^53.
pub mod id_string {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes the id.
    ///
    /// # Errors
    /// Only those of the serializer.
    pub fn serialize<S: Serializer>(id: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    /// Reads the id.
    ///
    /// # Errors
    /// When the text is no decimal u64.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse()
            .map_err(|_| D::Error::custom(format!("`{text}` is not a member id (a decimal number up to 2^64-1)")))
    }
}

/// Where a member stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberState {
    /// Its data directory has never been part of a group.
    Blank,
    /// It takes part in its group.
    Member,
    /// It is closing down.
    Draining,
}

/// A member's place in the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// The Raft leader.
    Primary,
    /// A voter that follows, or stands for election.
    Follower,
    /// Receives the log, does not vote.
    Learner,
}

/// One member of the committed (or proposed) membership.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberAddress {
    /// The member's id.
    #[serde(with = "id_string")]
    pub id: u64,
    /// The pod's name, or `--name`.
    pub name: String,
    /// `host:port` of its peer port.
    pub peer: String,
    /// Whether it votes.
    pub voter: bool,
}

/// `GET /admin/members`: what the answering member knows of itself and its group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberReport {
    /// The cluster that its data directory belongs to.
    pub cluster_id: String,
    /// The shard's index.
    pub shard: u32,
    /// The answering member's id, made with its data directory.
    #[serde(with = "id_string")]
    pub id: u64,
    /// Its name.
    pub name: String,
    /// The version of the program.
    pub version: String,
    /// The format version of its data directory.
    pub format: u32,
    /// Where it stands.
    pub state: MemberState,
    /// Its role, none while blank.
    pub role: Option<Role>,
    /// Whether `/readyz` answers 200.
    pub ready: bool,
    /// The current term.
    pub term: u64,
    /// The leader that it knows.
    pub leader: Option<MemberAddress>,
    /// The last log index on its disk.
    pub last_log_index: Option<u64>,
    /// The last applied log index.
    pub applied_index: Option<u64>,
    /// The last applied revision.
    pub applied_revision: u64,
    /// The membership that it has applied.
    pub members: Vec<MemberAddress>,
    /// Bytes of its data directory.
    pub storage_used: u64,
    /// How many tenants it serves (released ones not counted).
    pub tenants: u64,
}

/// `POST /admin/membership/initialize`: form the group, on the named bootstrap member only, while it is blank.
/// Answers 204 also when this very formation is done already; 409 `conflict` when it has another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Initialize {
    /// Must be the receiver's cluster.
    pub cluster_id: String,
    /// Must be the receiver's id.
    #[serde(with = "id_string")]
    pub bootstrap: u64,
    /// All voters.
    pub members: Vec<MemberAddress>,
}

/// What travels through the log for all members of a shard and is in force without a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// The KvCluster's generation; may not go down (409).
    pub generation: u64,
    /// `trace`, `debug`, `info`, `warn` or `error`.
    pub log_level: String,
    /// The sweep's longest delay, milliseconds.
    pub sweep_interval_ms: u64,
    /// Default page of a scan, items (ceiling 1,000).
    pub scan_items: u32,
    /// Largest page of a scan, bytes (ceiling 8 MiB).
    pub scan_bytes: u64,
    /// Deadline of a request that names none, milliseconds.
    pub request_timeout_ms: u64,
    /// The longest deadline that a request may name, milliseconds.
    pub max_request_timeout_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            generation: 0,
            log_level: "info".to_owned(),
            sweep_interval_ms: 1_000,
            scan_items: 100,
            scan_bytes: 1 << 20,
            request_timeout_ms: 5_000,
            max_request_timeout_ms: 60_000,
        }
    }
}

/// The answer of `GET` and `PUT /admin/settings`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SettingsStatus {
    /// The revision that these settings took.
    pub revision: u64,
    /// The settings in force.
    pub settings: Settings,
}
