//! Connections to other members as they are in production: TCP, with mutual TLS on it. In: an address. Out: an authenticated connection.
//! Absent: when to dial (`link`).

use futures::{FutureExt, future::BoxFuture};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::link::{Caller, Dialed, Dialer};
use crate::tls::TlsDirectory;

/// Dials with the certificates of a directory, as they are at that moment.
pub(super) struct TlsDialer(pub(super) TlsDirectory);

impl Dialer for TlsDialer {
    fn dial(&self, address: String, caller: Caller) -> BoxFuture<'static, Dialed> {
        let tls = self.0.client();
        async move {
            let tcp = TcpStream::connect(&address).await.map_err(|error| error.to_string())?;
            tcp.set_nodelay(true).map_err(|error| error.to_string())?;
            // The verifier looks at the URI in the certificate, not at this name; rustls wants one all the same.
            let name = ServerName::try_from("member.kvfleet.invalid").map_err(|error| error.to_string())?;
            let stream = TlsConnector::from(tls)
                .connect(name, tcp)
                .await
                .map_err(|error| error.to_string())?;
            caller.start(stream).await
        }
        .boxed()
    }
}
