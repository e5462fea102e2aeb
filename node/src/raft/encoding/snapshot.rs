//! The bodies of the calls that carry a snapshot, and of those that compare members. A snapshot's frames are `state`'s bytes, so their call
//! is laid out by hand; numbers are big-endian.
//!
//! ```text
//! head u16 (its length) | head: term u64, voted for u64, committed u8, transfer u64, number u32, step u8: 0 a frame, 1 install | frame
//! ```
//! What is in the head behind the step came with a later program and is skipped.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Read, Said, Unreadable, required, take_head};
use crate::raft::types::{Vote, vote};

const HEAD_BYTES: usize = 30;

/// A step of a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::raft) struct SnapshotCall {
    /// The sender's.
    pub(in crate::raft) vote: Vote,
    /// Chosen by the sender, another one for each attempt.
    pub(in crate::raft) transfer: u64,
    /// From 0, without a gap.
    pub(in crate::raft) number: u32,
    pub(in crate::raft) step: SnapshotStep,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::raft) enum SnapshotStep {
    /// The next frame.
    Frame(Bytes),
    /// All have been sent.
    Install,
}

impl SnapshotCall {
    pub(in crate::raft) fn encode(&self) -> Bytes {
        let SnapshotCall {
            vote,
            transfer,
            number,
            step,
        } = self;
        let (step, frame) = match step {
            SnapshotStep::Frame(frame) => (0, frame.as_ref()),
            SnapshotStep::Install => (1, &[][..]),
        };
        let mut bytes = BytesMut::with_capacity(2 + HEAD_BYTES + frame.len());
        bytes.put_u16(u16::try_from(HEAD_BYTES).expect("it is 30"));
        bytes.put_u64(vote.leader_id.term);
        bytes.put_u64(vote.leader_id.voted_for);
        bytes.put_u8(u8::from(vote.committed));
        bytes.put_u64(*transfer);
        bytes.put_u32(*number);
        bytes.put_u8(step);
        bytes.put_slice(frame);
        bytes.freeze()
    }

    pub(in crate::raft) fn decode(mut bytes: Bytes) -> Read<Self> {
        let mut head = take_head(&mut bytes)?;
        Ok(SnapshotCall {
            vote: vote(head.try_get_u64()?, head.try_get_u64()?, head.try_get_u8()? != 0),
            transfer: head.try_get_u64()?,
            number: head.try_get_u32()?,
            step: match head.try_get_u8()? {
                0 => SnapshotStep::Frame(bytes),
                1 => SnapshotStep::Install,
                value => {
                    return Err(Unreadable::Unknown {
                        field: "snapshot step",
                        value: u64::from(value),
                    });
                }
            },
        })
    }
}

/// What the receiver says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::raft) enum SnapshotAnswer {
    /// The frame is on its way to the disk.
    Taken,
    /// It follows a newer leader.
    HigherVote(Vote),
    /// The transfer is over.
    Refused(String),
    /// The snapshot is in use, or was not needed.
    Installed(Vote),
}

impl SnapshotAnswer {
    pub(in crate::raft) fn encode(&self) -> Bytes {
        let said = match self {
            SnapshotAnswer::Taken => Said::new(1),
            SnapshotAnswer::HigherVote(vote) => Said::new(2).vote(*vote),
            SnapshotAnswer::Refused(reason) => Said::new(3).text(reason),
            SnapshotAnswer::Installed(vote) => Said::new(4).vote(*vote),
        };
        said.encode()
    }

    pub(in crate::raft) fn decode(bytes: Bytes) -> Read<Self> {
        let said = Said::decode(bytes)?;
        Ok(match said.what {
            1 => SnapshotAnswer::Taken,
            2 => SnapshotAnswer::HigherVote(required("vote", said.vote)?),
            3 => SnapshotAnswer::Refused(said.text),
            4 => SnapshotAnswer::Installed(required("vote", said.vote)?),
            _ => return said.unknown("answer to a snapshot"),
        })
    }
}

/// The state after some entries, as a number each. Its call has no body.
#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::raft) struct CheckpointsAnswer {
    #[prost(message, repeated, tag = "1")]
    checkpoints: Vec<CheckpointField>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CheckpointField {
    #[prost(uint64, tag = "1")]
    index: u64,
    #[prost(uint64, tag = "2")]
    revision: u64,
    /// 16 bytes, big-endian.
    #[prost(bytes = "bytes", tag = "3")]
    digest: Bytes,
}

impl CheckpointsAnswer {
    /// Of indexes, revisions and digests.
    pub(in crate::raft) fn of(checkpoints: impl Iterator<Item = (u64, u64, u128)>) -> Self {
        let field = |(index, revision, digest): (u64, u64, u128)| CheckpointField {
            index,
            revision,
            digest: Bytes::copy_from_slice(&digest.to_be_bytes()),
        };
        CheckpointsAnswer {
            checkpoints: checkpoints.map(field).collect(),
        }
    }

    /// Digests by index. One that is no digest is none.
    pub(in crate::raft) fn digests(&self) -> impl Iterator<Item = (u64, u128)> {
        let number = |checkpoint: &CheckpointField| {
            let digest = checkpoint.digest.as_ref().try_into().ok()?;
            Some((checkpoint.index, u128::from_be_bytes(digest)))
        };
        self.checkpoints.iter().filter_map(number)
    }
}
