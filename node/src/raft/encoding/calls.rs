//! The bodies of the calls between members. A call that this version cannot read is refused as malformed.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kvfleet_api::error::Outcome;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};

use super::{Read, Unreadable, end, get_entry, get_flag, get_last, get_log_id, get_vote, put_entry, put_last, put_log_id, put_vote};
use crate::{
    peer::LOG_STREAM,
    raft::{ProposeError, freshness::Told, read::Barrier, types::Types},
    state::Response,
};

/// Entries are read for one call until they have about this many bytes (one larger entry still goes).
const ENTRY_OVERHEAD: usize = 20;

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
        let mut bytes = BytesMut::with_capacity(120 + payloads);
        bytes.put_u8(if stream.is_some() { LOG_STREAM } else { 0 });
        bytes.put_u64(stream.unwrap_or(0));
        bytes.put_u8(u8::from(told.is_some()));
        if let Some(Told { tick, index, age_us }) = told {
            bytes.put_u64(*tick);
            bytes.put_u64(*index);
            bytes.put_u32(*age_us);
        }
        bytes.put_u64(*unneeded);
        put_vote(&mut bytes, vote);
        put_last(&mut bytes, prev_log_id.as_ref());
        put_last(&mut bytes, leader_commit.as_ref());
        bytes.put_u32(u32::try_from(entries.len()).expect("a call carries at most 1,024 entries"));
        for entry in entries {
            put_entry(&mut bytes, entry);
        }
        bytes.freeze()
    }

    pub(in crate::raft) fn decode(mut bytes: Bytes) -> Read<Self> {
        let streamed = get_flag(&mut bytes, "stream")?;
        let number = bytes.try_get_u64()?;
        let told = if get_flag(&mut bytes, "commit index")? {
            Some(Told {
                tick: bytes.try_get_u64()?,
                index: bytes.try_get_u64()?,
                age_us: bytes.try_get_u32()?,
            })
        } else {
            None
        };
        let unneeded = bytes.try_get_u64()?;
        let vote = get_vote(&mut bytes)?;
        let prev_log_id = get_last(&mut bytes)?;
        let leader_commit = get_last(&mut bytes)?;
        let count = bytes.try_get_u32()? as usize;
        // The count is only a claim; what is allocated follows the bytes that are there.
        let mut entries = Vec::with_capacity(count.min(bytes.len() / ENTRY_OVERHEAD));
        for _ in 0..count {
            entries.push(get_entry(&mut bytes)?);
        }
        end(&bytes)?;
        Ok(AppendCall {
            stream: streamed.then_some(number),
            told,
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

fn payload_bytes(entry: &crate::raft::types::Entry) -> usize {
    match &entry.payload {
        crate::raft::types::Payload::Normal(data) => data.0.len(),
        crate::raft::types::Payload::Blank | crate::raft::types::Payload::Membership(_) => 0,
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
        let mut bytes = BytesMut::with_capacity(32);
        bytes.put_u64(self.tick);
        match &self.result {
            Ok(last) => {
                bytes.put_u8(0);
                put_last(&mut bytes, last.as_ref());
            }
            Err(StreamAppendError::Conflict(at)) => {
                bytes.put_u8(1);
                put_log_id(&mut bytes, at);
            }
            Err(StreamAppendError::HigherVote(vote)) => {
                bytes.put_u8(2);
                put_vote(&mut bytes, vote);
            }
        }
        bytes.freeze()
    }

    pub(in crate::raft) fn decode(mut bytes: Bytes) -> Read<Self> {
        let tick = bytes.try_get_u64()?;
        let result = match bytes.try_get_u8()? {
            0 => Ok(get_last(&mut bytes)?),
            1 => Err(StreamAppendError::Conflict(get_log_id(&mut bytes)?)),
            2 => Err(StreamAppendError::HigherVote(get_vote(&mut bytes)?)),
            value => {
                return Err(Unreadable::Unknown {
                    field: "append answer",
                    value: u64::from(value),
                });
            }
        };
        end(&bytes)?;
        Ok(Answered { tick, result })
    }
}

pub(in crate::raft) fn encode_vote_call(request: &VoteRequest<Types>) -> Bytes {
    let mut bytes = BytesMut::with_capacity(40);
    put_vote(&mut bytes, &request.vote);
    put_last(&mut bytes, request.last_log_id.as_ref());
    bytes.put_u8(u8::from(request.leadership_transfer));
    bytes.freeze()
}

pub(in crate::raft) fn decode_vote_call(mut bytes: Bytes) -> Read<VoteRequest<Types>> {
    let mut request = VoteRequest::new(get_vote(&mut bytes)?, get_last(&mut bytes)?);
    request.leadership_transfer = get_flag(&mut bytes, "hand-over")?;
    end(&bytes)?;
    Ok(request)
}

pub(in crate::raft) fn encode_vote_answer(answer: &VoteResponse<Types>) -> Bytes {
    let mut bytes = BytesMut::with_capacity(40);
    put_vote(&mut bytes, &answer.vote);
    bytes.put_u8(u8::from(answer.vote_granted));
    put_last(&mut bytes, answer.last_log_id.as_ref());
    bytes.freeze()
}

pub(in crate::raft) fn decode_vote_answer(mut bytes: Bytes) -> Read<VoteResponse<Types>> {
    let vote = get_vote(&mut bytes)?;
    let granted = get_flag(&mut bytes, "vote answer")?;
    let last = get_last(&mut bytes)?;
    end(&bytes)?;
    Ok(VoteResponse::new(vote, last, granted))
}

/// The call that hands leadership over, and its answer.
pub(in crate::raft) struct TransferAnswer(pub(in crate::raft) TransferLeaderResponse<Types>);

impl TransferAnswer {
    pub(in crate::raft) fn encode_call(request: &TransferLeaderRequest<Types>) -> Bytes {
        let mut bytes = BytesMut::with_capacity(48);
        put_vote(&mut bytes, request.from_leader());
        bytes.put_u64(*request.to_node_id());
        put_last(&mut bytes, request.last_log_id());
        bytes.freeze()
    }

    pub(in crate::raft) fn decode_call(mut bytes: Bytes) -> Read<TransferLeaderRequest<Types>> {
        let request = TransferLeaderRequest::new(get_vote(&mut bytes)?, bytes.try_get_u64()?, get_last(&mut bytes)?);
        end(&bytes)?;
        Ok(request)
    }

    pub(in crate::raft) fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(48);
        match &self.0 {
            Ok(()) => bytes.put_u8(0),
            Err(TransferLeaderError::VoteChanged { expected, actual }) => {
                bytes.put_u8(1);
                put_vote(&mut bytes, expected);
                put_vote(&mut bytes, actual);
            }
            Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
                bytes.put_u8(2);
                put_last(&mut bytes, expected.as_ref());
                put_last(&mut bytes, actual.as_ref());
            }
        }
        bytes.freeze()
    }

    pub(in crate::raft) fn decode(mut bytes: Bytes) -> Read<Self> {
        let answer = match bytes.try_get_u8()? {
            0 => Ok(()),
            1 => Err(TransferLeaderError::VoteChanged {
                expected: get_vote(&mut bytes)?,
                actual: get_vote(&mut bytes)?,
            }),
            2 => Err(TransferLeaderError::LogNotFlushed {
                expected: get_last(&mut bytes)?,
                actual: get_last(&mut bytes)?,
            }),
            value => {
                return Err(Unreadable::Unknown {
                    field: "hand-over answer",
                    value: u64::from(value),
                });
            }
        };
        end(&bytes)?;
        Ok(TransferAnswer(answer))
    }
}

/// A command for the leader to stamp and propose. Answered by [`ForwardAnswer`].
pub(in crate::raft) struct ForwardCall {
    /// How long the asker still waits.
    pub(in crate::raft) patience_ms: u32,
    /// A proposal as `propose` prepares it, without a stamp.
    pub(in crate::raft) proposal: Bytes,
}

impl ForwardCall {
    pub(in crate::raft) fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(4 + self.proposal.len());
        bytes.put_u32(self.patience_ms);
        bytes.put_slice(&self.proposal);
        bytes.freeze()
    }

    pub(in crate::raft) fn decode(mut bytes: Bytes) -> Read<Self> {
        let patience_ms = bytes.try_get_u32()?;
        Ok(ForwardCall {
            patience_ms,
            proposal: bytes,
        })
    }
}

/// What the asked member made of a command.
#[derive(Debug)]
pub(in crate::raft) enum ForwardAnswer {
    /// It was proposed and applied, or failed for good.
    Done(Result<Response, ProposeError>),
    /// It was not proposed: the member does not lead, or cannot take it at the moment.
    Again,
}

impl ForwardAnswer {
    pub(in crate::raft) fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(64);
        let outcome = |outcome: &Outcome| u8::from(*outcome == Outcome::Unknown);
        match self {
            ForwardAnswer::Done(Ok(response)) => {
                bytes.put_u8(0);
                bytes.put_slice(&response.encode());
            }
            ForwardAnswer::Again | ForwardAnswer::Done(Err(ProposeError::Draining)) => bytes.put_u8(1),
            ForwardAnswer::Done(Err(ProposeError::NoLeader { outcome: of })) => bytes.put_slice(&[2, outcome(of)]),
            ForwardAnswer::Done(Err(ProposeError::Deadline { outcome: of })) => bytes.put_slice(&[3, outcome(of)]),
            ForwardAnswer::Done(Err(ProposeError::TooLarge)) => bytes.put_u8(4),
            ForwardAnswer::Done(Err(ProposeError::NoRoom)) => bytes.put_u8(6),
            ForwardAnswer::Done(Err(ProposeError::Failed(reason))) => {
                bytes.put_u8(5);
                bytes.put_slice(reason.as_bytes());
            }
        }
        bytes.freeze()
    }

    pub(in crate::raft) fn decode(mut bytes: Bytes) -> Read<Self> {
        let tag = bytes.try_get_u8()?;
        let mut outcome = || get_flag(&mut bytes, "outcome").map(|unknown| if unknown { Outcome::Unknown } else { Outcome::NotApplied });
        Ok(match tag {
            0 => ForwardAnswer::Done(Ok(
                Response::decode(&bytes).map_err(|_| Unreadable::Unknown { field: "answer", value: 0 })?
            )),
            1 => ForwardAnswer::Again,
            2 => ForwardAnswer::Done(Err(ProposeError::NoLeader { outcome: outcome()? })),
            3 => ForwardAnswer::Done(Err(ProposeError::Deadline { outcome: outcome()? })),
            4 => ForwardAnswer::Done(Err(ProposeError::TooLarge)),
            5 => ForwardAnswer::Done(Err(ProposeError::Failed(String::from_utf8_lossy(&bytes).into_owned()))),
            6 => ForwardAnswer::Done(Err(ProposeError::NoRoom)),
            value => {
                return Err(Unreadable::Unknown {
                    field: "forward answer",
                    value: u64::from(value),
                });
            }
        })
    }
}

/// Asks the leader what a linearizable read must have applied. Answered by [`ReadAnswer`].
pub(in crate::raft) struct ReadCall {
    /// How long the asker still waits.
    pub(in crate::raft) patience_ms: u32,
    /// How the leader makes sure.
    pub(in crate::raft) barrier: Barrier,
}

impl ReadCall {
    pub(in crate::raft) fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(5);
        bytes.put_u32(self.patience_ms);
        bytes.put_u8(match self.barrier {
            Barrier::Quorum => 0,
            Barrier::Lease => 1,
        });
        bytes.freeze()
    }

    pub(in crate::raft) fn decode(mut bytes: Bytes) -> Read<Self> {
        let patience_ms = bytes.try_get_u32()?;
        let barrier = if get_flag(&mut bytes, "barrier")? {
            Barrier::Lease
        } else {
            Barrier::Quorum
        };
        end(&bytes)?;
        Ok(ReadCall { patience_ms, barrier })
    }
}

/// Asks a voter to say when it has applied a revision. Answered by [`WaitAnswer`].
pub(in crate::raft) struct WaitCall {
    /// How long the asker waits.
    pub(in crate::raft) patience_ms: u32,
    pub(in crate::raft) revision: u64,
}

impl WaitCall {
    pub(in crate::raft) fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(12);
        bytes.put_u32(self.patience_ms);
        bytes.put_u64(self.revision);
        bytes.freeze()
    }

    pub(in crate::raft) fn decode(mut bytes: Bytes) -> Read<Self> {
        let call = WaitCall {
            patience_ms: bytes.try_get_u32()?,
            revision: bytes.try_get_u64()?,
        };
        end(&bytes)?;
        Ok(call)
    }
}

/// Whether the voter has applied it.
pub(in crate::raft) struct WaitAnswer(pub(in crate::raft) bool);

impl WaitAnswer {
    pub(in crate::raft) fn encode(&self) -> Bytes {
        Bytes::from_static(if self.0 { &[1] } else { &[0] })
    }

    pub(in crate::raft) fn decode(mut bytes: Bytes) -> Read<Self> {
        let there = get_flag(&mut bytes, "applied")?;
        end(&bytes)?;
        Ok(WaitAnswer(there))
    }
}

/// Where a linearizable read stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::raft) enum ReadAnswer {
    /// Apply up to `index`, then read as of `stamp_ms` (taken before the leader made sure that it still leads).
    At { index: u64, stamp_ms: u64 },
    /// The member does not lead, or has no quorum.
    Again,
}

impl ReadAnswer {
    pub(in crate::raft) fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(17);
        match self {
            ReadAnswer::At { index, stamp_ms } => {
                bytes.put_u8(0);
                bytes.put_u64(*index);
                bytes.put_u64(*stamp_ms);
            }
            ReadAnswer::Again => bytes.put_u8(1),
        }
        bytes.freeze()
    }

    pub(in crate::raft) fn decode(mut bytes: Bytes) -> Read<Self> {
        let answer = match bytes.try_get_u8()? {
            0 => ReadAnswer::At {
                index: bytes.try_get_u64()?,
                stamp_ms: bytes.try_get_u64()?,
            },
            1 => ReadAnswer::Again,
            value => {
                return Err(Unreadable::Unknown {
                    field: "read answer",
                    value: u64::from(value),
                });
            }
        };
        end(&bytes)?;
        Ok(answer)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::raft::types::{log_id, vote};

    /// Members of two versions speak to each other.
    #[test]
    fn the_bytes_of_the_calls_for_reads_stay() {
        let read = ReadCall {
            patience_ms: 900,
            barrier: Barrier::Lease,
        };
        assert_eq!(read.encode().as_ref(), [0, 0, 3, 132, 1]);
        assert_eq!(ReadCall::decode(read.encode()).unwrap().barrier, Barrier::Lease);
        let wait = WaitCall {
            patience_ms: 5_000,
            revision: 0x0102_0304_0506_0708,
        };
        assert_eq!(wait.encode().as_ref(), [0, 0, 19, 136, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(WaitCall::decode(wait.encode()).unwrap().revision, wait.revision);
        assert!(WaitCall::decode(Bytes::from_static(&[0; 13])).is_err());
        assert_eq!(WaitAnswer(true).encode().as_ref(), [1]);
        assert!(!WaitAnswer::decode(Bytes::from_static(&[0])).unwrap().0);
        assert!(WaitAnswer::decode(Bytes::from_static(&[2])).is_err());
    }

    #[test]
    fn the_bytes_of_a_heartbeat_and_its_answer_stay() {
        let call = AppendCall {
            stream: None,
            told: Some(Told {
                tick: 1,
                index: 2,
                age_us: 3,
            }),
            unneeded: 8,
            request: AppendEntriesRequest {
                vote: vote(4, 5, true),
                prev_log_id: None,
                entries: Vec::new(),
                leader_commit: Some(log_id(4, 6)),
            },
        };
        let mut golden = vec![0; 9];
        golden.push(1);
        golden.extend([0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3]);
        golden.extend([0, 0, 0, 0, 0, 0, 0, 8]);
        golden.extend([0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 5, 1]);
        golden.push(0);
        golden.extend([1, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 6]);
        golden.extend([0; 4]);
        assert_eq!(call.encode(), golden);
        let decoded = AppendCall::decode(call.encode()).unwrap();
        assert_eq!((decoded.told, decoded.unneeded), (call.told, 8));

        let answer = Answered {
            tick: 7,
            result: Ok(Some(log_id(4, 6))),
        };
        let mut golden = vec![0, 0, 0, 0, 0, 0, 0, 7, 0];
        golden.extend([1, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 6]);
        assert_eq!(answer.encode(), golden);
        assert_eq!(Answered::decode(answer.encode()).unwrap().tick, 7);
    }
}
