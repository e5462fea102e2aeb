//! The peer port. In: connections. Out: a session for each caller that shows a certificate of this cluster's members; the others are
//! turned away with a line in the log. Absent: the requests (`session`).

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::{session, transport::Own};
use crate::tls::TlsDirectory;

/// How long a caller may take to show its certificate.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
/// Seven members with four connections each are 24; the rest is room for old ones that have not ended yet.
const CONNECTIONS: usize = 256;
/// After a failed `accept` (no descriptors left, say) the port rests for a moment.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts until the task is aborted; its sessions end with it.
pub(super) async fn run(listener: TcpListener, tls: TlsDirectory, own: Arc<Own>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut sessions = JoinSet::new();
    loop {
        while sessions.try_join_next().is_some() {}
        let permit = Arc::clone(&room).acquire_owned().await.expect("this semaphore is never closed");
        match listener.accept().await {
            Ok((stream, caller)) => {
                let (tls, own) = (tls.clone(), Arc::clone(&own));
                sessions.spawn(async move {
                    session(stream, caller, &tls, &own).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the peer port cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn session(stream: TcpStream, caller: SocketAddr, tls: &TlsDirectory, own: &Own) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%caller, %error, "a peer connection ended at once");
        return;
    }
    let handshake = TlsAcceptor::from(tls.peer_port()).accept(stream);
    let stream = match tokio::time::timeout(HANDSHAKE_LIMIT, handshake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            tracing::debug!(%caller, "a caller of the peer port left before it showed a certificate");
            return;
        }
        Ok(Err(error)) => {
            tracing::warn!(%caller, reason = %error, "a caller of the peer port was refused");
            return;
        }
        Err(_) => {
            tracing::warn!(%caller, "a caller of the peer port was refused: it showed no certificate within {HANDSHAKE_LIMIT:?}");
            return;
        }
    };
    let reason = session::serve(stream, own).await;
    tracing::debug!(%caller, reason, "a peer connection ended");
}
