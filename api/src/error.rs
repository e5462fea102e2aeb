//! Error codes and the problem document (RFC 9457) that every 4xx and 5xx carries.

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $status:literal, $title:literal, $retryable:literal;)*) => {
        /// A stable error code: the last path segment of a problem's `type`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Code { $($(#[$doc])* #[serde(rename = $text)] $variant,)* }

        impl Code {
            /// Every code, in the order of the catalogue.
            pub const ALL: &'static [Code] = &[$(Code::$variant,)*];

            /// The text of the code.
            pub const fn as_str(self) -> &'static str { match self { $(Code::$variant => $text,)* } }

            /// The HTTP status that the code goes with.
            pub const fn status(self) -> u16 { match self { $(Code::$variant => $status,)* } }

            /// A short title, the same at every occurrence.
            pub const fn title(self) -> &'static str { match self { $(Code::$variant => $title,)* } }

            /// Whether the same request may succeed later without a change.
            pub const fn retryable(self) -> bool { match self { $(Code::$variant => $retryable,)* } }
        }
    };
}

codes! {
    /// The key is empty, too long, not UTF-8, or holds NUL.
    InvalidKey = "invalid-key", 400, "The key is not acceptable", false;
    /// `ttl` or `expires_at` cannot be used.
    InvalidTtl = "invalid-ttl", 400, "The time to live is not acceptable", false;
    /// A scan cursor is malformed or of another query.
    InvalidCursor = "invalid-cursor", 400, "The cursor is not acceptable", false;
    /// The body does not fit its kind or the call.
    InvalidBody = "invalid-body", 400, "The body is not acceptable", false;
    /// A query member or header is unknown or has a bad value.
    InvalidParameter = "invalid-parameter", 400, "A parameter is not acceptable", false;
    /// No token was sent.
    TokenMissing = "token-missing", 401, "A token is required", false;
    /// The token is malformed, forged, of another cluster, or no longer accepted.
    TokenInvalid = "token-invalid", 401, "The token is not accepted", false;
    /// The token's time is over.
    TokenExpired = "token-expired", 401, "The token has expired", false;
    /// The token is not for this tenant, or the tenant does not exist: both look the same.
    TenantForbidden = "tenant-forbidden", 403, "The token gives no access to this tenant", false;
    /// The token lacks the scope that the call needs.
    ScopeMissing = "scope-missing", 403, "The token lacks a scope", false;
    /// The write would grow the tenant above its storage quota.
    StorageQuotaExceeded = "storage-quota-exceeded", 403, "The storage quota is exhausted", false;
    /// The write would give the tenant more keys than its quota.
    KeyCountExceeded = "key-count-exceeded", 403, "The key quota is exhausted", false;
    /// The tenant is suspended: every call is refused.
    TenantSuspended = "tenant-suspended", 403, "The tenant is suspended", false;
    /// The tenant is read-only: every write is refused.
    TenantReadOnly = "tenant-read-only", 403, "The tenant is read-only", false;
    /// The key is not there, or has expired.
    KeyNotFound = "key-not-found", 404, "The key does not exist", false;
    /// No such path.
    RouteNotFound = "route-not-found", 404, "There is nothing at this path", false;
    /// The path exists, the method does not.
    MethodNotAllowed = "method-not-allowed", 405, "The method is not allowed here", false;
    /// The request's body did not come in time.
    RequestTimeout = "request-timeout", 408, "The request did not arrive in time", true;
    /// The admin call conflicts with what is stored.
    Conflict = "conflict", 409, "The call conflicts with the current state", false;
    /// The tenant's name belongs to another Tenant object.
    TenantNameTaken = "tenant-name-taken", 409, "The tenant's name is taken", false;
    /// A condition of the request does not hold.
    PreconditionFailed = "precondition-failed", 412, "A precondition does not hold", false;
    /// The value is longer than the tenant's limit.
    ValueTooLarge = "value-too-large", 413, "The value is too large", false;
    /// The path or a header is longer than the server takes.
    RequestTooLarge = "request-too-large", 414, "The request line or a header is too large", false;
    /// The media type cannot be used for this call.
    UnsupportedMediaType = "unsupported-media-type", 415, "The media type is not supported", false;
    /// A failure inside the server.
    Internal = "internal", 500, "The server failed", true;
    /// Some members of the shard may not know it yet: it needs a higher feature level.
    NotYetSupported = "not-yet-supported", 501, "The shard does not support this yet", true;
    /// The shard has no leader at the moment.
    NoLeader = "no-leader", 503, "The shard has no leader", true;
    /// The member is shutting down.
    Draining = "draining", 503, "The member is shutting down", true;
    /// The member cannot vouch for its data and takes no part.
    Quarantined = "quarantined", 503, "The member is quarantined", true;
    /// The member has too much to do.
    Overloaded = "overloaded", 503, "The member is overloaded", true;
    /// What the member has is older than the read allows.
    TooStale = "too-stale", 503, "The member's data is too old", true;
    /// The deadline passed; `outcome` says whether the write may have been applied.
    DeadlineExceeded = "deadline-exceeded", 504, "The deadline has passed", true;
    /// The disk is full.
    InsufficientStorage = "insufficient-storage", 507, "The disk is full", true;
}

/// Whether a write that was not answered in time took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It did not, and will not.
    NotApplied,
    /// Nobody knows yet.
    Unknown,
}

/// `application/problem+json`, the body of every 4xx and 5xx on every port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// `/api/v1/docs/errors/<code>`, a page that the data port serves.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code's title.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The stable code.
    pub code: Code,
    /// What happened here and what to do, for a person.
    pub detail: String,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// Finds the request in the member's log.
    pub trace_id: String,
    /// With 412: the record's revision, 0 when it is absent. With 504 of a write with `ack=all`: the write's revision, if it stands.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub current_revision: Option<u64>,
    /// The limit that was met, in its own unit (bytes, characters, keys, milliseconds).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit: Option<u64>,
    /// The member of the request that is at fault: a JSON pointer into the body, or the name of a parameter or header.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pointer: Option<String>,
    /// With 503 and 504 of a write: whether it took effect.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub outcome: Option<Outcome>,
}

impl Problem {
    /// A problem of this code; the optional members are set by the caller.
    pub fn new(code: Code, detail: impl Into<String>, trace_id: impl Into<String>) -> Self {
        Problem {
            kind: format!("/api/v1/docs/errors/{}", code.as_str()),
            title: code.title().to_owned(),
            status: code.status(),
            code,
            detail: detail.into(),
            retryable: code.retryable(),
            trace_id: trace_id.into(),
            current_revision: None,
            limit: None,
            pointer: None,
            outcome: None,
        }
    }
}
