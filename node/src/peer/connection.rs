//! The asking end of one connection. In: requests. Out: their answers, each to its own waiter, in whatever order they come. When the
//! connection ends, every waiter hears of it at once. Absent: dialing (`link`).

use std::{
    collections::HashMap,
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    time::Instant,
};

use super::{
    budget::Budget,
    carried::{Carried, Label},
    error::{CallError, Refusal},
    frame::{self, HEADER_BYTES, Header, Kind, MAX_FRAME_BYTES, Method},
    link::Lane,
    packing::{self, Body, PackingError},
};
use crate::{cluster_id::ClusterId, runtime};

/// Frames that wait are written together up to this many bytes.
const WRITE_BYTES: usize = 256 << 10;
/// An idle connection is used this often, so that the other end (which closes idle ones after three times as long) keeps it.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// Who speaks to whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    /// The format of the frames.
    pub(super) format: u8,
    pub(super) cluster: ClusterId,
    pub(super) shard: u32,
    pub(super) sender: u64,
    pub(super) target: u64,
}

/// A connection that requests can be sent on. Dropping it closes it, and whoever still waits hears that it ended.
#[derive(Debug)]
pub(super) struct Connection {
    target: u64,
    outgoing: mpsc::UnboundedSender<Outgoing>,
    budget: Budget,
    carried: Arc<Carried>,
    waiters: Arc<Mutex<Waiters>>,
    next: AtomicU64,
}

#[derive(Debug)]
struct Outgoing {
    request: u64,
    method: Method,
    body: Body,
    _permit: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
struct Waiters {
    /// Why the connection ended.
    ended: Option<String>,
    /// Since when somebody has been waiting without a pause.
    since: Instant,
    /// Since when somebody waited who has left without an answer, while nothing was heard. A caller that is less patient than the
    /// connection must not keep it from being given up.
    left: Option<Instant>,
    answers: HashMap<u64, oneshot::Sender<Result<Bytes, CallError>>>,
}

fn lock(waiters: &Mutex<Waiters>) -> MutexGuard<'_, Waiters> {
    waiters.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request on its way. Its answer, when it comes; dropping it forgets the request.
#[derive(Debug)]
pub(crate) struct Pending {
    target: u64,
    request: u64,
    answer: oneshot::Receiver<Result<Bytes, CallError>>,
    waiters: Arc<Mutex<Waiters>>,
}

impl Future for Pending {
    type Output = Result<Bytes, CallError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let target = self.target;
        Pin::new(&mut self.answer)
            .poll(context)
            .map(|answer| answer.unwrap_or_else(|_| Err(broken(target, "it was closed"))))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let mut waiters = lock(&self.waiters);
        if waiters.answers.remove(&self.request).is_some() {
            let since = waiters.since;
            waiters.left.get_or_insert(since);
        }
    }
}

fn broken(target: u64, reason: &str) -> CallError {
    CallError::Broken {
        target,
        reason: reason.to_owned(),
    }
}

impl Connection {
    /// Runs a connection over `stream`, which has been authenticated.
    pub(super) fn start<S>(stream: S, ends: Ends, lane: Lane, carried: Arc<Carried>) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (outgoing, waiting) = mpsc::unbounded_channel();
        let waiters = Arc::new(Mutex::new(Waiters {
            ended: None,
            since: Instant::now(),
            left: None,
            answers: HashMap::new(),
        }));
        let (reader, writer) = tokio::io::split(stream);
        let (pings, pinged) = mpsc::channel(1);
        let shared = Arc::clone(&waiters);
        let own = Arc::clone(&carried);
        runtime::spawn(async move {
            // Both ends in one task: when one side of the connection is over, so is the other.
            let reason = tokio::select! {
                reason = receive(reader, ends, lane, &own, &shared, pings) => reason,
                reason = send(writer, ends, &own, waiting, pinged) => reason,
            };
            let answers = {
                let mut waiters = lock(&shared);
                waiters.ended = Some(reason.clone());
                std::mem::take(&mut waiters.answers)
            };
            // In the order of the requests: a hash map's would differ from run to run.
            let mut answers: Vec<_> = answers.into_iter().collect();
            answers.sort_unstable_by_key(|(request, _)| *request);
            for (_, answer) in answers {
                // A waiter that has gone needs no answer.
                let _ = answer.send(Err(broken(ends.target, &reason)));
            }
        });
        Connection {
            target: ends.target,
            outgoing,
            budget: Budget::new(),
            carried,
            waiters,
            next: AtomicU64::new(1),
        }
    }

    /// Whether it can take requests.
    pub(super) fn is_open(&self) -> bool {
        lock(&self.waiters).ended.is_none()
    }

    /// Hands a request to the connection; requests of one caller go out in the order of the calls.
    ///
    /// # Errors
    /// As [`CallError::Unreachable`], with the reason only: nothing was sent.
    pub(super) async fn begin(&self, method: Method, body: Bytes) -> Result<Pending, String> {
        if body.len() > MAX_FRAME_BYTES - HEADER_BYTES {
            return Err(format!("a request of {} bytes is larger than a frame", body.len()));
        }
        let body = packing::pack_aside(&self.carried, body).await;
        let permit = self.budget.take(body.bytes.len()).await;
        let request = self.next.fetch_add(1, Ordering::Relaxed);
        let (answered, answer) = oneshot::channel();
        {
            let mut waiters = lock(&self.waiters);
            if let Some(reason) = &waiters.ended {
                return Err(reason.clone());
            }
            if waiters.answers.is_empty() {
                waiters.since = Instant::now();
            }
            waiters.answers.insert(request, answered);
        }
        let pending = Pending {
            target: self.target,
            request,
            answer,
            waiters: Arc::clone(&self.waiters),
        };
        // If the task has just ended, `pending` hears of it; whether the frame was among the last ones written is not known then.
        let _ = self.outgoing.send(Outgoing {
            request,
            method,
            body,
            _permit: Some(permit),
        });
        Ok(pending)
    }
}

async fn send<W: AsyncWrite + Unpin>(
    mut writer: W,
    ends: Ends,
    carried: &Carried,
    mut waiting: mpsc::UnboundedReceiver<Outgoing>,
    mut pinged: mpsc::Receiver<()>,
) -> String {
    let mut bytes = BytesMut::new();
    let mut taken = Vec::new();
    loop {
        let first = tokio::select! {
            next = waiting.recv() => match next {
                Some(next) => next,
                None => return "it was closed".to_owned(),
            },
            // Answers to pings have no waiter.
            Some(()) = pinged.recv() => Outgoing { request: 0, method: Method::Ping, body: Body::plain(Bytes::new()), _permit: None },
        };
        let mut next = Some(first);
        while let Some(outgoing) = next {
            let header = carried.header(Label {
                kind: Kind::Request,
                method: outgoing.method,
                packed: outgoing.body.packed,
                ends,
                request: outgoing.request,
            });
            frame::write(&mut bytes, &header, &outgoing.body.bytes);
            carried.packing.count_sent(&outgoing.body);
            taken.push(outgoing);
            next = if bytes.len() < WRITE_BYTES { waiting.try_recv().ok() } else { None };
        }
        if let Err(error) = write(&mut writer, &bytes).await {
            return error.to_string();
        }
        // Only now have the bodies left memory.
        taken.clear();
        bytes.clear();
        if bytes.capacity() > 4 * WRITE_BYTES {
            bytes = BytesMut::new();
        }
    }
}

pub(super) async fn write<W: AsyncWrite + Unpin>(writer: &mut W, bytes: &[u8]) -> io::Result<()> {
    writer.write_all(bytes).await?;
    writer.flush().await
}

async fn receive<R: AsyncRead + Unpin>(
    mut reader: R,
    ends: Ends,
    lane: Lane,
    carried: &Carried,
    waiters: &Mutex<Waiters>,
    pings: mpsc::Sender<()>,
) -> String {
    let mut bytes = BytesMut::new();
    let mut heard = Instant::now();
    let silence = lane.silence();
    loop {
        loop {
            match frame::read(&mut bytes) {
                Ok(Some((header, body))) => {
                    // Who is asked for its name may be anybody of the cluster.
                    let answers = header.kind == Kind::Answer && ends.target != 0;
                    if answers && header.sender != ends.target {
                        return format!("member {:x} answered in place of {:x}", header.sender, ends.target);
                    }
                    if answers && header.shard != ends.shard {
                        return format!(
                            "member {:x} of shard {} answered in shard {}",
                            header.sender, header.shard, ends.shard
                        );
                    }
                    if let Err(error) = answer(header, body, ends, carried, waiters).await {
                        return error.to_string();
                    }
                }
                Ok(None) => break,
                Err(error) => return error.to_string(),
            }
        }
        match tokio::time::timeout(silence / 3, reader.read_buf(&mut bytes)).await {
            Ok(Ok(0)) => return "the other end closed it".to_owned(),
            Ok(Ok(_)) => {
                heard = Instant::now();
                lock(waiters).left = None;
            }
            Ok(Err(error)) => return error.to_string(),
            Err(_) => {
                let waiting_since = {
                    let waiters = lock(waiters);
                    waiters.left.or((!waiters.answers.is_empty()).then_some(waiters.since))
                };
                let now = Instant::now();
                match waiting_since {
                    // A partition ends no connection by itself; one that is silent while somebody waits is given up.
                    Some(since) if now >= heard.max(since) + silence => return format!("nothing was heard for {silence:?}"),
                    Some(_) => drop(pings.try_send(())),
                    None if now >= heard + KEEP_ALIVE => {
                        lock(waiters).left = Some(now);
                        // One that waits already will do.
                        let _ = pings.try_send(());
                    }
                    None => {}
                }
            }
        }
    }
}

async fn answer(header: Header, body: Bytes, ends: Ends, carried: &Carried, waiters: &Mutex<Waiters>) -> Result<(), PackingError> {
    let wire = body.len();
    let body = if header.packed { packing::unpack_aside(body).await? } else { body };
    carried.packing.count_received(wire, body.len());
    let answer = match header.kind {
        Kind::Answer => {
            carried.hear(&header);
            Ok(body)
        }
        Kind::Refusal(refusal) => Err(CallError::Refused {
            target: ends.target,
            refusal,
        }),
        Kind::Lost => Err(broken(ends.target, "it stopped working on the request")),
        // It may have acted on the request.
        Kind::Other(_) => Err(broken(ends.target, "it answered in a way that this program does not know")),
        // Each connection asks in one direction only.
        Kind::Request => Err(CallError::Refused {
            target: ends.target,
            refusal: Refusal::Malformed,
        }),
    };
    if let Some(waiter) = lock(waiters).answers.remove(&header.request) {
        let _ = waiter.send(answer);
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::peer::{Levels, hello};

    /// A firewall that has forgotten the connection lets nothing through, in silence. An election asks every few hundred milliseconds
    /// and waits for less than the connection's limit.
    #[tokio::test]
    async fn a_silent_connection_is_given_up_however_short_its_callers_wait() {
        let (near, _far) = tokio::io::duplex(1 << 20);
        let ends = Ends {
            format: frame::HIGHEST,
            cluster: ClusterId::from_bytes([7; 16]),
            shard: 0,
            sender: 1,
            target: 2,
        };
        let own = hello::of_this_program(ends.cluster, 0, 1, "m1", Levels::default());
        let connection = Connection::start(near, ends, Lane::Control, Arc::new(Carried::new(own, 0)));
        let began = Instant::now();
        while connection.is_open() {
            assert!(began.elapsed() < 10 * Lane::Control.silence(), "the connection is kept for ever");
            if let Ok(pending) = connection.begin(Method::Vote, Bytes::new()).await {
                let _ = tokio::time::timeout(Lane::Control.silence() / 9, pending).await;
            }
            // Until the next election.
            tokio::time::sleep(Lane::Control.silence() / 9).await;
        }
    }
}
