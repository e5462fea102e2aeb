//! What an entry of the log says, for whoever reads a log without being a member of its group. In: the bytes of a log entry. Out: plain
//! values. Absent: files (`log`), and any effect.

use bytes::Bytes;
use kvfleet_api::admin::MemberAddress;

use super::{
    encoding,
    types::{Data, Member, Payload},
};
use crate::state::{
    Proposal,
    codec::entry::{self, Proposals},
};

/// One entry's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Logged {
    /// A new leader's first entry.
    Blank,
    /// A command with its stamp.
    Proposal(Proposal),
    /// Many writes, each with its stamp.
    Writes(Vec<Proposal>),
    /// The group's members from here on.
    Membership {
        /// The ids of the voters; two sets while one configuration replaces another.
        configurations: Vec<Vec<u64>>,
        /// All members, by id.
        members: Vec<MemberAddress>,
    },
    /// Bytes that this version cannot read, and why.
    Unreadable(String),
}

impl Logged {
    /// Reads the payload of a log entry.
    pub fn read(payload: Bytes) -> Logged {
        match encoding::decode_payload(payload) {
            Ok(Payload::Blank) => Logged::Blank,
            Ok(Payload::Normal(Data(bytes))) => match entry::decode(&bytes) {
                Ok(Proposals::One(proposal)) => Logged::Proposal(proposal),
                Ok(Proposals::Many(writes)) => Logged::Writes(writes),
                Err(error) => Logged::Unreadable(error.to_string()),
            },
            Ok(Payload::Membership(membership)) => {
                let configurations: Vec<Vec<u64>> = membership
                    .get_joint_config()
                    .iter()
                    .map(|voters| voters.iter().copied().collect())
                    .collect();
                let members = membership.nodes().map(|(id, Member { name, peer })| MemberAddress {
                    id: *id,
                    name: name.clone(),
                    peer: peer.clone(),
                    voter: configurations.iter().any(|voters| voters.contains(id)),
                });
                Logged::Membership {
                    members: members.collect(),
                    configurations,
                }
            }
            Err(error) => Logged::Unreadable(error.to_string()),
        }
    }
}
