//! The bytes of a log entry: one proposal, or a list of writes.
//!
//! In: proposals that are encoded already, and their stamps. Out: the bytes of an entry, and its proposals again; their values share the
//! entry's memory. Absent: what is in a proposal (`command`), and which writes go together (`raft`).
//!
//! A list is `3`, how many (4 bytes, big endian), and for each write its stamp (8), its length (4) and the bytes of its proposal. The stamp
//! in the list counts, and the one in the proposal does not: a write is encoded once, by the member that it came to, and stamped when it is
//! proposed. Everything is of fixed width, so that the list is made in one allocation.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::DecodeError;
use crate::state::Proposal;

/// The first byte of a list. A proposal begins with a format byte of its own.
const MANY: u8 = 3;
/// What a list has before its first write.
const HEAD: usize = 5;
/// What a write has before its proposal.
pub const WRITE_HEAD: usize = 12;

/// What an entry holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proposals {
    /// An entry of its own.
    One(Proposal),
    /// Writes, in the order in which they are applied; at least one.
    Many(Vec<Proposal>),
}

/// An entry of many writes: each its stamp and the bytes of its proposal.
pub fn encode<'w>(writes: impl ExactSizeIterator<Item = (u64, &'w Bytes)> + Clone) -> Bytes {
    let proposals: usize = writes.clone().map(|(_, proposal)| WRITE_HEAD + proposal.len()).sum();
    let mut bytes = BytesMut::with_capacity(HEAD + proposals);
    bytes.put_u8(MANY);
    bytes.put_u32(small(writes.len()));
    for (stamp_ms, proposal) in writes {
        bytes.put_u64(stamp_ms);
        bytes.put_u32(small(proposal.len()));
        bytes.put_slice(proposal);
    }
    bytes.freeze()
}

fn small(length: usize) -> u32 {
    u32::try_from(length).expect("an entry is bounded far below 4 GiB")
}

/// How many answers an entry is given: one per write.
pub fn answers(mut bytes: &[u8]) -> usize {
    match bytes.try_get_u8() {
        Ok(MANY) => bytes.try_get_u32().map_or(1, |count| count as usize),
        _ => 1,
    }
}

/// The proposals of an entry.
///
/// # Errors
/// When the bytes are damaged, or of a format that this program does not know.
pub fn decode(bytes: &Bytes) -> Result<Proposals, DecodeError> {
    if bytes.first() != Some(&MANY) {
        return Proposal::decode(bytes).map(Proposals::One);
    }
    let mut rest = bytes.slice(1..);
    let count = number(&mut rest, "number of writes")? as usize;
    if count == 0 {
        return Err(DecodeError::Unknown {
            field: "number of writes",
            value: 0,
        });
    }
    // The count is only a claim; what is allocated follows the bytes that are there.
    let mut writes = Vec::with_capacity(count.min(rest.len() / WRITE_HEAD));
    for _ in 0..count {
        writes.push(write(&mut rest)?);
    }
    match rest.len() {
        0 => Ok(Proposals::Many(writes)),
        count => Err(DecodeError::LeftOver { count }),
    }
}

fn write(rest: &mut Bytes) -> Result<Proposal, DecodeError> {
    let stamp_ms = rest
        .try_get_u64()
        .map_err(|_| DecodeError::Truncated { field: "stamp of a write" })?;
    let length = number(rest, "length of a write")? as usize;
    if length > rest.len() {
        return Err(DecodeError::Truncated { field: "write" });
    }
    let proposal = Proposal::decode(&rest.split_to(length))?;
    Ok(Proposal { stamp_ms, ..proposal })
}

fn number(rest: &mut Bytes, field: &'static str) -> Result<u32, DecodeError> {
    rest.try_get_u32().map_err(|_| DecodeError::Truncated { field })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::state::{Command, Condition, Delete, Operation, TenantId};

    fn delete(key: &str) -> Command {
        let delete = Delete {
            key: key.to_owned(),
            condition: Condition::None,
        };
        Command::one(TenantId(7), Operation::Delete(delete))
    }

    fn encoded(key: &str) -> Bytes {
        let command = delete(key);
        Proposal { stamp_ms: 0, command }.encode()
    }

    fn list() -> Bytes {
        encode([(5, &encoded("a")), (6, &encoded("b"))].into_iter())
    }

    /// These bytes lie in logs, and members of two versions exchange them.
    #[test]
    fn the_bytes_of_a_list_stay() {
        let (first, second) = (Bytes::from_static(&[1, 0xaa]), Bytes::from_static(&[2]));
        let mut golden = vec![3, 0, 0, 0, 2];
        golden.extend([0, 0, 1, 0x8b, 0xcf, 0xe5, 0x68, 0x7b, 0, 0, 0, 2, 1, 0xaa]);
        golden.extend([0, 0, 1, 0x8b, 0xcf, 0xe5, 0x68, 0x7c, 0, 0, 0, 1, 2]);
        let stamp = 1_700_000_000_123;
        assert_eq!(encode([(stamp, &first), (stamp + 1, &second)].into_iter()), golden);
        assert_eq!(answers(&golden), 2);
    }

    #[test]
    fn each_write_comes_back_with_its_own_stamp() {
        let expected = [(5, "a"), (6, "b")].map(|(stamp_ms, key)| {
            let command = delete(key);
            Proposal { stamp_ms, command }
        });
        assert_eq!(decode(&list()).unwrap(), Proposals::Many(expected.to_vec()));
        let command = delete("a");
        assert_eq!(decode(&encoded("a")).unwrap(), Proposals::One(Proposal { stamp_ms: 0, command }));
        assert_eq!(answers(&encoded("a")), 1);
    }

    #[test]
    fn a_list_that_is_empty_cut_or_too_long_is_an_error_with_words() {
        let empty = decode(&encode([].into_iter())).unwrap_err();
        assert_eq!(empty.to_string(), "`number of writes` has no meaning 0");
        let whole = list();
        for end in 1..whole.len() {
            let error = decode(&whole.slice(..end)).unwrap_err();
            assert!(matches!(error, DecodeError::Truncated { .. }), "cut at {end}: {error}");
        }
        let longer = Bytes::from([whole.as_ref(), &[0]].concat());
        assert_eq!(decode(&longer), Err(DecodeError::LeftOver { count: 1 }));
        let mut overlong = whole.to_vec();
        // The length of the first write.
        overlong.splice(13..17, [0xff; 4]);
        assert_eq!(decode(&overlong.into()), Err(DecodeError::Truncated { field: "write" }));
        let mut claims = whole.to_vec();
        claims.splice(1..5, [0xff; 4]);
        assert!(matches!(decode(&claims.into()), Err(DecodeError::Truncated { .. })));
        // A list is no write.
        assert!(decode(&encode([(1, &whole)].into_iter())).is_err());
    }

    #[test]
    fn values_share_the_memory_of_the_entry() {
        let stored = list();
        let mut rest = stored.slice(HEAD + 8..);
        let length = number(&mut rest, "length").unwrap() as usize;
        let first = rest.split_to(length);
        assert_eq!(first, encoded("a"));
        assert_eq!(first.as_ptr(), stored.slice(HEAD + WRITE_HEAD..).as_ptr());
    }
}
