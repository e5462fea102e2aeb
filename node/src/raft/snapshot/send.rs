//! The sending end of a transfer.

use std::{collections::VecDeque, sync::atomic::Ordering, time::Duration};

use tokio::time::Instant;

use super::{Attending, Contents, Office, Snapshot};
use crate::{
    peer::{CallError, Lane, Method, PeerAddress, Pending, Transport},
    raft::{
        encoding::{SnapshotAnswer, SnapshotCall, SnapshotStep, Unreadable},
        retention::Attended,
        types::Vote,
    },
    runtime,
    state::snapshot::{Frames, SnapshotError},
};

/// Frames that are on their way: what a transfer holds in memory here.
const WINDOW: usize = 4;
/// A receiver that writes no frame for this long is given up.
const FRAME_LIMIT: Duration = Duration::from_secs(30);
/// The last step flushes and installs everything.
const INSTALL_LIMIT: Duration = Duration::from_secs(300);
/// A transfer keeps replaced rows from being freed, so it does not last for ever.
const TRANSFER_LIMIT: Duration = Duration::from_secs(3600);

/// Why a snapshot did not arrive.
#[derive(Debug, thiserror::Error)]
pub(in crate::raft) enum SendError {
    #[error("another snapshot is being sent")]
    Busy,
    #[error("member {target:x} did not take the last snapshot, and is left alone for a while")]
    Resting { target: u64 },
    #[error(transparent)]
    Read(#[from] SnapshotError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("the answer cannot be read: {0}")]
    Answer(#[from] Unreadable),
    #[error("member {target:x} refused the snapshot: {reason}")]
    Refused { target: u64, reason: String },
    #[error("the member is shutting down")]
    Closing,
    #[error("a snapshot that was received cannot be sent on")]
    NotOurs,
}

impl Office {
    /// Sends a snapshot and has it installed; answers the receiver's vote, which may be higher than ours. Dropped, it stops.
    pub(in crate::raft) async fn send(
        &self,
        transport: &Transport,
        peer: &PeerAddress,
        vote: Vote,
        snapshot: Snapshot,
    ) -> Result<Vote, SendError> {
        let Ok(_turn) = self.sending.try_acquire() else {
            return Err(SendError::Busy);
        };
        if self.is_resting(peer.id) {
            return Err(SendError::Resting { target: peer.id });
        }
        let Contents::View(view) = snapshot.snapshot else {
            return Err(SendError::NotOurs);
        };
        let applied = view.applied();
        tracing::info!(member = format_args!("{:x}", peer.id), ?applied, "sending a snapshot");
        let began = Instant::now();
        let attention = Attention {
            office: self,
            attended: Attended {
                member: peer.id,
                needs_from: applied.map_or(0, |applied| applied.index + 1),
            },
        };
        attention.begin();
        let frames = Frames::new(view, self.origin)?;
        let mut transfer = Transfer {
            transport,
            peer,
            vote,
            transfer: self.transfers.fetch_add(1, Ordering::Relaxed),
            number: 0,
            flying: VecDeque::new(),
            bytes: 0,
        };
        let sent = match tokio::time::timeout(TRANSFER_LIMIT, transfer.run(frames)).await {
            Ok(sent) => sent,
            Err(_) => Err(CallError::Late { target: peer.id }.into()),
        };
        match &sent {
            Ok(_) => {
                attention.has_sent();
                self.resting().remove(&peer.id);
                self.sent.fetch_add(1, Ordering::Relaxed);
                tracing::info!(
                    member = format_args!("{:x}", peer.id),
                    ?applied,
                    bytes = transfer.bytes,
                    took = ?began.elapsed(),
                    "a snapshot has been sent"
                );
            }
            Err(SendError::Read(SnapshotError::Store(error))) if error.is_damage() => {
                self.found_damage(format!("a snapshot cannot be made: {error}"));
            }
            Err(error) => {
                self.let_rest(peer.id);
                tracing::warn!(member = format_args!("{:x}", peer.id), %error, bytes = transfer.bytes, "a snapshot was not sent");
            }
        }
        sent
    }
}

/// The log is kept for whoever is sent a snapshot. Dropped before all was sent, it is not.
struct Attention<'s> {
    office: &'s Office,
    attended: Attended,
}

impl Attention<'_> {
    fn begin(&self) {
        self.office.attend(Some(Attending {
            attended: self.attended,
            sent: None,
        }));
    }

    fn has_sent(self) {
        self.office.attend(Some(Attending {
            attended: self.attended,
            sent: Some(Instant::now()),
        }));
        std::mem::forget(self);
    }
}

impl Drop for Attention<'_> {
    fn drop(&mut self) {
        self.office.attend(None);
    }
}

struct Transfer<'s> {
    transport: &'s Transport,
    peer: &'s PeerAddress,
    vote: Vote,
    transfer: u64,
    number: u32,
    flying: VecDeque<Pending>,
    bytes: u64,
}

impl Transfer<'_> {
    async fn run(&mut self, mut frames: Frames) -> Result<Vote, SendError> {
        loop {
            let step = runtime::blocking(move || {
                let next = frames.next();
                (frames, next)
            });
            let (rest, next) = step.await.map_err(|_| SendError::Closing)?;
            frames = rest;
            let Some(frame) = next else { break };
            let frame = frame?;
            self.bytes += frame.len() as u64;
            self.begin(SnapshotStep::Frame(frame)).await?;
            if self.flying.len() >= WINDOW
                && let Some(vote) = self.landed(FRAME_LIMIT).await?
            {
                return Ok(vote);
            }
        }
        self.begin(SnapshotStep::Install).await?;
        loop {
            let limit = if self.flying.len() > 1 { FRAME_LIMIT } else { INSTALL_LIMIT };
            if let Some(vote) = self.landed(limit).await? {
                return Ok(vote);
            }
        }
    }

    async fn begin(&mut self, step: SnapshotStep) -> Result<(), SendError> {
        let call = SnapshotCall {
            vote: self.vote,
            transfer: self.transfer,
            number: self.number,
            step,
        };
        self.number += 1;
        let begin = self.transport.begin(self.peer, Lane::Snapshot, Method::Snapshot, call.encode());
        match tokio::time::timeout(FRAME_LIMIT, begin).await {
            Ok(pending) => self.flying.push_back(pending?),
            Err(_) => return Err(CallError::Late { target: self.peer.id }.into()),
        }
        Ok(())
    }

    /// The next answer; a vote when it is the last one.
    async fn landed(&mut self, limit: Duration) -> Result<Option<Vote>, SendError> {
        let target = self.peer.id;
        let Some(pending) = self.flying.pop_front() else {
            return Err(CallError::Late { target }.into());
        };
        let answer = match tokio::time::timeout(limit, pending).await {
            Ok(answer) => answer?,
            Err(_) => return Err(CallError::Late { target }.into()),
        };
        match SnapshotAnswer::decode(answer)? {
            SnapshotAnswer::Taken => Ok(None),
            SnapshotAnswer::HigherVote(vote) | SnapshotAnswer::Installed(vote) => Ok(Some(vote)),
            SnapshotAnswer::Refused(reason) => Err(SendError::Refused { target, reason }),
        }
    }
}
