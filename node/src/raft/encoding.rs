//! Our own bytes for what openraft speaks of: log entries, the membership, and the calls between members. In: openraft's values. Out:
//! bytes, and values again; what cannot be read is an error, never a panic. Absent: the bytes of a command (`state` has them).
//!
//! Numbers are big-endian. Entry payloads, which are on disk, start with a byte that tells them apart: a proposal's own format byte
//! (1 ..= 0x7f), or [`MEMBERSHIP`]; a blank entry has no bytes at all.

mod calls;
mod membership;
mod membership_calls;
mod replacement;
mod snapshot;

use bytes::{Buf, BufMut, Bytes, BytesMut};

pub(super) use calls::{
    Answered, AppendCall, ForwardAnswer, ForwardCall, ReadAnswer, ReadCall, TransferAnswer, WaitAnswer, WaitCall, decode_vote_answer,
    decode_vote_call, encode_vote_answer, encode_vote_call,
};
pub(super) use membership_calls::{ChangeAnswer, KnownMembership, MembershipCall};
pub(super) use replacement::JoinCall;

pub(super) use snapshot::{CheckpointsAnswer, SnapshotAnswer, SnapshotCall, SnapshotStep};

use super::types::{Data, Entry, LogId, Membership, Payload, Vote, log_id, vote};

/// The first byte of a membership, format 1.
const MEMBERSHIP: u8 = 0x81;

/// Bytes that this version cannot read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("the bytes end too early")]
    Short,
    #[error("{count} bytes are left over")]
    LeftOver { count: usize },
    #[error("no meaning is known for {value} in `{field}`: run versions that follow each other")]
    Unknown { field: &'static str, value: u64 },
    #[error("a name is not utf-8")]
    NotText,
}

impl From<bytes::TryGetError> for Unreadable {
    fn from(_: bytes::TryGetError) -> Self {
        Unreadable::Short
    }
}

type Read<T> = Result<T, Unreadable>;

/// Nothing may follow: a longer body is of another version.
fn end(bytes: &Bytes) -> Read<()> {
    match bytes.len() {
        0 => Ok(()),
        count => Err(Unreadable::LeftOver { count }),
    }
}

fn get_flag(bytes: &mut Bytes, field: &'static str) -> Read<bool> {
    match bytes.try_get_u8()? {
        0 => Ok(false),
        1 => Ok(true),
        value => Err(Unreadable::Unknown {
            field,
            value: u64::from(value),
        }),
    }
}

fn get_slice(bytes: &mut Bytes, length: usize) -> Read<Bytes> {
    if bytes.len() < length {
        return Err(Unreadable::Short);
    }
    Ok(bytes.split_to(length))
}

fn put_log_id(bytes: &mut BytesMut, id: &LogId) {
    bytes.put_u64(id.leader_id.term);
    bytes.put_u64(id.index);
}

fn get_log_id(bytes: &mut Bytes) -> Read<LogId> {
    Ok(log_id(bytes.try_get_u64()?, bytes.try_get_u64()?))
}

fn put_last(bytes: &mut BytesMut, id: Option<&LogId>) {
    bytes.put_u8(u8::from(id.is_some()));
    if let Some(id) = id {
        put_log_id(bytes, id);
    }
}

fn get_last(bytes: &mut Bytes) -> Read<Option<LogId>> {
    Ok(if get_flag(bytes, "log id")? {
        Some(get_log_id(bytes)?)
    } else {
        None
    })
}

fn put_vote(bytes: &mut BytesMut, vote: &Vote) {
    bytes.put_u64(vote.leader_id.term);
    bytes.put_u64(vote.leader_id.voted_for);
    bytes.put_u8(u8::from(vote.committed));
}

fn get_vote(bytes: &mut Bytes) -> Read<Vote> {
    Ok(vote(bytes.try_get_u64()?, bytes.try_get_u64()?, get_flag(bytes, "vote")?))
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

pub(super) fn encode_membership(of: &Membership) -> Bytes {
    membership::encode(of)
}

pub(super) fn decode_membership(bytes: Bytes) -> Read<Membership> {
    membership::decode(bytes)
}

fn put_entry(bytes: &mut BytesMut, entry: &Entry) {
    let payload = encode_payload(&entry.payload);
    put_log_id(bytes, &entry.log_id);
    bytes.put_u32(u32::try_from(payload.len()).expect("proposals are at most 16 MiB long, memberships a few hundred bytes"));
    bytes.put_slice(&payload);
}

fn get_entry(bytes: &mut Bytes) -> Read<Entry> {
    let log_id = get_log_id(bytes)?;
    let length = bytes.try_get_u32()? as usize;
    Ok(Entry {
        log_id,
        payload: decode_payload(get_slice(bytes, length)?)?,
    })
}
