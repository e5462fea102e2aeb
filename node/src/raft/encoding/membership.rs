//! The bytes of a membership: in the log, and in the state machine's rows. [`MEMBERSHIP`], then a message with numbered fields.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, Bytes, BytesMut};
use kvfleet_api::admin::MemberAddress;
use prost::Message as _;

use super::{MEMBERSHIP, Read, Unreadable, take};
use crate::raft::types::{Member, Membership};

/// Equal memberships are equal bytes: sets and maps are in the order of their ids.
#[derive(Clone, PartialEq, prost::Message)]
struct MembershipMessage {
    /// Two while voters change, one otherwise.
    #[prost(message, repeated, tag = "1")]
    configurations: Vec<Voters>,
    #[prost(message, repeated, tag = "2")]
    members: Vec<MemberField>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Voters {
    #[prost(fixed64, repeated, tag = "1")]
    ids: Vec<u64>,
}

/// A member; also in calls.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct MemberField {
    #[prost(fixed64, tag = "1")]
    pub(super) id: u64,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(string, tag = "3")]
    pub(super) peer: String,
}

impl From<&MemberAddress> for MemberField {
    fn from(MemberAddress { id, name, peer, voter: _ }: &MemberAddress) -> Self {
        MemberField {
            id: *id,
            name: name.clone(),
            peer: peer.clone(),
        }
    }
}

impl MemberField {
    /// Whether it votes is not sent: the call says what becomes of it.
    pub(super) fn address(self, voter: bool) -> MemberAddress {
        let MemberField { id, name, peer } = self;
        MemberAddress { id, name, peer, voter }
    }
}

pub(in crate::raft) fn encode_membership(membership: &Membership) -> Bytes {
    let voters = |ids: &BTreeSet<u64>| Voters {
        ids: ids.iter().copied().collect(),
    };
    let member = |(id, Member { name, peer }): (&u64, &Member)| MemberField {
        id: *id,
        name: name.clone(),
        peer: peer.clone(),
    };
    let message = MembershipMessage {
        configurations: membership.get_joint_config().iter().map(voters).collect(),
        members: membership.nodes().map(member).collect(),
    };
    let mut bytes = BytesMut::from(&[MEMBERSHIP][..]);
    message.encode_raw(&mut bytes);
    bytes.freeze()
}

pub(in crate::raft) fn decode_membership(mut bytes: Bytes) -> Read<Membership> {
    match bytes.try_get_u8()? {
        MEMBERSHIP => {}
        value => {
            return Err(Unreadable::Unknown {
                field: "membership format",
                value: u64::from(value),
            });
        }
    }
    let MembershipMessage { configurations, members } = take(bytes)?;
    let configurations = configurations.into_iter().map(|Voters { ids }| ids.into_iter().collect()).collect();
    let member = |MemberField { id, name, peer }| (id, Member { name, peer });
    let members: BTreeMap<_, _> = members.into_iter().map(member).collect();
    // A voter without an address, or no voters at all: no version writes that.
    Membership::new(configurations, members).map_err(|_| Unreadable::Unknown { field: "voters", value: 0 })
}
