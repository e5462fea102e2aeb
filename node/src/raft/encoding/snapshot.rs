//! The bodies of the calls that carry a snapshot, and of those that compare members. A snapshot's frames are `state`'s bytes.
//!
//! ```text
//! snapshot     vote | transfer u64 | number u32 | step u8: 0 a frame, which follows; 1 install
//! its answer   0 taken | 1, vote: not from this leader | 2, text: refused | 3, vote: installed
//! checkpoints  empty
//! their answer count u16 | each: index u64, revision u64, digest 16 B
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Read, Unreadable, end, get_vote, put_vote};
use crate::raft::types::Vote;

/// The longest reason that is sent.
const REASON_BYTES: usize = 1024;

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
        let mut bytes = BytesMut::new();
        put_vote(&mut bytes, vote);
        bytes.put_u64(*transfer);
        bytes.put_u32(*number);
        match step {
            SnapshotStep::Frame(frame) => {
                bytes.put_u8(0);
                bytes.put_slice(frame);
            }
            SnapshotStep::Install => bytes.put_u8(1),
        }
        bytes.freeze()
    }

    pub(in crate::raft) fn decode(mut bytes: Bytes) -> Read<Self> {
        Ok(SnapshotCall {
            vote: get_vote(&mut bytes)?,
            transfer: bytes.try_get_u64()?,
            number: bytes.try_get_u32()?,
            step: match bytes.try_get_u8()? {
                0 => SnapshotStep::Frame(bytes),
                1 => {
                    end(&bytes)?;
                    SnapshotStep::Install
                }
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
        let mut bytes = BytesMut::new();
        match self {
            SnapshotAnswer::Taken => bytes.put_u8(0),
            SnapshotAnswer::HigherVote(vote) => {
                bytes.put_u8(1);
                put_vote(&mut bytes, vote);
            }
            SnapshotAnswer::Refused(reason) => {
                bytes.put_u8(2);
                let cut = reason.floor_char_boundary(REASON_BYTES);
                bytes.put_slice(reason.get(..cut).unwrap_or_default().as_bytes());
            }
            SnapshotAnswer::Installed(vote) => {
                bytes.put_u8(3);
                put_vote(&mut bytes, vote);
            }
        }
        bytes.freeze()
    }

    pub(in crate::raft) fn decode(mut bytes: Bytes) -> Read<Self> {
        let answer = match bytes.try_get_u8()? {
            0 => SnapshotAnswer::Taken,
            1 => SnapshotAnswer::HigherVote(get_vote(&mut bytes)?),
            2 => {
                let text = bytes.split_to(bytes.len());
                SnapshotAnswer::Refused(String::from_utf8(text.to_vec()).map_err(|_| Unreadable::NotText)?)
            }
            3 => SnapshotAnswer::Installed(get_vote(&mut bytes)?),
            value => {
                return Err(Unreadable::Unknown {
                    field: "snapshot answer",
                    value: u64::from(value),
                });
            }
        };
        end(&bytes)?;
        Ok(answer)
    }
}

/// The state after some entries, as a number each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::raft) struct CheckpointsAnswer(pub(in crate::raft) Vec<(u64, u64, u128)>);

impl CheckpointsAnswer {
    pub(in crate::raft) fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(2 + 32 * self.0.len());
        bytes.put_u16(u16::try_from(self.0.len()).expect("a member keeps a handful of checkpoints"));
        for (index, revision, digest) in &self.0 {
            bytes.put_u64(*index);
            bytes.put_u64(*revision);
            bytes.put_u128(*digest);
        }
        bytes.freeze()
    }

    pub(in crate::raft) fn decode(mut bytes: Bytes) -> Read<Self> {
        let mut checkpoints = Vec::new();
        for _ in 0..bytes.try_get_u16()? {
            checkpoints.push((bytes.try_get_u64()?, bytes.try_get_u64()?, bytes.try_get_u128()?));
        }
        end(&bytes)?;
        Ok(CheckpointsAnswer(checkpoints))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::raft::types::vote;

    /// Golden bytes: members of two versions speak to each other.
    #[test]
    fn the_bytes_of_the_calls_stay() {
        let call = SnapshotCall {
            vote: vote(3, 9, true),
            transfer: 7,
            number: 2,
            step: SnapshotStep::Frame(Bytes::from_static(b"frame")),
        };
        let mut golden = vec![];
        golden.extend(3_u64.to_be_bytes());
        golden.extend(9_u64.to_be_bytes());
        golden.push(1);
        golden.extend(7_u64.to_be_bytes());
        golden.extend([0, 0, 0, 2, 0]);
        golden.extend(b"frame");
        assert_eq!(call.encode(), golden);
        assert_eq!(SnapshotCall::decode(Bytes::from(golden)), Ok(call.clone()));
        let install = SnapshotCall {
            step: SnapshotStep::Install,
            ..call
        };
        assert_eq!(SnapshotCall::decode(install.encode()), Ok(install));

        assert_eq!(SnapshotAnswer::Taken.encode(), [0].as_slice());
        assert_eq!(SnapshotAnswer::Refused("no".to_owned()).encode(), b"\x02no".as_slice());
        for answer in [
            SnapshotAnswer::Taken,
            SnapshotAnswer::HigherVote(vote(4, 1, false)),
            SnapshotAnswer::Refused("no".to_owned()),
            SnapshotAnswer::Installed(vote(4, 1, true)),
        ] {
            assert_eq!(SnapshotAnswer::decode(answer.encode()), Ok(answer));
        }

        let checkpoints = CheckpointsAnswer(vec![(1, 2, 3)]);
        let mut golden = vec![0, 1];
        golden.extend(1_u64.to_be_bytes());
        golden.extend(2_u64.to_be_bytes());
        golden.extend(3_u128.to_be_bytes());
        assert_eq!(checkpoints.encode(), golden);
        assert_eq!(CheckpointsAnswer::decode(Bytes::from(golden)), Ok(checkpoints));
    }

    #[test]
    fn no_cut_is_read() {
        let whole = CheckpointsAnswer(vec![(1, 2, 3)]).encode();
        for length in 0..whole.len() {
            assert!(CheckpointsAnswer::decode(whole.slice(..length)).is_err(), "{length}");
        }
        let whole = SnapshotAnswer::Installed(vote(4, 1, true)).encode();
        for length in 0..whole.len() {
            assert!(SnapshotAnswer::decode(whole.slice(..length)).is_err(), "{length}");
        }
    }
}
