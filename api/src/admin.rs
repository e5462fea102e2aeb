//! The admin port: members, formation, settings.
//!
//! Calls (all mTLS; writes only for the identity `kvfleet://<clusterId>/operator`):
//! `GET /admin/members` → [`MemberReport`]; `POST /admin/membership/initialize` [`Initialize`] → 204;
//! `POST /admin/members` [`NewMember`], `POST /admin/members/{id}/promote`, `POST /admin/members/{id}/replace` [`NewMember`],
//! `DELETE /admin/members/{id}` → [`MembersChanged`], 200 when done, 202 while it goes on
//! (a learner that was added catches up: always 202);
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

/// An id that may be missing, as [`id_string`] otherwise.
pub mod optional_id_string {
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes the id, or null.
    ///
    /// # Errors
    /// Only those of the serializer.
    #[allow(clippy::ref_option)]
    pub fn serialize<S: Serializer>(id: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        match id {
            Some(id) => serializer.collect_str(id),
            None => serializer.serialize_none(),
        }
    }

    /// Reads the id.
    ///
    /// # Errors
    /// When there is a text that is no decimal u64.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
        #[derive(Deserialize)]
        struct Id(#[serde(with = "super::id_string")] u64);
        Ok(Option::<Id>::deserialize(deserializer)?.map(|Id(id)| id))
    }
}

/// Where a member stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberState {
    /// Its data directory has never been part of a group.
    Blank,
    /// It takes part in its group.
    Member,
    /// It was removed from its group. In a moment it has set its data aside and is blank, under a new id.
    Removed,
    /// It is closing down.
    Draining,
    /// It cannot vouch for its data: it takes no part, and never votes again. Only a replacement helps.
    Quarantined,
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

/// One member as the answering one knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberStanding {
    /// The member's id.
    #[serde(with = "id_string")]
    pub id: u64,
    /// The pod's name, or `--name`.
    pub name: String,
    /// `host:port` of its peer port.
    pub peer: String,
    /// Whether it votes.
    pub voter: bool,
    /// Its role.
    pub role: Role,
    /// Entries of the leader's log that it is not known to have stored. Only the leader tells.
    pub lag: Option<u64>,
    /// About how many bytes those entries are on the leader's disk, those that the leader itself has dropped not counted. Only the leader
    /// tells.
    #[serde(default)]
    pub lag_bytes: Option<u64>,
    /// Whether the leader, by entries, by bytes and by when it last heard it, takes it for caught up: a learner may vote then. Only the
    /// leader tells; of any other member, and of one too old to know, the answer is false.
    #[serde(default)]
    pub caught_up: bool,
    /// How long ago the leader heard it, milliseconds. Only the leader tells, and not of itself.
    pub heard_ms: Option<u64>,
}

/// What a change of the members is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangeKind {
    /// A learner is added.
    AddLearner,
    /// A learner gets a vote.
    Promote,
    /// A member is taken out.
    Remove,
    /// A new member takes the place of a voter.
    Replace,
}

/// How far a change is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangeStage {
    /// The new learner is being made known.
    Adding,
    /// The new learner is sent what it lacks.
    CatchingUp,
    /// The voters are being changed.
    Committing,
}

/// A change of the members that runs on the leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MembershipChange {
    /// What it is about.
    pub kind: ChangeKind,
    /// The member that comes, or goes.
    #[serde(with = "id_string")]
    pub id: u64,
    /// The member whose place it takes.
    #[serde(with = "optional_id_string", default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<u64>,
    /// When it began, Unix milliseconds.
    pub since_ms: u64,
    /// How far it is.
    pub stage: ChangeStage,
    /// While catching up: entries that the new member lacks.
    pub entries_behind: Option<u64>,
    /// While catching up: about how many bytes those entries are.
    #[serde(default)]
    pub bytes_behind: Option<u64>,
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
    /// Why it is quarantined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
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
    /// The members that its log names.
    pub members: Vec<MemberStanding>,
    /// The change of the members that runs, if the answering member leads and one does.
    #[serde(default)]
    pub change: Option<MembershipChange>,
    /// The feature level of the group, as far as this member has applied it; none while it is blank or quarantined.
    #[serde(default)]
    pub level: Option<u32>,
    /// On a leader that would raise the level: who or what holds it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub level_held_by: Vec<String>,
    /// The feature levels that its program knows.
    pub supported_levels: LevelRange,
    /// Bytes of its data directory.
    pub storage_used: u64,
    /// How many tenants it serves (released ones not counted).
    pub tenants: u64,
}

/// The feature levels that a program knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LevelRange {
    /// The lowest level of a group that it can be part of.
    pub lowest: u32,
    /// The highest one.
    pub highest: u32,
}

/// The answer of `POST /admin/release`: the quarantined member has put its data aside and starts as this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Released {
    /// The new member's id.
    #[serde(with = "id_string")]
    pub id: u64,
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

/// `POST /admin/members`, and the successor of `POST /admin/members/{id}/replace`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewMember {
    /// Its id, as it says itself.
    #[serde(with = "id_string")]
    pub id: u64,
    /// Its name.
    pub name: String,
    /// `host:port` of its peer port.
    pub peer: String,
}

/// The answer to a change of the members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MembersChanged {
    /// Whether the change holds; otherwise it goes on.
    pub done: bool,
    /// How many members vote, as the answering member knows it.
    pub voters: u32,
    /// What a person should know: how far it is, or that an even number of voters bears no more losses than one less.
    pub note: Option<String>,
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
    /// Whether the feature level stays as it is, so that the members' program can still be rolled back.
    #[serde(default)]
    pub hold_level: bool,
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
            hold_level: false,
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
