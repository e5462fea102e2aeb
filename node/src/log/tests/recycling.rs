//! Purged segments: reused, bounded in number, and never mistaken for what they held before.

use super::*;
use crate::log::disk::Disk;

fn files(disk: &FakeDisk, suffix: &str) -> Vec<String> {
    disk.names().unwrap().into_iter().filter(|name| name.ends_with(suffix)).collect()
}

#[test]
fn a_log_that_is_purged_as_it_grows_reuses_its_segments() {
    let disk = FakeDisk::new();
    let wal = open(&disk);
    for index in 0..2000_u64 {
        append(&wal, vec![entry(1, index, &index.to_le_bytes().repeat(40))]);
        if index % 50 == 49 {
            wait(|done| wal.purge_through(id(1, index - 20), done)).unwrap();
        }
    }
    assert!(wal.metrics().segments > 100, "{:?}", wal.metrics());
    let expected = read_all(&wal);
    assert_eq!(expected.len(), 20);
    wal.close().unwrap();
    assert!(files(&disk, ".seg").len() <= 20, "{:?}", files(&disk, ""));
    assert!(files(&disk, ".spare").len() <= 3, "{:?}", files(&disk, ""));
    let wal = open(&disk);
    assert_eq!(read_all(&wal), expected);
    assert!(files(&disk, ".spare").len() <= small().spare_segments);
}

#[test]
fn a_reused_segment_begins_with_what_it_held_before_behind_its_end() {
    let disk = FakeDisk::new();
    let options = Options {
        spare_segments: 3,
        ..small()
    };
    let wal = Wal::open_on(Arc::new(disk.clone()), options).unwrap();
    for index in 0..100_u64 {
        append(&wal, vec![entry(1, index, &[0x5A; 100])]);
    }
    wait(|done| wal.save_vote(vote(5), done)).unwrap();
    wait(|done| wal.purge_through(id(1, 99), done)).unwrap();
    wal.close().unwrap();
    assert!(!files(&disk, ".spare").is_empty(), "{:?}", files(&disk, ""));

    // Into a reused segment, with records of the same length: the remains line up with the new ones.
    let wal = open(&disk);
    let remains = |name: &String| disk.bytes(name).windows(50).any(|window| window == [0x5A; 50]);
    let mut next = 100;
    while next < 110 || !files(&disk, ".seg").last().is_some_and(remains) {
        assert!(next < 400, "no segment is reused: {:?}", files(&disk, ""));
        append(&wal, vec![entry(2, next, &[0xA5; 100])]);
        next += 1;
    }
    wal.close().unwrap();
    let wal = open(&disk);
    assert_eq!(
        (wal.vote(), wal.purged(), wal.last()),
        (Some(vote(5)), Some(id(1, 99)), Some(id(2, next - 1)))
    );
    assert_eq!(
        read_all(&wal),
        (100..next).map(|index| entry(2, index, &[0xA5; 100])).collect::<Vec<_>>()
    );
}

#[test]
fn an_entry_larger_than_a_segment_gets_a_segment_of_its_own() {
    let disk = FakeDisk::new();
    let wal = open(&disk);
    let large = entry(1, 1, &vec![3; 100_000]);
    append(&wal, vec![entry(1, 0, b"small"), large.clone(), entry(1, 2, b"small")]);
    wal.close().unwrap();
    assert_eq!(read_all(&open(&disk))[1], large);
}

#[test]
fn one_request_larger_than_a_group_is_split_and_answered_once() {
    let disk = FakeDisk::new();
    let wal = Wal::open_on(
        Arc::new(disk.clone()),
        Options {
            group_bytes: 1000,
            ..small()
        },
    )
    .unwrap();
    let entries: Vec<Entry> = (0..100).map(|index| entry(1, index, &[9; 200])).collect();
    append(&wal, entries.clone());
    assert!(wal.metrics().groups >= 20, "{:?}", wal.metrics());
    wal.close().unwrap();
    assert_eq!(read_all(&open(&disk)), entries);
}

#[test]
fn readers_of_purged_entries_see_old_bytes_or_none_but_no_error() {
    let disk = FakeDisk::new();
    let wal = Wal::open_on(Arc::new(disk), Options { cache_bytes: 0, ..small() }).unwrap();
    std::thread::scope(|scope| {
        let reader = scope.spawn({
            let wal = wal.clone();
            move || {
                let mut seen = 0;
                while wal.last().is_none_or(|last| last.index < 1999) {
                    for entry in wal.read(0..u64::MAX, 4000).unwrap() {
                        assert_eq!(entry.payload, entry.id.index.to_le_bytes().repeat(20));
                        seen += 1;
                    }
                }
                seen
            }
        });
        for index in 0..2000_u64 {
            append(&wal, vec![entry(1, index, &index.to_le_bytes().repeat(20))]);
            if index % 20 == 19 {
                wait(|done| wal.purge_through(id(1, index - 5), done)).unwrap();
            }
        }
        assert!(reader.join().unwrap() > 0);
    });
}
