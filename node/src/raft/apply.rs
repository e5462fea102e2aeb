//! The state machine as openraft wants to see it, and the thread that it runs on. In: committed entries. Out: their answers, to whoever
//! proposed them; snapshots, which are the published view and nothing else, so making one costs nothing and pauses nobody. Absent: what a
//! command does (`state`), and the way of a snapshot to another member (`snapshot`).
//!
//! Applying has an OS thread of its own: a write to the store may stall for hundreds of milliseconds, and neither heartbeats nor the log
//! may wait for it.
//!
//! openraft offers an entry as soon as a quorum has it, which need not include this member's disk. It is applied only when it is durable
//! here: after a power cut the state machine must not know entries that the log has lost.

mod progress;
mod space;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests;

use std::{io, sync::Arc};

use futures::{Stream, TryStreamExt};
use openraft::{
    OptionalSend,
    storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine},
};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    encoding,
    log_store::Durable,
    retention::Persisted,
    snapshot::{self, Contents, Snapshot, SnapshotMeta},
    types::{self, Answers, Entry, LogId, Payload, StoredMembership, Types},
};
use crate::{
    runtime,
    state::{
        Applied, Body, Input, Machine, Response, View, Views,
        codec::entry::{self, Proposals},
    },
    storage::{Incoming, Keyspace, Store, StoreError},
};

pub(super) use progress::Progress;
use space::Patience;

/// A batch is this many writes …
const BATCH_WRITES: usize = 1024;
/// … or this many bytes, whichever comes first.
const BATCH_BYTES: usize = 4 << 20;

/// openraft's end of the apply thread. Dropping it ends the thread.
pub(super) struct StateMachine {
    applied: Option<LogId>,
    membership: StoredMembership,
    durable: watch::Receiver<Durable>,
    persisted: watch::Sender<u64>,
    views: Views,
    work: mpsc::UnboundedSender<Work>,
}

/// What the apply thread does, in order.
enum Work {
    Apply(Batch),
    /// Makes durable what is applied, and answers the view of it.
    Persist(oneshot::Sender<io::Result<Arc<View>>>),
    /// Puts another state in the place of this one.
    Install(Contents, oneshot::Sender<io::Result<()>>),
}

/// Entries to apply, and who waits for their answers, one per write.
struct Batch {
    entries: Vec<Entry>,
    done: oneshot::Sender<io::Result<Vec<Response>>>,
}

/// Who waits for an entry, and for how many answers.
struct Waiter {
    responder: Option<ApplyResponder<Types>>,
    answers: usize,
}

/// Tells when the apply thread has ended: everything applied is durable then.
pub(super) type Ended = oneshot::Receiver<Result<(), StoreError>>;

/// Starts the apply thread over `machine`; `durable` holds it back until the log has what is to be applied, `progress` shows what it does,
/// and `on_error` is told why an entry cannot be applied.
///
/// # Errors
/// When the machine's membership cannot be read, or the system gives no thread.
pub(super) fn start<S: Store>(
    machine: Machine<S>,
    durable: watch::Receiver<Durable>,
    progress: Arc<Progress>,
    on_error: impl Fn(&StoreError) + Send + Sync + 'static,
) -> io::Result<(StateMachine, Ended)> {
    let applied = machine.applied().map(|applied| types::log_id(applied.term, applied.index));
    let membership = snapshot::membership(machine.membership())?;
    let views = machine.views();
    let (work, waiting) = mpsc::unbounded_channel();
    let (end, ended) = oneshot::channel();
    runtime::thread("apply", async move {
        drop(end.send(run(machine, waiting, &progress, &on_error).await));
    })?;
    Ok((
        StateMachine {
            applied,
            membership,
            durable,
            persisted: watch::Sender::new(0),
            views,
            work,
        },
        ended,
    ))
}

async fn run<S: Store>(
    mut machine: Machine<S>,
    mut waiting: mpsc::UnboundedReceiver<Work>,
    progress: &Progress,
    on_error: &(dyn Fn(&StoreError) + Sync),
) -> Result<(), StoreError> {
    let mut patience = Patience::NEW;
    while let Some(work) = waiting.recv().await {
        // Whoever asked has stopped listening only when it is closing down.
        let failed = match work {
            Work::Apply(Batch { entries, done }) => {
                let outcome = space::apply(&mut machine, &entries, progress, &mut patience);
                let failed = outcome.is_err();
                if let Err(error) = &outcome
                    && let Some(error) = error.get_ref().and_then(|error| error.downcast_ref())
                {
                    on_error(error);
                }
                let _ = done.send(outcome);
                failed
            }
            Work::Persist(done) => {
                let outcome = space::persist(&mut machine, progress, &mut patience);
                let failed = outcome.is_err();
                let _ = done.send(outcome.map(|()| machine.views().latest()));
                failed
            }
            Work::Install(contents, done) => {
                let outcome = install(&mut machine, contents).map_err(io::Error::other);
                let failed = outcome.is_err();
                let _ = done.send(outcome);
                failed
            }
        };
        if failed {
            return Err(StoreError::Failed);
        }
    }
    // So that the next start has nothing to apply again.
    machine.persist()
}

fn install<S: Store>(machine: &mut Machine<S>, contents: Contents) -> Result<(), StoreError> {
    match contents {
        Contents::Received(received) => {
            machine.replace(received.set(), received.heading.applied)?;
            received.keep();
            Ok(())
        }
        // Of a member in this process: openraft's own tests do this.
        Contents::View(view) => {
            let stores = machine.stores().ok_or(StoreError::Alone)?;
            let applied = view.applied().ok_or(StoreError::Closed)?;
            let set = copy(&view, stores.create_next()?)?;
            machine.replace(set, applied)
        }
    }
}

fn copy(view: &View, mut into: Box<dyn Incoming>) -> Result<u64, StoreError> {
    for keyspace in Keyspace::ALL {
        let mut rows = view.rows(keyspace);
        loop {
            let some = rows.by_ref().take(BATCH_WRITES).collect::<Result<Vec<_>, _>>()?;
            if some.is_empty() {
                break;
            }
            into.write(keyspace, some)?;
        }
    }
    into.finish()
}

pub(super) fn input(entry: &Entry) -> io::Result<Input> {
    let Entry { log_id, payload } = entry;
    let id = Applied {
        term: log_id.leader_id.term,
        index: log_id.index,
    };
    let body = match payload {
        Payload::Blank => Body::Blank,
        Payload::Membership(membership) => Body::Membership(encoding::encode_membership(membership)),
        Payload::Normal(types::Data(bytes)) => match entry::decode(bytes) {
            Ok(Proposals::One(proposal)) => Body::Proposal(proposal),
            Ok(Proposals::Many(writes)) => Body::Writes(writes),
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, format!("log entry {log_id}: {error}"))),
        },
    };
    Ok(Input { id, body })
}

impl StateMachine {
    /// How far the rows are durable.
    pub(super) fn persisted(&self) -> Persisted {
        self.persisted.subscribe()
    }

    async fn hand_over(&mut self, entries: Vec<Entry>, waiters: Vec<Waiter>) -> io::Result<()> {
        if let Some(last) = entries.last().map(|entry| entry.log_id.index) {
            let reached = |durable: &Durable| matches!(durable, Durable::Failed) || matches!(durable, Durable::Below(end) if last < *end);
            match self.durable.wait_for(reached).await.map(|durable| *durable) {
                Ok(Durable::Below(_)) => {}
                Ok(Durable::Failed) | Err(_) => return Err(io::Error::other("the log has failed, so nothing more is applied")),
            }
        }
        let (done, applied) = oneshot::channel();
        self.work.send(Work::Apply(Batch { entries, done })).map_err(|_| ended())?;
        let answers = applied.await.map_err(|_| ended())??;
        // Here and not on the apply thread: from there each waiter would be woken by a system call of its own.
        let mut left = answers.into_iter();
        for Waiter { responder, answers } in waiters {
            let some = left.by_ref().take(answers);
            match responder {
                Some(responder) => responder.send(Answers(some.collect())),
                None => some.for_each(drop),
            }
        }
        Ok(())
    }
}

fn ended() -> io::Error {
    io::Error::other("the apply thread has ended")
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotData = Contents;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        let mut batch = Vec::new();
        let mut waiters = Vec::new();
        let (mut writes, mut bytes) = (0, 0);
        while let Some((entry, responder)) = entries.try_next().await? {
            self.applied = Some(entry.log_id);
            let mut answers = 1;
            match &entry.payload {
                Payload::Blank => {}
                Payload::Normal(data) => {
                    bytes += data.0.len();
                    answers = entry::answers(&data.0);
                }
                Payload::Membership(membership) => self.membership = StoredMembership::new(Some(entry.log_id), membership.clone()),
            }
            batch.push(entry);
            waiters.push(Waiter { responder, answers });
            writes += answers;
            if writes >= BATCH_WRITES || bytes >= BATCH_BYTES {
                self.hand_over(std::mem::take(&mut batch), std::mem::take(&mut waiters)).await?;
                (writes, bytes) = (0, 0);
            }
        }
        if batch.is_empty() {
            Ok(())
        } else {
            self.hand_over(batch, waiters).await
        }
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            work: self.work.clone(),
            persisted: self.persisted.clone(),
        }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, contents: Contents) -> Result<(), io::Error> {
        let (done, installed) = oneshot::channel();
        self.work.send(Work::Install(contents, done)).map_err(|_| ended())?;
        installed.await.map_err(|_| ended())??;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.persisted
            .send_replace(meta.last_log_id.map_or(0, |id| id.index.saturating_add(1)));
        tracing::info!(applied = ?meta.last_log_id, "a received snapshot is in use");
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        snapshot::of(self.views.latest())
    }
}

/// Makes the log droppable: what it answers is durable here.
pub(super) struct Builder {
    work: mpsc::UnboundedSender<Work>,
    persisted: watch::Sender<u64>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = Contents;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let (done, persisted) = oneshot::channel();
        self.work.send(Work::Persist(done)).map_err(|_| ended())?;
        let view = persisted.await.map_err(|_| ended())??;
        self.persisted
            .send_replace(view.applied().map_or(0, |applied| applied.index.saturating_add(1)));
        let empty = Arc::clone(&view);
        Ok(snapshot::of(view)?.unwrap_or_else(|| Snapshot {
            meta: SnapshotMeta::default(),
            snapshot: Contents::View(empty),
        }))
    }
}
