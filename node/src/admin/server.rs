//! The admin port's connections: TLS first, then HTTP, with the certificate's identity in every request.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Extension, Router};
use hyper::{
    body::Incoming,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::{
    connections::{Roster, Seat, Watched},
    http::looks,
    logging::Sample,
    tls::{Identity, IdentityError, TlsDirectory},
};

/// How long a caller may take for the handshake, and for the head of a request.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long answers under way may take once the port closes.
const LINGER: Duration = Duration::from_secs(2);

/// Why a connection came to nothing.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("the TLS handshake failed: {0}")]
    Handshake(std::io::Error),
    #[error("the TLS handshake took longer than {} s", PATIENCE.as_secs())]
    Slow,
    #[error("the caller sent no certificate")]
    NoCertificate,
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// What connections share.
struct Port {
    tls: TlsDirectory,
    router: Router,
    refused: Sample,
}

/// Serves the port until `stop` resolves; then lets answers under way finish for a moment. Its connections sit in `roster`, also while they have
/// shown no certificate.
pub async fn serve(listener: TcpListener, roster: Arc<Roster>, tls: TlsDirectory, router: Router, stop: impl Future<Output = ()>) {
    let graceful = GracefulShutdown::new();
    let refused = Sample::new();
    let port = Arc::new(Port { tls, router, refused });
    tokio::pin!(stop);
    loop {
        let (stream, address, seat) = tokio::select! {
            accepted = roster.accept(&listener) => accepted,
            () = &mut stop => break,
        };
        let (number, port, watcher) = (seat.number(), Arc::clone(&port), graceful.watcher());
        let task = tokio::spawn(async move { port.connection(stream, address, seat, watcher).await });
        roster.seated(number, task.abort_handle());
    }
    drop(listener);
    if tokio::time::timeout(LINGER, graceful.shutdown()).await.is_err() {
        tracing::debug!("admin calls were still under way when the port closed");
    }
}

impl Port {
    async fn connection(&self, stream: TcpStream, address: SocketAddr, seat: Seat, watcher: Watcher) {
        let (stream, identity) = match handshake(stream, &seat, &self.tls).await {
            Ok(accepted) => accepted,
            Err(error) => {
                if let Some(left_out) = self.refused.due() {
                    tracing::warn!(%address, %error, left_out, "a connection to the admin port was refused");
                }
                return;
            }
        };
        let router = TowerToHyperService::new(self.router.clone().layer(Extension(identity)));
        let activity = Arc::clone(seat.activity());
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let activity = Arc::clone(&activity);
            let answer = activity.begin().then(|| router.call(request));
            async move {
                let Some(answer) = answer else {
                    // The connection was let go while this head came.
                    return std::future::pending().await;
                };
                let answer = answer.await;
                activity.answered();
                answer
            }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
        builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
        let connection = watcher.watch(builder.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            ended = connection => {
                if let Err(error) = ended {
                    tracing::debug!(%address, %error, "an admin connection ended");
                }
            }
            () = looks(seat.activity()) => tracing::debug!(%address, "an admin connection was not read"),
        }
    }
}

async fn handshake(
    stream: TcpStream,
    seat: &Seat,
    tls: &TlsDirectory,
) -> Result<(tokio_rustls::server::TlsStream<Watched<TcpStream>>, Identity), ConnectionError> {
    // Calls are small and somebody waits for each; a failure here only makes them slower.
    let _ = stream.set_nodelay(true);
    let stream = Watched::new(stream, Arc::clone(seat.activity()));
    let accept = TlsAcceptor::from(tls.admin_port()).accept(stream);
    let stream = tokio::time::timeout(PATIENCE, accept)
        .await
        .map_err(|_| ConnectionError::Slow)?
        .map_err(ConnectionError::Handshake)?;
    let (_, session) = stream.get_ref();
    let certificate = session
        .peer_certificates()
        .and_then(|chain| chain.first())
        .ok_or(ConnectionError::NoCertificate)?;
    let identity = Identity::of(certificate)?;
    Ok((stream, identity))
}
