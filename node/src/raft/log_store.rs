//! The write-ahead log as openraft wants to see it. In: entries and votes. Out: completion after the `fdatasync`, entries again. Absent:
//! files (`log`), and when the log may be cut (`retention`).
//!
//! The log's ids have a place for the leader beside the term; with one leader per term it says nothing new and stays 0.

use std::{
    fmt::Debug,
    io,
    ops::{Bound, Range, RangeBounds},
};

use futures::{Stream, TryStreamExt, stream};
use openraft::{
    OptionalSend,
    storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage},
};
use tokio::sync::{oneshot, watch};

use super::{
    encoding,
    types::{self, Entry, LogId, Types, Vote},
};
use crate::{
    log::{self, Wal},
    runtime,
};

/// What one call to a follower, and one step of reading for apply, carries at most (one entry may be larger).
const READ_BYTES: usize = 4 << 20;

/// The log, shared with openraft's tasks.
#[derive(Clone)]
pub(super) struct LogStore {
    wal: Wal,
    durable: watch::Sender<Durable>,
}

/// How far this member's own disk has the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durable {
    /// Entries below this index are on disk.
    Below(u64),
    /// The log takes nothing any more.
    Failed,
}

impl LogStore {
    /// Over an open log. What was recovered is durable.
    pub(super) fn new(wal: Wal) -> Self {
        let end = wal.last().map_or(0, |last| last.index.saturating_add(1));
        LogStore {
            wal,
            durable: watch::Sender::new(Durable::Below(end)),
        }
    }

    /// Tells how far the log is durable.
    pub(super) fn durable_end(&self) -> watch::Receiver<Durable> {
        self.durable.subscribe()
    }

    /// Waits for a write. openraft calls these rarely (votes, truncation), so each waits for its own `fdatasync`.
    async fn written(&self, write: impl FnOnce(&Wal, log::Done)) -> io::Result<()> {
        let (done, durable) = oneshot::channel();
        // A waiter that has gone needs no answer.
        write(&self.wal, Box::new(move |outcome| drop(done.send(outcome))));
        durable
            .await
            .map_err(|_| io::Error::other("the log closed before the write was durable"))?
    }

    /// Reads without disturbing the async threads: what the log holds in memory is copied at once, the rest is read on a thread for it.
    async fn read(&self, range: Range<u64>, max_bytes: usize) -> io::Result<Vec<Entry>> {
        let found = if range.start >= self.wal.cached_from() {
            self.wal.read(range, max_bytes)?
        } else {
            let wal = self.wal.clone();
            runtime::blocking(move || wal.read(range, max_bytes)).await??
        };
        found.into_iter().map(from_stored).collect()
    }

    /// The part of a range that the log can hold.
    fn within(&self, range: &impl RangeBounds<u64>) -> Range<u64> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        let last = self.wal.last().map_or(0, |last| last.index.saturating_add(1));
        start..end.min(last).max(start)
    }
}

pub(super) fn from_stored(entry: log::Entry) -> io::Result<Entry> {
    let log_id = from_id(entry.id);
    let payload = encoding::decode_payload(entry.payload)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("log entry {log_id}: {error}")))?;
    Ok(Entry { log_id, payload })
}

fn from_id(id: log::LogId) -> LogId {
    types::log_id(id.term, id.index)
}

fn to_id(id: &LogId) -> log::LogId {
    log::LogId {
        term: id.leader_id.term,
        leader: 0,
        index: id.index,
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read(self.within(&range), usize::MAX).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.read(start..end, READ_BYTES).await
    }

    /// In steps: after a restart the whole log may have to be applied, and it may be larger than memory.
    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let steps = stream::try_unfold((self.clone(), self.within(&range)), |(log, rest)| async move {
            if rest.is_empty() {
                return Ok::<_, io::Error>(None);
            }
            let found = log.read(rest.clone(), READ_BYTES).await?;
            let Some(last) = found.last() else {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("the log holds no entry {}, which it should", rest.start),
                ));
            };
            let rest = last.log_id.index.saturating_add(1)..rest.end;
            Ok(Some((stream::iter(found.into_iter().map(Ok)), (log, rest))))
        });
        // Pinned: openraft asks for streams that can be moved.
        Box::pin(steps.try_flatten())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        // A term without a vote is saved by nobody: openraft knows a term only through a candidate.
        Ok(self
            .wal
            .vote()
            .map(|vote| types::vote(vote.term, vote.voted_for.unwrap_or(0), vote.committed)))
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        Ok(LogState {
            last_purged_log_id: self.wal.purged().map(from_id),
            last_log_id: self.wal.last().map(from_id),
        })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let vote = log::Vote {
            term: vote.leader_id.term,
            voted_for: Some(vote.leader_id.voted_for),
            committed: vote.committed,
        };
        self.written(|wal, done| wal.save_vote(vote, done)).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.wal.save_committed(committed.as_ref().map(to_id));
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.wal.committed().map(from_id))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let stored: Vec<_> = entries
            .into_iter()
            .map(|entry| log::Entry {
                id: to_id(&entry.log_id),
                payload: encoding::encode_payload(&entry.payload),
            })
            .collect();
        let end = stored.last().map(|entry| entry.id.index.saturating_add(1));
        let durable = self.durable.clone();
        let done = move |outcome: io::Result<()>| {
            match (&outcome, end) {
                (Ok(()), Some(end)) => durable.send_replace(Durable::Below(end)),
                (Ok(()), None) => *durable.borrow(),
                (Err(_), _) => durable.send_replace(Durable::Failed),
            };
            callback.io_completed(outcome);
        };
        self.wal.append(stored, Box::new(done));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let end = last.as_ref().map_or(0, |last| last.index.saturating_add(1));
        self.written(|wal, done| wal.truncate_after(last.as_ref().map(to_id), done)).await?;
        // Callbacks run in order: no append from before the truncation raises this again.
        self.durable.send_if_modified(|durable| match durable {
            Durable::Below(known) if *known > end => {
                *known = end;
                true
            }
            Durable::Below(_) | Durable::Failed => false,
        });
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.written(|wal, done| wal.purge_through(to_id(&upto), done)).await
    }
}
