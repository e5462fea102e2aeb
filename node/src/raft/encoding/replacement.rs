//! The bodies of `Release` (may a member put its data aside?) and `Join` (take this member into the place of another).

use bytes::Bytes;

use super::{Read, Said, Unreadable, membership::MemberField, put, take};
use crate::raft::replacement::{Admission, JoinAnswer, JoinRequest, ReleaseAnswer};

impl ReleaseAnswer {
    pub(in crate::raft) fn encode(&self) -> Bytes {
        let said = match self {
            ReleaseAnswer::Granted { replaces } => Said::new(1).number(*replaces),
            ReleaseAnswer::Left => Said::new(2),
            ReleaseAnswer::Member => Said::new(3),
            ReleaseAnswer::Elsewhere(leader) => Said {
                member: leader.clone(),
                ..Said::new(4)
            },
            ReleaseAnswer::Refused(reason) => Said::new(5).text(reason),
        };
        said.encode()
    }

    pub(in crate::raft) fn decode(bytes: Bytes) -> Read<Self> {
        let said = Said::decode(bytes)?;
        Ok(match said.what {
            1 => ReleaseAnswer::Granted { replaces: said.number },
            2 => ReleaseAnswer::Left,
            3 => ReleaseAnswer::Member,
            4 => ReleaseAnswer::Elsewhere(said.member),
            5 => ReleaseAnswer::Refused(said.text),
            _ => return said.unknown("answer to a release"),
        })
    }
}

/// A wish to join. Answered by [`JoinAnswer`].
pub(in crate::raft) struct JoinCall {
    /// How long the asker still waits.
    pub(in crate::raft) patience_ms: u32,
    pub(in crate::raft) request: JoinRequest,
}

#[derive(Clone, PartialEq, prost::Message)]
struct JoinMessage {
    #[prost(uint32, tag = "1")]
    patience_ms: u32,
    #[prost(message, optional, tag = "2")]
    itself: Option<MemberField>,
    /// One of these two; no member has the id 0.
    #[prost(fixed64, tag = "3")]
    replaces: u64,
    #[prost(string, tag = "4")]
    token: String,
}

impl JoinCall {
    pub(in crate::raft) fn encode(&self) -> Bytes {
        let JoinRequest { by, itself } = &self.request;
        let (replaces, token) = match by {
            Admission::Replaces(replaces) => (*replaces, String::new()),
            Admission::Token(token) => (0, token.clone()),
        };
        put(&JoinMessage {
            patience_ms: self.patience_ms,
            itself: Some(itself.into()),
            replaces,
            token,
        })
    }

    pub(in crate::raft) fn decode(bytes: Bytes) -> Read<Self> {
        let JoinMessage {
            patience_ms,
            itself,
            replaces,
            token,
        } = take(bytes)?;
        let by = match replaces {
            0 => Admission::Token(token),
            replaces => Admission::Replaces(replaces),
        };
        let itself = itself.ok_or(Unreadable::Missing { field: "member" })?.address(true);
        Ok(JoinCall {
            patience_ms,
            request: JoinRequest { by, itself },
        })
    }
}

impl JoinAnswer {
    pub(in crate::raft) fn encode(&self) -> Bytes {
        let said = match self {
            JoinAnswer::Done => Said::new(1),
            JoinAnswer::NoPlace => Said::new(2),
            JoinAnswer::Elsewhere => Said::new(3),
            JoinAnswer::Refused(reason) => Said::new(4).text(reason),
            JoinAnswer::Never(reason) => Said::new(5).text(reason),
        };
        said.encode()
    }

    pub(in crate::raft) fn decode(bytes: Bytes) -> Read<Self> {
        let said = Said::decode(bytes)?;
        Ok(match said.what {
            1 => JoinAnswer::Done,
            2 => JoinAnswer::NoPlace,
            3 => JoinAnswer::Elsewhere,
            4 => JoinAnswer::Refused(said.text),
            5 => JoinAnswer::Never(said.text),
            _ => return said.unknown("answer to a wish to join"),
        })
    }
}
