//! The listening sockets, bound before anything else is opened: an address that is taken is found before a file is touched. The
//! peer port is not among them: the transport binds it, once it has certificates.

use std::{net::SocketAddr, sync::Arc};

use tokio::net::TcpListener;

use crate::{
    config::Addresses,
    connections::{self, Roster},
    descriptors::Shares,
};

/// A port that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("{field}: cannot listen on {address}; is another process using it? choose another address for {field}")]
pub struct PortError {
    field: &'static str,
    address: String,
    #[source]
    source: std::io::Error,
}

/// The sockets.
#[derive(Debug)]
pub(super) struct Ports {
    pub(super) data: Port,
    pub(super) health: Port,
    pub(super) metrics: Port,
    pub(super) admin: Port,
}

/// One socket, bound for as long as the process lives: whoever serves it may change, and callers wait in its queue meanwhile.
#[derive(Debug)]
pub(super) struct Port {
    field: &'static str,
    socket: std::net::TcpListener,
    pub(super) local: SocketAddr,
    /// Its connections, whoever serves them.
    pub(super) roster: Arc<Roster>,
}

impl Port {
    /// The socket, to be served from now on by whoever takes it.
    pub(super) fn listen(&self) -> Result<TcpListener, PortError> {
        self.socket.try_clone().and_then(TcpListener::from_std).map_err(|source| PortError {
            field: self.field,
            address: self.local.to_string(),
            source,
        })
    }
}

impl Ports {
    pub(super) async fn bind(addresses: &Addresses, shares: Shares) -> Result<Ports, PortError> {
        let Addresses {
            data,
            health,
            metrics,
            admin,
            peer: _,
            movable,
        } = addresses;
        let Shares { data: most, other, .. } = shares;
        // Health first: it is what a person asks who wonders why nothing else answers.
        Ok(Ports {
            health: bind("healthListen", health, movable, Roster::new("health", other)).await?,
            data: bind("listen", data, movable, Roster::new("data", most)).await?,
            metrics: bind("metricsListen", metrics, movable, Roster::new("metrics", other)).await?,
            admin: bind("adminListen", admin, movable, Roster::new("admin", other)).await?,
        })
    }

    /// The connections of each.
    pub(super) fn rosters(&self) -> Vec<Arc<Roster>> {
        let Ports {
            data,
            health,
            metrics,
            admin,
        } = self;
        [data, health, metrics, admin].map(|port| Arc::clone(&port.roster)).into()
    }
}

async fn bind(field: &'static str, address: &str, movable: &[&'static str], roster: Arc<Roster>) -> Result<Port, PortError> {
    let fail = |source| PortError {
        field,
        address: address.to_owned(),
        source,
    };
    let listener = match TcpListener::bind(address).await {
        Ok(listener) => listener,
        // A member alone whose user chose no address: any free port of the same host will do.
        Err(error) if movable.contains(&field) && error.kind() == std::io::ErrorKind::AddrInUse => {
            let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
            TcpListener::bind(format!("{host}:0")).await.map_err(fail)?
        }
        Err(error) => return Err(fail(error)),
    };
    let local = listener.local_addr().map_err(fail)?;
    connections::prepare(&listener).map_err(fail)?;
    let socket = listener.into_std().map_err(fail)?;
    Ok(Port {
        field,
        socket,
        local,
        roster,
    })
}
