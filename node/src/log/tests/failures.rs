//! Disks that are full, and disks that fail.

use std::io::ErrorKind;
use std::sync::Mutex;

use super::*;
use crate::log::disk::fake::Flush;

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "{what}: not within 20 s");
        std::thread::yield_now();
    }
}

fn fill(wal: &Wal, from: u64) -> mpsc::Receiver<io::Result<()>> {
    let (sender, receiver) = mpsc::channel();
    for index in from..from + 20 {
        let sender = sender.clone();
        wal.append(
            vec![entry(1, index, &[1; 1000])],
            Box::new(move |outcome| drop(sender.send(outcome))),
        );
    }
    receiver
}

#[test]
fn a_full_disk_stops_answers_and_writes_resume_by_themselves() {
    let disk = FakeDisk::new();
    let wal = open(&disk);
    append(&wal, vec![entry(1, 0, b"before")]);
    disk.set_capacity(disk.used() + 8 * 1024);
    let answers = fill(&wal, 1);
    wait_until("the log waits for space", || wal.metrics().waiting_for_space);
    assert!(!wal.poisoned());
    let answered_while_full = answers.try_iter().inspect(|outcome| assert!(outcome.is_ok())).count();
    assert!(answered_while_full < 20);
    assert_eq!(read_all(&wal).len(), 21, "reads go on");
    disk.set_capacity(u64::MAX);
    for _ in answered_while_full..20 {
        answers
            .recv_timeout(Duration::from_secs(20))
            .expect("answered once there is space")
            .unwrap();
    }
    assert!(!wal.metrics().waiting_for_space);
    wal.close().unwrap();
    assert_eq!(read_all(&open(&disk)).len(), 21);
}

/// Every connection takes a descriptor; the log then waits for one, as it does for space.
#[test]
fn a_log_without_a_descriptor_for_its_next_segment_waits_for_one() {
    let disk = FakeDisk::new();
    let fatal = Arc::new(Mutex::new(Vec::new()));
    let on_fatal = {
        let fatal = Arc::clone(&fatal);
        Arc::new(move |error: io::Error| fatal.lock().unwrap().push(error.to_string()))
    };
    let wal = Wal::open_on(Arc::new(disk.clone()), Options { on_fatal, ..small() }).unwrap();
    append(&wal, vec![entry(1, 0, b"before")]);
    disk.set_descriptors(false);
    // Far more than one segment holds.
    let answers = fill(&wal, 1);
    let more = fill(&wal, 21);
    wait_until("the log waits for a descriptor", || {
        wal.metrics().waiting_for_space || wal.poisoned()
    });
    assert!(!wal.poisoned(), "{:?}", fatal.lock().unwrap());
    disk.set_descriptors(true);
    for answers in [answers, more] {
        for _ in 0..20 {
            let answer = answers.recv_timeout(Duration::from_secs(20));
            answer.expect("answered once there is a descriptor").unwrap();
        }
    }
    wal.close().unwrap();
    assert!(fatal.lock().unwrap().is_empty());
    assert_eq!(read_all(&open(&disk)).len(), 41);
}

#[test]
fn closing_a_log_that_waits_for_space_reports_it_and_keeps_what_was_answered() {
    let disk = FakeDisk::new();
    let fatal = Arc::new(Mutex::new(Vec::new()));
    let on_fatal = {
        let fatal = Arc::clone(&fatal);
        Arc::new(move |error: io::Error| fatal.lock().unwrap().push(error))
    };
    let wal = Wal::open_on(Arc::new(disk.clone()), Options { on_fatal, ..small() }).unwrap();
    append(&wal, vec![entry(1, 0, b"before")]);
    disk.set_capacity(disk.used());
    let answers = fill(&wal, 1);
    wait_until("the log waits for space", || wal.metrics().waiting_for_space);
    let error = wal.close().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    let outcomes: Vec<_> = answers.try_iter().collect();
    assert_eq!(outcomes.len(), 20, "every request has an answer");
    let answered = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert!(fatal.lock().unwrap().is_empty(), "a full disk is no reason to exit");
    disk.set_capacity(u64::MAX);
    let kept = read_all(&open(&disk)).len();
    assert!(kept > answered, "{kept} entries, {answered} answered and the first");
}

#[test]
fn a_failed_flush_is_fatal_and_never_tried_again() {
    let disk = FakeDisk::new();
    let fatal = Arc::new(Mutex::new(Vec::new()));
    let on_fatal = {
        let fatal = Arc::clone(&fatal);
        Arc::new(move |error: io::Error| fatal.lock().unwrap().push(error.to_string()))
    };
    let wal = Wal::open_on(Arc::new(disk.clone()), Options { on_fatal, ..small() }).unwrap();
    append(&wal, vec![entry(1, 0, b"before")]);
    // Otherwise the flush that fails could be that of the next segment, which is prepared on another thread: its name is flushed last.
    wait_until("the next segment is prepared", || {
        disk.durable_names().iter().any(|name| name.ends_with(".spare"))
    });
    disk.set_flush(Flush::Fails);
    let error = wait(|done| wal.append(vec![entry(1, 1, b"lost")], done)).unwrap_err();
    assert!(error.to_string().contains("input/output error"), "{error}");
    // The disk works again, but what the page cache holds can't be known.
    disk.set_flush(Flush::Honest);
    let fsyncs = wal.metrics().fsyncs;
    let refused = wait(|done| wal.save_vote(vote(9), done)).unwrap_err();
    assert!(refused.to_string().contains("restart the process"), "{refused}");
    wait_until("the log reports the failure", || !fatal.lock().unwrap().is_empty());
    assert!(wal.poisoned());
    assert_eq!(wal.metrics().fsyncs, fsyncs);
    assert!(wal.close().is_err());
    assert_eq!(fatal.lock().unwrap().len(), 1, "reported once");
    assert_eq!(open(&disk).vote(), None);
}

#[test]
fn an_entry_that_changed_on_disk_is_reported_when_read() {
    let disk = FakeDisk::new();
    let wal = Wal::open_on(Arc::new(disk.clone()), Options { cache_bytes: 0, ..small() }).unwrap();
    append(&wal, vec![entry(1, 0, b"zero"), entry(1, 1, b"one")]);
    let name = "00000000000000000001.seg";
    let mut bytes = disk.bytes(name);
    let at = bytes.windows(4).position(|window| window == b"zero").unwrap();
    bytes[at] ^= 1;
    disk.set_bytes(name, &bytes);
    let error = wal.read(0..2, usize::MAX).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(
        error
            .to_string()
            .contains("entry 0 is unreadable in fake/00000000000000000001.seg at byte 12288"),
        "{error}"
    );
    assert_eq!(wal.read(1..2, usize::MAX).unwrap(), [entry(1, 1, b"one")]);
}
