//! The peer port. In: connections. Out: a session for each caller that shows a certificate of this cluster's members; the others are
//! turned away, and one line a second says so. Absent: the requests (`session`).
//!
//! Callers without a certificate are counted apart: strangers who reach the port can only push one another out, and never keep a member from
//! dialing again.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{session, transport::Own};
use crate::{
    connections::{Roster, Seat},
    descriptors::Shares,
    logging::Sample,
    tls::TlsDirectory,
};

/// How long a caller may take to show its certificate.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
/// How long a caller with a certificate waits for another session to end. Seven members with four connections each are 24; a port's share is room
/// for as many old ones that have not ended yet.
const SESSION_LIMIT: Duration = Duration::from_secs(5);

/// What sessions share.
struct Port {
    tls: TlsDirectory,
    own: Arc<Own>,
    sessions: Arc<Semaphore>,
    refused: Sample,
}

/// Accepts until the task is aborted; its sessions end with it.
pub(super) async fn run(listener: TcpListener, tls: TlsDirectory, own: Arc<Own>) {
    let most = Shares::now().other;
    let strangers = Roster::new("peer", most);
    let port = Arc::new(Port {
        tls,
        own,
        sessions: Arc::new(Semaphore::new(most)),
        refused: Sample::new(),
    });
    let mut sessions = JoinSet::new();
    loop {
        while sessions.try_join_next().is_some() {}
        let (stream, caller, seat) = strangers.accept(&listener).await;
        let (number, port) = (seat.number(), Arc::clone(&port));
        let task = sessions.spawn(async move { port.session(stream, caller, seat).await });
        strangers.seated(number, task);
    }
}

impl Port {
    async fn session(&self, stream: TcpStream, caller: SocketAddr, seat: Seat) {
        let Some(stream) = self.handshake(stream, caller).await else {
            return;
        };
        // No stranger any more.
        drop(seat);
        let Some(_place) = self.place(caller).await else { return };
        let reason = session::serve(stream, &self.own).await;
        tracing::debug!(%caller, reason, "a peer connection ended");
    }

    async fn handshake(&self, stream: TcpStream, caller: SocketAddr) -> Option<TlsStream<TcpStream>> {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%caller, %error, "a peer connection ended at once");
            return None;
        }
        let handshake = TlsAcceptor::from(self.tls.peer_port()).accept(stream);
        let reason = match tokio::time::timeout(HANDSHAKE_LIMIT, handshake).await {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                tracing::debug!(%caller, "a caller of the peer port left before it showed a certificate");
                return None;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("it showed no certificate within {HANDSHAKE_LIMIT:?}"),
        };
        if let Some(left_out) = self.refused.due() {
            tracing::warn!(%caller, reason, left_out, "a caller of the peer port was refused");
        }
        None
    }

    async fn place(&self, caller: SocketAddr) -> Option<OwnedSemaphorePermit> {
        let place = Arc::clone(&self.sessions).acquire_owned();
        match tokio::time::timeout(SESSION_LIMIT, place).await {
            Ok(Ok(place)) => Some(place),
            _ => {
                if let Some(left_out) = self.refused.due() {
                    tracing::warn!(%caller, left_out, "a member has more connections to the peer port than it can need");
                }
                None
            }
        }
    }
}
