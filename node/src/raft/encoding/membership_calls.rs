//! The bodies of the calls about who belongs to a group.

use bytes::Bytes;

use super::{LogIdField, Read, Said, Unreadable, decode_membership, encode_membership, membership::MemberField, put, take};
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
        /// What is wished for.
        change: Change,
    },
}

#[derive(Clone, PartialEq, prost::Message)]
struct CallMessage {
    /// 1 who belongs to it? 2 add a learner, 3 promote, 4 remove, 5 replace.
    #[prost(uint32, tag = "1")]
    what: u32,
    #[prost(uint32, tag = "2")]
    patience_ms: u32,
    /// Whom to promote, remove or replace.
    #[prost(fixed64, tag = "3")]
    id: u64,
    /// Whom to take in.
    #[prost(message, optional, tag = "4")]
    member: Option<MemberField>,
}

impl MembershipCall {
    pub(in crate::raft) fn encode(&self) -> Bytes {
        let (patience_ms, (what, id, member)) = match self {
            MembershipCall::Ask => (0, (1, 0, None)),
            MembershipCall::Change { patience_ms, change } => (
                *patience_ms,
                match change {
                    Change::AddLearner(member) => (2, 0, Some(member)),
                    Change::Promote { id } => (3, *id, None),
                    Change::Remove { id } => (4, *id, None),
                    Change::Replace { old, new } => (5, *old, Some(new)),
                },
            ),
        };
        put(&CallMessage {
            what,
            patience_ms,
            id,
            member: member.map(Into::into),
        })
    }

    pub(in crate::raft) fn decode(bytes: Bytes) -> Read<Self> {
        let CallMessage {
            what,
            patience_ms,
            id,
            member,
        } = take(bytes)?;
        // What is added is a learner at first.
        let member = member
            .map(|member| member.address(false))
            .ok_or(Unreadable::Missing { field: "member" });
        let change = match what {
            1 => return Ok(MembershipCall::Ask),
            2 => Change::AddLearner(member?),
            3 => Change::Promote { id },
            4 => Change::Remove { id },
            5 => Change::Replace { old: id, new: member? },
            _ => return Err(unknown("call about members", what)),
        };
        Ok(MembershipCall::Change { patience_ms, change })
    }
}

fn unknown(field: &'static str, value: u32) -> Unreadable {
    Unreadable::Unknown {
        field,
        value: u64::from(value),
    }
}

/// The membership that a member knows to be committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::raft) struct KnownMembership {
    /// Where in the log it is; none before there is one.
    pub(in crate::raft) at: Option<LogId>,
    pub(in crate::raft) membership: Membership,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KnownMessage {
    #[prost(message, optional, tag = "1")]
    at: Option<LogIdField>,
    /// As in the log.
    #[prost(bytes = "bytes", tag = "2")]
    membership: Bytes,
}

impl KnownMembership {
    pub(in crate::raft) fn encode(&self) -> Bytes {
        put(&KnownMessage {
            at: self.at.map(Into::into),
            membership: encode_membership(&self.membership),
        })
    }

    pub(in crate::raft) fn decode(bytes: Bytes) -> Read<Self> {
        let KnownMessage { at, membership } = take(bytes)?;
        Ok(KnownMembership {
            at: at.map(Into::into),
            membership: decode_membership(membership)?,
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
        let said = match self {
            ChangeAnswer::Done(Ok(())) => Said::new(1),
            ChangeAnswer::Again | ChangeAnswer::Done(Err(MembershipError::Draining | MembershipError::NoLeader)) => Said::new(2),
            ChangeAnswer::Done(Err(MembershipError::Refused { refusal, detail })) => {
                Said::new(3).number(u64::from(refusal.code())).text(detail)
            }
            ChangeAnswer::Done(Err(MembershipError::StillRunning(progress))) => Said::new(4).text(progress),
            ChangeAnswer::Done(Err(MembershipError::Failed(reason))) => Said::new(5).text(reason),
        };
        said.encode()
    }

    pub(in crate::raft) fn decode(bytes: Bytes) -> Read<Self> {
        let said = Said::decode(bytes)?;
        Ok(ChangeAnswer::Done(match said.what {
            1 => Ok(()),
            2 => return Ok(ChangeAnswer::Again),
            3 => {
                let refusal = u8::try_from(said.number).ok().and_then(MembershipRefusal::from_code);
                Err(MembershipError::Refused {
                    refusal: refusal.ok_or(Unreadable::Unknown {
                        field: "refusal of a change",
                        value: said.number,
                    })?,
                    detail: said.text,
                })
            }
            4 => Err(MembershipError::StillRunning(said.text)),
            5 => Err(MembershipError::Failed(said.text)),
            _ => return said.unknown("answer to a change"),
        }))
    }
}
