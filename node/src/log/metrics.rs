//! What the log counts. Written by its threads, read by anyone.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::table::Size;

/// Counters since the log was opened, and two facts about now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metrics {
    /// Groups written.
    pub groups: u64,
    /// `fdatasync` calls on segments in use.
    pub fsyncs: u64,
    /// Bytes of records written.
    pub bytes: u64,
    /// Entries written.
    pub entries: u64,
    /// Segments taken into use since the log was opened.
    pub segments: u64,
    /// Segments in use now.
    pub segments_held: usize,
    /// Entries that the log holds now.
    pub held: Size,
    /// Segments taken into use that had to be zeroed while a group waited.
    pub segments_unprepared: u64,
    /// The slowest group, from the write to the end of its `fdatasync`.
    pub slowest_group: Duration,
    /// How long the call to a file that the writer is in has been under way; `None` between groups. A disk that hangs shows here;
    /// waiting for disk space does not count, nor does a group whose calls all return.
    pub call_under_way: Option<Duration>,
    /// Whether the log waits for disk space: it acknowledges nothing until there is some, then goes on by itself.
    pub waiting_for_space: bool,
}

/// The counters behind [`Metrics`].
pub(super) struct Counters {
    opened: Instant,
    /// Microseconds after `opened` at which the group under way began, plus one; 0 for none.
    group_began: AtomicU64,
    /// The same of the call under way.
    call_began: AtomicU64,
    slowest_group: AtomicU64,
    pub(super) groups: AtomicU64,
    pub(super) fsyncs: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) entries: AtomicU64,
    pub(super) segments: AtomicU64,
    pub(super) segments_unprepared: AtomicU64,
    pub(super) waiting_for_space: AtomicBool,
}

impl Counters {
    pub(super) fn new() -> Self {
        Self {
            opened: Instant::now(),
            group_began: AtomicU64::new(0),
            call_began: AtomicU64::new(0),
            slowest_group: AtomicU64::new(0),
            groups: AtomicU64::new(0),
            fsyncs: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            segments: AtomicU64::new(0),
            segments_unprepared: AtomicU64::new(0),
            waiting_for_space: AtomicBool::new(false),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub(super) fn group_begins(&self) {
        let now = self.now() + 1;
        self.group_began.store(now, Ordering::Relaxed);
        self.call_began.store(now, Ordering::Relaxed);
    }

    /// A call within a group has returned.
    pub(super) fn call_ends(&self) {
        self.call_began.store(self.now() + 1, Ordering::Relaxed);
    }

    /// Nothing is asked of the disk from here on: a flush has ended, or there is no space.
    pub(super) fn disk_rests(&self) {
        self.group_began.store(0, Ordering::Relaxed);
        self.call_began.store(0, Ordering::Relaxed);
    }

    pub(super) fn group_ends(&self, bytes: u64, entries: u64) {
        self.call_began.store(0, Ordering::Relaxed);
        let began = self.group_began.swap(0, Ordering::Relaxed).saturating_sub(1);
        self.slowest_group.fetch_max(self.now().saturating_sub(began), Ordering::Relaxed);
        self.groups.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.entries.fetch_add(entries, Ordering::Relaxed);
    }

    pub(super) fn read(&self, segments_held: usize, held: Size) -> Metrics {
        let began = self.call_began.load(Ordering::Relaxed).checked_sub(1);
        Metrics {
            groups: self.groups.load(Ordering::Relaxed),
            fsyncs: self.fsyncs.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            entries: self.entries.load(Ordering::Relaxed),
            segments: self.segments.load(Ordering::Relaxed),
            segments_held,
            held,
            segments_unprepared: self.segments_unprepared.load(Ordering::Relaxed),
            slowest_group: Duration::from_micros(self.slowest_group.load(Ordering::Relaxed)),
            call_under_way: began.map(|began| Duration::from_micros(self.now().saturating_sub(began))),
            waiting_for_space: self.waiting_for_space.load(Ordering::Relaxed),
        }
    }
}
