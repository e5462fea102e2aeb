//! Damage at every byte of a small log: what was durable is never lost in silence, and a torn tail never stops a start.
//! (covers row 111 for the log: damage is detected.)

use super::*;
use crate::log::OpenError;
use crate::log::disk::Disk;
use crate::log::record::{Frame, Salt};
use crate::log::recovery::{Recovered, recover};
use crate::log::segment::{self, DATA_AT, FORMAT, Header, Mark};

/// A log of twelve groups in one segment: entries, votes, a truncation, a purge.
struct Small {
    disk: FakeDisk,
    bytes: Vec<u8>,
    /// End of each group, ascending; the first is where records begin.
    ends: Vec<usize>,
    header: Header,
}

const FILE: &str = "00000000000000000001.seg";

/// With the mark at the last group, as after an idle moment, or as it was one group earlier: the state that a power cut leaves
/// if it comes right after the last group's flush.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum MarkAt {
    LastGroup,
    GroupBefore,
}

fn small_log(mark: MarkAt) -> Small {
    let disk = FakeDisk::new();
    let wal = open(&disk);
    for index in 0..8 {
        append(&wal, vec![entry(1, index, &vec![0xA0 + index as u8; 5 + index as usize])]);
    }
    wait(|done| wal.save_vote(vote(2), done)).unwrap();
    wait(|done| wal.truncate_after(Some(id(1, 5)), done)).unwrap();
    wait(|done| wal.purge_through(id(1, 1), done)).unwrap();
    let before = disk.bytes(FILE);
    append(&wal, vec![entry(2, 6, b"the last group"), entry(2, 7, b"has two entries")]);
    let after = disk.bytes(FILE);
    wal.close().unwrap();
    let mut bytes = after;
    if mark == MarkAt::GroupBefore {
        bytes[4096..DATA_AT as usize].copy_from_slice(&before[4096..DATA_AT as usize]);
    }
    disk.set_bytes(FILE, &bytes);
    let header = Header::read(&bytes).unwrap();
    let mut ends = vec![DATA_AT as usize];
    let mut at = DATA_AT as usize;
    while let Some(frame) = Frame::read(&bytes[at..], &header.salt) {
        at += frame.length;
        if frame.closes {
            ends.push(at);
        }
    }
    assert_eq!(ends.len(), 13);
    Small { disk, bytes, ends, header }
}

fn recover_bytes(bytes: &[u8]) -> Result<Recovered, OpenError> {
    let disk = FakeDisk::new();
    disk.create(FILE).unwrap();
    disk.set_bytes(FILE, bytes);
    disk.flush_names().unwrap();
    recover(&disk).map(|found| found.expect("the segment is there"))
}

/// Applies `damage` at every byte of the records. With the mark at the last group everything must be refused; with the mark one
/// group earlier, damage that leaves the earlier groups whole is a torn tail, and everything else must be refused.
fn try_everywhere(name: &str, damage: impl Fn(&mut Vec<u8>, usize)) {
    for mark in [MarkAt::LastGroup, MarkAt::GroupBefore] {
        let small = small_log(mark);
        let last_end = *small.ends.last().unwrap();
        let last_start = small.ends[small.ends.len() - 2];
        for offset in DATA_AT as usize..last_end {
            let mut bytes = small.bytes.clone();
            damage(&mut bytes, offset);
            if bytes.get(..last_end) == Some(&small.bytes[..last_end]) {
                continue;
            }
            let intact_before = bytes.get(..last_start) == Some(&small.bytes[..last_start]);
            match (mark, intact_before, recover_bytes(&bytes)) {
                (MarkAt::GroupBefore, true, Ok(found)) => {
                    assert_eq!((found.group, found.end), (11, last_start as u64), "{name} at {offset}");
                    assert_eq!(found.standing.last, Some(id(1, 5)), "{name} at {offset}");
                    assert_eq!(found.standing.vote, Some(vote(2)), "{name} at {offset}");
                }
                (MarkAt::LastGroup, ..) | (_, false, _) => {
                    let mut bytes = small.bytes.clone();
                    damage(&mut bytes, offset);
                    let error = recover_bytes(&bytes)
                        .map(drop)
                        .expect_err(&format!("{name} at {offset}, mark {mark:?}: accepted"));
                    assert!(matches!(error, OpenError::Damaged { .. }), "{name} at {offset}: {error}");
                }
                (MarkAt::GroupBefore, true, Err(error)) => panic!("{name} at {offset}: a torn tail was refused: {error}"),
            }
        }
    }
}

#[test]
fn the_file_is_cut() {
    try_everywhere("cut", |bytes, offset| bytes.truncate(offset));
}

#[test]
fn the_tail_is_zeroed() {
    try_everywhere("zeroed tail", |bytes, offset| bytes[offset..].fill(0));
}

#[test]
fn a_hole_of_zeros() {
    try_everywhere("hole", |bytes, offset| bytes[offset..offset + 8].fill(0));
}

#[test]
fn a_flipped_bit() {
    for bit in [0x01, 0x80] {
        try_everywhere("flip", |bytes, offset| bytes[offset] ^= bit);
    }
}

#[test]
fn a_smashed_sector() {
    try_everywhere("smash", |bytes, offset| bytes[offset..offset + 64].fill(0xFF));
}

/// The mark alone would catch damage below it; a record of a later group must be enough.
#[test]
fn a_flipped_bit_with_a_later_group_behind_it_is_refused_without_help_from_the_mark() {
    let mut small = small_log(MarkAt::LastGroup);
    let oldest = Mark {
        group: 0,
        last: None,
        sealed: false,
    }
    .bytes(&small.header.salt);
    small.bytes[4096..DATA_AT as usize].fill(0);
    small.bytes[4096..4096 + oldest.len()].copy_from_slice(&oldest);
    let last_start = small.ends[11];
    for offset in DATA_AT as usize..last_start {
        let mut bytes = small.bytes.clone();
        bytes[offset] ^= 0x04;
        let error = recover_bytes(&bytes).map(drop).expect_err(&format!("byte {offset}: accepted"));
        assert!(error.to_string().contains("stands behind it"), "byte {offset}: {error}");
    }
    // In the last group there is nothing behind, so it is a torn tail.
    let mut bytes = small.bytes.clone();
    bytes[last_start + 20] ^= 0x04;
    assert_eq!(recover_bytes(&bytes).unwrap().group, 11);
}

#[test]
fn a_flipped_bit_anywhere_in_the_header_is_refused() {
    let small = small_log(MarkAt::LastGroup);
    for offset in 0..136 {
        let mut bytes = small.bytes.clone();
        bytes[offset] ^= 0x10;
        let error = recover_bytes(&bytes).map(drop).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { offset: 0, .. }), "byte {offset}: {error}");
    }
}

#[test]
fn one_spoiled_mark_is_covered_by_the_other_and_two_are_refused() {
    let small = small_log(MarkAt::LastGroup);
    for spoiled in [4096_usize, 8192] {
        let mut bytes = small.bytes.clone();
        bytes[spoiled] ^= 1;
        assert_eq!(recover_bytes(&bytes).unwrap().group, 12);
    }
    let mut bytes = small.bytes.clone();
    bytes[4096..12288].fill(0);
    assert!(recover_bytes(&bytes).map(drop).unwrap_err().to_string().contains("neither mark"));
}

#[test]
fn a_torn_tail_is_cleared_and_the_log_goes_on() {
    let small = small_log(MarkAt::GroupBefore);
    let mut bytes = small.bytes.clone();
    // The first record of the last group never reached the disk, the second did.
    let last_start = small.ends[11];
    bytes[last_start..last_start + 30].fill(0);
    small.disk.set_bytes(FILE, &bytes);
    let wal = open(&small.disk);
    assert_eq!(wal.last(), Some(id(1, 5)));
    // Were the second record left there, it could pass for a part of the next group, which has the same number.
    assert!(small.disk.bytes(FILE)[last_start..].iter().all(|byte| *byte == 0));
    append(&wal, vec![entry(3, 6, b"instead")]);
    wal.close().unwrap();
    let wal = open(&small.disk);
    assert_eq!(wal.last(), Some(id(3, 6)));
    assert_eq!(small.disk.bytes(FILE).len(), small.bytes.len());
}

#[test]
fn a_cut_file_gets_its_length_back() {
    let small = small_log(MarkAt::GroupBefore);
    small.disk.set_bytes(FILE, &small.bytes[..small.ends[11] + 3]);
    let wal = open(&small.disk);
    assert_eq!(wal.last(), Some(id(1, 5)));
    drop(wal);
    assert_eq!(small.disk.bytes(FILE).len(), small.bytes.len());
}

#[test]
fn a_log_that_was_read_back_is_below_the_mark_before_it_answers() {
    // The last group was in the page cache only when the process was killed. Once a member has started with it, it counts.
    let small = small_log(MarkAt::GroupBefore);
    drop(open(&small.disk));
    let mut bytes = small.disk.bytes(FILE);
    bytes[small.ends[11]..].fill(0);
    assert!(matches!(recover_bytes(&bytes).map(drop), Err(OpenError::Damaged { .. })));
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let small = small_log(MarkAt::LastGroup);
    let mut bytes = small.bytes.clone();
    bytes[16..20].copy_from_slice(&(FORMAT + 1).to_le_bytes());
    let checksum = crc32c::crc32c(&bytes[12..136]);
    bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
    let error = recover_bytes(&bytes).map(drop).unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::NewerFormat {
                found: 2,
                supported: 1,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("start the version of kvnode that wrote it"), "{error}");
}

#[test]
fn records_of_another_log_do_not_count() {
    let small = small_log(MarkAt::LastGroup);
    let other = Salt::new([9; 16]);
    assert!(Frame::read(&small.bytes[DATA_AT as usize..], &small.header.salt).is_some());
    assert!(Frame::read(&small.bytes[DATA_AT as usize..], &other).is_none());
}

/// Several segments: a missing, foreign or shortened one is refused.
#[test]
fn a_missing_or_foreign_segment_is_refused() {
    let disk = FakeDisk::new();
    let wal = open(&disk);
    for index in 0..60 {
        append(&wal, vec![entry(1, index, &[7; 500])]);
    }
    wal.close().unwrap();
    let count = disk.names().unwrap().iter().filter(|name| name.ends_with(".seg")).count() as u64;
    assert!(count >= 4, "{count} segments");
    assert!(recover(&disk).is_ok());
    for lost in 1..=count {
        let disk = disk.copy();
        disk.remove(&segment::name(lost)).unwrap();
        assert!(
            matches!(recover(&disk).map(drop), Err(OpenError::Damaged { .. })),
            "segment {lost} of {count} is gone"
        );
    }
    for swapped in 1..=count {
        let disk = disk.copy();
        let foreign = small_log(MarkAt::LastGroup);
        let mut header = Header::read(&disk.bytes(&segment::name(swapped))).unwrap();
        header.salt = Salt::new([0x55; 16]);
        let mut bytes = foreign.bytes.clone();
        bytes[..136].copy_from_slice(&header.bytes());
        disk.set_bytes(&segment::name(swapped), &bytes);
        assert!(
            matches!(recover(&disk).map(drop), Err(OpenError::Damaged { .. })),
            "segment {swapped} is foreign"
        );
    }
    for spoiled in 1..=count {
        let disk = disk.copy();
        let mut bytes = disk.bytes(&segment::name(spoiled));
        bytes[DATA_AT as usize + 100] ^= 1;
        disk.set_bytes(&segment::name(spoiled), &bytes);
        assert!(
            matches!(recover(&disk).map(drop), Err(OpenError::Damaged { .. })),
            "segment {spoiled} has a flipped bit"
        );
    }
}
