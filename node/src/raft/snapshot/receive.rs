//! The receiving end of a transfer. One at a time: a new one, from the leader that is followed now, takes the place of the one before.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::sync::mpsc;

use super::{Contents, Snapshot, meta};
use crate::{
    peer::{Reply, Request},
    raft::{
        Inner,
        encoding::{SnapshotAnswer, SnapshotCall, SnapshotStep},
        types::{self, Vote},
    },
    runtime,
    state::snapshot::{Intake, Received, SnapshotError},
    storage::StoreError,
};

/// A sender that is silent for this long has gone, and what has come of it goes too.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

struct Transfer {
    sender: u64,
    transfer: u64,
    /// The next part.
    number: u32,
    intake: Intake,
}

/// Takes the parts of snapshots, until the group has stopped.
pub(in crate::raft) async fn receive(inner: Weak<Inner>, mut parts: mpsc::UnboundedReceiver<(Request, Reply)>) {
    let mut current: Option<Transfer> = None;
    loop {
        let next = if current.is_some() {
            match tokio::time::timeout(IDLE_LIMIT, parts.recv()).await {
                Ok(next) => next,
                Err(_) => {
                    tracing::warn!("a snapshot was not sent to its end");
                    current = None;
                    continue;
                }
            }
        } else {
            parts.recv().await
        };
        let Some((request, reply)) = next else { return };
        let Some(inner) = inner.upgrade() else { return };
        let answer = match SnapshotCall::decode(request.body) {
            Ok(call) => take(&inner, &mut current, request.sender, call).await,
            Err(error) => SnapshotAnswer::Refused(format!("a part of a snapshot cannot be read: {error}")),
        };
        if let Some(error) = inner.snapshots.too_new() {
            // Neither the log nor a snapshot can bring this program up to date.
            inner.fail(error.to_string());
        }
        if let SnapshotAnswer::Refused(reason) = &answer {
            tracing::warn!(sender = format_args!("{:x}", request.sender), reason, "a snapshot is refused");
            current = None;
        }
        reply.send(answer.encode());
    }
}

async fn take(inner: &Arc<Inner>, current: &mut Option<Transfer>, sender: u64, call: SnapshotCall) -> SnapshotAnswer {
    let SnapshotCall {
        vote,
        transfer,
        number,
        step,
    } = call;
    let own = inner.raft.metrics().borrow_watched().vote;
    if own.leader_id.term > vote.leader_id.term {
        return SnapshotAnswer::HigherVote(own);
    }
    inner.leader_was_heard();
    let known = current.take().filter(|known| known.sender == sender && known.transfer == transfer);
    let taken = match (known, step) {
        (None, SnapshotStep::Frame(frame)) if number == 0 => begin(inner, frame).await.map(Some),
        (Some(known), SnapshotStep::Frame(frame)) if known.number == number => go_on(known.intake, frame).await.map(Some),
        (Some(known), SnapshotStep::Install) if known.number == number => {
            return match install(inner, vote, known.intake).await {
                Ok(vote) => SnapshotAnswer::Installed(vote),
                Err(reason) => SnapshotAnswer::Refused(reason),
            };
        }
        _ => Err(format!("part {number} of a snapshot whose beginning is not here")),
    };
    match taken {
        Ok(Some(intake)) => {
            *current = Some(Transfer {
                sender,
                transfer,
                number: number + 1,
                intake,
            });
            SnapshotAnswer::Taken
        }
        Ok(None) => SnapshotAnswer::Taken,
        Err(reason) => SnapshotAnswer::Refused(reason),
    }
}

async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T, SnapshotError> + Send + 'static) -> Result<T, String> {
    match runtime::blocking(work).await {
        Ok(done) => done.map_err(|error| describe(&error)),
        Err(error) => Err(error.to_string()),
    }
}

/// The error and its sources.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

async fn begin(inner: &Arc<Inner>, frame: bytes::Bytes) -> Result<Intake, String> {
    let office = Arc::clone(&inner.snapshots);
    off_thread(move || {
        let discard = Arc::clone(&office.place.discard);
        let intake = Intake::begin(&frame, office.origin, office.known, || (office.place.create)(), discard);
        if let Err(SnapshotError::Store(StoreError::NewerLevel { found, .. })) = &intake {
            office.is_above(*found);
        }
        let intake = intake?;
        tracing::info!(applied = ?intake.heading().applied, "receiving a snapshot");
        Ok(intake)
    })
    .await
}

async fn go_on(mut intake: Intake, frame: bytes::Bytes) -> Result<Intake, String> {
    off_thread(move || {
        intake.take(&frame)?;
        Ok(intake)
    })
    .await
}

async fn install(inner: &Arc<Inner>, vote: Vote, intake: Intake) -> Result<Vote, String> {
    let bytes = intake.bytes();
    let received = off_thread(move || intake.finish()).await?;
    let applied = received.heading.applied;
    check(inner, vote, &received)?;
    let meta = meta(applied, received.heading.membership.clone()).map_err(|error| error.to_string())?;
    let snapshot = Snapshot {
        meta,
        snapshot: Contents::Received(received),
    };
    match inner.raft.install_full_snapshot(vote, snapshot).await {
        Ok(answer) => {
            inner.snapshots.received.fetch_add(1, Ordering::Relaxed);
            tracing::info!(?applied, bytes, "a snapshot has been received");
            Ok(answer.vote)
        }
        Err(fatal) => Err(fatal.to_string()),
    }
}

/// openraft takes these for granted, and panics otherwise.
fn check(inner: &Inner, vote: Vote, received: &Received) -> Result<(), String> {
    let applied = received.heading.applied;
    if applied.term > vote.leader_id.term {
        return Err(format!(
            "the snapshot ends with an entry of term {}, and its sender leads term {}",
            applied.term, vote.leader_id.term
        ));
    }
    let last = types::log_id(applied.term, applied.index);
    let metrics = inner.raft.metrics();
    let committed = metrics.borrow_watched().local_committed;
    match committed {
        Some(committed) if last > committed && last.index <= committed.index => Err(format!(
            "the snapshot ends with entry {last}, and this member has committed {committed}: they exclude each other"
        )),
        _ => Ok(()),
    }
}
