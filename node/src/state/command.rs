//! What a log entry asks of the state machine.
//!
//! In: built by `app` (from a request) and by the leader's own tasks (sweep, reap). Out: applied by every member, in the same order,
//! with the same result. Absent by design: anything that a member would have to ask its own clock, disk or configuration for.

use bytes::Bytes;
use kvfleet_api::{admin::Settings, tenant::TenantConfig};

use super::Level;

/// A tenant's id: allocated by the state machine, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(pub u32);

/// A command with the leader's stamp: the only clock that the state machine knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Unix milliseconds; never below the stamp of an earlier entry (apply takes the later of the two).
    pub stamp_ms: u64,
    /// What to do.
    pub command: Command,
}

/// The kind of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8 text.
    String,
    /// JSON, kept byte for byte.
    Json,
    /// Anything.
    Bytes,
}

/// How long a record lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// The tenant's default; where there is none, the tenant's maximum; where there is none either, for ever.
    Default,
    /// For ever; refused where the tenant has a maximum.
    Never,
    /// This many milliseconds from the stamp; refused above the tenant's maximum.
    For(u64),
    /// Until this moment, Unix milliseconds; refused in the past or above the maximum.
    Until(u64),
}

/// What must hold of the record before the write; an expired record is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    None,
    /// It is there (`If-Match: *`).
    Present,
    /// It is not there (`If-None-Match: *`, `KV-If-Revision: 0`).
    Absent,
    /// It has this revision (`If-Match: "42"`, `KV-If-Revision: 42`).
    Revision(u64),
}

/// Whether a put may create, replace, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutMode {
    /// Either.
    Upsert,
}

/// How much one entry may remove. All members wait while it is applied, and so does every write behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// At most so many rows …
    pub rows: u32,
    /// … and no further one when rows of so many bytes have been read: the last one may exceed it.
    pub bytes: u64,
}

impl Bound {
    /// Of the steps in which background work is done: some 10 ms of work, and at most 2 MiB and one record in memory.
    pub const STEP: Bound = Bound { rows: 500, bytes: 2 << 20 };

    /// So many rows, and the usual bytes.
    #[cfg(test)]
    pub(crate) const fn rows(rows: u32) -> Bound {
        Bound { rows, ..Bound::STEP }
    }
}

/// What a log entry asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Write one record.
    Put {
        /// Whose.
        tenant: TenantId,
        /// UTF-8, no NUL, 1 ..= 2,048 bytes (checked before proposing).
        key: String,
        /// The value as sent.
        value: Bytes,
        /// Its kind.
        kind: Kind,
        /// `Content-Type` as sent; none = none was sent.
        content_type: Option<String>,
        /// `KV-Meta-*`, names lower case without the prefix, sorted.
        metadata: Vec<(String, String)>,
        /// How long it lives.
        ttl: Ttl,
        /// What must hold before.
        condition: Condition,
        /// Whether it may create, replace, or both.
        mode: PutMode,
    },
    /// Delete one record.
    Delete {
        /// Whose.
        tenant: TenantId,
        /// Which.
        key: String,
        /// What must hold before.
        condition: Condition,
    },
    /// Delete records that are expired at the stamp, earliest first. Proposed by the leader.
    Sweep {
        /// At most.
        limit: Bound,
    },
    /// Delete rows of deleted tenants, those of the oldest first. Proposed by the leader.
    Reap {
        /// At most.
        limit: Bound,
    },
    /// Create a tenant or replace its configuration.
    PutTenant {
        /// The name in URLs.
        name: String,
        /// Everything.
        config: TenantConfig,
    },
    /// Refuse access to a tenant and keep its data. `uid` must be the stored one.
    ReleaseTenant {
        /// The name in URLs.
        name: String,
        /// The Tenant's uid.
        uid: String,
    },
    /// Destroy a tenant: its name is free and its rows are invisible at once; `Reap` removes them. `uid` must be the stored one.
    DeleteTenant {
        /// The name in URLs.
        name: String,
        /// The Tenant's uid.
        uid: String,
    },
    /// Replace the shard's settings.
    PutSettings(Settings),
    /// Note whom a join token lets in: the first that asks.
    SpendToken {
        /// The token's number.
        token: u64,
        /// Who asks.
        member: u64,
        /// From when on the token is worth nothing, Unix milliseconds.
        expires_at_ms: u64,
    },
    /// Delete those of these records of a tenant that are expired at the stamp, in this order: a write that its quota has no room for
    /// does not wait until the records of others have been swept. The proposer has looked for them, so that no member does it in apply.
    SweepTenant {
        /// Whose.
        tenant: TenantId,
        /// Which; at most [`Bound::STEP`]'s rows.
        keys: Vec<String>,
        /// No further one when rows of this many bytes have been read.
        bytes: u64,
    },
    /// Raise the feature level by one. Proposed by the leader, when every member knows that level.
    RaiseLevel {
        /// The level that is then in force.
        level: Level,
    },
}

impl Command {
    /// The feature level that it needs: below it a member may not know the command, and it must not be proposed.
    pub fn level(&self) -> Level {
        match self {
            Command::Put { .. }
            | Command::Delete { .. }
            | Command::Sweep { .. }
            | Command::SweepTenant { .. }
            | Command::Reap { .. }
            | Command::PutTenant { .. }
            | Command::ReleaseTenant { .. }
            | Command::DeleteTenant { .. }
            | Command::PutSettings(_)
            | Command::SpendToken { .. }
            | Command::RaiseLevel { .. } => Level::FIRST,
        }
    }
}
