//! The checked configuration.

use std::{path::PathBuf, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use kvfleet_api::token::{JOIN_AUDIENCE, JoinClaims};

use crate::{cluster_id::ClusterId, state::Supported};

/// Everything that the process needs to know before it starts; every value has been checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Part of a cluster, or alone.
    pub mode: Mode,
    /// The index of the shard.
    pub shard: u32,
    /// This member's name.
    pub name: String,
    /// The ports.
    pub addresses: Addresses,
    /// Raft's timing.
    pub raft: RaftTiming,
    /// From which size on messages between members are compressed, bytes; 0: none is.
    pub compress_above: u64,
    /// What is kept free on the disk, bytes; none: chosen by the size of the file system.
    pub disk_reserve: Option<u64>,
    /// The feature levels that the program knows, or pretends to.
    pub levels: Supported,
    /// How long requests are still taken after SIGTERM.
    pub drain_delay: Duration,
    /// The process's own log.
    pub logging: Logging,
}

/// What kind of life the member leads.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // There is one per process.
pub enum Mode {
    /// A member of a cluster whose certificates and keys somebody else has made.
    Cluster {
        /// The cluster.
        cluster_id: ClusterId,
        /// The data directory.
        data_dir: PathBuf,
        /// `ca.crt`, `tls.crt`, `tls.key`.
        tls_dir: PathBuf,
        /// The JWK set.
        token_keys: PathBuf,
        /// Whether it asks by itself to be replaced when it cannot vouch for its data, or has lost it.
        self_replace: bool,
        /// Lets a new member into the group.
        join_token: Option<JoinToken>,
        /// A name, `host:port`, whose addresses are peer ports of this group.
        discover: Option<String>,
        /// Without Kubernetes: what an operator would do.
        standalone: Standalone,
    },
    /// One member that makes its own cluster, certificates, key and demo tenant.
    Alone {
        /// The data directory; none = a new temporary one that goes with the process.
        data_dir: Option<PathBuf>,
    },
}

/// The text of a join token. Who made it is for the group to check.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken(pub String);

impl JoinToken {
    pub(super) fn read(text: &str) -> Option<JoinToken> {
        let claims = text.split('.').nth(1)?;
        let claims: JoinClaims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        (claims.aud == JOIN_AUDIENCE).then(|| JoinToken(text.to_owned()))
    }
}

impl std::fmt::Debug for JoinToken {
    /// Hidden: the text lets whoever reads it into the group.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a join token")
    }
}

/// What a member does itself where there is no operator. On Kubernetes all of it is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standalone {
    /// All members, in the order given.
    pub members: Vec<Peer>,
    /// Whether this member forms the group.
    pub bootstrap: bool,
    /// Tenants to put in force.
    pub tenants: Option<PathBuf>,
    /// The key that signs their tokens, and where the tokens go.
    pub credentials: Option<(PathBuf, PathBuf)>,
}

/// One of `--members`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// `host:port` of its peer port.
    pub peer: String,
}

/// Where the ports listen, as `host:port`.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// REST.
    pub data: String,
    /// Health.
    pub health: String,
    /// Metrics.
    pub metrics: String,
    /// Admin.
    pub admin: String,
    /// Peers; a member alone has no such port.
    pub peer: Option<PeerPort>,
    /// The fields whose address nobody chose, on a member alone: such a port moves to a free one when it is taken.
    pub movable: Vec<&'static str>,
}

/// The peer port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerPort {
    /// Where it listens, `host:port`.
    pub listen: String,
    /// Where the other members reach it, `host:port`.
    pub advertise: String,
}

/// Raft's timing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaftTiming {
    /// Between two heartbeats.
    pub heartbeat_interval: Duration,
    /// The least time without a heartbeat before an election.
    pub election_timeout: Duration,
    /// Entries per write or message.
    pub max_batch: u64,
}

/// The process's own log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logging {
    /// From which level on.
    pub level: LogLevel,
    /// How a line looks.
    pub format: LogFormat,
}

/// From which level on the process logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Everything.
    Trace,
    /// For debugging.
    Debug,
    /// What a person who runs the service wants to know.
    Info,
    /// What may need attention.
    Warn,
    /// Failures only.
    Error,
}

impl std::str::FromStr for LogLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "trace" => Ok(LogLevel::Trace),
            "debug" => Ok(LogLevel::Debug),
            "info" => Ok(LogLevel::Info),
            "warn" => Ok(LogLevel::Warn),
            "error" => Ok(LogLevel::Error),
            _ => Err("must be trace, debug, info, warn or error".to_owned()),
        }
    }
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For a person at a terminal.
    Text,
}

impl std::str::FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "json" => Ok(LogFormat::Json),
            "text" => Ok(LogFormat::Text),
            _ => Err("must be json or text".to_owned()),
        }
    }
}
