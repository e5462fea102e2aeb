//! What the state machine answers. Every member computes the same answer; only the proposer passes it on.

use kvfleet_api::{admin::SettingsStatus, tenant::TenantStatus};

use super::Level;

/// The answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// Of a blank or membership entry.
    None,
    /// Nothing was changed; why.
    Refused(Refusal),
    /// A record was written.
    Put {
        /// The record's new revision.
        revision: u64,
        /// Whether the record was absent before.
        created: bool,
        /// When it expires, Unix milliseconds.
        expires_at_ms: Option<u64>,
    },
    /// A record is absent now.
    Deleted {
        /// The revision that the deletion took; none when there was nothing to delete.
        revision: Option<u64>,
    },
    /// A sweep or reap was done.
    Swept {
        /// How many rows went.
        removed: u32,
        /// Whether more is due at once.
        more: bool,
    },
    /// A tenant's configuration is in force (boxed: it is large and rare).
    Tenant(Box<TenantStatus>),
    /// A tenant was deleted or was not there.
    TenantGone {
        /// Whether it was there.
        existed: bool,
    },
    /// The settings are in force.
    Settings(Box<SettingsStatus>),
    /// A join token is spent.
    TokenSpent {
        /// On whom.
        member: u64,
    },
    /// The feature level that is in force.
    Level(Level),
}

/// Why a command changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No such tenant, or it is released or deleted.
    TenantUnknown,
    /// The tenant is suspended.
    TenantSuspended,
    /// The tenant is read-only.
    TenantReadOnly,
    /// The key is longer than the tenant's limit (scalar values).
    KeyTooLong {
        /// The limit.
        limit: u32,
    },
    /// The value is longer than the tenant's limit (bytes).
    ValueTooLarge {
        /// The limit.
        limit: u64,
    },
    /// The metadata is longer than the tenant's limit (bytes).
    MetadataTooLarge {
        /// The limit.
        limit: u64,
    },
    /// The write would grow the tenant above its storage quota.
    StorageQuotaExceeded {
        /// The quota, bytes.
        limit: u64,
        /// In use before the write, bytes.
        used: u64,
        /// What the use would be, bytes.
        wanted: u64,
        /// Expired records wait for a sweep: propose again after it.
        expired_waiting: bool,
    },
    /// The write would give the tenant more keys than its quota. Expired records do not count once they have been counted as such.
    KeyCountExceeded {
        /// The quota.
        limit: u64,
        /// Some that have expired may not have been counted yet: propose again after a sweep.
        expired_waiting: bool,
    },
    /// The TTL is above the tenant's maximum, or "never" where there is a maximum.
    TtlAboveMaximum {
        /// The maximum, milliseconds.
        limit_ms: u64,
    },
    /// The TTL is under a second, or the moment has passed.
    TtlTooShort,
    /// A condition does not hold.
    PreconditionFailed {
        /// The record's revision, 0 when absent.
        current: u64,
    },
    /// The name belongs to another Tenant object.
    TenantNameTaken {
        /// `<namespace>/<name>` of the holder.
        owner: String,
    },
    /// A generation is below the stored one.
    StaleGeneration {
        /// Which: `generation`, `clusterGeneration` or `credentialGeneration`.
        field: String,
        /// The stored one.
        stored: u64,
    },
    /// The uid is not the stored one.
    UidMismatch,
    /// Levels are raised one by one.
    LevelSkipped {
        /// The one in force.
        level: Level,
    },
}
