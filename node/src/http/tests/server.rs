//! The server on a real socket: clients that send too much, too little, or stay too long.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::*;
use crate::{app::tests::LIMIT, connections::Roster, http::serve};

struct Served {
    client: Client,
    server: crate::http::Server,
    address: std::net::SocketAddr,
}

impl Served {
    async fn start() -> Self {
        let client = Client::with(TenantLimits {
            max_value_size: 1 << 20,
            ..TenantLimits::default()
        })
        .await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let port = std::sync::Arc::clone(&client.port);
        let server = serve(listener, Roster::new("data", 64), move |request| {
            std::sync::Arc::clone(&port).answer(request)
        });
        Served { client, server, address }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    fn head(&self, method: &str, key: &str, headers: &str) -> String {
        let token = &self.client.token;
        format!("{method} /api/v1/tenants/acme/keys/{key} HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {token}\r\n{headers}\r\n")
    }
}

/// What comes until the connection ends.
async fn rest(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    timeout(LIMIT, stream.read_to_end(&mut all)).await.unwrap().unwrap();
    String::from_utf8_lossy(&all).into_owned()
}

/// One answer whose body has a `content-length`, or none.
async fn answer(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    timeout(LIMIT, async {
        loop {
            let mut piece = [0; 4_096];
            let length = stream.read(&mut piece).await.unwrap();
            all.extend_from_slice(&piece[..length]);
            let text = String::from_utf8_lossy(&all);
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let wanted = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                if body.len() >= wanted.unwrap_or(0) {
                    return;
                }
            }
            assert_ne!(length, 0, "closed after {text}");
        }
    })
    .await
    .unwrap();
    String::from_utf8(all).unwrap()
}

/// A client that sends far more than it may, and reads only afterwards, still finds out why. covers row 8
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_over_the_limit_is_refused_while_it_streams() {
    let served = Served::start().await;
    for framing in ["content-length: 20000000\r\n", "transfer-encoding: chunked\r\n"] {
        let mut stream = served.connect().await;
        stream.write_all(served.head("PUT", "large", framing).as_bytes()).await.unwrap();
        let piece = vec![b'x'; 100_000];
        for _ in 0..50 {
            if framing.starts_with("transfer") {
                stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await.unwrap();
            }
            stream.write_all(&piece).await.unwrap();
            if framing.starts_with("transfer") {
                stream.write_all(b"\r\n").await.unwrap();
            }
        }
        let answer = answer(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{framing}: {answer}");
        assert!(
            answer.contains("\"value-too-large\"") && answer.contains("connection: close"),
            "{answer}"
        );
        // The connection ends even if the client says nothing more.
        rest(&mut stream).await;
    }
    assert_eq!(served.client.get("large").await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_asks_first_never_sends_what_will_be_refused() {
    let served = Served::start().await;
    let mut stream = served.connect().await;
    let head = served.head("PUT", "large", "content-length: 20000000\r\nexpect: 100-continue\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");

    let mut stream = served.connect().await;
    let head = served.head("PUT", "small", "content-length: 2\r\nexpect: 100-continue\r\nconnection: close\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    timeout(LIMIT, stream.read_exact(&mut interim)).await.unwrap().unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"ok").await.unwrap();
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 201 "));
}

/// A member that goes away says so on every answer, still takes connections, and closes when nothing is under way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_leaves_politely() {
    let served = Served::start().await;
    let mut kept = served.connect().await;
    kept.write_all(served.head("PUT", "a", "content-length: 1\r\n").as_bytes())
        .await
        .unwrap();
    kept.write_all(b"1").await.unwrap();
    let first = answer(&mut kept).await;
    assert!(
        first.starts_with("HTTP/1.1 201 ") && !first.contains("connection: close"),
        "{first}"
    );
    let mut idle = served.connect().await;

    served.server.close_connections();
    kept.write_all(served.head("GET", "a", "").as_bytes()).await.unwrap();
    assert!(rest(&mut kept).await.contains("connection: close"));
    let mut new = served.connect().await;
    new.write_all(served.head("GET", "a", "").as_bytes()).await.unwrap();
    let last = rest(&mut new).await;
    assert!(last.starts_with("HTTP/1.1 200 ") && last.contains("connection: close"), "{last}");

    // One request is under way: its body is not there yet.
    let mut slow = served.connect().await;
    slow.write_all(served.head("PUT", "b", "content-length: 1\r\n").as_bytes())
        .await
        .unwrap();
    // It must have been taken before the server closes; a later answer of the server tells that it was.
    let mut probe = served.connect().await;
    probe.write_all(served.head("GET", "b", "").as_bytes()).await.unwrap();
    rest(&mut probe).await;
    let Served { client, server, address } = served;
    let mut closing = tokio::spawn(server.close());
    rest(&mut idle).await;
    assert!(
        timeout(Duration::from_millis(200), &mut closing).await.is_err(),
        "a request is under way"
    );
    slow.write_all(b"2").await.unwrap();
    assert!(rest(&mut slow).await.starts_with("HTTP/1.1 201 "));
    timeout(LIMIT, closing).await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "the door is closed");
    assert_eq!(client.get("b").await.body.as_ref(), b"2");
}

/// Neither silence nor a head that never ends holds a connection for ever; requests now and then do. The clock is tokio's, so this takes no time.
#[tokio::test(start_paused = true)]
async fn a_connection_is_idle_for_a_minute_and_a_half_at_most() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let _server = serve(listener, Roster::new("data", 64), async |_| {
        axum::response::Response::new(Body::from("x"))
    });
    let limits = Duration::from_secs(75)..=Duration::from_secs(91);
    for said in ["", "GET / HTTP/1.1\r\nhost:"] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        let begun = tokio::time::Instant::now();
        stream.read_to_end(&mut Vec::new()).await.unwrap();
        assert!(limits.contains(&begun.elapsed()), "{said:?}: {:?}", begun.elapsed());
    }
    let mut stream = TcpStream::connect(address).await.unwrap();
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_secs(70)).await;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: t\r\n\r\n").await.unwrap();
        let mut piece = [0; 4_096];
        let length = stream.read(&mut piece).await.unwrap();
        assert!(piece[..length].starts_with(b"HTTP/1.1 200 "), "{length} bytes");
    }
    let begun = tokio::time::Instant::now();
    stream.read_to_end(&mut Vec::new()).await.unwrap();
    assert!(limits.contains(&begun.elapsed()), "after answers: {:?}", begun.elapsed());
}
