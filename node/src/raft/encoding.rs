//! Our own bytes for what openraft speaks of: log entries, the membership, and the calls between members. In: openraft's values. Out:
//! bytes, and values again; what cannot be read is an error, never a panic. Absent: the bytes of a command (`state` has them).
//!
//! The bodies of calls and answers are messages with numbered fields: a reader skips those that it does not know, and none that has its
//! default value is sent. What must not be skipped belongs to a feature level. Only the two calls that carry much (`Append`, `Snapshot`)
//! are laid out by hand, with a head that says how long it is.
//!
//! Entry payloads, which are on disk, start with a byte that tells them apart: a proposal's own format byte (1 ..= 0x7f), or
//! [`MEMBERSHIP`]; a blank entry has no bytes at all.

mod append;
mod calls;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod golden;
mod membership;
mod membership_calls;
mod replacement;
mod said;
mod snapshot;

use bytes::{Buf, Bytes};

pub(super) use append::{Answered, AppendCall};
pub(super) use calls::{
    ForwardAnswer, ForwardCall, ReadAnswer, ReadCall, TransferAnswer, WaitAnswer, WaitCall, decode_vote_answer, decode_vote_call,
    encode_vote_answer, encode_vote_call,
};
pub(super) use membership::{decode_membership, encode_membership};
pub(super) use membership_calls::{ChangeAnswer, KnownMembership, MembershipCall};
pub(super) use replacement::JoinCall;

pub(super) use snapshot::{CheckpointsAnswer, SnapshotAnswer, SnapshotCall, SnapshotStep};

use said::Said;

use super::types::{Data, LogId, Payload, Vote, log_id, vote};

/// The first byte of a membership, format 2.
const MEMBERSHIP: u8 = 0x82;

/// Bytes that this version cannot read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("the bytes end too early")]
    Short,
    #[error("these bytes are no message: {0}")]
    NoMessage(#[from] prost::DecodeError),
    #[error("`{field}` is missing")]
    Missing { field: &'static str },
    #[error("no meaning is known for {value} in `{field}`: a later program wrote it")]
    Unknown { field: &'static str, value: u64 },
}

impl From<bytes::TryGetError> for Unreadable {
    fn from(_: bytes::TryGetError) -> Self {
        Unreadable::Short
    }
}

type Read<T> = Result<T, Unreadable>;

fn put(message: &impl prost::Message) -> Bytes {
    message.encode_to_vec().into()
}

/// Byte fields share the memory of `bytes`.
fn take<M: prost::Message + Default>(bytes: Bytes) -> Read<M> {
    Ok(M::decode(bytes)?)
}

/// Messages that are bodies as they are.
macro_rules! bodies {
    ($($body:ty),* $(,)?) => {$(
        impl $body {
            pub(in crate::raft) fn encode(&self) -> Bytes {
                put(self)
            }

            pub(in crate::raft) fn decode(bytes: Bytes) -> Read<Self> {
                take(bytes)
            }
        }
    )*};
}

bodies!(
    ForwardCall,
    ReadCall,
    WaitCall,
    WaitAnswer,
    CheckpointsAnswer,
    super::replacement::ReleaseRequest,
);

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
struct LogIdField {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    index: u64,
}

impl From<LogId> for LogIdField {
    fn from(id: LogId) -> Self {
        LogIdField {
            term: id.leader_id.term,
            index: id.index,
        }
    }
}

impl From<LogIdField> for LogId {
    fn from(LogIdField { term, index }: LogIdField) -> Self {
        log_id(term, index)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
struct VoteField {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(fixed64, tag = "2")]
    voted_for: u64,
    #[prost(bool, tag = "3")]
    committed: bool,
}

impl From<Vote> for VoteField {
    fn from(vote: Vote) -> Self {
        VoteField {
            term: vote.leader_id.term,
            voted_for: vote.leader_id.voted_for,
            committed: vote.committed,
        }
    }
}

impl From<VoteField> for Vote {
    fn from(
        VoteField {
            term,
            voted_for,
            committed,
        }: VoteField,
    ) -> Self {
        vote(term, voted_for, committed)
    }
}

/// A field without which the message says nothing.
fn required<F: Into<T>, T>(field: &'static str, value: Option<F>) -> Read<T> {
    value.map(Into::into).ok_or(Unreadable::Missing { field })
}

/// Takes a part whose length (u16) is in front of it.
fn take_head(bytes: &mut Bytes) -> Read<Bytes> {
    let length = usize::from(bytes.try_get_u16()?);
    take_slice(bytes, length)
}

fn take_slice(bytes: &mut Bytes, length: usize) -> Read<Bytes> {
    if bytes.len() < length {
        return Err(Unreadable::Short);
    }
    Ok(bytes.split_to(length))
}

/// An entry's payload as it is stored and sent. Free for a proposal: its bytes are shared.
pub(super) fn encode_payload(payload: &Payload) -> Bytes {
    match payload {
        Payload::Blank => Bytes::new(),
        Payload::Normal(Data(bytes)) => bytes.clone(),
        Payload::Membership(membership) => encode_membership(membership),
    }
}

/// The payload of an entry that was stored or received.
pub(super) fn decode_payload(bytes: Bytes) -> Read<Payload> {
    match bytes.first() {
        None => Ok(Payload::Blank),
        Some(1..=0x7f) => Ok(Payload::Normal(Data(bytes))),
        Some(_) => decode_membership(bytes).map(Payload::Membership),
    }
}
