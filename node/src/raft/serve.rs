//! What this member does for others. In: calls. Out: their answers. Absent: the check of who calls and who is meant (`peer` has made it).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream};
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult};
use tokio::{sync::mpsc, time::Instant};

use super::{
    Cost, Inner,
    encoding::{
        self, Answered, AppendCall, ForwardCall, JoinCall, MembershipCall, ReadAnswer, ReadCall, TransferAnswer, Unreadable, WaitAnswer,
        WaitCall,
    },
    freshness::Told,
    propose::Prepared,
    replacement::ReleaseRequest,
    snapshot,
    types::{Raft, Types},
};
use crate::{
    peer::{Method, Refusal, Reply, Request, Service},
    runtime,
};

/// How many appends of a stream may wait for openraft.
const APPENDS: usize = 64;

/// The group as the transport sees it.
pub(super) struct Served {
    inner: Arc<Inner>,
    /// Snapshots are received one at a time, in order.
    snapshots: mpsc::UnboundedSender<(Request, Reply)>,
}

impl Served {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        let (snapshots, parts) = mpsc::unbounded_channel();
        runtime::spawn(snapshot::receive(Arc::downgrade(&inner), parts));
        Served { inner, snapshots }
    }
}

impl Service for Served {
    fn serve(&self, request: Request, reply: Reply) {
        if request.method == Method::Snapshot {
            // What waits is bounded by what a connection may hold. Without a receiver the reply is dropped, and says so.
            let _ = self.snapshots.send((request, reply));
            return;
        }
        let inner = Arc::clone(&self.inner);
        runtime::spawn(async move {
            match answer(&inner, request).await {
                Ok(Some(body)) => reply.send(body),
                // openraft is closing down. What it made of the call is not known.
                Ok(None) => drop(reply),
                Err(error) => {
                    tracing::warn!(%error, "a member's call cannot be read");
                    reply.refuse(Refusal::Malformed);
                }
            }
        });
    }

    fn appends(&self, requests: mpsc::Receiver<(Request, Reply)>) {
        runtime::spawn(take_appends(Arc::clone(&self.inner), requests));
    }

    fn is_blank(&self) -> bool {
        self.inner.read_status().state == kvfleet_api::admin::MemberState::Blank
    }
}

async fn answer(inner: &Arc<Inner>, Request { sender, method, body }: Request) -> Result<Option<Bytes>, Unreadable> {
    Ok(match method {
        Method::Append => {
            let AppendCall {
                request, told, unneeded, ..
            } = AppendCall::decode(body)?;
            hear(inner, told, unneeded);
            append_one(inner, request).await.map(|answered| answered.encode())
        }
        Method::Vote | Method::PreVote => {
            let request = encoding::decode_vote_call(body)?;
            if !request.leadership_transfer && inner.may_have_promised() {
                return Ok(None);
            }
            let answer = match method {
                Method::Vote => inner.raft.vote(request).await,
                _ => inner.raft.pre_vote(request).await,
            };
            answer.ok().map(|answer| encoding::encode_vote_answer(&answer))
        }
        Method::TransferLeader => {
            let request = TransferAnswer::decode_call(body)?;
            inner
                .raft
                .handle_transfer_leader(request)
                .await
                .ok()
                .map(|answer| TransferAnswer(answer).encode())
        }
        Method::Forward => {
            let call = ForwardCall::decode(body)?;
            let received = Prepared::received(call.proposal).map_err(|_| Unreadable::Unknown {
                field: "command",
                value: 0,
            })?;
            Some(
                inner
                    .propose_forwarded(received, Cost(call.cost), after(call.patience_ms))
                    .await
                    .encode(),
            )
        }
        Method::ReadIndex => {
            let call = ReadCall::decode(body)?;
            let (patience_ms, barrier) = (call.patience_ms, call.barrier());
            let leads = inner.leadership.borrow().own;
            let read = async {
                if leads {
                    inner.read_index(barrier).await
                } else {
                    ReadAnswer::Again
                }
            };
            Some(
                tokio::time::timeout_at(after(patience_ms), read)
                    .await
                    .unwrap_or(ReadAnswer::Again)
                    .encode(),
            )
        }
        Method::Membership => Some(match MembershipCall::decode(body)? {
            MembershipCall::Ask => inner.tell_membership().encode(),
            MembershipCall::Change { patience_ms, change } => inner.change_forwarded(change, after(patience_ms)).await.encode(),
        }),
        Method::Release => Some(inner.release(sender, ReleaseRequest::decode(body)?).await.encode()),
        Method::WaitApplied => {
            let WaitCall { patience_ms, revision } = WaitCall::decode(body)?;
            let applied = inner.has_applied(revision, after(patience_ms)).await;
            Some(WaitAnswer { applied }.encode())
        }
        Method::Checkpoints => Some(inner.own_checkpoints().encode()),
        Method::Join => {
            let JoinCall { patience_ms, request } = JoinCall::decode(body)?;
            Some(inner.join(request, after(patience_ms)).await.encode())
        }
        // The session answers these, and `serve` has handed the snapshots on.
        Method::Snapshot | Method::Ping | Method::Identify | Method::Unknown(_) => None,
    })
}

fn after(patience_ms: u32) -> Instant {
    Instant::now() + Duration::from_millis(u64::from(patience_ms))
}

/// A heartbeat, or the first append of a leader that looks for where the logs part.
async fn append_one(inner: &Inner, request: AppendEntriesRequest<Types>) -> Option<Answered> {
    let mut answers = Box::pin(inner.raft.stream_append(stream::iter([request])));
    let result = answers.next().await?.ok()?;
    note(inner, &result);
    Some(answered(inner, result))
}

fn answered(inner: &Inner, result: StreamAppendResult<Types>) -> Answered {
    Answered {
        tick: inner.freshness.tick(),
        result,
    }
}

/// Also from a leader that has been replaced: what it says of its time is true.
fn hear(inner: &Inner, told: Option<Told>, unneeded: u64) {
    inner.retention.hear(unneeded);
    if let Some(told) = told {
        inner.freshness.hear(told);
    }
}

/// An append that was not refused for its vote came from the leader.
fn note(inner: &Inner, result: &StreamAppendResult<Types>) {
    if !matches!(result, Err(StreamAppendError::HigherVote(_))) {
        inner.leader_was_heard();
    }
}

/// The appends of one connection. Those with one number are one ordered stream of openraft; after it has refused one, the rest of that
/// number was sent before the leader knew and is dropped.
async fn take_appends(inner: Arc<Inner>, mut requests: mpsc::Receiver<(Request, Reply)>) {
    let mut current: Option<AppendStream> = None;
    while let Some((Request { body, .. }, reply)) = requests.recv().await {
        let (number, request) = match AppendCall::decode(body) {
            Ok(AppendCall {
                stream: Some(number),
                told,
                unneeded,
                request,
            }) => {
                hear(&inner, told, unneeded);
                (number, request)
            }
            Ok(AppendCall { stream: None, .. }) => {
                reply.refuse(Refusal::Malformed);
                continue;
            }
            Err(error) => {
                tracing::warn!(%error, "a member's append cannot be read");
                reply.refuse(Refusal::Malformed);
                continue;
            }
        };
        let stream = match current.take() {
            Some(stream) if stream.number == number => stream,
            _ => AppendStream::start(&inner, number),
        };
        stream.push(request, reply).await;
        current = Some(stream);
    }
}

struct AppendStream {
    number: u64,
    requests: mpsc::Sender<AppendEntriesRequest<Types>>,
    replies: mpsc::UnboundedSender<Reply>,
}

impl AppendStream {
    fn start(inner: &Arc<Inner>, number: u64) -> Self {
        let (requests, given) = mpsc::channel(APPENDS);
        let (replies, waiting) = mpsc::unbounded_channel();
        runtime::spawn(answer_appends(Arc::clone(inner), given, waiting));
        AppendStream { number, requests, replies }
    }

    async fn push(&self, request: AppendEntriesRequest<Types>, reply: Reply) {
        // The reply first, so that it is there when the answer is. Of a stream that has ended both are dropped.
        let _ = self.replies.send(reply);
        let _ = self.requests.send(request).await;
    }
}

async fn answer_appends(
    inner: Arc<Inner>,
    mut given: mpsc::Receiver<AppendEntriesRequest<Types>>,
    mut waiting: mpsc::UnboundedReceiver<Reply>,
) {
    let raft: Raft = inner.raft.clone();
    let mut answers = Box::pin(raft.stream_append(stream::poll_fn(move |context| given.poll_recv(context))));
    while let Some(Ok(result)) = answers.next().await {
        note(&inner, &result);
        let Some(reply) = waiting.recv().await else { return };
        reply.send(answered(&inner, result).encode());
    }
}
