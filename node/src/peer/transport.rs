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

use bytes::Bytes;
use prost::Message;
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
    frame::{self, Method},
    hello,
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
    /// Its shard.
    pub shard: u32,
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
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Levels {
    /// The lowest level of a group that it can be part of.
    #[prost(uint32, tag = "1")]
    pub lowest: u32,
    /// The highest one.
    #[prost(uint32, tag = "2")]
    pub highest: u32,
    /// Whether it asks the group not to raise its level.
    #[prost(bool, tag = "3")]
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
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Identified {
    /// Its id.
    #[prost(fixed64, tag = "1")]
    pub id: u64,
    /// Its name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Whether it has never been part of a group.
    #[prost(bool, tag = "3")]
    pub blank: bool,
    /// Its shard.
    #[prost(uint32, tag = "4")]
    pub shard: u32,
    /// The feature levels that its program knows.
    #[prost(message, required, tag = "5")]
    pub levels: Levels,
    /// The version of its program.
    #[prost(string, tag = "6")]
    pub program: String,
}

/// What the sessions need to know of this member.
pub(super) struct Own {
    pub(super) cluster: ClusterId,
    pub(super) shard: u32,
    pub(super) id: u64,
    pub(super) carried: Arc<Carried>,
    service: RwLock<Option<Arc<dyn Service>>>,
}

impl Own {
    pub(super) fn service(&self) -> Option<Arc<dyn Service>> {
        self.service.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn identify(&self, blank: bool) -> Bytes {
        let own = self.carried.greeter.own();
        let identified = Identified {
            id: self.id,
            name: own.name.clone(),
            blank,
            shard: self.shard,
            levels: own.levels,
            program: own.program.clone(),
        };
        identified.encode_to_vec().into()
    }
}

fn identified(target: u64, body: Bytes) -> Result<Identified, CallError> {
    let refusal = Refusal::Malformed;
    Identified::decode(body).map_err(|_| CallError::Refused { target, refusal })
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
        let bound = runtime::at_home(TcpListener::bind(address.to_owned())).await;
        let listener = bound.and_then(|bound| bound).map_err(listen)?;
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

    /// What a member said of feature levels when it was last connected; none before that.
    pub fn levels_of(&self, member: u64) -> Option<Levels> {
        self.inner.own.carried.greeter.levels_of(member)
    }

    /// What this member says of feature levels.
    pub fn levels(&self) -> Levels {
        self.inner.own.carried.greeter.own().levels
    }

    /// How many connections, dialed or accepted, were refused for their hello.
    pub fn refused_hellos(&self) -> u64 {
        self.inner.own.carried.greeter.refused()
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

    /// Asks the member at `address` who it is; for forming a group before ids are known. Only members of this shard are found.
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
        let found = identified(0, body)?;
        // Whatever is asked for, a member of another shard is no answer: it must not be taken in, nor asked for a leader.
        if found.shard != self.inner.own.shard {
            return Err(CallError::OtherShard {
                address: peer.address,
                name: found.name,
                found: found.shard,
                own: self.inner.own.shard,
            });
        }
        Ok(found)
    }

    /// Asks a member what it says of itself: its answer is of this very moment.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn ask(&self, peer: &PeerAddress, deadline: Instant) -> Result<Identified, CallError> {
        let body = self.call(peer, Lane::Calls, Method::Identify, Bytes::new(), deadline).await?;
        identified(peer.id, body)
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
            format: frame::HIGHEST,
            cluster: own.cluster,
            shard: own.shard,
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
            shard,
            id,
            mut name,
            compress_above,
            levels,
        } = settings;
        name.truncate(name.floor_char_boundary(NAME_BYTES));
        let hello = hello::of_this_program(cluster, shard, id, &name, levels);
        Own {
            cluster,
            shard,
            id,
            carried: Arc::new(Carried::new(hello, compress_above)),
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
