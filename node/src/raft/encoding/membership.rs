//! The bytes of a membership: in the log, and in the state machine's rows.
//!
//! ```text
//! 0x81 | configurations u8 | each: voters u16, id u64 … | members u16 | each: id u64, name u16 + text, peer u16 + text
//! ```

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{MEMBERSHIP, Read, Unreadable, end, get_slice};
use crate::raft::types::{Member, Membership};

/// Texts are cut here; names and addresses are far shorter (a DNS name has 253 characters).
const TEXT_BYTES: usize = 1024;

pub(super) fn encode(membership: &Membership) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(MEMBERSHIP);
    let configurations = membership.get_joint_config();
    bytes.put_u8(u8::try_from(configurations.len()).expect("a joint membership has two configurations"));
    for voters in configurations {
        bytes.put_u16(u16::try_from(voters.len()).expect("a group has at most seven voters"));
        voters.iter().for_each(|id| bytes.put_u64(*id));
    }
    let members: Vec<_> = membership.nodes().collect();
    bytes.put_u16(u16::try_from(members.len()).expect("a group has a handful of members"));
    for (id, Member { name, peer }) in members {
        bytes.put_u64(*id);
        put_text(&mut bytes, name);
        put_text(&mut bytes, peer);
    }
    bytes.freeze()
}

pub(super) fn decode(mut bytes: Bytes) -> Read<Membership> {
    match bytes.try_get_u8()? {
        MEMBERSHIP => {}
        value => {
            return Err(Unreadable::Unknown {
                field: "membership format",
                value: u64::from(value),
            });
        }
    }
    let mut configurations = Vec::new();
    for _ in 0..bytes.try_get_u8()? {
        let mut voters = BTreeSet::new();
        for _ in 0..bytes.try_get_u16()? {
            voters.insert(bytes.try_get_u64()?);
        }
        configurations.push(voters);
    }
    let mut members = BTreeMap::new();
    for _ in 0..bytes.try_get_u16()? {
        members.insert(
            bytes.try_get_u64()?,
            Member {
                name: get_text(&mut bytes)?,
                peer: get_text(&mut bytes)?,
            },
        );
    }
    end(&bytes)?;
    // A voter without an address, or no voters at all: no version writes that.
    Membership::new(configurations, members).map_err(|_| Unreadable::Unknown { field: "voters", value: 0 })
}

pub(super) fn put_text(bytes: &mut BytesMut, text: &str) {
    let cut = text.floor_char_boundary(TEXT_BYTES);
    let text = text.get(..cut).unwrap_or_default();
    bytes.put_u16(u16::try_from(text.len()).expect("texts are cut at 1,024 bytes"));
    bytes.put_slice(text.as_bytes());
}

pub(super) fn get_text(bytes: &mut Bytes) -> Read<String> {
    let length = usize::from(bytes.try_get_u16()?);
    String::from_utf8(get_slice(bytes, length)?.to_vec()).map_err(|_| Unreadable::NotText)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn membership() -> Membership {
        let members = [(1, "a"), (2, "b"), (3, "c")];
        let members = members.map(|(id, name)| {
            (
                id,
                Member {
                    name: name.to_owned(),
                    peer: format!("{name}:7400"),
                },
            )
        });
        Membership::new(vec![BTreeSet::from([1, 2])], BTreeMap::from(members)).unwrap()
    }

    /// Golden bytes: they are in every log and in every state machine.
    #[test]
    fn the_bytes_of_a_membership_stay() {
        let mut golden = vec![0x81, 1, 0, 2];
        golden.extend(1_u64.to_be_bytes());
        golden.extend(2_u64.to_be_bytes());
        golden.extend([0, 3]);
        for (id, name) in [(1_u64, b'a'), (2, b'b'), (3, b'c')] {
            golden.extend(id.to_be_bytes());
            golden.extend([0, 1, name, 0, 6, name]);
            golden.extend(b":7400");
        }
        assert_eq!(encode(&membership()), golden);
        assert_eq!(decode(Bytes::from(golden)), Ok(membership()));
    }

    #[test]
    fn no_cut_is_read() {
        let whole = encode(&membership());
        for length in 0..whole.len() {
            assert!(decode(whole.slice(..length)).is_err(), "{length}");
        }
        let mut longer = BytesMut::from(whole.as_ref());
        longer.put_u8(0);
        assert_eq!(decode(longer.freeze()), Err(Unreadable::LeftOver { count: 1 }));
    }
}
