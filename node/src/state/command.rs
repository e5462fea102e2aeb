//! What a log entry asks of the state machine.
//!
//! In: built by `app` (from a request) and by the leader's own tasks (sweep, reap). Out: applied by every member, in the same order,
//! with the same result. Absent by design: anything that a member would have to ask its own clock, disk or configuration for.

use bytes::Bytes;
use kvfleet_api::{admin::Settings, tenant::TenantConfig};
use prost::encoding::WireType;

use super::{
    DecodeError, Level, Operation, Write,
    codec::{
        FORMAT,
        fields::{self, Field},
        numbered::{choice, message, numbers},
    },
};

/// A tenant's id: allocated by the state machine, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(pub u32);

/// As a field: its number.
impl Field for TenantId {
    fn length(&self, number: u32) -> usize {
        self.0.length(number)
    }

    fn put(&self, number: u32, bytes: &mut Vec<u8>) {
        self.0.put(number, bytes);
    }

    fn take(place: &mut Option<Self>, wire: WireType, bytes: &mut Bytes) -> Result<(), DecodeError> {
        *place = Some(TenantId(fields::value("tenant", wire, bytes)?));
        Ok(())
    }
}

/// A command with the leader's stamp: the only clock that the state machine knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Unix milliseconds; never below the stamp of an earlier entry (apply takes the later of the two).
    pub stamp_ms: u64,
    /// What to do.
    pub command: Command,
}

message!(Proposal { 1 = stamp_ms, 2 = command });

impl Proposal {
    /// The bytes that go into the log.
    pub fn encode(&self) -> Bytes {
        fields::encode(FORMAT, self)
    }

    /// Reads them back; values share the memory of `bytes`.
    ///
    /// # Errors
    /// When the bytes are damaged or of another format, or when the command is one of a newer program.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        fields::decode(FORMAT, "a command", bytes)
    }
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

numbers!("kind of a value", Kind { 1 = String, 2 = Json, 3 = Bytes });

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

choice!("time to live", Ttl or Default { 1 = Never, 2 = For(milliseconds), 3 = Until(moment) });

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

choice!("condition", Condition or None { 1 = Present, 2 = Absent, 3 = Revision(revision) });

/// How much one entry may remove. All members wait while it is applied, and so does every write behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// At most so many rows …
    pub rows: u32,
    /// … and no further one when rows of so many bytes have been read: the last one may exceed it.
    pub bytes: u64,
}

message!(Bound { 1 = rows, 2 = bytes });

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
    /// Change records of a tenant.
    Write(Write),
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
            Command::Write(_)
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

choice!("command", Command {
    1 = Write(write),
    2 = Sweep { 1 = limit },
    3 = Reap { 1 = limit },
    4 = PutTenant { 1 = name, 2 = config },
    5 = ReleaseTenant { 1 = name, 2 = uid },
    6 = DeleteTenant { 1 = name, 2 = uid },
    7 = PutSettings(settings),
    8 = SpendToken { 1 = token, 2 = member, 3 = expires_at_ms },
    9 = SweepTenant { 1 = tenant, 2 = keys, 3 = bytes },
    10 = RaiseLevel { 1 = level },
});

impl Command {
    /// A write of one operation.
    pub fn one(tenant: TenantId, operation: Operation) -> Self {
        Command::Write(Write::one(tenant, operation))
    }

    /// The operation of a write of one.
    #[cfg(test)]
    pub(crate) fn operation(&self) -> Option<&Operation> {
        match self {
            Command::Write(write) => write.operations.first().filter(|_| write.operations.len() == 1),
            _ => None,
        }
    }
}
