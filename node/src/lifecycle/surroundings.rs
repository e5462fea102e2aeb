//! The two plain ports beside the data port. They answer as long as the process lives, so nobody waits for their end.

use std::net::SocketAddr;

use axum::Router;
use tokio::net::TcpListener;

/// Where the member listens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listening {
    pub(super) data: SocketAddr,
    pub(super) health: SocketAddr,
    pub(super) metrics: SocketAddr,
    pub(super) admin: SocketAddr,
}

/// Serves this router until the process ends.
pub(super) fn serve(listener: TcpListener, router: Router) {
    tokio::spawn(async move {
        // `axum::serve` retries a failed accept by itself and returns only when it is told to.
        let _ = axum::serve(listener, router).await;
    });
}
