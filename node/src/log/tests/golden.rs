//! The bytes of every record kind, the header and the mark. They are on members' disks: a change here is a new format. The expected
//! bytes were computed apart from this code (from the layout in the module docs, with a bitwise CRC32C).

use super::*;
use crate::log::group::Group;
use crate::log::record::{Frame, Record, Salt};
use crate::log::segment::{Header, Mark};

const SALT: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
const ID: LogId = LogId {
    term: 1,
    leader: 2,
    index: 3,
};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One group with every kind of record; the last one carries the flag that closes the group.
#[test]
fn records() {
    let expected: [(Record<'_>, &str); 8] = [
        (
            Record::Entry { id: ID, payload: b"hi" },
            "23000000521215f70900000000000000010100000000000000020000000000000003000000000000006869",
        ),
        (
            Record::Vote(Vote {
                term: 4,
                voted_for: Some(5),
                committed: true,
            }),
            "1a0000009f5c92fc0900000000000000020400000000000000030500000000000000",
        ),
        (
            Record::Vote(Vote {
                term: 4,
                voted_for: None,
                committed: false,
            }),
            "1a000000fcaf1c8d0900000000000000020400000000000000000000000000000000",
        ),
        (
            Record::Committed(Some(ID)),
            "22000000f01a25ef09000000000000000301010000000000000002000000000000000300000000000000",
        ),
        (
            Record::Committed(None),
            "2200000087f9ee4109000000000000000300000000000000000000000000000000000000000000000000",
        ),
        (
            Record::Truncate(Some(ID)),
            "22000000dd866c2f09000000000000000401010000000000000002000000000000000300000000000000",
        ),
        (
            Record::Truncate(None),
            "22000000aa65a78109000000000000000400000000000000000000000000000000000000000000000000",
        ),
        (
            Record::Purge(ID),
            "21000000f7b678fe090000000000000085010000000000000002000000000000000300000000000000",
        ),
    ];
    let salt = Salt::new(SALT);
    let mut group = Group::default();
    for (record, _) in &expected {
        group.push(9, record);
    }
    group.seal(&salt);
    let mut bytes = group.bytes();
    for (position, (record, expected)) in expected.iter().enumerate() {
        let frame = Frame::read(bytes, &salt).unwrap();
        assert_eq!(hex(&bytes[..frame.length]), *expected, "{record:?}");
        assert_eq!((frame.group, frame.closes, frame.record()), (9, position == 7, Some(*record)));
        bytes = &bytes[frame.length..];
    }
    assert!(bytes.is_empty());
}

#[test]
fn header() {
    let header = Header {
        capacity: 65536,
        sequence: 6,
        salt: Salt::new(SALT),
        group: 8,
        first_index: 4,
        purged: Some(ID),
        vote: Some(Vote {
            term: 4,
            voted_for: Some(5),
            committed: true,
        }),
        committed: None,
    };
    let expected = "6b76666c2d77616c10ebb193880000000100000000000100000000000600000000000000000102030405060708090a0b0c0d0e0f080000000000000004000000000000000101000000000000000200000000000000030000000000000001040000000000000003050000000000000000000000000000000000000000000000000000000000000000";
    assert_eq!(hex(&header.bytes()), expected);
    assert_eq!(Header::read(&header.bytes()), Ok(header));
}

#[test]
fn marks() {
    let salt = Salt::new(SALT);
    let expected = [
        (
            Mark {
                group: 8,
                last: Some(ID),
                sealed: true,
            },
            "08000000000000000101010000000000000002000000000000000300000000000000bf3f0f3b",
        ),
        (
            Mark {
                group: 8,
                last: None,
                sealed: false,
            },
            "08000000000000000000000000000000000000000000000000000000000000000000c7586ab8",
        ),
    ];
    for (mark, expected) in expected {
        assert_eq!(hex(&mark.bytes(&salt)), expected);
        assert_eq!(Mark::read(&mark.bytes(&salt), &salt), Some(mark));
    }
}
