//! The one shape of all answers that are one of several things: what it is, and what goes with that. In: the parts. Out: the parts again.
//! Absent: the meaning of the numbers, which each answer has for itself.

use bytes::Bytes;

use super::{LogIdField, Read, Unreadable, VoteField, put, take};
use crate::{
    peer::PeerAddress,
    raft::types::{LogId, Vote},
};

/// The longest text that is sent.
const TEXT_BYTES: usize = 1024;

/// An answer. A later program may add fields; a new number of `what` belongs to a feature level.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Said {
    /// From 1, so that no bytes at all say nothing.
    #[prost(uint32, tag = "1")]
    pub(super) what: u32,
    #[prost(string, tag = "2")]
    pub(super) text: String,
    #[prost(uint64, tag = "3")]
    pub(super) number: u64,
    #[prost(uint64, tag = "4")]
    pub(super) other: u64,
    #[prost(bytes = "bytes", tag = "5")]
    pub(super) bytes: Bytes,
    #[prost(message, optional, tag = "6")]
    pub(super) vote: Option<VoteField>,
    #[prost(message, optional, tag = "7")]
    pub(super) other_vote: Option<VoteField>,
    #[prost(message, optional, tag = "8")]
    pub(super) at: Option<LogIdField>,
    #[prost(message, optional, tag = "9")]
    pub(super) other_at: Option<LogIdField>,
    #[prost(message, optional, tag = "10")]
    pub(super) member: Option<PeerAddress>,
}

impl Said {
    pub(super) fn new(what: u32) -> Self {
        Said { what, ..Said::default() }
    }

    pub(super) fn text(self, text: &str) -> Self {
        let cut = text.floor_char_boundary(TEXT_BYTES);
        Said {
            text: text.get(..cut).unwrap_or_default().to_owned(),
            ..self
        }
    }

    pub(super) fn number(self, number: u64) -> Self {
        Said { number, ..self }
    }

    pub(super) fn vote(self, vote: Vote) -> Self {
        Said {
            vote: Some(vote.into()),
            ..self
        }
    }

    pub(super) fn at(self, at: Option<LogId>) -> Self {
        Said {
            at: at.map(Into::into),
            ..self
        }
    }

    pub(super) fn encode(&self) -> Bytes {
        put(self)
    }

    pub(super) fn decode(bytes: Bytes) -> Read<Self> {
        take(bytes)
    }

    pub(super) fn unknown<T>(&self, field: &'static str) -> Read<T> {
        Err(Unreadable::Unknown {
            field,
            value: u64::from(self.what),
        })
    }
}
