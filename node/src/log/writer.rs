//! The thread that writes. In: requests from the queue. Out: groups on disk, and their callbacks. Absent: any decision about requests;
//! they were checked when they were queued.
//!
//! For each group: one write, one `fdatasync`, the mark, the places for readers, then the callbacks in order. The mark is written
//! before the callbacks and becomes durable with the next group's flush, or by itself after a short idle time.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::disk::{Disk, File};
use super::entry::LogId;
use super::group::Group;
use super::record::Record;
use super::segment::{DATA_AT, Header, Mark, Slot, Standing};
use super::spares::{Spare, Spares, is_full};
use super::state::{Done, Phase, Request, Shared, State};
use super::table::Place;

/// The segment being written.
pub(super) struct Active {
    pub(super) sequence: u64,
    pub(super) capacity: u64,
    pub(super) file: Arc<dyn File>,
    /// Where the next group goes.
    pub(super) end: u64,
    /// Where the newest mark stands.
    pub(super) slot: Slot,
    pub(super) highest: Option<u64>,
}

/// A full segment.
pub(super) struct Full {
    pub(super) sequence: u64,
    pub(super) capacity: u64,
    pub(super) highest: Option<u64>,
}

/// The writer's own view: what is on disk, where readers already see what is queued.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) spares: Spares,
    pub(super) active: Active,
    /// Oldest first.
    pub(super) full: VecDeque<Full>,
    pub(super) standing: Standing,
    /// The last group written.
    pub(super) group: u64,
    /// Whether a mark was written that no flush has covered yet.
    pub(super) unflushed: bool,
    pub(super) buffer: Group,
}

/// What to do next.
pub(super) enum Work {
    Write(VecDeque<Request>),
    Flush,
    Close,
    /// The segment thread failed.
    Abandon,
}

/// Why the writer ends before it is asked to.
pub(super) enum Stop {
    /// A write or a flush failed: what the page cache holds can't be trusted.
    Fatal(io::Error),
    /// The log was closed while it waited for disk space.
    Full(io::Error),
}

/// What a group means once it is durable.
struct Pending {
    standing: Standing,
    /// Index, epoch, offset inside the group, length.
    entries: Vec<(u64, u64, usize, usize)>,
    done: Vec<Done>,
    /// Whether somebody will be told: then the mark must cover it.
    promised: bool,
    purged: bool,
}

impl Writer {
    /// Runs until the log is closed or fails.
    pub(super) fn run(mut self) {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.work()));
        let stop = outcome.unwrap_or_else(|_| Err(Stop::Fatal(io::Error::other("the log's writer thread panicked"))));
        self.end(stop);
    }

    /// Closes the log, and refuses what still waits.
    pub(super) fn end(mut self, stop: Result<(), Stop>) {
        let waiting = {
            let mut state = self.shared.lock();
            match &stop {
                // The segment thread may have failed first.
                _ if matches!(state.phase, Phase::Failed { .. }) => {}
                Ok(()) => state.phase = Phase::Closed,
                Err(Stop::Fatal(error) | Stop::Full(error)) => {
                    state.phase = Phase::Failed {
                        kind: error.kind(),
                        message: error.to_string(),
                    }
                }
            }
            mem::take(&mut state.queue)
        };
        for request in waiting {
            let refusal = self.shared.lock().phase.refusal();
            (request.into_done())(refusal.map_or(Ok(()), Err));
        }
        self.spares.close();
        if let Err(Stop::Fatal(error)) = stop {
            (self.shared.options.on_fatal)(error);
        }
    }

    fn work(&mut self) -> Result<(), Stop> {
        self.ask_ahead();
        loop {
            match self.next() {
                Work::Write(requests) => self.write_all(requests)?,
                Work::Flush => self.flush()?,
                Work::Close => return self.flush(),
                Work::Abandon => return Ok(()),
            }
        }
    }

    pub(super) fn write_all(&mut self, mut requests: VecDeque<Request>) -> Result<(), Stop> {
        while !requests.is_empty() {
            let pending = self.assemble(&mut requests);
            if let Err(stop) = self.commit(pending) {
                // The rest goes back, so that it is refused like everything else in the queue.
                let mut state = self.shared.lock();
                while let Some(request) = requests.pop_back() {
                    state.queue.push_front(request);
                }
                return Err(stop);
            }
        }
        Ok(())
    }

    /// Waits for requests, or for the moment when idling has lasted long enough to flush what rides along.
    fn next(&self) -> Work {
        let mut state = self.shared.lock();
        let mut flush_at = None;
        loop {
            if let Some(work) = self.waiting_work(&mut state) {
                return work;
            }
            let lock_reason = "nothing panics while it holds this lock";
            if !self.has_riders(&state) {
                state = self.shared.wake.wait(state).expect(lock_reason);
                continue;
            }
            let at = *flush_at.get_or_insert_with(|| Instant::now() + self.shared.options.idle_flush);
            let left = at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Work::Flush;
            }
            state = self.shared.wake.wait_timeout(state, left).expect(lock_reason).0;
        }
    }

    /// What can be done at once.
    pub(super) fn waiting_work(&self, state: &mut State) -> Option<Work> {
        if !state.queue.is_empty() {
            return Some(Work::Write(self.drain(state)));
        }
        match state.phase {
            Phase::Running => None,
            Phase::Closing => Some(Work::Close),
            Phase::Closed | Phase::Failed { .. } => Some(Work::Abandon),
        }
    }

    /// Whether something rides along that is flushed by itself when the log is idle.
    pub(super) fn has_riders(&self, state: &State) -> bool {
        self.unflushed || self.commit_to_write(state.standing.committed).is_some()
    }

    fn drain(&self, state: &mut State) -> VecDeque<Request> {
        let mut bytes = 0;
        let mut requests = VecDeque::new();
        while bytes < self.shared.options.group_bytes
            && let Some(request) = state.queue.pop_front()
        {
            bytes += request.bytes();
            requests.push_back(request);
        }
        requests
    }

    /// The commit index to record, if the one on disk is out of date and this one's entry is already written.
    fn commit_to_write(&self, committed: Option<LogId>) -> Option<Option<LogId>> {
        let written = committed.is_none_or(|committed| self.standing.last.is_some_and(|last| committed.index <= last.index));
        (committed != self.standing.committed && written).then_some(committed)
    }

    /// Encodes requests into the buffer until it is full; what does not fit stays in `requests`.
    fn assemble(&mut self, requests: &mut VecDeque<Request>) -> Pending {
        let limit = self.shared.options.group_bytes;
        self.buffer.reset(limit);
        let number = self.group + 1;
        let mut pending = Pending {
            standing: self.standing,
            entries: Vec::new(),
            done: Vec::new(),
            promised: false,
            purged: false,
        };
        while self.buffer.len() < limit
            && let Some(request) = requests.pop_front()
        {
            match request {
                Request::Append { mut entries, epoch, done } => {
                    while self.buffer.len() < limit
                        && let Some(entry) = entries.pop_front()
                    {
                        let (offset, length) = self.buffer.push(number, &Record::entry(&entry));
                        pending.entries.push((entry.id.index, epoch, offset, length));
                        pending.standing.last = Some(entry.id);
                    }
                    if entries.is_empty() {
                        pending.done.push(done);
                    } else {
                        requests.push_front(Request::Append { entries, epoch, done });
                    }
                }
                Request::Vote { vote, done } => {
                    self.buffer.push(number, &Record::Vote(vote));
                    pending.standing.vote = Some(vote);
                    pending.done.push(done);
                }
                Request::Truncate { after, done } => {
                    self.buffer.push(number, &Record::Truncate(after));
                    pending.standing.last = after;
                    pending.done.push(done);
                }
                Request::Purge { upto, done } => {
                    self.buffer.push(number, &Record::Purge(upto));
                    pending.standing.purged = Some(upto);
                    if pending.standing.last.is_none_or(|last| last.index <= upto.index) {
                        pending.standing.last = Some(upto);
                    }
                    pending.purged = true;
                    pending.done.push(done);
                }
                Request::Barrier { done } => pending.done.push(done),
            }
        }
        pending.promised = !self.buffer.is_empty();
        if pending.promised {
            let before = mem::replace(&mut self.standing, pending.standing);
            let committed = self.commit_to_write(self.shared.lock().standing.committed);
            self.standing = before;
            if let Some(committed) = committed {
                self.buffer.push(number, &Record::Committed(committed));
                pending.standing.committed = committed;
            }
        }
        pending
    }

    /// Makes the buffered group durable and answers for it.
    fn commit(&mut self, pending: Pending) -> Result<(), Stop> {
        let Pending {
            standing,
            entries,
            done,
            promised,
            purged,
        } = pending;
        if !self.buffer.is_empty()
            && let Err(stop) = self.write(&entries, standing, promised)
        {
            let (Stop::Fatal(error) | Stop::Full(error)) = &stop;
            for done in done {
                done(Err(io::Error::new(error.kind(), error.to_string())));
            }
            return Err(stop);
        }
        if purged {
            self.retire_purged();
        }
        for done in done {
            done(Ok(()));
        }
        Ok(())
    }

    fn write(&mut self, entries: &[(u64, u64, usize, usize)], standing: Standing, promised: bool) -> Result<(), Stop> {
        let shared = Arc::clone(&self.shared);
        let mut buffer = mem::take(&mut self.buffer);
        buffer.seal(&shared.salt);
        let length = buffer.len() as u64;
        shared.counters.group_begins();
        if self.active.end + length > self.active.capacity {
            self.roll(length)?;
        }
        let start = self.active.end;
        let file = Arc::clone(&self.active.file);
        self.until_space(|_| file.write_at(buffer.bytes(), start))?;
        self.flush_active()?;
        self.active.end += length;
        self.group += 1;
        self.standing = standing;
        if promised {
            let mark = Mark {
                group: self.group,
                last: standing.last,
                sealed: false,
            };
            self.write_mark(&mark)?;
        }
        shared.counters.group_ends(length, entries.len() as u64);
        self.active.highest = self.active.highest.max(entries.iter().map(|(index, ..)| *index).max());
        self.buffer = buffer;

        let segment = self.active.sequence;
        let places = entries.iter().filter_map(|&(index, epoch, offset, length)| {
            let offset = u32::try_from(start + offset as u64).ok()?;
            Some((
                index,
                Place {
                    segment,
                    offset,
                    length: u32::try_from(length).ok()?,
                    epoch,
                },
            ))
        });
        shared.lock().written(places);
        if start <= self.active.capacity / 2 {
            self.ask_ahead();
        }
        Ok(())
    }

    /// Asks for the next segment once half of this one is used: early enough for it to be zeroed beside the log.
    fn ask_ahead(&self) {
        if self.active.end > self.active.capacity / 2 {
            self.spares.want();
        }
    }

    /// Writes the mark into the slot that does not hold the newest one.
    fn write_mark(&mut self, mark: &Mark) -> Result<(), Stop> {
        let slot = self.active.slot.other();
        let bytes = mark.bytes(&self.shared.salt);
        let file = Arc::clone(&self.active.file);
        self.until_space(|_| file.write_at(&bytes, slot.offset()))?;
        self.active.slot = slot;
        self.unflushed = true;
        Ok(())
    }

    /// A flush that fails is never tried again: the kernel may have dropped the pages and report success next time.
    fn flush_active(&mut self) -> Result<(), Stop> {
        self.shared.counters.fsyncs.fetch_add(1, Ordering::Relaxed);
        self.active.file.flush().map_err(Stop::Fatal)?;
        self.shared.counters.call_ends();
        self.unflushed = false;
        Ok(())
    }

    /// Flushes what rode along: the last mark, and the commit index.
    pub(super) fn flush(&mut self) -> Result<(), Stop> {
        let committed = self.commit_to_write(self.shared.lock().standing.committed);
        match committed {
            Some(committed) => {
                self.buffer.reset(self.shared.options.group_bytes);
                self.buffer.push(self.group + 1, &Record::Committed(committed));
                // Nobody is told, so the mark need not cover it, and this flush is the last one.
                self.write(
                    &[],
                    Standing {
                        committed,
                        ..self.standing
                    },
                    false,
                )
            }
            None if self.unflushed => {
                self.shared.counters.group_begins();
                let flushed = self.flush_active();
                self.shared.counters.disk_rests();
                flushed
            }
            None => Ok(()),
        }
    }

    /// Goes on in a new segment with room for `length` bytes of records.
    fn roll(&mut self, length: u64) -> Result<(), Stop> {
        let sequence = self.active.sequence + 1;
        let needed = DATA_AT + length;
        let mark = Mark {
            group: self.group,
            last: self.standing.last,
            sealed: false,
        };
        let spare = self.until_space(|writer| writer.obtain(needed))?;
        let header = Header {
            capacity: spare.capacity,
            sequence,
            salt: self.shared.salt,
            group: self.group,
            first_index: self.standing.next_index().unwrap_or(0),
            purged: self.standing.purged,
            vote: self.standing.vote,
            committed: self.standing.committed,
        };
        spare.become_segment(self.disk.as_ref(), &header, &mark).map_err(Stop::Fatal)?;
        self.shared.counters.call_ends();
        // From here on the old segment must not pass for the last one. Its flush also covers its last mark.
        self.write_mark(&Mark { sealed: true, ..mark })?;
        self.flush_active()?;

        let next = Active {
            sequence,
            capacity: spare.capacity,
            file: spare.file,
            end: DATA_AT,
            slot: Slot::First,
            highest: None,
        };
        self.shared.lock().segments.insert(sequence, Arc::clone(&next.file));
        self.shared.counters.segments.fetch_add(1, Ordering::Relaxed);
        let old = mem::replace(&mut self.active, next);
        self.full.push_back(Full {
            sequence: old.sequence,
            capacity: old.capacity,
            highest: old.highest,
        });
        Ok(())
    }

    /// A prepared segment, or, if none is ready, a small one made now.
    fn obtain(&mut self, needed: u64) -> io::Result<Spare> {
        if let Some(spare) = self.spares.take(needed) {
            return Ok(spare);
        }
        self.shared.counters.segments_unprepared.fetch_add(1, Ordering::Relaxed);
        self.spares.make(needed.max(self.shared.options.first_segment_bytes))
    }

    /// Hands over segments that hold no entry above the purged ones, oldest first and without a gap.
    fn retire_purged(&mut self) {
        let Some(purged) = self.standing.purged else { return };
        while let Some(oldest) = self
            .full
            .pop_front_if(|oldest| oldest.highest.is_none_or(|highest| highest <= purged.index))
        {
            // Readers clone the handle under the lock: with no clone left once it is out of the map, nobody can read the old bytes.
            let file = self.shared.lock().segments.remove(&oldest.sequence);
            let file = file.filter(|file| Arc::strong_count(file) == 1);
            self.spares.retire(oldest.sequence, oldest.capacity, file);
        }
    }

    /// Repeats an operation while the volume is full. Nothing is acknowledged meanwhile, and nothing is lost: what waits is written
    /// when there is space again.
    fn until_space<T>(&mut self, mut operation: impl FnMut(&mut Self) -> io::Result<T>) -> Result<T, Stop> {
        let full = |shared: &Shared, value| shared.counters.waiting_for_space.swap(value, Ordering::Relaxed);
        loop {
            match operation(self) {
                Ok(value) => {
                    self.shared.counters.call_ends();
                    if full(&self.shared, false) {
                        tracing::info!("the write-ahead log goes on");
                    }
                    return Ok(value);
                }
                Err(error) if is_full(&error) => {
                    self.shared.counters.disk_rests();
                    if !full(&self.shared, true) {
                        tracing::warn!(%error, "the write-ahead log waits for disk space, or for a file descriptor, and acknowledges nothing until there is some");
                    }
                    // Free space can't be awaited, only looked for; closing can.
                    let state = self.shared.lock();
                    let retry = self.shared.options.space_retry;
                    let closing = |state: &mut State| state.phase == Phase::Running;
                    let (state, _) = self
                        .shared
                        .wake
                        .wait_timeout_while(state, retry, closing)
                        .expect("nothing panics while it holds this lock");
                    if state.phase != Phase::Running {
                        return Err(Stop::Full(error));
                    }
                    drop(state);
                    self.shared.counters.group_begins();
                }
                Err(error) => return Err(Stop::Fatal(error)),
            }
        }
    }
}
