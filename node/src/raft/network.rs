//! The other members as openraft wants to see them. In: its requests. Out: calls on the lane that fits, and their answers. Absent:
//! sockets (`peer`).
//!
//! openraft makes a client per purpose: one for replication, one for heartbeats, short-lived ones for votes. Entries go on the log's
//! lane, pipelined; everything else goes on the control lane and waits behind nothing large.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{
    FutureExt, Stream, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use openraft::{
    OptionalSend,
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable},
    network::{RPCOption, RPCTypes, RaftNetworkFactory, RaftNetworkV2, stream_append_sequential},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest, TransferLeaderResponse,
        VoteRequest, VoteResponse,
    },
};
use tokio::time::Instant;

use super::{
    encoding::{self, Answered, AppendCall, TransferAnswer, Unreadable},
    freshness::{Freshness, Heard},
    retention::Retention,
    snapshot::{Contents, Office, Snapshot},
    types::{Member, Types, Vote},
};
use crate::peer::{CallError, Lane, Method, PeerAddress, Pending, Transport};

/// How many appends may be under way to one follower: one that it stores, one that is on its way meanwhile …
const WINDOW: usize = 2;
/// … and how many of their bytes.
const WINDOW_BYTES: usize = 16 << 20;
/// An append of fewer bytes than this is alone under way. Entries that come meanwhile fill the next one: otherwise a busy leader sends every
/// handful of them by itself, and each costs the follower a flush, an answer and several changes of threads.
const WORTH_OVERLAPPING: usize = 64 << 10;
/// A follower that takes longer than this to store entries is tried anew: its process exits at 3 s.
const APPEND_LIMIT: Duration = Duration::from_secs(5);

type Error = RPCError<Types>;

/// Makes clients.
pub(super) struct Network {
    transport: Transport,
    streams: Arc<AtomicU64>,
    freshness: Arc<Freshness>,
    retention: Arc<Retention>,
    /// The ticks heard, by follower; its clients share one.
    heard: Mutex<BTreeMap<u64, Heard>>,
    snapshots: Arc<Office>,
}

impl Network {
    pub(super) fn new(transport: Transport, freshness: Arc<Freshness>, retention: Arc<Retention>, snapshots: Arc<Office>) -> Self {
        Network {
            transport,
            freshness,
            retention,
            heard: Mutex::default(),
            snapshots,
            streams: Arc::new(AtomicU64::new(1)),
        }
    }

    fn client(&self, target: u64, node: &Member, lane: Lane) -> Client {
        Client {
            transport: self.transport.clone(),
            peer: PeerAddress {
                id: target,
                address: node.peer.clone(),
            },
            lane,
            streams: Arc::clone(&self.streams),
            freshness: Arc::clone(&self.freshness),
            retention: Arc::clone(&self.retention),
            heard: Arc::clone(self.heard.lock().unwrap_or_else(PoisonError::into_inner).entry(target).or_default()),
            snapshots: Arc::clone(&self.snapshots),
        }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, node: &Member) -> Client {
        self.client(target, node, Lane::Log)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Member) -> Client {
        self.client(target, node, Lane::Control)
    }
}

/// One member, called for one purpose.
pub(super) struct Client {
    transport: Transport,
    peer: PeerAddress,
    /// The lane of its appends; everything else goes on the control lane.
    lane: Lane,
    streams: Arc<AtomicU64>,
    freshness: Arc<Freshness>,
    retention: Arc<Retention>,
    heard: Heard,
    snapshots: Arc<Office>,
}

impl Client {
    fn append(&self, stream: Option<u64>, request: AppendEntriesRequest<Types>) -> Bytes {
        let call = AppendCall {
            stream,
            told: self.freshness.tell(&self.heard),
            unneeded: self.retention.unneeded(),
            request,
        };
        call.encode()
    }

    fn appended(&self, answer: Bytes) -> Result<StreamAppendResult<Types>, Error> {
        let Answered { tick, result } = Answered::decode(answer).map_err(unreadable)?;
        self.heard.store(tick, Ordering::Release);
        Ok(result)
    }

    async fn call(&self, method: Method, body: Bytes, option: &RPCOption, action: RPCTypes) -> Result<Bytes, Error> {
        let deadline = Instant::now() + option.hard_ttl();
        let answer = self.transport.call(&self.peer, Lane::Control, method, body, deadline).await;
        answer.map_err(|error| self.error(error, action, option.hard_ttl()))
    }

    fn error(&self, error: CallError, action: RPCTypes, timeout: Duration) -> Error {
        match error {
            CallError::Late { target } => RPCError::Timeout(Timeout {
                action,
                id: self.transport.id(),
                target,
                timeout,
            }),
            CallError::Broken { .. } => RPCError::Network(NetworkError::new(&error)),
            // openraft pauses before it tries again.
            CallError::Unreachable { .. } | CallError::OtherShard { .. } | CallError::Refused { .. } => {
                RPCError::Unreachable(Unreachable::new(&error))
            }
        }
    }
}

fn unreadable(error: Unreadable) -> Error {
    RPCError::Network(NetworkError::new(&error))
}

impl RaftNetworkV2<Types> for Client {
    type SnapshotData = Contents;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, Error> {
        let body = self.append(None, request);
        let answer = self.call(Method::Append, body, &option, RPCTypes::AppendEntries).await?;
        Ok(AppendEntriesResponse::from(self.appended(answer)?))
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<Types>, Error>>, Error>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        if self.lane != Lane::Log {
            return stream_append_sequential(self, input, option);
        }
        let number = self.streams.fetch_add(1, Ordering::Relaxed);
        let pipeline = Pipeline {
            client: self,
            number,
            input: Some(input),
            flying: VecDeque::new(),
            bytes: 0,
        };
        let answers = stream::unfold(Some(pipeline), |pipeline| async move {
            let mut pipeline = pipeline?;
            let item = pipeline.next().await?;
            // After a conflict, a higher vote or an error what is still under way has no meaning.
            let rest = matches!(item, Ok(Ok(_))).then_some(pipeline);
            Some((item, rest))
        });
        async move { Ok(answers.boxed()) }.boxed()
    }

    async fn vote(&mut self, request: VoteRequest<Types>, option: RPCOption) -> Result<VoteResponse<Types>, Error> {
        let answer = self
            .call(Method::Vote, encoding::encode_vote_call(&request), &option, RPCTypes::Vote)
            .await?;
        encoding::decode_vote_answer(answer).map_err(unreadable)
    }

    /// Unlike openraft's default, a member that cannot be asked grants nothing: otherwise a member that is cut off would grant itself a
    /// quorum and raise its term.
    async fn pre_vote(&mut self, request: VoteRequest<Types>, option: RPCOption) -> Result<VoteResponse<Types>, Error> {
        let answer = self
            .call(Method::PreVote, encoding::encode_vote_call(&request), &option, RPCTypes::Vote)
            .await?;
        encoding::decode_vote_answer(answer).map_err(unreadable)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let sending = self.snapshots.send(&self.transport, &self.peer, vote, snapshot);
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = sending => match sent {
                Ok(vote) => Ok(SnapshotResponse::new(vote)),
                // openraft pauses, and comes back with a newer view.
                Err(error) => Err(StreamingError::Unreachable(Unreachable::new(&error))),
            },
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, Error> {
        let answer = self
            .call(
                Method::TransferLeader,
                TransferAnswer::encode_call(&request),
                &option,
                RPCTypes::TransferLeader,
            )
            .await?;
        Ok(TransferAnswer::decode(answer).map_err(unreadable)?.0)
    }
}

/// Why entries are not sent although they are there.
#[derive(Debug, thiserror::Error)]
#[error("the member lacks more of the log than is held for one member, and is sent a snapshot")]
struct TooFarBehind;

/// Appends under way to one follower: sent as openraft gives them, answered in order.
struct Pipeline<'s, S> {
    client: &'s Client,
    number: u64,
    /// None when openraft has no more.
    input: Option<S>,
    flying: VecDeque<Flight>,
    bytes: usize,
}

struct Flight {
    pending: Pending,
    bytes: usize,
    give_up: Instant,
}

impl<S> Pipeline<'_, S>
where
    S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
{
    /// The next answer; none when everything given was answered.
    async fn next(&mut self) -> Option<Result<StreamAppendResult<Types>, Error>> {
        loop {
            let room = self.flying.len() < WINDOW && (WORTH_OVERLAPPING..WINDOW_BYTES).contains(&self.bytes);
            let given = match (&mut self.input, self.flying.front_mut()) {
                (Some(input), None) => input.next().await,
                (Some(input), Some(front)) if room => tokio::select! {
                    biased;
                    answer = &mut front.pending => return Some(self.landed(answer)),
                    given = input.next() => given,
                    () = tokio::time::sleep_until(front.give_up) => return Some(Err(self.late())),
                },
                (_, Some(front)) => {
                    return Some(match tokio::time::timeout_at(front.give_up, &mut front.pending).await {
                        Ok(answer) => self.landed(answer),
                        Err(_) => Err(self.late()),
                    });
                }
                (None, None) => return None,
            };
            match given {
                Some(request) => {
                    if let Err(error) = self.send(request).await {
                        return Some(Err(error));
                    }
                }
                None => self.input = None,
            }
        }
    }

    async fn send(&mut self, request: AppendEntriesRequest<Types>) -> Result<(), Error> {
        // openraft holds back the cut, which every other member has made, until this stream has ended.
        if !self
            .client
            .retention
            .may_send(request.prev_log_id.map_or(0, |previous| previous.index + 1))
        {
            return Err(RPCError::Unreachable(Unreachable::new(&TooFarBehind)));
        }
        let body = self.client.append(Some(self.number), request);
        let bytes = body.len();
        let give_up = Instant::now() + APPEND_LIMIT;
        let begun = self
            .client
            .transport
            .begin(&self.client.peer, Lane::Log, Method::Append, body)
            .await;
        let pending = begun.map_err(|error| self.client.error(error, RPCTypes::AppendEntries, APPEND_LIMIT))?;
        self.bytes += bytes;
        self.flying.push_back(Flight { pending, bytes, give_up });
        Ok(())
    }

    fn landed(&mut self, answer: Result<Bytes, CallError>) -> Result<StreamAppendResult<Types>, Error> {
        if let Some(flight) = self.flying.pop_front() {
            self.bytes -= flight.bytes;
        }
        let answer = answer.map_err(|error| self.client.error(error, RPCTypes::AppendEntries, APPEND_LIMIT))?;
        self.client.appended(answer)
    }

    fn late(&self) -> Error {
        self.client.error(
            CallError::Late {
                target: self.client.peer.id,
            },
            RPCTypes::AppendEntries,
            APPEND_LIMIT,
        )
    }
}
