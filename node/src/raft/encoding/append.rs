//! Entries for a follower, and what it did with them. Laid out by hand, because every write comes this way; numbers are big-endian.
//!
//! ```text
//! flag u8: 1 of a stream | head u16 (its length) | head | entries, each: term u64, index u64, length u32, payload
//! head: stream u64 | told u8, tick u64, index u64, age_us u32 | unneeded u64 | term u64, voted for u64, committed u8 |
//!       previous u8, term u64, index u64 | committed u8, term u64, index u64 | count of entries u32
//! ```
//! What is in the head behind the count, or in the body behind the entries, came with a later program and is skipped.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult};

use super::{Read, Said, Unreadable, decode_payload, encode_payload, required, take_head, take_slice};
use crate::{
    peer::LOG_STREAM,
    raft::{
        freshness::Told,
        types::{Entry, LogId, Payload, Types, log_id, vote},
    },
};

/// What an entry takes beside its payload.
const ENTRY_OVERHEAD: usize = 20;
const HEAD_BYTES: usize = 92;

/// Entries for a follower. Answered by [`Answered`].
pub(in crate::raft) struct AppendCall {
    /// Calls with the same number form one ordered stream; none stands alone (a heartbeat).
    pub(in crate::raft) stream: Option<u64>,
    /// How far the group had come when this was made.
    pub(in crate::raft) told: Option<Told>,
    /// The index below which no member needs an entry, as far as the sender knows (`retention`).
    pub(in crate::raft) unneeded: u64,
    pub(in crate::raft) request: AppendEntriesRequest<Types>,
}

impl AppendCall {
    pub(in crate::raft) fn encode(&self) -> Bytes {
        let AppendCall {
            stream,
            told,
            unneeded,
            request,
        } = self;
        let AppendEntriesRequest {
            vote,
            prev_log_id,
            entries,
            leader_commit,
        } = request;
        let payloads: usize = entries.iter().map(|entry| ENTRY_OVERHEAD + payload_bytes(entry)).sum();
        let mut bytes = BytesMut::with_capacity(3 + HEAD_BYTES + payloads);
        bytes.put_u8(if stream.is_some() { LOG_STREAM } else { 0 });
        bytes.put_u16(u16::try_from(HEAD_BYTES).expect("it is 92"));
        bytes.put_u64(stream.unwrap_or(0));
        let Told { tick, index, age_us } = told.unwrap_or(Told {
            tick: 0,
            index: 0,
            age_us: 0,
        });
        bytes.put_u8(u8::from(told.is_some()));
        bytes.put_u64(tick);
        bytes.put_u64(index);
        bytes.put_u32(age_us);
        bytes.put_u64(*unneeded);
        bytes.put_u64(vote.leader_id.term);
        bytes.put_u64(vote.leader_id.voted_for);
        bytes.put_u8(u8::from(vote.committed));
        put_last(&mut bytes, prev_log_id.as_ref());
        put_last(&mut bytes, leader_commit.as_ref());
        bytes.put_u32(u32::try_from(entries.len()).expect("a call carries at most 1,024 entries"));
        for Entry { log_id, payload } in entries {
            let payload = encode_payload(payload);
            put_log_id(&mut bytes, log_id);
            bytes.put_u32(u32::try_from(payload.len()).expect("proposals are at most 16 MiB long, memberships a few hundred bytes"));
            bytes.put_slice(&payload);
        }
        bytes.freeze()
    }

    pub(in crate::raft) fn decode(mut bytes: Bytes) -> Read<Self> {
        let streamed = flag(&mut bytes, "stream")?;
        let mut head = take_head(&mut bytes)?;
        let number = head.try_get_u64()?;
        let is_told = flag(&mut head, "commit index")?;
        let told = Told {
            tick: head.try_get_u64()?,
            index: head.try_get_u64()?,
            age_us: head.try_get_u32()?,
        };
        let unneeded = head.try_get_u64()?;
        let vote = vote(head.try_get_u64()?, head.try_get_u64()?, flag(&mut head, "vote")?);
        let prev_log_id = last(&mut head)?;
        let leader_commit = last(&mut head)?;
        let count = head.try_get_u32()? as usize;
        // The count is only a claim; what is allocated follows the bytes that are there.
        let mut entries = Vec::with_capacity(count.min(bytes.len() / ENTRY_OVERHEAD));
        for _ in 0..count {
            let log_id = get_log_id(&mut bytes)?;
            let length = bytes.try_get_u32()? as usize;
            let payload = decode_payload(take_slice(&mut bytes, length)?)?;
            entries.push(Entry { log_id, payload });
        }
        Ok(AppendCall {
            stream: streamed.then_some(number),
            told: is_told.then_some(told),
            unneeded,
            request: AppendEntriesRequest {
                vote,
                prev_log_id,
                entries,
                leader_commit,
            },
        })
    }
}

fn payload_bytes(entry: &Entry) -> usize {
    match &entry.payload {
        Payload::Normal(data) => data.0.len(),
        Payload::Blank | Payload::Membership(_) => 0,
    }
}

fn put_log_id(bytes: &mut BytesMut, id: &LogId) {
    bytes.put_u64(id.leader_id.term);
    bytes.put_u64(id.index);
}

fn get_log_id(bytes: &mut Bytes) -> Read<LogId> {
    Ok(log_id(bytes.try_get_u64()?, bytes.try_get_u64()?))
}

/// Of one length, whether there is one or not.
fn put_last(bytes: &mut BytesMut, id: Option<&LogId>) {
    bytes.put_u8(u8::from(id.is_some()));
    put_log_id(bytes, id.unwrap_or(&log_id(0, 0)));
}

fn last(bytes: &mut Bytes) -> Read<Option<LogId>> {
    let is_some = flag(bytes, "log id")?;
    let id = get_log_id(bytes)?;
    Ok(is_some.then_some(id))
}

fn flag(bytes: &mut Bytes, field: &'static str) -> Read<bool> {
    match bytes.try_get_u8()? {
        0 => Ok(false),
        1 => Ok(true),
        value => Err(Unreadable::Unknown {
            field,
            value: u64::from(value),
        }),
    }
}

/// What a follower did with entries.
pub(in crate::raft) struct Answered {
    /// The follower's clock (`freshness`).
    pub(in crate::raft) tick: u64,
    pub(in crate::raft) result: StreamAppendResult<Types>,
}

impl Answered {
    pub(in crate::raft) fn encode(&self) -> Bytes {
        let said = match &self.result {
            Ok(last) => Said::new(1).at(*last),
            Err(StreamAppendError::Conflict(at)) => Said::new(2).at(Some(*at)),
            Err(StreamAppendError::HigherVote(vote)) => Said::new(3).vote(*vote),
        };
        said.number(self.tick).encode()
    }

    pub(in crate::raft) fn decode(bytes: Bytes) -> Read<Self> {
        let said = Said::decode(bytes)?;
        let result = match said.what {
            1 => Ok(said.at.map(Into::into)),
            2 => Err(StreamAppendError::Conflict(required("conflict", said.at)?)),
            3 => Err(StreamAppendError::HigherVote(required("vote", said.vote)?)),
            _ => return said.unknown("answer to entries"),
        };
        Ok(Answered { tick: said.number, result })
    }
}
