//! The log under test: its bytes, damage at every offset, power cuts, full and failing disks.

mod crash;
mod damage;
mod failures;
mod golden;
mod lifecycle;
mod recycling;

use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;

use super::disk::fake::FakeDisk;
use super::{Done, Entry, LogId, Options, Vote, Wal};

fn id(term: u64, index: u64) -> LogId {
    LogId { term, leader: 7, index }
}

fn entry(term: u64, index: u64, payload: &[u8]) -> Entry {
    Entry {
        id: id(term, index),
        payload: Bytes::copy_from_slice(payload),
    }
}

fn vote(term: u64) -> Vote {
    Vote {
        term,
        voted_for: Some(3),
        committed: true,
    }
}

/// Small segments, so that a short test rolls; a flush of what rides along only on request (closing), so that tests decide.
fn small() -> Options {
    Options {
        segment_bytes: 16 * 1024,
        first_segment_bytes: 16 * 1024,
        idle_flush: Duration::from_secs(3600),
        space_retry: Duration::from_millis(5),
        on_fatal: Arc::new(|_| {}),
        ..Options::default()
    }
}

fn open(disk: &FakeDisk) -> Wal {
    Wal::open_on(Arc::new(disk.clone()), small()).unwrap()
}

/// Sends a request and waits for its callback.
fn wait(request: impl FnOnce(Done)) -> io::Result<()> {
    let (sender, receiver) = mpsc::channel();
    request(Box::new(move |outcome| drop(sender.send(outcome))));
    receiver.recv().expect("the log answers every request")
}

fn append(wal: &Wal, entries: Vec<Entry>) {
    wait(|done| wal.append(entries, done)).unwrap();
}

fn read_all(wal: &Wal) -> Vec<Entry> {
    wal.read(0..u64::MAX, usize::MAX).unwrap()
}
