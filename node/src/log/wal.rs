//! The handle: opening, requests, reads, closing. In: calls from any thread; those that write return at once. Out: callbacks, entries,
//! and facts about the log. Absent: the writing itself (`writer`), and what opening checks (`recovery`).

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::disk::{Directory, Disk, File};
use super::entry::{Entry, LogId, Vote};
use super::error::OpenError;
use super::group::Group;
use super::metrics::Metrics;
use super::options::Options;
use super::record::{Frame, Salt};
use super::recovery::{self, Held, Recovered};
use super::repair;
use super::segment::{self, DATA_AT, Header, Mark, Slot, Standing};
use super::spares::{self, Spares};
use super::state::{Done, Phase, Shared, Source, State};
use super::table::{Place, Size, Table};
use super::writer::{Active, Full, Writer};

/// Neighbouring records are read together up to this many bytes.
const READ_AHEAD: u64 = 1 << 20;

/// The write-ahead log. A cheap handle: clones share the log. When the last one is dropped, what waits is written and the log closed.
#[derive(Clone)]
pub struct Wal {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    disk: Arc<dyn Disk>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Wal {
    /// Opens the log in `directory`, creating both if they are missing. Reads the whole log, so call it off the async threads.
    ///
    /// # Errors
    /// [`OpenError`] names the file and what to do. A damaged log is left as it was found.
    pub fn open(directory: &Path, options: Options) -> Result<Self, OpenError> {
        let disk = Directory::open(directory).map_err(|source| OpenError::Io {
            action: "open the log directory",
            file: directory.display().to_string(),
            source,
        })?;
        Self::open_on(Arc::new(disk), options)
    }

    /// Opens the log on any [`Disk`].
    ///
    /// # Errors
    /// As [`Wal::open`].
    pub fn open_on(disk: Arc<dyn Disk>, options: Options) -> Result<Self, OpenError> {
        let (wal, writer) = Self::recover_on(disk, options)?;
        wal.start_threads(writer).map_err(|source| OpenError::Io {
            action: "start a thread for the log in",
            file: wal.inner.disk.describe(""),
            source,
        })?;
        Ok(wal)
    }

    pub(super) fn recover_on(disk: Arc<dyn Disk>, options: Options) -> Result<(Self, Writer), OpenError> {
        options.validate()?;
        let failed = |action| {
            let disk = Arc::clone(&disk);
            move |source| OpenError::Io {
                action,
                file: disk.describe(""),
                source,
            }
        };
        let found = match recovery::recover(disk.as_ref())? {
            Some(mut found) => {
                repair::settle(disk.as_ref(), &mut found).map_err(failed("repair the log in"))?;
                found
            }
            None => create(disk.as_ref(), &options).map_err(failed("create the log in"))?,
        };
        let spares = repair::collect_spares(disk.as_ref(), options.segment_bytes, options.spare_segments).map_err(failed("clean up"))?;
        Ok(Self::over(disk, options, found, spares))
    }

    fn start_threads(&self, mut writer: Writer) -> io::Result<()> {
        writer.spares.start_thread()?;
        let thread = std::thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || writer.run())?;
        *self.inner.writer.lock().expect("nothing panics while it holds this lock") = Some(thread);
        Ok(())
    }

    /// The log and its writer, which does not run yet.
    fn over(disk: Arc<dyn Disk>, options: Options, found: Recovered, spares: Vec<(u64, Arc<dyn File>)>) -> (Self, Writer) {
        let Recovered {
            standing,
            group,
            table,
            salt,
            older,
            active,
            end,
            slot,
            ..
        } = found;
        let segments: BTreeMap<_, _> = older
            .iter()
            .chain([&active])
            .map(|held| (held.sequence, Arc::clone(&held.file)))
            .collect();
        let full = older
            .into_iter()
            .map(|held| Full {
                sequence: held.sequence,
                capacity: held.capacity,
                highest: held.highest,
            })
            .collect();
        let Held {
            sequence,
            capacity,
            highest,
            file,
        } = active;
        let state = State::new(standing, table, segments, options.cache_bytes);
        let shared = Arc::new(Shared::new(state, salt, options));
        let spares = {
            let weak = Arc::downgrade(&shared);
            let on_error = move |error: io::Error| {
                if let Some(shared) = weak.upgrade() {
                    fail(&shared, error);
                }
            };
            let Options {
                segment_bytes,
                spare_segments,
                ..
            } = shared.options;
            Spares::new(Arc::clone(&disk), segment_bytes, spare_segments, spares, Box::new(on_error))
        };
        let writer = Writer {
            shared: Arc::clone(&shared),
            disk: Arc::clone(&disk),
            spares,
            active: Active {
                sequence,
                capacity,
                file,
                end,
                slot,
                highest,
            },
            full,
            standing,
            group,
            unflushed: false,
            buffer: Group::default(),
        };
        let inner = Arc::new(Inner {
            shared,
            disk,
            writer: Mutex::new(None),
        });
        (Self { inner }, writer)
    }

    /// Appends entries that follow the last one. They can be read as soon as this returns; `done` runs once they are durable.
    pub fn append(&self, entries: Vec<Entry>, done: Done) {
        self.request(done, |state, done| state.append(entries, done));
    }

    /// Saves the vote. Ordered with the entries: `done` runs once it and everything before it are durable.
    pub fn save_vote(&self, vote: Vote, done: Done) {
        self.request(done, |state, done| state.save_vote(vote, done));
    }

    /// Records up to where entries are known to be committed. Becomes durable with the next group, or after a short idle time; after a
    /// crash [`Wal::committed`] may be older than the last one saved.
    pub fn save_committed(&self, committed: Option<LogId>) {
        self.inner.shared.lock().standing.committed = committed;
        self.inner.shared.wake_writer();
    }

    /// Voids the entries after `last_kept` (`None`: all). Readers no longer see them when this returns.
    pub fn truncate_after(&self, last_kept: Option<LogId>, done: Done) {
        self.request(done, |state, done| state.truncate_after(last_kept, done));
    }

    /// Drops the entries up to `upto`, which may lie beyond the last one (a snapshot was installed): the next entry is then the one
    /// after it. Call it only for what the state machine has made durable.
    pub fn purge_through(&self, upto: LogId, done: Done) {
        self.request(done, |state, done| state.purge_through(upto, done));
    }

    fn request(&self, done: Done, queue: impl FnOnce(&mut State, Done) -> Result<(), (Done, io::Error)>) {
        let outcome = queue(&mut self.inner.shared.lock(), done);
        match outcome {
            Ok(()) => self.inner.shared.wake_writer(),
            // Outside the lock: the callback may call back.
            Err((done, error)) => done(Err(error)),
        }
    }

    /// The last vote saved.
    pub fn vote(&self) -> Option<Vote> {
        self.inner.shared.lock().standing.vote
    }

    /// The last commit index saved.
    pub fn committed(&self) -> Option<LogId> {
        self.inner.shared.lock().standing.committed
    }

    /// The last entry, or the last purged one if the log holds none.
    pub fn last(&self) -> Option<LogId> {
        self.inner.shared.lock().standing.last
    }

    /// The last purged entry.
    pub fn purged(&self) -> Option<LogId> {
        self.inner.shared.lock().standing.purged
    }

    /// The first index whose entry is in memory: [`Wal::read`] from there on does not touch the disk.
    pub fn cached_from(&self) -> u64 {
        self.inner.shared.lock().cached_from()
    }

    /// What the log holds from `index` on.
    pub fn size_from(&self, index: u64) -> Size {
        self.inner.shared.lock().table.size_from(index)
    }

    /// The first index of the longest run up to the end of the log that is within `most`; the last entry is always in it.
    pub fn first_within(&self, most: Size) -> u64 {
        self.inner.shared.lock().table.first_within(most)
    }

    /// The entries of `range` that the log holds, in order and without a gap: at least one (if any), then as many as fit into
    /// `max_bytes`. Recent ones come from memory, others from disk, so call it off the async threads.
    ///
    /// # Errors
    /// `InvalidData` if an entry on disk fails its checksum; the message names the file and the offset.
    pub fn read(&self, range: Range<u64>, max_bytes: usize) -> io::Result<Vec<Entry>> {
        let sources = self.inner.shared.lock().sources(range, max_bytes);
        let mut entries = Vec::with_capacity(sources.len());
        let mut stored = Vec::new();
        for source in sources {
            match source {
                Source::Stored { index, place, file } => stored.push((index, place, file)),
                // The cache is a suffix: from here on everything is in memory.
                Source::Cached(entry) => {
                    self.read_stored(&mut stored, &mut entries)?;
                    entries.push(entry);
                }
            }
        }
        self.read_stored(&mut stored, &mut entries)?;
        Ok(entries)
    }

    fn read_stored(&self, stored: &mut Vec<(u64, Place, Arc<dyn File>)>, entries: &mut Vec<Entry>) -> io::Result<()> {
        let mut rest = stored.as_slice();
        while let Some(((_, first, file), _)) = rest.split_first() {
            // Of one segment, the records of rising indexes stand at rising offsets.
            let start = u64::from(first.offset);
            let run = rest
                .iter()
                .take_while(|(_, place, _)| {
                    place.segment == first.segment && u64::from(place.offset) + u64::from(place.length) <= start + READ_AHEAD
                })
                .count()
                .max(1);
            let (now, later) = rest.split_at(run);
            let end = now
                .last()
                .map_or(start, |(_, place, _)| u64::from(place.offset) + u64::from(place.length));
            let mut bytes = vec![0; usize::try_from(end - start).map_err(io::Error::other)?];
            file.read_at(&mut bytes, start)?;
            for (index, place, _) in now {
                let at = (place.offset - first.offset) as usize;
                let entry = bytes
                    .get(at..)
                    .and_then(|bytes| Frame::read(bytes, &self.inner.shared.salt))
                    .and_then(|frame| frame.entry());
                match entry.filter(|entry| entry.id.index == *index) {
                    Some(entry) => entries.push(entry),
                    None => return Err(self.unreadable(*index, place)),
                }
            }
            rest = later;
        }
        stored.clear();
        Ok(())
    }

    fn unreadable(&self, index: u64, place: &Place) -> io::Error {
        let file = self.inner.disk.describe(&segment::name(place.segment));
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "entry {index} is unreadable in {file} at byte {}: the disk lost or changed it; replace the member",
                place.offset
            ),
        )
    }

    /// Whether a write or a flush has failed: the log takes no more writes, and the process must exit.
    pub fn poisoned(&self) -> bool {
        matches!(self.inner.shared.lock().phase, Phase::Failed { .. })
    }

    /// The counters.
    pub fn metrics(&self) -> Metrics {
        let (segments_held, held) = {
            let state = self.inner.shared.lock();
            (state.segments.len(), state.table.size_from(0))
        };
        self.inner.shared.counters.read(segments_held, held)
    }

    /// Writes what waits, flushes everything and ends the log's threads. Other handles see a closed log. Blocks.
    ///
    /// # Errors
    /// Why the log failed before or while closing; then some callbacks have run with an error.
    pub fn close(self) -> io::Result<()> {
        self.inner.close()
    }
}

impl Inner {
    fn close(&self) -> io::Result<()> {
        {
            let mut state = self.shared.lock();
            if state.phase == Phase::Running {
                state.phase = Phase::Closing;
            }
        }
        self.shared.wake_writer();
        let thread = self.writer.lock().expect("nothing panics while it holds this lock").take();
        // A callback may hold the last handle; then this is the writer, which ends by itself.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id()) {
            thread.join().map_err(|_| io::Error::other("the log's writer thread panicked"))?;
        }
        let state = self.shared.lock();
        match &state.phase {
            Phase::Failed { .. } => state.phase.refusal().map_or(Ok(()), Err),
            Phase::Running | Phase::Closing | Phase::Closed => Ok(()),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!(%error, "the write-ahead log was not closed cleanly");
        }
    }
}

/// Stops the log because of an error met beside the writer.
fn fail(shared: &Shared, error: io::Error) {
    let waiting = {
        let mut state = shared.lock();
        if matches!(state.phase, Phase::Failed { .. } | Phase::Closed) {
            return;
        }
        state.phase = Phase::Failed {
            kind: error.kind(),
            message: error.to_string(),
        };
        std::mem::take(&mut state.queue)
    };
    for request in waiting {
        (request.into_done())(Err(io::Error::new(error.kind(), error.to_string())));
    }
    shared.wake_writer();
    (shared.options.on_fatal)(error);
}

/// A new log: one small segment, so that nobody waits for a large one.
fn create(disk: &dyn Disk, options: &Options) -> io::Result<Recovered> {
    let salt = Salt::new(disk.salt()?);
    let capacity = options.first_segment_bytes;
    let header = Header {
        capacity,
        sequence: 1,
        salt,
        group: 0,
        first_index: 0,
        purged: None,
        vote: None,
        committed: None,
    };
    let mark = Mark {
        group: 0,
        last: None,
        sealed: false,
    };
    let spare = spares::prepare(disk, 0, capacity)?;
    spare.become_segment(disk, &header, &mark)?;
    Ok(Recovered {
        standing: Standing::default(),
        group: 0,
        table: Table::default(),
        salt,
        older: Vec::new(),
        active: Held {
            sequence: 1,
            capacity,
            highest: None,
            file: spare.file,
        },
        length: capacity,
        end: DATA_AT,
        remains_until: DATA_AT,
        slot: Slot::First,
        mark,
        stale: Vec::new(),
    })
}
