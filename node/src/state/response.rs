//! What the state machine answers. Every member computes the same answer; only the proposer passes it on.

use bytes::Bytes;
use kvfleet_api::{admin::SettingsStatus, tenant::TenantStatus};

use super::{
    DecodeError, Done, Level,
    codec::{FORMAT, fields, numbered::choice},
    write::{Answer, Part},
};

/// The answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// Of a blank or membership entry.
    None,
    /// Nothing was changed; why.
    Refused(Refusal),
    /// A write was taken up; what became of each operation, in their order.
    Written {
        /// One each.
        answers: Vec<Answer>,
    },
    /// Nothing of a write was done, because of this part of it.
    NotWritten {
        /// Which.
        part: Part,
        /// Why.
        refusal: Refusal,
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

choice!("answer", Response {
    1 = None,
    2 = Refused(refusal),
    3 = Written { 1 = answers },
    4 = NotWritten { 1 = part, 2 = refusal },
    5 = Swept { 1 = removed, 2 = more },
    6 = Tenant(status),
    7 = TenantGone { 1 = existed },
    8 = Settings(status),
    9 = TokenSpent { 1 = member },
    10 = Level(level),
});

impl Response {
    /// The bytes that go over the peer port.
    pub fn encode(&self) -> Bytes {
        fields::encode(FORMAT, self)
    }

    /// Reads them back.
    ///
    /// # Errors
    /// When the bytes are damaged or of another format, or when the answer is one of a newer program.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        fields::decode(FORMAT, "an answer", bytes)
    }

    /// What a write of one operation has done; none when it is refused, or when this is no answer to such a write.
    pub fn done(&self) -> Option<Done> {
        match self {
            Response::Written { answers } => match answers.as_slice() {
                [Ok(done)] => Some(*done),
                _ => None,
            },
            _ => None,
        }
    }

    /// The same, to be told why not.
    ///
    /// # Errors
    /// The refusal, of the write or of its operation; the answer itself when it is none of such a write.
    pub fn only(self) -> Result<Done, Response> {
        match self {
            Response::Written { mut answers } if answers.len() == 1 => match answers.pop() {
                Some(answer) => answer.map_err(Response::Refused),
                None => Err(Response::Written { answers }),
            },
            other => Err(other),
        }
    }
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
    /// The write has more checks and operations than one may have.
    TooManyOperations {
        /// The limit.
        limit: u64,
    },
    /// Levels are raised one by one.
    LevelSkipped {
        /// The one in force.
        level: Level,
    },
}

choice!("refusal", Refusal {
    1 = TenantUnknown,
    2 = TenantSuspended,
    3 = TenantReadOnly,
    4 = KeyTooLong { 1 = limit },
    5 = ValueTooLarge { 1 = limit },
    6 = MetadataTooLarge { 1 = limit },
    7 = StorageQuotaExceeded { 1 = limit, 2 = used, 3 = wanted, 4 = expired_waiting },
    8 = KeyCountExceeded { 1 = limit, 2 = expired_waiting },
    9 = TtlAboveMaximum { 1 = limit_ms },
    10 = TtlTooShort,
    11 = PreconditionFailed { 1 = current },
    12 = TenantNameTaken { 1 = owner },
    13 = StaleGeneration { 1 = field, 2 = stored },
    14 = UidMismatch,
    15 = TooManyOperations { 1 = limit },
    16 = LevelSkipped { 1 = level },
});
