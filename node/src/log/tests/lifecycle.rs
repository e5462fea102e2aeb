//! Opening, writing, reading and reopening, on a real directory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::*;
use crate::log::OpenError;
use crate::log::segment::Standing;
use crate::log::state::{Source, State};
use crate::log::table::{Place, Table};

#[test]
fn a_new_log_is_empty_and_stays_empty_when_reopened() {
    let directory = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let wal = Wal::open(&directory.path().join("raft"), small()).unwrap();
        assert_eq!((wal.vote(), wal.committed(), wal.last(), wal.purged()), (None, None, None, None));
        assert_eq!(read_all(&wal), []);
        wal.close().unwrap();
    }
}

#[test]
fn entries_can_be_read_at_once_and_after_reopening_from_disk() {
    let directory = tempfile::tempdir().unwrap();
    let written: Vec<Entry> = (0..500)
        .map(|index| entry(1, index, &vec![index as u8; (index * 7 % 300) as usize]))
        .collect();
    let wal = Wal::open(directory.path(), small()).unwrap();
    let (sender, receiver) = mpsc::channel();
    for chunk in written.chunks(7) {
        let sender = sender.clone();
        wal.append(chunk.to_vec(), Box::new(move |outcome| drop(sender.send(outcome))));
        assert_eq!(wal.last(), chunk.last().map(|entry| entry.id));
    }
    assert_eq!(read_all(&wal), written, "readable before they are durable");
    drop(sender);
    assert!(receiver.iter().all(|outcome| outcome.is_ok()));
    wal.close().unwrap();

    let wal = Wal::open(directory.path(), small()).unwrap();
    assert_eq!(read_all(&wal), written);
    assert_eq!(wal.read(100..103, usize::MAX).unwrap(), written[100..103]);
    assert_eq!(
        wal.read(100..200, 1).unwrap(),
        written[100..101],
        "at least one, however small the limit"
    );
    assert_eq!(wal.read(498..900, usize::MAX).unwrap(), written[498..]);
    assert_eq!(wal.read(600..900, usize::MAX).unwrap(), []);
    assert!(wal.metrics().segments == 0, "nothing was written after reopening");
}

#[test]
fn a_cache_smaller_than_the_log_reads_the_rest_from_disk() {
    let disk = FakeDisk::new();
    let wal = Wal::open_on(
        Arc::new(disk),
        Options {
            cache_bytes: 500,
            ..small()
        },
    )
    .unwrap();
    let written: Vec<Entry> = (0..200).map(|index| entry(2, index, &[index as u8; 50])).collect();
    for chunk in written.chunks(10) {
        append(&wal, chunk.to_vec());
    }
    assert_eq!(read_all(&wal), written);
    assert_eq!(wal.read(0..200, 120).unwrap(), written[..1]);
}

#[test]
fn vote_and_commit_index_survive() {
    let directory = tempfile::tempdir().unwrap();
    let votes = [
        vote(1),
        Vote {
            term: 2,
            voted_for: None,
            committed: false,
        },
        Vote {
            term: u64::MAX,
            voted_for: Some(u64::MAX),
            committed: true,
        },
    ];
    for (index, saved) in votes.into_iter().enumerate() {
        let wal = Wal::open(directory.path(), small()).unwrap();
        wait(|done| wal.save_vote(saved, done)).unwrap();
        append(&wal, vec![entry(1, index as u64, b"x")]);
        wal.save_committed(Some(id(1, index as u64)));
        wal.close().unwrap();
        let wal = Wal::open(directory.path(), small()).unwrap();
        assert_eq!((wal.vote(), wal.committed()), (Some(saved), Some(id(1, index as u64))));
    }
}

#[test]
fn an_idle_log_flushes_mark_and_commit_index_once_and_then_rests() {
    let disk = FakeDisk::new();
    let options = Options {
        idle_flush: Duration::from_millis(1),
        ..small()
    };
    let wal = Wal::open_on(Arc::new(disk.clone()), options).unwrap();
    append(&wal, vec![entry(1, 0, b"x")]);
    wal.save_committed(Some(id(1, 0)));
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while wal.metrics().groups < 2 {
        assert!(std::time::Instant::now() < deadline, "the commit index is never written");
        std::thread::yield_now();
    }
    assert_eq!(open(&disk.copy()).committed(), Some(id(1, 0)));
    let fsyncs = wal.metrics().fsyncs;
    // Twenty times the idle time: a log that keeps flushing would show it (that nothing happens can't be awaited).
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(wal.metrics().fsyncs, fsyncs);
}

#[test]
fn a_truncated_tail_is_replaced_and_stays_replaced() {
    let disk = FakeDisk::new();
    let wal = open(&disk);
    append(&wal, (0..10).map(|index| entry(1, index, b"old")).collect());
    wait(|done| wal.truncate_after(Some(id(1, 4)), done)).unwrap();
    assert_eq!(wal.last(), Some(id(1, 4)));
    append(&wal, (5..7).map(|index| entry(2, index, b"new")).collect());
    let expected: Vec<Entry> = (0..5)
        .map(|index| entry(1, index, b"old"))
        .chain((5..7).map(|index| entry(2, index, b"new")))
        .collect();
    assert_eq!(read_all(&wal), expected);
    wal.close().unwrap();
    let wal = open(&disk);
    assert_eq!((read_all(&wal), wal.last()), (expected, Some(id(2, 6))));
    wait(|done| wal.truncate_after(None, done)).unwrap();
    wal.close().unwrap();
    let wal = open(&disk);
    assert_eq!((read_all(&wal), wal.last()), (vec![], None));
    append(&wal, vec![entry(3, 0, b"again")]);
}

#[test]
fn truncating_and_appending_without_waiting_keeps_the_newest_entry_of_each_index() {
    let disk = FakeDisk::new();
    // A cache of nothing: reads go to the places that the writer reported.
    let wal = Wal::open_on(Arc::new(disk), Options { cache_bytes: 0, ..small() }).unwrap();
    for term in 1..200 {
        wal.truncate_after(None, Box::new(|outcome| outcome.unwrap()));
        wal.append(
            (0..3).map(|index| entry(term, index, &term.to_le_bytes())).collect(),
            Box::new(|outcome| outcome.unwrap()),
        );
    }
    wait(|done| wal.append(vec![], done)).unwrap();
    assert_eq!(
        read_all(&wal),
        (0..3).map(|index| entry(199, index, &199_u64.to_le_bytes())).collect::<Vec<_>>()
    );
}

#[test]
fn a_late_report_about_a_truncated_entry_does_not_stand_for_its_successor() {
    let mut state = State::new(Standing::default(), Table::default(), BTreeMap::new(), 0);
    let ignore = || -> Done { Box::new(drop) };
    assert!(state.append(vec![entry(1, 0, b"old")], ignore()).is_ok());
    assert!(state.truncate_after(None, ignore()).is_ok());
    assert!(state.append(vec![entry(2, 0, b"new")], ignore()).is_ok());
    // Only now does the writer say where the old one went.
    state.written(
        [(
            0,
            Place {
                segment: 1,
                offset: 12288,
                length: 44,
                epoch: 0,
            },
        )]
        .into_iter(),
    );
    match state.sources(0..1, usize::MAX).as_slice() {
        [Source::Cached(found)] => assert_eq!(*found, entry(2, 0, b"new")),
        _ => panic!("the new entry left the cache before it was written"),
    }
}

#[test]
fn a_purge_beyond_the_end_moves_the_log_there() {
    let disk = FakeDisk::new();
    let wal = open(&disk);
    append(&wal, (0..5).map(|index| entry(1, index, b"x")).collect());
    wait(|done| wal.purge_through(id(4, 100), done)).unwrap();
    assert_eq!(
        (wal.last(), wal.purged(), read_all(&wal)),
        (Some(id(4, 100)), Some(id(4, 100)), vec![])
    );
    append(&wal, vec![entry(5, 101, b"y")]);
    wal.close().unwrap();
    let wal = open(&disk);
    assert_eq!(
        (wal.last(), wal.purged(), read_all(&wal)),
        (Some(id(5, 101)), Some(id(4, 100)), vec![entry(5, 101, b"y")])
    );
}

#[test]
fn requests_that_do_not_fit_are_refused_with_the_reason_and_change_nothing() {
    let disk = FakeDisk::new();
    let wal = open(&disk);
    append(&wal, (0..5).map(|index| entry(1, index, b"x")).collect());
    wait(|done| wal.purge_through(id(1, 2), done)).unwrap();
    let gap = wait(|done| wal.append(vec![entry(1, 6, b"x")], done)).unwrap_err();
    assert!(gap.to_string().contains("the next index is 5"), "{gap}");
    let inside = wait(|done| wal.append(vec![entry(1, 5, b"x"), entry(1, 5, b"x")], done)).unwrap_err();
    assert!(inside.to_string().contains("the next index is 6"), "{inside}");
    let cut = wait(|done| wal.truncate_after(Some(id(1, 1)), done)).unwrap_err();
    assert!(cut.to_string().contains("purged"), "{cut}");
    assert_eq!(wal.last(), Some(id(1, 4)));
    assert!(!wal.poisoned());
    let wal = Wal::clone(&wal);
    wal.clone().close().unwrap();
    let closed = wait(|done| wal.save_vote(vote(1), done)).unwrap_err();
    assert!(closed.to_string().contains("closed"), "{closed}");
}

#[test]
fn callbacks_run_in_order() {
    let disk = FakeDisk::new();
    let wal = open(&disk);
    let order = Arc::new(Mutex::new(Vec::new()));
    let note = |number: u64| -> Done {
        let order = Arc::clone(&order);
        Box::new(move |outcome| {
            outcome.unwrap();
            order.lock().unwrap().push(number);
        })
    };
    for number in 0..300 {
        match number % 3 {
            0 => wal.append(vec![entry(1, number / 3, b"x")], note(number)),
            1 => wal.save_vote(vote(number), note(number)),
            _ => wal.append(vec![], note(number)),
        }
    }
    wal.close().unwrap();
    assert_eq!(*order.lock().unwrap(), (0..300).collect::<Vec<_>>());
}

#[test]
fn a_callback_may_hold_the_last_handle() {
    let disk = FakeDisk::new();
    let wal = open(&disk);
    let (sender, receiver) = mpsc::channel();
    let held = wal.clone();
    wal.append(
        vec![entry(1, 0, b"x")],
        Box::new(move |outcome| {
            drop(held);
            drop(sender.send(outcome));
        }),
    );
    drop(wal);
    receiver.recv().unwrap().unwrap();
}

#[test]
fn options_that_cannot_work_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let error = Wal::open(
        directory.path(),
        Options {
            segment_bytes: 1,
            ..small()
        },
    )
    .map(drop)
    .unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::Option {
                option: "segment_bytes",
                found: 1,
                ..
            }
        ),
        "{error}"
    );
}
