//! What readers see, and what waits for the writer. In: requests from any thread. Out: reads that see them at once, and a queue in the
//! same order. Absent: the disk; nothing here blocks.
//!
//! One lock covers both, so the order in which readers see changes is the order in which they become durable.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use super::disk::File;
use super::entry::{Entry, LogId, Vote};
use super::metrics::Counters;
use super::options::Options;
use super::record::{ENTRY_HEAD, Salt};
use super::segment::Standing;
use super::table::{Place, Table};

/// Called once with the outcome, from the log's writer thread (or from the caller's, if the request was refused). It must not block.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Entries larger than this are refused.
const PAYLOAD_LIMIT: usize = 256 << 20;

/// Something for the writer, in order.
pub(super) enum Request {
    Append {
        entries: VecDeque<Entry>,
        epoch: u64,
        done: Done,
    },
    Vote {
        vote: Vote,
        done: Done,
    },
    Truncate {
        after: Option<LogId>,
        done: Done,
    },
    Purge {
        upto: LogId,
        done: Done,
    },
    /// Nothing to write: answered after what came before.
    Barrier {
        done: Done,
    },
}

impl Request {
    /// About how much of a group it fills.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Append { entries, .. } => entries.iter().map(cost).sum(),
            _ => 64,
        }
    }

    pub(super) fn into_done(self) -> Done {
        match self {
            Self::Append { done, .. }
            | Self::Vote { done, .. }
            | Self::Truncate { done, .. }
            | Self::Purge { done, .. }
            | Self::Barrier { done } => done,
        }
    }
}

/// Whether the log takes requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    Running,
    /// Takes no more, and writes what waits.
    Closing,
    Closed,
    Failed {
        kind: io::ErrorKind,
        message: String,
    },
}

impl Phase {
    /// The error for a request that comes too late.
    pub(super) fn refusal(&self) -> Option<io::Error> {
        match self {
            Self::Running => None,
            Self::Closing | Self::Closed => Some(io::Error::new(io::ErrorKind::BrokenPipe, "the log is closed")),
            Self::Failed { kind, message } => Some(io::Error::new(
                *kind,
                format!("the log has failed and takes no more writes; restart the process: {message}"),
            )),
        }
    }
}

/// Where to get one entry of a read.
pub(super) enum Source {
    Cached(Entry),
    Stored { index: u64, place: Place, file: Arc<dyn File> },
}

/// The log as its callers see it.
pub(super) struct State {
    pub(super) standing: Standing,
    pub(super) table: Table,
    pub(super) queue: VecDeque<Request>,
    pub(super) phase: Phase,
    pub(super) segments: BTreeMap<u64, Arc<dyn File>>,
    /// The newest entries: always a suffix of the table.
    cache: VecDeque<Entry>,
    cache_bytes: usize,
    cache_limit: usize,
    epoch: u64,
}

/// The state, its lock, and what goes with it.
pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) wake: Condvar,
    /// The same for a writer that is a task.
    #[cfg(test)]
    pub(super) stirred: tokio::sync::Notify,
    pub(super) counters: Counters,
    pub(super) salt: Salt,
    pub(super) options: Options,
}

impl Shared {
    pub(super) fn new(state: State, salt: Salt, options: Options) -> Self {
        Self {
            state: Mutex::new(state),
            wake: Condvar::new(),
            #[cfg(test)]
            stirred: tokio::sync::Notify::new(),
            counters: Counters::new(),
            salt,
            options,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds this lock")
    }

    /// Tells the writer that something has changed.
    pub(super) fn wake_writer(&self) {
        self.wake.notify_one();
        #[cfg(test)]
        self.stirred.notify_one();
    }
}

fn cost(entry: &Entry) -> usize {
    entry.payload.len() + size_of::<Entry>()
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

impl State {
    pub(super) fn new(standing: Standing, table: Table, segments: BTreeMap<u64, Arc<dyn File>>, cache_limit: usize) -> Self {
        Self {
            standing,
            table,
            queue: VecDeque::new(),
            phase: Phase::Running,
            segments,
            cache: VecDeque::new(),
            cache_bytes: 0,
            cache_limit,
            epoch: 0,
        }
    }

    fn check_running(&self) -> io::Result<()> {
        self.phase.refusal().map_or(Ok(()), Err)
    }

    /// Queues entries that follow the last one, or gives the callback back with the reason.
    pub(super) fn append(&mut self, entries: Vec<Entry>, done: Done) -> Result<(), (Done, io::Error)> {
        if let Err(error) = self.check_running().and_then(|()| self.check_sequence(&entries)) {
            return Err((done, error));
        }
        if entries.is_empty() {
            self.queue.push_back(Request::Barrier { done });
            return Ok(());
        }
        for entry in &entries {
            let length = u32::try_from(ENTRY_HEAD + entry.payload.len()).expect("larger payloads were refused");
            self.table.push(entry.id.index, Place::queued(self.epoch, length));
            self.standing.last = Some(entry.id);
            self.cache_bytes += cost(entry);
            self.cache.push_back(entry.clone());
        }
        self.queue.push_back(Request::Append {
            entries: entries.into(),
            epoch: self.epoch,
            done,
        });
        Ok(())
    }

    fn check_sequence(&self, entries: &[Entry]) -> io::Result<()> {
        let mut next = self.standing.next_index();
        for entry in entries {
            if let Some(next) = next.filter(|next| *next != entry.id.index) {
                return Err(invalid(format!(
                    "entry {} cannot be appended: the next index is {next}; truncate or purge first",
                    entry.id
                )));
            }
            if entry.payload.len() > PAYLOAD_LIMIT {
                return Err(invalid(format!(
                    "entry {} has {} bytes: the log takes at most {PAYLOAD_LIMIT}",
                    entry.id,
                    entry.payload.len()
                )));
            }
            next = entry.id.index.checked_add(1);
            if next.is_none() {
                return Err(invalid(format!("entry {} has the last index there is", entry.id)));
            }
        }
        Ok(())
    }

    pub(super) fn save_vote(&mut self, vote: Vote, done: Done) -> Result<(), (Done, io::Error)> {
        if let Err(error) = self.check_running() {
            return Err((done, error));
        }
        self.standing.vote = Some(vote);
        self.queue.push_back(Request::Vote { vote, done });
        Ok(())
    }

    pub(super) fn truncate_after(&mut self, after: Option<LogId>, done: Done) -> Result<(), (Done, io::Error)> {
        if let Err(error) = self.check_running() {
            return Err((done, error));
        }
        let index = |id: Option<LogId>| id.map(|id| id.index);
        if index(after) < index(self.standing.purged) {
            let error = invalid(format!(
                "cannot truncate after {after:?}: entries up to {:?} are purged",
                self.standing.purged
            ));
            return Err((done, error));
        }
        if index(after) >= index(self.standing.last) {
            self.queue.push_back(Request::Barrier { done });
            return Ok(());
        }
        let first_cut = after.map_or(0, |id| id.index + 1);
        self.table.cut_from(first_cut);
        while let Some(entry) = self.cache.pop_back_if(|entry| entry.id.index >= first_cut) {
            self.cache_bytes -= cost(&entry);
        }
        self.standing.last = after;
        self.epoch += 1;
        self.queue.push_back(Request::Truncate { after, done });
        Ok(())
    }

    pub(super) fn purge_through(&mut self, upto: LogId, done: Done) -> Result<(), (Done, io::Error)> {
        if let Err(error) = self.check_running() {
            return Err((done, error));
        }
        if upto.index == u64::MAX {
            return Err((done, invalid(format!("cannot purge through {upto}: no index would be left"))));
        }
        if self.standing.purged.is_some_and(|purged| purged.index >= upto.index) {
            self.queue.push_back(Request::Barrier { done });
            return Ok(());
        }
        self.table.drop_through(upto.index);
        while let Some(entry) = self.cache.pop_front_if(|entry| entry.id.index <= upto.index) {
            self.cache_bytes -= cost(&entry);
        }
        self.standing.purged = Some(upto);
        if self.standing.last.is_none_or(|last| last.index <= upto.index) {
            self.standing.last = Some(upto);
        }
        self.queue.push_back(Request::Purge { upto, done });
        Ok(())
    }

    /// Records where entries were written, and lets the cache shrink to its limit.
    pub(super) fn written(&mut self, places: impl Iterator<Item = (u64, Place)>) {
        for (index, place) in places {
            self.table.written(index, place);
        }
        // Only what is on disk may leave the cache.
        while self.cache_bytes > self.cache_limit
            && let Some(entry) = self.cache.front()
            && self.table.get(entry.id.index).is_some_and(Place::written)
        {
            self.cache_bytes -= cost(entry);
            self.cache.pop_front();
        }
    }

    /// The cache is a suffix of the log; this is where it starts.
    pub(super) fn cached_from(&self) -> u64 {
        self.table.end() - self.cache.len() as u64
    }

    /// Where the entries of `range` are, as far as the log has them, up to `max_bytes` of payload but at least one.
    pub(super) fn sources(&self, range: Range<u64>, max_bytes: usize) -> Vec<Source> {
        let cached_from = self.cached_from();
        let mut sources = Vec::new();
        let mut bytes = 0_usize;
        for index in range.start.max(self.table.first())..range.end.min(self.table.end()) {
            let cached = index
                .checked_sub(cached_from)
                .and_then(|position| self.cache.get(usize::try_from(position).ok()?));
            let (source, length) = match cached {
                Some(entry) => (Source::Cached(entry.clone()), entry.payload.len()),
                None => {
                    // Not cached means written, and a segment stays in the map as long as the table points to it.
                    let Some(place) = self.table.get(index) else { break };
                    let Some(file) = self.segments.get(&place.segment) else { break };
                    (
                        Source::Stored {
                            index,
                            place: *place,
                            file: Arc::clone(file),
                        },
                        place.length as usize,
                    )
                }
            };
            bytes = bytes.saturating_add(length);
            if bytes > max_bytes && !sources.is_empty() {
                break;
            }
            sources.push(source);
        }
        sources
    }
}
