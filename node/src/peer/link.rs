//! A member as it is called: one connection per lane, dialed when it is needed, dialed again when it ended. In: who, where, which lane.
//! Out: an open connection, or why there is none. Absent: the requests on it (`connection`).
//!
//! Dialing runs in a task of its own: a caller that gives up after a heartbeat interval must not stop a handshake that takes longer.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

use super::{
    carried::Carried,
    connection::{Connection, Ends},
};
use crate::runtime;

/// How long connecting, the handshake and the hello may take.
const DIAL_LIMIT: Duration = Duration::from_secs(2);
/// After a failure the address is left alone for this long, doubled with each failure …
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// … up to this: a member that comes back is found within a heartbeat or two.
const LONGEST_PAUSE: Duration = Duration::from_millis(160);

/// Which of the connections to a member a request takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Log entries, in order.
    Log,
    /// Votes, heartbeats, hand-overs: small, and late is as bad as lost.
    Control,
    /// Forwarded commands and read indexes.
    Calls,
    /// Snapshots: large, and nothing else may wait behind them.
    Snapshot,
}

impl Lane {
    /// How long nothing may be heard while somebody waits for an answer before the connection counts as dead. The log's and the calls'
    /// limit is above the time that a slow disk may hold up a member (it exits after 3 s).
    pub(super) const fn silence(self) -> Duration {
        match self {
            Lane::Control => Duration::from_millis(900),
            Lane::Log | Lane::Calls | Lane::Snapshot => Duration::from_secs(4),
        }
    }
}

/// A member and where it is looked for.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PeerAddress {
    /// Its id; 0 when it is not known yet.
    #[prost(fixed64, tag = "1")]
    pub id: u64,
    /// `host:port` of its peer port.
    #[prost(string, tag = "2")]
    pub address: String,
}

pub(super) type Dialed = Result<Arc<Connection>, String>;

/// How a connection is made: with mutual TLS over TCP, but for the simulation.
pub(super) trait Dialer: Send + Sync {
    /// Connects to `host:port`, makes sure that a member of the cluster answers, and [starts](Caller::start) the connection.
    fn dial(&self, address: String, caller: Caller) -> BoxFuture<'static, Dialed>;
}

/// Who dials.
pub(super) struct Caller {
    ends: Ends,
    lane: Lane,
    carried: Arc<Carried>,
}

impl Caller {
    /// Says hello on `stream`, which has been authenticated, and runs a connection over it.
    ///
    /// # Errors
    /// When the two ends know no common format.
    pub(super) async fn start(self, mut stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Dialed {
        let Caller { ends, lane, carried } = self;
        let format = carried.greeter.greet(&mut stream).await.map_err(|error| error.to_string())?;
        Ok(Arc::new(Connection::start(stream, Ends { format, ..ends }, lane, carried)))
    }
}

enum Slot {
    Idle,
    Dialing(Shared<BoxFuture<'static, Dialed>>),
    Open(Arc<Connection>),
    /// The last attempt failed.
    Paused {
        until: Instant,
        reason: String,
    },
}

/// One lane to one member.
pub(super) struct Link {
    pub(super) peer: PeerAddress,
    lane: Lane,
    ends: Ends,
    carried: Arc<Carried>,
    slot: Mutex<Slot>,
    failures: Mutex<u32>,
}

impl Link {
    pub(super) fn new(peer: PeerAddress, lane: Lane, ends: Ends, carried: Arc<Carried>) -> Self {
        Link {
            peer,
            lane,
            ends,
            carried,
            slot: Mutex::new(Slot::Idle),
            failures: Mutex::new(0),
        }
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An open connection, dialed if there is none.
    ///
    /// # Errors
    /// Why there is none. Nothing was sent.
    pub(super) async fn connection(self: &Arc<Self>, dialer: &dyn Dialer) -> Dialed {
        let dialing = {
            let mut slot = self.slot();
            match &*slot {
                Slot::Open(connection) if connection.is_open() => return Ok(Arc::clone(connection)),
                Slot::Paused { until, reason } if Instant::now() < *until => return Err(reason.clone()),
                Slot::Dialing(dialing) => dialing.clone(),
                Slot::Idle | Slot::Open(_) | Slot::Paused { .. } => {
                    let dialing = self.dial(dialer);
                    *slot = Slot::Dialing(dialing.clone());
                    dialing
                }
            }
        };
        dialing.await
    }

    fn dial(self: &Arc<Self>, dialer: &dyn Dialer) -> Shared<BoxFuture<'static, Dialed>> {
        let link = Arc::clone(self);
        let caller = Caller {
            ends: self.ends,
            lane: self.lane,
            carried: Arc::clone(&self.carried),
        };
        let dialing = dialer.dial(self.peer.address.clone(), caller);
        let task = runtime::spawn(async move {
            let dialed = match tokio::time::timeout(DIAL_LIMIT, dialing).await {
                Ok(dialed) => dialed,
                Err(_) => Err(format!("no connection, or no hello, within {DIAL_LIMIT:?}")),
            };
            let mut failures = link.failures.lock().unwrap_or_else(PoisonError::into_inner);
            *link.slot() = match &dialed {
                Ok(connection) => {
                    *failures = 0;
                    Slot::Open(Arc::clone(connection))
                }
                Err(reason) => {
                    let pause = LONGEST_PAUSE.min(FIRST_PAUSE.saturating_mul(1 << (*failures).min(8)));
                    *failures = failures.saturating_add(1);
                    // Who asks for a name says itself what became of it.
                    if *failures == 1 && link.peer.id != 0 {
                        tracing::info!(member = format_args!("{:x}", link.peer.id), address = link.peer.address, lane = ?link.lane, reason, "cannot connect to a member; trying again when it is needed");
                    }
                    Slot::Paused {
                        until: Instant::now() + pause,
                        reason: reason.clone(),
                    }
                }
            };
            dialed
        });
        task.map(|dialed| dialed.unwrap_or_else(|error| Err(error.to_string())))
            .boxed()
            .shared()
    }
}
