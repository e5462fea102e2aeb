//! The bodies of the small calls: votes, hand-overs, forwarded commands, reads. A call that this version cannot read is refused as malformed.

use bytes::Bytes;
use kvfleet_api::error::Outcome;
use openraft::raft::{TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse};

use super::{LogIdField, Read, Said, Unreadable, VoteField, put, required, take};
use crate::{
    raft::{
        ProposeError,
        read::Barrier,
        types::{Types, Vote},
    },
    state::{Level, Response},
};

/// A call for a vote, its answer, and the call that hands leadership over.
#[derive(Clone, PartialEq, prost::Message)]
struct Ballot {
    #[prost(message, optional, tag = "1")]
    vote: Option<VoteField>,
    /// The last entry of the log; none in an empty one.
    #[prost(message, optional, tag = "2")]
    last: Option<LogIdField>,
    /// In a call: it is part of a hand-over. In an answer: granted.
    #[prost(bool, tag = "3")]
    yes: bool,
    /// In a hand-over: the next leader.
    #[prost(fixed64, tag = "4")]
    to: u64,
}

pub(in crate::raft) fn encode_vote_call(request: &VoteRequest<Types>) -> Bytes {
    put(&Ballot {
        vote: Some(request.vote.into()),
        last: request.last_log_id.map(Into::into),
        yes: request.leadership_transfer,
        to: 0,
    })
}

pub(in crate::raft) fn decode_vote_call(bytes: Bytes) -> Read<VoteRequest<Types>> {
    let Ballot { vote, last, yes, .. } = take(bytes)?;
    let mut request = VoteRequest::new(required("vote", vote)?, last.map(Into::into));
    request.leadership_transfer = yes;
    Ok(request)
}

pub(in crate::raft) fn encode_vote_answer(answer: &VoteResponse<Types>) -> Bytes {
    put(&Ballot {
        vote: Some(answer.vote.into()),
        last: answer.last_log_id.map(Into::into),
        yes: answer.vote_granted,
        to: 0,
    })
}

pub(in crate::raft) fn decode_vote_answer(bytes: Bytes) -> Read<VoteResponse<Types>> {
    let Ballot { vote, last, yes, .. } = take(bytes)?;
    let vote: Vote = required("vote", vote)?;
    Ok(VoteResponse::new(vote, last.map(Into::into), yes))
}

/// The call that hands leadership over, and its answer.
pub(in crate::raft) struct TransferAnswer(pub(in crate::raft) TransferLeaderResponse<Types>);

impl TransferAnswer {
    pub(in crate::raft) fn encode_call(request: &TransferLeaderRequest<Types>) -> Bytes {
        put(&Ballot {
            vote: Some((*request.from_leader()).into()),
            last: request.last_log_id().copied().map(Into::into),
            yes: false,
            to: *request.to_node_id(),
        })
    }

    pub(in crate::raft) fn decode_call(bytes: Bytes) -> Read<TransferLeaderRequest<Types>> {
        let Ballot { vote, last, to, .. } = take(bytes)?;
        Ok(TransferLeaderRequest::new(required("vote", vote)?, to, last.map(Into::into)))
    }

    pub(in crate::raft) fn encode(&self) -> Bytes {
        let said = match &self.0 {
            Ok(()) => Said::new(1),
            Err(TransferLeaderError::VoteChanged { expected, actual }) => Said {
                other_vote: Some((*actual).into()),
                ..Said::new(2).vote(*expected)
            },
            Err(TransferLeaderError::LogNotFlushed { expected, actual }) => Said {
                other_at: actual.map(Into::into),
                ..Said::new(3).at(*expected)
            },
        };
        said.encode()
    }

    pub(in crate::raft) fn decode(bytes: Bytes) -> Read<Self> {
        let said = Said::decode(bytes)?;
        Ok(TransferAnswer(match said.what {
            1 => Ok(()),
            2 => Err(TransferLeaderError::VoteChanged {
                expected: required("vote", said.vote)?,
                actual: required("vote", said.other_vote)?,
            }),
            3 => Err(TransferLeaderError::LogNotFlushed {
                expected: said.at.map(Into::into),
                actual: said.other_at.map(Into::into),
            }),
            _ => return said.unknown("answer to a hand-over"),
        }))
    }
}

/// A command for the leader to stamp and propose. Answered by [`ForwardAnswer`].
#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::raft) struct ForwardCall {
    /// How long the asker still waits.
    #[prost(uint32, tag = "1")]
    pub(in crate::raft) patience_ms: u32,
    /// A proposal as `propose` prepares it, without a stamp.
    #[prost(bytes = "bytes", tag = "2")]
    pub(in crate::raft) proposal: Bytes,
    /// What the asker has counted for the request, bytes; 0 when it counts nothing.
    #[prost(uint64, tag = "4")]
    pub(in crate::raft) cost: u64,
}

fn level(number: u64) -> Read<Level> {
    let unknown = |_| Unreadable::Unknown {
        field: "level",
        value: number,
    };
    u32::try_from(number).map(Level).map_err(unknown)
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
        let unknown = |outcome: &Outcome| u64::from(*outcome == Outcome::Unknown);
        let said = match self {
            ForwardAnswer::Done(Ok(response)) => Said {
                bytes: response.encode(),
                ..Said::new(1)
            },
            ForwardAnswer::Again | ForwardAnswer::Done(Err(ProposeError::Draining)) => Said::new(2),
            ForwardAnswer::Done(Err(ProposeError::NoLeader { outcome })) => Said::new(3).number(unknown(outcome)),
            ForwardAnswer::Done(Err(ProposeError::Deadline { outcome })) => Said::new(4).number(unknown(outcome)),
            ForwardAnswer::Done(Err(ProposeError::TooLarge)) => Said::new(5),
            ForwardAnswer::Done(Err(ProposeError::Failed(reason))) => Said::new(6).text(reason),
            ForwardAnswer::Done(Err(ProposeError::NoRoom)) => Said::new(7),
            ForwardAnswer::Done(Err(ProposeError::Overloaded)) => Said::new(8),
            ForwardAnswer::Done(Err(ProposeError::NotYetSupported { needs, level })) => Said {
                number: needs.0.into(),
                other: level.0.into(),
                ..Said::new(9)
            },
        };
        said.encode()
    }

    pub(in crate::raft) fn decode(bytes: Bytes) -> Read<Self> {
        let said = Said::decode(bytes)?;
        let outcome = match said.number {
            0 => Outcome::NotApplied,
            _ => Outcome::Unknown,
        };
        Ok(ForwardAnswer::Done(match said.what {
            1 => Ok(Response::decode(&said.bytes).map_err(|_| Unreadable::Unknown { field: "answer", value: 0 })?),
            2 => return Ok(ForwardAnswer::Again),
            3 => Err(ProposeError::NoLeader { outcome }),
            4 => Err(ProposeError::Deadline { outcome }),
            5 => Err(ProposeError::TooLarge),
            6 => Err(ProposeError::Failed(said.text)),
            7 => Err(ProposeError::NoRoom),
            8 => Err(ProposeError::Overloaded),
            9 => Err(ProposeError::NotYetSupported {
                needs: level(said.number)?,
                level: level(said.other)?,
            }),
            _ => return said.unknown("answer to a command"),
        }))
    }
}

/// Asks the leader what a linearizable read must have applied. Answered by [`ReadAnswer`].
#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::raft) struct ReadCall {
    /// How long the asker still waits.
    #[prost(uint32, tag = "1")]
    pub(in crate::raft) patience_ms: u32,
    /// How the leader makes sure. One that it does not know is as good as a question to a quorum, which none goes beyond.
    #[prost(enumeration = "Barrier", tag = "2")]
    pub(in crate::raft) barrier: i32,
}

/// Asks a voter to say when it has applied a revision. Answered by [`WaitAnswer`].
#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::raft) struct WaitCall {
    /// How long the asker waits.
    #[prost(uint32, tag = "1")]
    pub(in crate::raft) patience_ms: u32,
    #[prost(uint64, tag = "2")]
    pub(in crate::raft) revision: u64,
}

/// Whether the voter has applied it.
#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::raft) struct WaitAnswer {
    #[prost(bool, tag = "1")]
    pub(in crate::raft) applied: bool,
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
        let said = match self {
            ReadAnswer::At { index, stamp_ms } => Said {
                other: *stamp_ms,
                ..Said::new(1).number(*index)
            },
            ReadAnswer::Again => Said::new(2),
        };
        said.encode()
    }

    pub(in crate::raft) fn decode(bytes: Bytes) -> Read<Self> {
        let said = Said::decode(bytes)?;
        match said.what {
            1 => Ok(ReadAnswer::At {
                index: said.number,
                stamp_ms: said.other,
            }),
            2 => Ok(ReadAnswer::Again),
            _ => said.unknown("answer to a read"),
        }
    }
}
