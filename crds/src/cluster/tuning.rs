//! Timing, bounds and output of the members.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{duration::Duration, quantity::Quantity, rules};

/// Timing and batching of the replication between members.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = rules::all([
    rules::duration_ratio(
        "electionTimeout",
        6,
        "heartbeatInterval",
        "replication.electionTimeout must be at least six heartbeats, or members would stand for election whenever one is late: \
         raise electionTimeout or lower heartbeatInterval",
    ),
])))]
pub struct Replication {
    /// How often the primary of a shard tells the others that it is there, from 10ms to 10s. Default 75ms.
    #[schemars(extend("x-kubernetes-validations" = rules::duration("replication.heartbeatInterval", "10ms", "10s")))]
    pub heartbeat_interval: Duration,

    /// The least time without a heartbeat before another member stands for election, from 100ms to 60s and at least six
    /// heartbeats. Shorter means faster failover, and more needless elections on a slow network. Default 900ms.
    #[schemars(extend("x-kubernetes-validations" = rules::duration("replication.electionTimeout", "100ms", "60s")))]
    pub election_timeout: Duration,

    /// How many log entries travel to another member in one message, from 1 to 65536. Default 4096.
    #[schemars(range(min = 1, max = 65_536))]
    pub max_batch: u32,

    /// Messages between members from this size on are compressed when that makes them smaller, from 0 (none is) to 32Mi. It saves
    /// network for some processor time. Default 4Ki.
    #[schemars(extend("x-kubernetes-validations" = rules::quantity("replication.compressAbove", "0", "32Mi")))]
    pub compress_above: Quantity,
}

impl Default for Replication {
    fn default() -> Self {
        Self {
            heartbeat_interval: "75ms".into(),
            election_timeout: "900ms".into(),
            max_batch: 4096,
            compress_above: "4Ki".into(),
        }
    }
}

/// Bounds of single requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = rules::all([
    rules::duration_order(
        "requestTimeout",
        "maxRequestTimeout",
        "limits.requestTimeout must not be longer than limits.maxRequestTimeout: lower the one or raise the other",
    ),
])))]
pub struct Limits {
    /// How many records a page of a scan holds when the request names no `limit`, from 1 to 1000. Default 100.
    #[schemars(range(min = 1, max = 1_000))]
    pub scan_items: u32,

    /// How many bytes a page of a scan holds at most, from 1Ki to 8Mi. Default 1Mi.
    #[schemars(extend("x-kubernetes-validations" = rules::quantity("limits.scanBytes", "1Ki", "8Mi")))]
    pub scan_bytes: Quantity,

    /// How long a request may take when it says nothing itself, from 10ms to 60s. Default 5s.
    #[schemars(extend("x-kubernetes-validations" = rules::duration("limits.requestTimeout", "10ms", "60s")))]
    pub request_timeout: Duration,

    /// The longest time a request may ask for with `KV-Timeout`, from 10ms to 60s. Default 60s.
    #[schemars(extend("x-kubernetes-validations" = rules::duration("limits.maxRequestTimeout", "10ms", "60s")))]
    pub max_request_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            scan_items: 100,
            scan_bytes: "1Mi".into(),
            request_timeout: "5s".into(),
            max_request_timeout: "60s".into(),
        }
    }
}

/// How soon expired records give their space back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Expiry {
    /// The longest time between the expiry of a record and the return of its bytes to the quota, from 100ms to 24h. Readers
    /// see nothing of an expired record from the moment it expires, whatever this says. Default 1s.
    #[schemars(extend("x-kubernetes-validations" = rules::duration("expiry.sweepInterval", "100ms", "24h")))]
    pub sweep_interval: Duration,
}

impl Default for Expiry {
    fn default() -> Self {
        Self {
            sweep_interval: "1s".into(),
        }
    }
}

/// What members write to their standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Logging {
    /// The least severe messages that are written: error, warn, info, debug or trace. A change is in force without a
    /// restart. Default info.
    pub level: LogLevel,

    /// json, one object a line, or text for people. A member takes up a change when its pod is next made. Default json.
    pub format: LogFormat,
}

/// The least severe messages that are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Everything, down to single steps.
    Trace,
    /// What helps to follow a fault.
    Debug,
    /// Changes of state.
    #[default]
    Info,
    /// What someone should look at.
    Warn,
    /// What failed.
    Error,
}

impl LogLevel {
    /// The name used in manifests, flags and files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}

impl LogFormat {
    /// The name used in manifests, flags and files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Text => "text",
        }
    }
}

/// Switches for a person who works on the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Maintenance {
    /// While true the operator changes nothing but the status, the label of the primary's pod and the cluster's certificates,
    /// which it goes on renewing; volumes that are to stay (`whenDeleted: Retain`) it lets go. The members serve on. `Ready` is false as long as something waits for the end of the pause.
    /// Tenants of the cluster wait too (`Accepted=Unknown, reason=ClusterPaused`): none is placed, changed, released or
    /// destroyed. Default false.
    pub paused: bool,

    /// While true the feature level of the shards is not raised, so that the members' program can still be rolled back. What needs a
    /// higher level is refused meanwhile. A level that has been raised stays. Default false.
    pub hold_level: bool,
}
