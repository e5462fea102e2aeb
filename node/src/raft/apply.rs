//! The state machine as openraft wants to see it, and the thread that it runs on. In: committed entries. Out: their answers, to whoever
//! proposed them. Absent: what a command does (`state`); snapshots (the log is never purged yet, so none is needed: asked for one all the
//! same, it says so).
//!
//! Applying has an OS thread of its own: a write to the store may stall for hundreds of milliseconds, and neither heartbeats nor the log
//! may wait for it.
//!
//! openraft offers an entry as soon as a quorum has it, which need not include this member's disk. It is applied only when it is durable
//! here: after a power cut the state machine must not know entries that the log has lost.

mod progress;
mod space;

use std::{io, sync::Arc};

use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use openraft::{
    OptionalSend,
    storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot, SnapshotMeta},
};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    encoding,
    log_store::Durable,
    types::{self, Committed, Entry, LogId, Member, Payload, StoredMembership, Types},
};
use crate::{
    runtime,
    state::{Applied, Body, Input, Machine, Proposal, Response},
    storage::{Store, StoreError},
};

pub(super) use progress::Progress;
use space::Patience;

/// A batch is this many entries …
const BATCH_ENTRIES: usize = 1024;
/// … or this many bytes, whichever comes first.
const BATCH_BYTES: usize = 4 << 20;

/// openraft's end of the apply thread. Dropping it ends the thread.
pub(super) struct StateMachine {
    applied: Option<LogId>,
    membership: StoredMembership,
    durable: watch::Receiver<Durable>,
    batches: mpsc::UnboundedSender<Batch>,
}

/// Entries to apply, and who waits for their answers.
struct Batch {
    entries: Vec<Entry>,
    done: oneshot::Sender<io::Result<Vec<Response>>>,
}

/// Tells when the apply thread has ended: everything applied is durable then.
pub(super) type Ended = oneshot::Receiver<Result<(), StoreError>>;

/// Starts the apply thread over `machine`; `durable` holds it back until the log has what is to be applied, `progress` shows what it does.
///
/// # Errors
/// When the machine's membership cannot be read, or the system gives no thread.
pub(super) fn start<S: Store>(
    machine: Machine<S>,
    durable: watch::Receiver<Durable>,
    progress: Arc<Progress>,
) -> io::Result<(StateMachine, Ended)> {
    let applied = machine.applied().map(|applied| types::log_id(applied.term, applied.index));
    let membership = match machine.membership() {
        None => StoredMembership::default(),
        Some((at, bytes)) => {
            let membership = encoding::decode_membership(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            StoredMembership::new(Some(types::log_id(at.term, at.index)), membership)
        }
    };
    let (batches, waiting) = mpsc::unbounded_channel();
    let (end, ended) = oneshot::channel();
    runtime::thread("apply", async move { drop(end.send(run(machine, waiting, &progress).await)) })?;
    Ok((
        StateMachine {
            applied,
            membership,
            durable,
            batches,
        },
        ended,
    ))
}

async fn run<S: Store>(
    mut machine: Machine<S>,
    mut waiting: mpsc::UnboundedReceiver<Batch>,
    progress: &Progress,
) -> Result<(), StoreError> {
    let mut patience = Patience::NEW;
    while let Some(Batch { entries, done }) = waiting.recv().await {
        let outcome = space::apply(&mut machine, &entries, progress, &mut patience);
        let failed = outcome.is_err();
        // openraft has stopped listening only when it is closing down.
        let _ = done.send(outcome);
        if failed {
            return Err(StoreError::Failed);
        }
    }
    // So that the next start has nothing to apply again.
    machine.persist()
}

pub(super) fn input(entry: &Entry) -> io::Result<Input> {
    let Entry { log_id, payload } = entry;
    let id = Applied {
        term: log_id.leader_id.term,
        leader: 0,
        index: log_id.index,
    };
    let body = match payload {
        Payload::Blank => Body::Blank,
        Payload::Membership(membership) => Body::Membership(encoding::encode_membership(membership)),
        Payload::Normal(types::Data(bytes)) => Body::Proposal(
            decode(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("log entry {log_id}: {error}")))?,
        ),
    };
    Ok(Input { id, body })
}

fn decode(bytes: &Bytes) -> Result<Proposal, crate::state::DecodeError> {
    Proposal::decode(bytes)
}

impl StateMachine {
    async fn hand_over(&mut self, entries: Vec<Entry>, responders: Vec<Option<ApplyResponder<Types>>>) -> io::Result<()> {
        if let Some(last) = entries.last().map(|entry| entry.log_id.index) {
            let reached = |durable: &Durable| matches!(durable, Durable::Failed) || matches!(durable, Durable::Below(end) if last < *end);
            match self.durable.wait_for(reached).await.map(|durable| *durable) {
                Ok(Durable::Below(_)) => {}
                Ok(Durable::Failed) | Err(_) => return Err(io::Error::other("the log has failed, so nothing more is applied")),
            }
        }
        let (done, applied) = oneshot::channel();
        let ended = || io::Error::other("the apply thread has ended");
        self.batches.send(Batch { entries, done }).map_err(|_| ended())?;
        let answers = applied.await.map_err(|_| ended())??;
        // Here and not on the apply thread: from there each waiter would be woken by a system call of its own.
        for (responder, answer) in responders.into_iter().zip(answers) {
            if let Some(responder) = responder {
                responder.send(answer);
            }
        }
        Ok(())
    }
}

fn no_snapshots() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "this version keeps its whole log and makes no snapshots",
    )
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotData = ();
    type SnapshotBuilder = NoSnapshots;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        let mut batch = Vec::new();
        let mut responders = Vec::new();
        let mut bytes = 0;
        while let Some((entry, responder)) = entries.try_next().await? {
            self.applied = Some(entry.log_id);
            match &entry.payload {
                Payload::Blank => {}
                Payload::Normal(data) => bytes += data.0.len(),
                Payload::Membership(membership) => self.membership = StoredMembership::new(Some(entry.log_id), membership.clone()),
            }
            batch.push(entry);
            responders.push(responder);
            if batch.len() >= BATCH_ENTRIES || bytes >= BATCH_BYTES {
                self.hand_over(std::mem::take(&mut batch), std::mem::take(&mut responders)).await?;
                bytes = 0;
            }
        }
        if batch.is_empty() {
            Ok(())
        } else {
            self.hand_over(batch, responders).await
        }
    }

    async fn get_snapshot_builder(&mut self) -> NoSnapshots {
        NoSnapshots
    }

    async fn install_snapshot(&mut self, _meta: &SnapshotMeta<Committed, u64, Member>, _snapshot: ()) -> Result<(), io::Error> {
        Err(no_snapshots())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Committed, u64, Member, ()>>, io::Error> {
        Ok(None)
    }
}

/// Says that there are no snapshots, if it is ever asked.
pub(super) struct NoSnapshots;

impl RaftSnapshotBuilder<Types> for NoSnapshots {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> Result<Snapshot<Committed, u64, Member, ()>, io::Error> {
        Err(no_snapshots())
    }
}
