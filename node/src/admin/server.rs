//! The admin port's connections: TLS first, then HTTP, with the certificate's identity in every request.

use std::time::Duration;

use axum::{Extension, Router};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::tls::{Identity, IdentityError, TlsDirectory};

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

/// Serves the port until `stop` resolves; then lets answers under way finish for a moment.
pub async fn serve(listener: TcpListener, tls: TlsDirectory, router: Router, stop: impl Future<Output = ()>) {
    let graceful = GracefulShutdown::new();
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, usually: accepting again at once would only burn the processor.
                tracing::warn!(%error, "the admin port cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (tls, router, watcher) = (tls.clone(), router.clone(), graceful.watcher());
        tokio::spawn(async move {
            let (stream, identity) = match handshake(stream, &tls).await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%address, %error, "a connection to the admin port was refused");
                    return;
                }
            };
            let service = TowerToHyperService::new(router.layer(Extension(identity)));
            let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
            builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
            let connection = watcher.watch(builder.serve_connection(TokioIo::new(stream), service).into_owned());
            if let Err(error) = connection.await {
                tracing::debug!(%address, %error, "an admin connection ended");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(LINGER, graceful.shutdown()).await.is_err() {
        tracing::debug!("admin calls were still under way when the port closed");
    }
}

async fn handshake(
    stream: TcpStream,
    tls: &TlsDirectory,
) -> Result<(tokio_rustls::server::TlsStream<TcpStream>, Identity), ConnectionError> {
    // Calls are small and somebody waits for each; a failure here only makes them slower.
    let _ = stream.set_nodelay(true);
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
