//! This member's place among its peers: the port that it listens on, and its connections to the others. In: calls. Out: answers. Absent:
//! what calls mean.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::{
    net::TcpListener,
    task::{AbortHandle, JoinHandle},
    time::Instant,
};

use super::{
    carried::Carried,
    clock::Clock,
    connection::{Ends, Pending},
    error::{CallError, Refusal},
    frame::Method,
    link::{Dialer, Lane, Link, PeerAddress},
    listener,
    packing::Traffic,
    rooms::Rooms,
    session::Service,
    tls_dialer::TlsDialer,
};
use crate::{cluster_id::ClusterId, connections, runtime, tls::TlsDirectory};

/// The longest member name that is sent.
const NAME_BYTES: usize = 253;

/// Who this member is.
#[derive(Clone, Debug)]
pub struct TransportSettings {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its id, made with its data directory.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Bodies of at least so many bytes are compressed when that makes them shorter; 0: none is.
    pub compress_above: u64,
    /// The feature levels that its program knows.
    pub levels: Levels,
}

/// What a member says of feature levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// The lowest level of a group that it can be part of.
    pub lowest: u32,
    /// The highest one.
    pub highest: u32,
    /// Whether it asks the group not to raise its level.
    pub holds: bool,
}

/// Why the transport cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The port is taken, or the address is not one of this machine.
    #[error("cannot listen for peers on {address}: give a free address of this machine as peerListen")]
    Listen {
        /// The address.
        address: String,
        /// The system's reason.
        source: io::Error,
    },
}

/// What a member says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identified {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Whether it has never been part of a group.
    pub blank: bool,
    /// The lowest feature level that its program knows.
    pub lowest_level: u32,
    /// The highest.
    pub highest_level: u32,
    /// Whether it asks the group not to raise its level.
    pub holds_level: bool,
}

impl Identified {
    /// What it says of feature levels.
    pub fn levels(&self) -> Levels {
        Levels {
            lowest: self.lowest_level,
            highest: self.highest_level,
            holds: self.holds_level,
        }
    }
}

/// What the sessions need to know of this member.
pub(super) struct Own {
    pub(super) cluster: ClusterId,
    pub(super) id: u64,
    pub(super) carried: Arc<Carried>,
    pub(super) levels: Levels,
    name: String,
    service: RwLock<Option<Arc<dyn Service>>>,
}

impl Own {
    pub(super) fn service(&self) -> Option<Arc<dyn Service>> {
        self.service.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn identify(&self, blank: bool) -> Bytes {
        let mut body = BytesMut::new();
        body.put_u64(self.id);
        body.put_u8(u8::from(blank));
        body.put_u32(self.levels.lowest);
        body.put_u32(self.levels.highest);
        body.put_u8(u8::from(self.levels.holds));
        body.put_slice(self.name.as_bytes().get(..NAME_BYTES).unwrap_or(self.name.as_bytes()));
        body.freeze()
    }
}

fn identified(mut body: Bytes) -> Option<Identified> {
    let id = body.try_get_u64().ok()?;
    let blank = body.try_get_u8().ok()? != 0;
    let (lowest_level, highest_level) = (body.try_get_u32().ok()?, body.try_get_u32().ok()?);
    let holds_level = body.try_get_u8().ok()? != 0;
    Some(Identified {
        id,
        name: String::from_utf8(body.to_vec()).ok()?,
        blank,
        lowest_level,
        highest_level,
        holds_level,
    })
}

/// The peer port and the connections to peers. A cheap handle; the port closes when [`Transport::close`] is called or the last one goes.
#[derive(Clone)]
pub struct Transport {
    inner: Arc<Inner>,
}

struct Inner {
    own: Arc<Own>,
    port: Option<Port>,
    links: Mutex<BTreeMap<(u64, Lane), Arc<Link>>>,
    closed: AtomicBool,
}

pub(super) struct Port {
    pub(super) dialer: Box<dyn Dialer>,
    pub(super) local: SocketAddr,
    pub(super) listener: AbortHandle,
    pub(super) listening: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(port) = &self.port {
            port.listener.abort();
        }
    }
}

impl Transport {
    /// Listens on `address` (`host:port`; port 0 takes a free one) with the certificates of `tls`. Requests are refused until a group
    /// runs.
    ///
    /// # Errors
    /// [`TransportError::Listen`].
    pub async fn start(settings: TransportSettings, address: &str, tls: TlsDirectory) -> Result<Self, TransportError> {
        let listen = |source| TransportError::Listen {
            address: address.to_owned(),
            source,
        };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let local = listener.local_addr().map_err(listen)?;
        connections::prepare(&listener).map_err(listen)?;
        let own = Arc::new(Own::new(settings));
        let task = runtime::spawn(listener::run(listener, tls.clone(), Arc::clone(&own)));
        let port = Port {
            dialer: Box::new(TlsDialer(tls)),
            local,
            listener: task.abort_handle(),
            listening: Mutex::new(Some(task)),
        };
        Ok(Transport::new(own, Some(port)))
    }

    pub(super) fn new(own: Arc<Own>, port: Option<Port>) -> Self {
        Transport {
            inner: Arc::new(Inner {
                own,
                port,
                links: Mutex::default(),
                closed: AtomicBool::new(false),
            }),
        }
    }

    /// For a group of one: no port, and nobody can be called.
    pub fn alone(settings: TransportSettings) -> Self {
        Transport::new(Arc::new(Own::new(settings)), None)
    }

    /// Where it listens.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.inner.port.as_ref().map(|port| port.local)
    }

    /// The cluster that it belongs to.
    pub fn cluster(&self) -> ClusterId {
        self.inner.own.cluster
    }

    /// This member's id.
    pub fn id(&self) -> u64 {
        self.inner.own.id
    }

    /// The shard's time as it is heard here.
    pub fn clock(&self) -> &Arc<Clock> {
        &self.inner.own.carried.clock
    }

    /// The room of the members' disks, as far as it is heard here.
    pub fn rooms(&self) -> &Arc<Rooms> {
        &self.inner.own.carried.rooms
    }

    /// The bytes exchanged with peers.
    pub fn traffic(&self) -> Traffic {
        self.inner.own.carried.packing.traffic()
    }

    /// From now on requests go to `service`; none refuses them.
    pub fn set_service(&self, service: Option<Arc<dyn Service>>) {
        *self.inner.own.service.write().unwrap_or_else(PoisonError::into_inner) = service;
    }

    /// Closes the port and all connections, for good. Callers of this member hear of it at once, and nobody is called any more.
    pub fn close(&self) {
        self.inner.closed.store(true, Ordering::Release);
        self.set_service(None);
        if let Some(port) = &self.inner.port {
            port.listener.abort();
        }
        self.inner.links.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// [Closes](Transport::close), and returns when the port is free for another transport.
    pub async fn closed(&self) {
        self.close();
        let listening = self
            .inner
            .port
            .as_ref()
            .and_then(|port| port.listening.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(task) = listening {
            // It was aborted, and says so.
            let _ = task.await;
        }
    }

    /// Asks whoever is at `address` who it is; for forming a group before ids are known.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn identify(&self, address: &str, deadline: Instant) -> Result<Identified, CallError> {
        let peer = PeerAddress {
            id: 0,
            address: address.to_owned(),
        };
        let link = Arc::new(self.link_to(peer.clone(), Lane::Control));
        let body = answer_by(&peer, deadline, self.begin_on(&link, Method::Identify, Bytes::new())).await?;
        identified(body).ok_or(CallError::Refused {
            target: 0,
            refusal: Refusal::Malformed,
        })
    }

    /// What this member says of feature levels.
    pub fn levels(&self) -> Levels {
        self.inner.own.levels
    }

    /// Asks a member what it says of itself: its answer is of this very moment.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn ask(&self, peer: &PeerAddress, deadline: Instant) -> Result<Identified, CallError> {
        let body = self.call(peer, Lane::Calls, Method::Identify, Bytes::new(), deadline).await?;
        identified(body).ok_or(CallError::Refused {
            target: peer.id,
            refusal: Refusal::Malformed,
        })
    }

    /// Sends a request and waits for the answer.
    ///
    /// # Errors
    /// [`CallError`]; [`CallError::untouched`] says whether the member can have acted.
    pub async fn call(&self, peer: &PeerAddress, lane: Lane, method: Method, body: Bytes, deadline: Instant) -> Result<Bytes, CallError> {
        answer_by(peer, deadline, self.begin(peer, lane, method, body)).await
    }

    /// Sends a request. Requests of one task on one lane go out in the order of the calls.
    pub(crate) async fn begin(&self, peer: &PeerAddress, lane: Lane, method: Method, body: Bytes) -> Result<Pending, CallError> {
        let link = self.link(peer, lane);
        self.begin_on(&link, method, body).await
    }

    async fn begin_on(&self, link: &Arc<Link>, method: Method, body: Bytes) -> Result<Pending, CallError> {
        let peer = &link.peer;
        let unreachable = |reason: String| CallError::Unreachable {
            target: peer.id,
            address: peer.address.clone(),
            reason,
        };
        let Some(port) = &self.inner.port else {
            return Err(unreachable("this member has no peer port".to_owned()));
        };
        let connection = link.connection(port.dialer.as_ref()).await.map_err(unreachable)?;
        if self.inner.closed.load(Ordering::Acquire) {
            return Err(unreachable("this member has closed its peer port".to_owned()));
        }
        connection.begin(method, body).await.map_err(unreachable)
    }

    fn link(&self, peer: &PeerAddress, lane: Lane) -> Arc<Link> {
        let mut links = self.inner.links.lock().unwrap_or_else(PoisonError::into_inner);
        match links.get(&(peer.id, lane)) {
            Some(link) if link.peer == *peer => Arc::clone(link),
            _ => {
                let link = Arc::new(self.link_to(peer.clone(), lane));
                links.insert((peer.id, lane), Arc::clone(&link));
                link
            }
        }
    }

    fn link_to(&self, peer: PeerAddress, lane: Lane) -> Link {
        let own = &self.inner.own;
        let ends = Ends {
            cluster: own.cluster,
            sender: own.id,
            target: peer.id,
        };
        Link::new(peer, lane, ends, Arc::clone(&own.carried))
    }
}

impl Own {
    pub(super) fn new(settings: TransportSettings) -> Self {
        let TransportSettings {
            cluster,
            id,
            name,
            compress_above,
            levels,
        } = settings;
        Own {
            cluster,
            id,
            levels,
            name,
            carried: Arc::new(Carried::new(id, compress_above)),
            service: RwLock::new(None),
        }
    }
}

/// Waits for the sending and the answer. A request that could not be handed to a connection in time was not sent.
async fn answer_by(
    peer: &PeerAddress,
    deadline: Instant,
    begin: impl Future<Output = Result<Pending, CallError>>,
) -> Result<Bytes, CallError> {
    let pending = match tokio::time::timeout_at(deadline, begin).await {
        Ok(pending) => pending?,
        Err(_) => {
            return Err(CallError::Unreachable {
                target: peer.id,
                address: peer.address.clone(),
                reason: "there was no connection in time".to_owned(),
            });
        }
    };
    match tokio::time::timeout_at(deadline, pending).await {
        Ok(answer) => answer,
        Err(_) => Err(CallError::Late { target: peer.id }),
    }
}
