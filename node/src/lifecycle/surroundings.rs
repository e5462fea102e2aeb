//! The two plain ports beside the data port. They answer as long as the process lives, so nobody waits for their end.

use std::{net::SocketAddr, sync::Arc};

use axum::{Router, response::Response};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;

use crate::{connections::Roster, http};

/// Where the member listens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listening {
    pub(super) data: SocketAddr,
    pub(super) health: SocketAddr,
    pub(super) metrics: SocketAddr,
    pub(super) admin: SocketAddr,
}

/// Serves this router until the process ends.
pub(super) fn serve(listener: TcpListener, roster: Arc<Roster>, router: Router) {
    let service = TowerToHyperService::new(router);
    let server = http::serve(listener, roster, move |request| {
        let answer = service.call(request);
        async move {
            let Ok(answer): Result<Response, _> = answer.await;
            answer
        }
    });
    tokio::spawn(async move {
        // A server that is dropped stops.
        let _server = server;
        std::future::pending::<()>().await;
    });
}
