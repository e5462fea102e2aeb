//! The answering end of one connection. In: a caller that has shown a certificate of this cluster's members. Out: its requests, checked
//! to be for this very member, handed to the [`Service`]; and its answers. Absent: what a request does.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    sync::{OwnedSemaphorePermit, mpsc},
};

use super::{
    budget::Budget,
    carried::{Carried, Label},
    connection::{Ends, write},
    error::Refusal,
    frame::{self, HEADER_BYTES, Header, Kind, MAX_FRAME_BYTES, Method},
    packing::{self, Body},
    transport::Own,
};
use crate::runtime;

/// A caller that has not been heard for this long is gone: callers use idle connections every minute.
const IDLE_LIMIT: Duration = Duration::from_secs(180);
/// Answers that wait are written together up to this many bytes.
const WRITE_BYTES: usize = 256 << 10;
/// How many appends of one connection may wait for the log; then the caller is held up.
const APPENDS: usize = 64;

/// What this member does for others. Called on the connection's task: it hands work on and returns.
pub trait Service: Send + Sync + 'static {
    /// One request. Those of one connection come in the order in which they were sent. Dropping `reply` unanswered tells the asker that the outcome is unknown.
    fn serve(&self, request: Request, reply: Reply);

    /// The appends of one connection of lane `Log`, in order. They are answered in the order that the service likes.
    fn appends(&self, requests: mpsc::Receiver<(Request, Reply)>);

    /// Whether this member has never been part of a group.
    fn is_blank(&self) -> bool;
}

/// A request for this member.
#[derive(Debug)]
pub struct Request {
    /// The id of the member that asks.
    pub sender: u64,
    /// What it asks.
    pub method: Method,
    /// The rest.
    pub body: Bytes,
}

/// Where the answer to one request goes.
#[derive(Debug)]
pub struct Reply {
    outgoing: mpsc::UnboundedSender<Outgoing>,
    method: Method,
    request: u64,
    answered: bool,
    carried: Arc<Carried>,
    _permit: OwnedSemaphorePermit,
}

#[derive(Debug)]
struct Outgoing {
    kind: Kind,
    method: Method,
    request: u64,
    body: Body,
}

impl Reply {
    /// Answers.
    pub fn send(self, body: Bytes) {
        if body.len() > MAX_FRAME_BYTES - HEADER_BYTES {
            return self.refuse(Refusal::TooLarge);
        }
        if self.carried.packing.takes_long(&body) {
            drop(runtime::spawn(async move {
                let body = packing::pack_aside(&self.carried, body).await;
                self.finish(Kind::Answer, body);
            }));
            return;
        }
        let body = self.carried.packing.pack(body);
        self.finish(Kind::Answer, body);
    }

    /// Says that nothing was done.
    pub fn refuse(self, refusal: Refusal) {
        self.finish(Kind::Refusal(refusal), Body::plain(Bytes::new()));
    }

    fn finish(mut self, kind: Kind, body: Body) {
        self.answered = true;
        // If the connection has ended, so has the wait for the answer.
        let _ = self.outgoing.send(Outgoing {
            kind,
            method: self.method,
            request: self.request,
            body,
        });
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.answered {
            // Whether something was done before the work was dropped is not known here, so this is no refusal.
            let _ = self.outgoing.send(Outgoing {
                kind: Kind::Lost,
                method: self.method,
                request: self.request,
                body: Body::plain(Bytes::new()),
            });
        }
    }
}

/// Serves one connection until it ends; the reason is for the log.
pub(super) async fn serve<S>(mut stream: S, own: &Own) -> String
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let format = match own.carried.greeter.greet(&mut stream).await {
        Ok(format) => format,
        Err(error) => return error.to_string(),
    };
    let ends = Ends {
        format,
        cluster: own.cluster,
        shard: own.shard,
        sender: own.id,
        target: 0,
    };
    let (reader, writer) = tokio::io::split(stream);
    let (outgoing, waiting) = mpsc::unbounded_channel();
    tokio::select! {
        reason = receive(reader, own, outgoing) => reason,
        reason = send(writer, ends, &own.carried, waiting) => reason,
    }
}

async fn receive<R: AsyncRead + Unpin>(mut reader: R, own: &Own, outgoing: mpsc::UnboundedSender<Outgoing>) -> String {
    let mut bytes = BytesMut::new();
    let budget = Budget::new();
    let mut appends = None;
    loop {
        loop {
            let (header, body) = match frame::read(&mut bytes) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => return error.to_string(),
            };
            if let Err(reason) = dispatch(header, body, own, &outgoing, &budget, &mut appends).await {
                return reason;
            }
        }
        match tokio::time::timeout(IDLE_LIMIT, reader.read_buf(&mut bytes)).await {
            Ok(Ok(0)) => return "the caller closed it".to_owned(),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return error.to_string(),
            Err(_) => return format!("nothing was heard for {IDLE_LIMIT:?}"),
        }
    }
}

/// The service that the appends of a connection go to, and the way there.
type Appends = (Arc<dyn Service>, mpsc::Sender<(Request, Reply)>);

/// Checks who a frame is for before anything else is done with it: nothing of a frame for somebody else is believed, not even its clock.
async fn dispatch(
    header: Header,
    body: Bytes,
    own: &Own,
    outgoing: &mpsc::UnboundedSender<Outgoing>,
    budget: &Budget,
    appends: &mut Option<Appends>,
) -> Result<(), String> {
    let Header {
        kind,
        method,
        shard,
        cluster,
        sender,
        target,
        request,
        ..
    } = header;
    if !matches!(kind, Kind::Request | Kind::Other(_)) {
        return Err("the caller sent an answer where it should ask".to_owned());
    }
    let wire = body.len();
    let plain = if header.packed {
        packing::plain_length(&body).map_err(|error| error.to_string())?
    } else {
        wire
    };
    let permit = budget.take(plain).await;
    let reply = Reply {
        outgoing: outgoing.clone(),
        method,
        request,
        answered: false,
        carried: Arc::clone(&own.carried),
        _permit: permit,
    };
    if cluster != own.cluster {
        reply.refuse(Refusal::OtherCluster);
        return Ok(());
    }
    let anybody = method == Method::Identify && target == 0;
    if target != own.id && !anybody {
        reply.refuse(Refusal::NotMe);
        return Ok(());
    }
    // Who asks for the name of another shard's member is told its shard with it.
    if shard != own.shard && !anybody {
        reply.refuse(Refusal::OtherShard);
        return Ok(());
    }
    if !anybody {
        own.carried.hear(&header);
    }
    if kind != Kind::Request {
        reply.refuse(Refusal::Unknown);
        return Ok(());
    }
    own.carried.packing.count_received(wire, plain);
    let body = if header.packed {
        packing::unpack_aside(body).await.map_err(|error| error.to_string())?
    } else {
        body
    };
    match method {
        Method::Unknown(_) => reply.refuse(Refusal::Unknown),
        Method::Ping => reply.send(Bytes::new()),
        Method::Identify => match own.service() {
            Some(service) => reply.send(own.identify(service.is_blank())),
            None => reply.refuse(Refusal::Closed),
        },
        Method::Append if !body.is_empty() && body.first() == Some(&LOG_STREAM) => {
            let Some(service) = own.service() else {
                reply.refuse(Refusal::Closed);
                return Ok(());
            };
            // A new service (the member's group was started again) gets a stream of its own.
            let same = appends
                .as_ref()
                .is_some_and(|(held, queue)| Arc::ptr_eq(held, &service) && !queue.is_closed());
            if !same {
                let (queue, requests) = mpsc::channel(APPENDS);
                service.appends(requests);
                *appends = Some((service, queue));
            }
            if let Some((_, queue)) = appends {
                // When the service has dropped its end, the reply is dropped and says so.
                let _ = queue.send((Request { sender, method, body }, reply)).await;
            }
        }
        Method::Append
        | Method::Vote
        | Method::PreVote
        | Method::TransferLeader
        | Method::Forward
        | Method::ReadIndex
        | Method::Membership
        | Method::WaitApplied
        | Method::Join
        | Method::Release
        | Method::Snapshot
        | Method::Checkpoints => match own.service() {
            Some(service) => service.serve(Request { sender, method, body }, reply),
            None => reply.refuse(Refusal::Closed),
        },
    }
    Ok(())
}

/// The first byte of an append's body that belongs to an ordered stream. Any other append stands alone.
pub(crate) const LOG_STREAM: u8 = 1;

async fn send<W: AsyncWrite + Unpin>(
    mut writer: W,
    ends: Ends,
    carried: &Carried,
    mut waiting: mpsc::UnboundedReceiver<Outgoing>,
) -> String {
    let mut bytes = BytesMut::new();
    while let Some(first) = waiting.recv().await {
        let mut next = Some(first);
        while let Some(Outgoing {
            kind,
            method,
            request,
            body,
        }) = next
        {
            let header = carried.header(Label {
                kind,
                method,
                packed: body.packed,
                ends,
                request,
            });
            frame::write(&mut bytes, &header, &body.bytes);
            carried.packing.count_sent(&body);
            next = if bytes.len() < WRITE_BYTES { waiting.try_recv().ok() } else { None };
        }
        if let Err(error) = write(&mut writer, &bytes).await {
            return error.to_string();
        }
        bytes.clear();
        if bytes.capacity() > 4 * WRITE_BYTES {
            bytes = BytesMut::new();
        }
    }
    "it was closed".to_owned()
}
