//! What a member makes of peers that speak otherwise than it does: over real sockets, the other end by hand.

mod bytes;
mod frames;
mod greeting;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use ::bytes::{Bytes, BytesMut};
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::Instant,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::{
    Levels, Reply, Request, Service, Transport, TransportSettings,
    frame::{self, Header, Kind, Method},
    hello::{self, Hello},
};
use crate::{
    cluster_id::ClusterId,
    tls::{Identity, Role, TlsDirectory, issue::Authority},
};

const CLUSTER: ClusterId = ClusterId::from_bytes([0x5c; 16]);
/// The member under test.
const OWN: u64 = 0x11;
/// The one that is played.
const OTHER: u64 = 0x22;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// Answers every request with its own body.
struct Echo;

impl Service for Echo {
    fn serve(&self, request: Request, reply: Reply) {
        reply.send(request.body);
    }

    fn appends(&self, _requests: mpsc::Receiver<(Request, Reply)>) {}

    fn is_blank(&self) -> bool {
        true
    }
}

const fn levels(highest: u32) -> Levels {
    Levels {
        lowest: 1,
        highest,
        holds: false,
    }
}

fn settings(id: u64, shard: u32) -> TransportSettings {
    TransportSettings {
        cluster: CLUSTER,
        shard,
        id,
        name: format!("m{id:x}"),
        compress_above: 0,
        levels: levels(2),
    }
}

fn hello_of(lowest: u32, highest: u32) -> Hello {
    Hello {
        lowest,
        highest,
        program: "9.9.9".to_owned(),
        ..hello::of_this_program(CLUSTER, 0, OTHER, "m22", levels(7))
    }
}

/// Certificates of one cluster.
struct Net {
    path: PathBuf,
    /// It goes with the last of its readers.
    _directory: TempDir,
}

impl Net {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tls");
        std::fs::create_dir(&path).unwrap();
        let authority = Authority::create(CLUSTER).unwrap();
        let identity = Identity {
            cluster: CLUSTER,
            role: Role::Member,
        };
        let issued = authority.issue(identity, &["127.0.0.1".to_owned()]).unwrap();
        std::fs::write(path.join("ca.crt"), authority.certificate()).unwrap();
        std::fs::write(path.join("tls.crt"), issued.certificate).unwrap();
        std::fs::write(path.join("tls.key"), issued.key).unwrap();
        Net {
            path,
            _directory: directory,
        }
    }

    fn tls(&self) -> TlsDirectory {
        TlsDirectory::open(&self.path, CLUSTER).unwrap()
    }

    async fn member(&self, id: u64, shard: u32) -> Transport {
        let transport = Transport::start(settings(id, shard), "127.0.0.1:0", self.tls()).await.unwrap();
        transport.set_service(Some(Arc::new(Echo)));
        transport
    }

    async fn dial(&self, to: &Transport) -> Raw {
        let tcp = TcpStream::connect(to.local_address().unwrap()).await.unwrap();
        let name = ServerName::try_from("member.kvfleet.invalid").unwrap();
        let stream = TlsConnector::from(self.tls().client()).connect(name, tcp).await.unwrap();
        Raw::new(stream.into())
    }

    /// A port, and the callers that come to it.
    async fn listen(&self) -> (SocketAddr, mpsc::Receiver<Raw>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(self.tls().peer_port());
        let (callers, come) = mpsc::channel(8);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let Ok(stream) = acceptor.accept(tcp).await else { continue };
                if callers.send(Raw::new(stream.into())).await.is_err() {
                    return;
                }
            }
        });
        (address, come)
    }
}

/// A connection whose bytes are made by hand.
struct Raw {
    stream: TlsStream<TcpStream>,
    read: BytesMut,
}

impl Raw {
    fn new(stream: TlsStream<TcpStream>) -> Self {
        Raw {
            stream,
            read: BytesMut::new(),
        }
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// The other end's hello, whatever this end has said.
    async fn hello(&mut self) -> Hello {
        let mut head = [0; 6];
        self.stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head[..4], b"kvhi");
        let mut message = vec![0; usize::from(u16::from_be_bytes([head[4], head[5]]))];
        self.stream.read_exact(&mut message).await.unwrap();
        prost::Message::decode(Bytes::from(message)).unwrap()
    }

    /// Whether the other end closes it, without another byte.
    async fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        let end = tokio::time::timeout_at(soon(), self.stream.read_to_end(&mut rest)).await;
        end.is_ok() && rest.is_empty()
    }

    async fn frame(&mut self) -> (Header, Bytes) {
        loop {
            if let Some(frame) = frame::read(&mut self.read).unwrap() {
                return frame;
            }
            let read = tokio::time::timeout_at(soon(), self.stream.read_buf(&mut self.read)).await;
            assert!(read.unwrap().unwrap() > 0, "the other end closed the connection");
        }
    }
}

fn header(method: Method, request: u64) -> Header {
    Header {
        format: frame::HIGHEST,
        kind: Kind::Request,
        method,
        packed: false,
        shard: 0,
        cluster: CLUSTER,
        sender: OTHER,
        target: OWN,
        clock_ms: 0,
        stamp_ms: 0,
        room: u64::MAX,
        request,
    }
}

fn frame_of(header: &Header, body: &[u8]) -> BytesMut {
    let mut bytes = BytesMut::new();
    frame::write(&mut bytes, header, body);
    bytes
}
