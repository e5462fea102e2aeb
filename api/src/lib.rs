//! The wire contract between node, client and operator.
//!
//! Plain serde types, no behaviour beyond what both ends must agree on: the error codes, the problem document, the tenant's
//! configuration, and the answers of the admin port. Absent by design: HTTP, Kubernetes, Raft.

pub mod admin;
pub mod error;
pub mod tenant;
pub mod token;
pub mod usage;

pub use error::{Code, Problem};

/// Header names that kvfleet defines, in the lower case that HTTP/2 and `http::HeaderName` want.
pub mod header {
    /// The revision that a write took, or of which a read speaks.
    pub const REVISION: &str = "kv-revision";
    /// `true` or `false`: whether a deleted record was there.
    pub const EXISTED: &str = "kv-existed";
    /// The kind of the value: `string`, `json`, `bytes`.
    pub const KIND: &str = "kv-kind";
    /// When the record expires, RFC 3339.
    pub const EXPIRES: &str = "kv-expires";
    /// Compare-and-set for proxies that weaken entity tags; 0 = must be absent.
    pub const IF_REVISION: &str = "kv-if-revision";
    /// The longest time that the caller wants to wait, as a duration (`500ms`, `2s`).
    pub const TIMEOUT: &str = "kv-timeout";
    /// The member that answered; sent with `Prefer: kv-details`.
    pub const NODE: &str = "kv-node";
    /// How old the data of a local read may be at most, milliseconds.
    pub const STALENESS_MS: &str = "kv-staleness-ms";
    /// Prefix of metadata headers.
    pub const META_PREFIX: &str = "kv-meta-";
}

/// The ports of a member, as the chart, the Services and the network policy know them.
pub mod port {
    /// REST.
    pub const DATA: u16 = 8080;
    /// `/livez`, `/readyz`, `/startupz`.
    pub const HEALTH: u16 = 8081;
    /// `/metrics`.
    pub const METRICS: u16 = 9090;
    /// Admin, mTLS.
    pub const ADMIN: u16 = 9443;
    /// Raft and forwarding, mTLS.
    pub const PEER: u16 = 7400;
}
