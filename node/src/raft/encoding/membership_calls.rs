//! The bodies of the calls about who belongs to a group.
//!
//! ```text
//! call    0                                                        who belongs to it, as committed?
//!         1 | patience_ms u32 | 1 | id u64, name, peer             add a learner
//!                             | 2 | id u64                         promote
//!                             | 3 | id u64                         remove
//!                             | 4 | old u64 | id u64, name, peer   replace
//! answer  to 0: log id | membership
//!         to 1: 0 done | 1 again | 2, refusal u8, text | 3, text: still running | 4, text: failed
//! ```
//! Texts are a u16 of length and UTF-8; the last text of an answer has no length.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kvfleet_api::admin::MemberAddress;

use super::{
    Read, Unreadable, decode_membership, encode_membership, end, get_last,
    membership::{get_text, put_text},
    put_last,
};
use crate::raft::{
    Change, MembershipError, MembershipRefusal,
    types::{LogId, Membership},
};

/// A question about the membership, or a change of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::raft) enum MembershipCall {
    /// Answered by [`KnownMembership`].
    Ask,
    /// Answered by [`ChangeAnswer`].
    Change {
        /// How long the asker still waits.
        patience_ms: u32,
        /// What shall be.
        change: Change,
    },
}

impl MembershipCall {
    pub(in crate::raft) fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(128);
        match self {
            MembershipCall::Ask => bytes.put_u8(0),
            MembershipCall::Change { patience_ms, change } => {
                bytes.put_u8(1);
                bytes.put_u32(*patience_ms);
                put_change(&mut bytes, change);
            }
        }
        bytes.freeze()
    }

    pub(in crate::raft) fn decode(mut bytes: Bytes) -> Read<Self> {
        let call = match bytes.try_get_u8()? {
            0 => MembershipCall::Ask,
            1 => MembershipCall::Change {
                patience_ms: bytes.try_get_u32()?,
                change: get_change(&mut bytes)?,
            },
            value => return Err(unknown("membership call", value)),
        };
        end(&bytes)?;
        Ok(call)
    }
}

fn unknown(field: &'static str, value: u8) -> Unreadable {
    Unreadable::Unknown {
        field,
        value: u64::from(value),
    }
}

fn put_change(bytes: &mut BytesMut, change: &Change) {
    match change {
        Change::AddLearner(member) => {
            bytes.put_u8(1);
            put_member(bytes, member);
        }
        Change::Promote { id } => {
            bytes.put_u8(2);
            bytes.put_u64(*id);
        }
        Change::Remove { id } => {
            bytes.put_u8(3);
            bytes.put_u64(*id);
        }
        Change::Replace { old, new } => {
            bytes.put_u8(4);
            bytes.put_u64(*old);
            put_member(bytes, new);
        }
    }
}

fn get_change(bytes: &mut Bytes) -> Read<Change> {
    Ok(match bytes.try_get_u8()? {
        1 => Change::AddLearner(get_member(bytes)?),
        2 => Change::Promote { id: bytes.try_get_u64()? },
        3 => Change::Remove { id: bytes.try_get_u64()? },
        4 => Change::Replace {
            old: bytes.try_get_u64()?,
            new: get_member(bytes)?,
        },
        value => return Err(unknown("membership change", value)),
    })
}

fn put_member(bytes: &mut BytesMut, member: &MemberAddress) {
    bytes.put_u64(member.id);
    put_text(bytes, &member.name);
    put_text(bytes, &member.peer);
}

/// Whether it votes is not sent: what is added is a learner.
fn get_member(bytes: &mut Bytes) -> Read<MemberAddress> {
    Ok(MemberAddress {
        id: bytes.try_get_u64()?,
        name: get_text(bytes)?,
        peer: get_text(bytes)?,
        voter: false,
    })
}

/// The membership that a member knows to be committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::raft) struct KnownMembership {
    /// Where in the log it is; none before there is one.
    pub(in crate::raft) at: Option<LogId>,
    pub(in crate::raft) membership: Membership,
}

impl KnownMembership {
    pub(in crate::raft) fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(256);
        put_last(&mut bytes, self.at.as_ref());
        bytes.put_slice(&encode_membership(&self.membership));
        bytes.freeze()
    }

    pub(in crate::raft) fn decode(mut bytes: Bytes) -> Read<Self> {
        Ok(KnownMembership {
            at: get_last(&mut bytes)?,
            membership: decode_membership(bytes)?,
        })
    }
}

/// What the asked member made of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::raft) enum ChangeAnswer {
    /// It holds, it was refused, it runs, or it failed for good.
    Done(Result<(), MembershipError>),
    /// The member does not lead, or cannot take it at the moment. Changes may be asked for again.
    Again,
}

impl ChangeAnswer {
    pub(in crate::raft) fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(256);
        match self {
            ChangeAnswer::Done(Ok(())) => bytes.put_u8(0),
            ChangeAnswer::Again | ChangeAnswer::Done(Err(MembershipError::Draining | MembershipError::NoLeader)) => bytes.put_u8(1),
            ChangeAnswer::Done(Err(MembershipError::Refused { refusal, detail })) => {
                bytes.put_slice(&[2, refusal.code()]);
                bytes.put_slice(detail.as_bytes());
            }
            ChangeAnswer::Done(Err(MembershipError::StillRunning(progress))) => {
                bytes.put_u8(3);
                bytes.put_slice(progress.as_bytes());
            }
            ChangeAnswer::Done(Err(MembershipError::Failed(reason))) => {
                bytes.put_u8(4);
                bytes.put_slice(reason.as_bytes());
            }
        }
        bytes.freeze()
    }

    pub(in crate::raft) fn decode(mut bytes: Bytes) -> Read<Self> {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        Ok(match bytes.try_get_u8()? {
            0 => {
                end(&bytes)?;
                ChangeAnswer::Done(Ok(()))
            }
            1 => {
                end(&bytes)?;
                ChangeAnswer::Again
            }
            2 => {
                let code = bytes.try_get_u8()?;
                ChangeAnswer::Done(Err(MembershipError::Refused {
                    refusal: MembershipRefusal::from_code(code).ok_or(unknown("refusal of a change", code))?,
                    detail: text(&bytes),
                }))
            }
            3 => ChangeAnswer::Done(Err(MembershipError::StillRunning(text(&bytes)))),
            4 => ChangeAnswer::Done(Err(MembershipError::Failed(text(&bytes)))),
            value => return Err(unknown("answer to a change", value)),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn member() -> MemberAddress {
        MemberAddress {
            id: 7,
            name: "m".to_owned(),
            peer: "m:7400".to_owned(),
            voter: false,
        }
    }

    fn calls() -> Vec<MembershipCall> {
        let changes = [
            Change::AddLearner(member()),
            Change::Promote { id: 7 },
            Change::Remove { id: 7 },
            Change::Replace { old: 9, new: member() },
        ];
        let calls = changes.map(|change| MembershipCall::Change { patience_ms: 5, change });
        std::iter::once(MembershipCall::Ask).chain(calls).collect()
    }

    /// Golden bytes: members of two versions speak to each other.
    #[test]
    fn the_bytes_of_a_replacement_stay() {
        let mut golden = vec![1, 0, 0, 0, 5, 4];
        golden.extend(9_u64.to_be_bytes());
        golden.extend(7_u64.to_be_bytes());
        golden.extend([0, 1, b'm', 0, 6]);
        golden.extend(b"m:7400");
        assert_eq!(calls().last().unwrap().encode(), golden);
    }

    #[test]
    fn calls_come_out_as_they_went_in_and_no_cut_is_read() {
        for call in calls() {
            let whole = call.encode();
            assert_eq!(MembershipCall::decode(whole.clone()), Ok(call));
            for length in 0..whole.len() {
                assert!(MembershipCall::decode(whole.slice(..length)).is_err(), "{length}");
            }
        }
    }

    #[test]
    fn answers_come_out_as_they_went_in() {
        let refused = MembershipRefusal::ALL.map(|refusal| {
            Err(MembershipError::Refused {
                refusal,
                detail: "why".to_owned(),
            })
        });
        let others = [
            Ok(()),
            Err(MembershipError::StillRunning("far".to_owned())),
            Err(MembershipError::Failed("broken".to_owned())),
        ];
        for answer in refused.into_iter().chain(others) {
            let answer = ChangeAnswer::Done(answer);
            assert_eq!(ChangeAnswer::decode(answer.encode()), Ok(answer));
        }
        assert_eq!(ChangeAnswer::decode(ChangeAnswer::Again.encode()), Ok(ChangeAnswer::Again));
        assert!(ChangeAnswer::decode(Bytes::from_static(&[2, 99])).is_err());
    }
}
