//! A transport over streams that a test makes: no sockets, no TLS. Everything above that edge is the real thing.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use futures::{FutureExt, future::BoxFuture};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinHandle,
};

use super::{
    Transport, TransportSettings,
    link::{Caller, Dialed, Dialer},
    session,
    transport::{Own, Port},
};

/// Answers whoever connects to a member.
#[derive(Clone)]
pub(crate) struct Answering(Arc<Own>);

impl Answering {
    /// For the member of these settings.
    pub(crate) fn new(settings: TransportSettings) -> Self {
        Answering(Arc::new(Own::new(settings)))
    }

    /// Serves one caller until it leaves; the reason is for the log.
    pub(crate) async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> String {
        session::serve(stream, &self.0).await
    }

    /// The member's transport, which calls others through `connect`. `listening` is aborted when it closes.
    pub(crate) fn transport<C>(&self, connect: C, local: SocketAddr, listening: JoinHandle<()>) -> Transport
    where
        C: Connect,
    {
        let port = Port {
            dialer: Box::new(StreamDialer(Arc::new(connect))),
            local,
            listener: listening.abort_handle(),
            listening: Mutex::new(Some(listening)),
        };
        Transport::new(Arc::clone(&self.0), Some(port))
    }
}

/// Makes streams to other members.
pub(crate) trait Connect: Send + Sync + 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    fn connect(&self, address: &str) -> impl Future<Output = std::io::Result<Self::Stream>> + Send;
}

struct StreamDialer<C>(Arc<C>);

impl<C: Connect> Dialer for StreamDialer<C> {
    fn dial(&self, address: String, caller: Caller) -> BoxFuture<'static, Dialed> {
        let connect = Arc::clone(&self.0);
        async move {
            let stream = connect.connect(&address).await.map_err(|error| error.to_string())?;
            caller.start(stream).await
        }
        .boxed()
    }
}
