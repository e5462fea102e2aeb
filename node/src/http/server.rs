//! The connections of a port that speaks plain HTTP. In: a listener, and what answers a request. Out: answers, until the server is closed. Absent: what
//! is answered, and who has to go when the port is full (`connections`).
//!
//! hyper itself, not `axum::serve`, because a slow or silent client must not hold a connection for as long as it likes, and because a member that is
//! going away tells its clients on every answer (`Connection: close`) some time before it closes the door.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderValue, Request, header},
    response::Response,
};
use hyper::{
    body::{Body as _, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::{
    idle::{IdleTimer, looks},
    streamed::Streamed,
};
use crate::connections::{Activity, Roster, Seat, Watched};

/// How long a request's head may take, and how long a connection may be idle: hyper has one clock for both. Above the 60 s that load
/// balancers usually keep an idle connection, so that they close it and not we, under a request that is on its way.
const HEAD: Duration = Duration::from_secs(75);

/// Where hyper itself stops reading a head, with a bare 431: far above what the handler describes.
const HARD_HEAD_BYTES: usize = 128 << 10;

/// A running server. Dropping it stops it at once.
pub struct Server {
    closing: Arc<AtomicBool>,
    stop: Arc<watch::Sender<Stop>>,
    accepting: tokio::task::JoinHandle<()>,
}

/// How connections end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// Not yet.
    No,
    /// When their requests are answered.
    Answered,
    /// At once.
    Now,
}

/// Ends a server's connections from a thread that may wait for nothing.
#[derive(Clone, Debug)]
pub struct Cut(Arc<watch::Sender<Stop>>);

impl Cut {
    /// Breaks every connection off: who waits for an answer learns at once that none will come.
    pub fn cut(&self) {
        self.0.send_replace(Stop::Now);
    }
}

/// Serves a listener from now on with what `answer` makes of each request; its connections sit in `roster`.
pub fn serve<A, F>(listener: TcpListener, roster: Arc<Roster>, answer: A) -> Server
where
    A: Fn(Request<Body>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    let closing = Arc::new(AtomicBool::new(false));
    let (stop, stopped) = watch::channel(Stop::No);
    let stop = Arc::new(stop);
    let accepting = tokio::spawn(accept(listener, roster, answer, Arc::clone(&closing), stopped));
    Server { closing, stop, accepting }
}

impl Server {
    /// From now on every answer tells its client to connect anew. New connections are still taken.
    pub fn close_connections(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// For an emergency.
    pub fn cutter(&self) -> Cut {
        Cut(Arc::clone(&self.stop))
    }

    /// Takes no more connections and no more requests; returns when those under way are answered.
    pub async fn close(self) {
        self.close_connections();
        // The accepting task has a receiver, and every connection has one.
        self.stop.send_replace(Stop::Answered);
        self.stop.closed().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
        self.stop.send_if_modified(|stop| {
            let first = *stop == Stop::No;
            if first {
                *stop = Stop::Answered;
            }
            first
        });
    }
}

async fn accept<A, F>(listener: TcpListener, roster: Arc<Roster>, answer: A, closing: Arc<AtomicBool>, mut stopped: watch::Receiver<Stop>)
where
    A: Fn(Request<Body>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    loop {
        let (stream, _, seat) = tokio::select! {
            biased;
            _ = stopped.changed() => return,
            accepted = roster.accept(&listener) => accepted,
        };
        let number = seat.number();
        let task = tokio::spawn(connection(stream, answer.clone(), Arc::clone(&closing), stopped.clone(), seat));
        roster.seated(number, task.abort_handle());
    }
}

/// What the requests of a connection share.
struct Shared {
    activity: Arc<Activity>,
    closing: Arc<AtomicBool>,
}

async fn connection<A, F>(stream: TcpStream, answer: A, closing: Arc<AtomicBool>, mut stopped: watch::Receiver<Stop>, seat: Seat)
where
    A: Fn(Request<Body>) -> F + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    // Answers are small and whole: waiting for more to send would only delay them.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let activity = Arc::clone(seat.activity());
    let stream = Watched::new(stream, Arc::clone(&activity));
    let shared = Arc::new(Shared { activity, closing });
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = shared.activity.begin().then(|| answer(request.map(Body::new)));
        let shared = Arc::clone(&shared);
        async move {
            let Some(answer) = answer else {
                // The connection was let go while this head came: its task is about to end, and nothing has begun.
                return std::future::pending().await;
            };
            let mut response = answer.await;
            if shared.closing.load(Ordering::Relaxed) {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            if response.body().size_hint().exact().is_none() {
                return Ok(response.map(|body| Body::new(Streamed::new(body, Arc::clone(&shared.activity)))));
            }
            shared.activity.answered();
            Ok::<_, Infallible>(response)
        }
    });
    let serving = http1::Builder::new()
        .timer(IdleTimer)
        .header_read_timeout(HEAD)
        .max_buf_size(HARD_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    // Clients break off connections at any moment; that is no news.
    tokio::select! {
        _ = serving.as_mut() => {}
        () = looks(seat.activity()) => {}
        () = until(&mut stopped, |stop| stop != Stop::No) => {
            serving.as_mut().graceful_shutdown();
            tokio::select! {
                _ = serving => {}
                () = cut_off(&mut stopped) => {}
            }
        }
    }
}

async fn cut_off(stopped: &mut watch::Receiver<Stop>) {
    if stopped.wait_for(|stop| *stop == Stop::Now).await.is_err() {
        std::future::pending().await
    }
}

/// Also when the server was dropped.
async fn until(stopped: &mut watch::Receiver<Stop>, reached: impl Fn(Stop) -> bool) {
    let _ = stopped.wait_for(|stop| reached(*stop)).await;
}
