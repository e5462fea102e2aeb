//! A request's body, read up to a limit. In: the stream. Out: the bytes, or why not. Nothing above the limit is kept in memory, and a
//! body that does not come in time is given up.

use std::{sync::Arc, time::Duration};

use axum::{body::Body, http::HeaderMap};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use kvfleet_api::{Code, Problem, tenant::bounds};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout, timeout_at},
};

use crate::problem::Failure;

/// How long a body may take to come.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// Its next part.
    part: Duration,
    /// All of it.
    whole: Duration,
}

/// The whole is the largest value at 1 Mbit/s.
const PATIENCE: Patience = Patience {
    part: Duration::from_secs(10),
    whole: Duration::from_secs(75),
};

/// How long a large body waits for others to be done.
const TURN: Duration = Duration::from_secs(10);

/// How much of a body that nobody wants is still taken, and for how long, so that the client reads our answer before it meets a closed
/// connection.
const LINGER_BYTES: u64 = 32 << 20;
const LINGER: Duration = Duration::from_secs(2);

/// Bodies above this take part in the budget; smaller ones are bounded by the number of connections.
const SMALL: u64 = 16 << 10;

/// Memory for bodies that are being read, in units of [`SMALL`]: 128 MiB.
const BUDGET: usize = 8_192;

/// Shared by all requests of the process: it is the process's memory.
static ROOM: std::sync::LazyLock<Arc<Semaphore>> = std::sync::LazyLock::new(|| Arc::new(Semaphore::new(BUDGET)));

/// A body that may not have been read yet.
pub(super) struct Upload {
    body: Body,
    /// The client waits for `100 Continue` before it sends the body: unless we ask for it, nothing comes.
    waits: bool,
}

impl Upload {
    pub(super) fn new(body: Body, headers: &HeaderMap) -> Self {
        let waits = headers
            .get("expect")
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        Upload { body, waits }
    }

    /// The whole body.
    ///
    /// # Errors
    /// The failure that `too_large` gives, as soon as it is known that the body is longer than `limit`: from its `Content-Length` before a
    /// byte is read, else at the byte that is one too many. 408 when it does not come, 503 when too many others are being read.
    pub(super) async fn read(&mut self, limit: u64, too_large: impl FnOnce() -> Failure) -> Result<Bytes, Failure> {
        self.read_within(PATIENCE, limit, too_large).await
    }

    async fn read_within(&mut self, patience: Patience, limit: u64, too_large: impl FnOnce() -> Failure) -> Result<Bytes, Failure> {
        let expected = self.body.size_hint();
        if expected.lower() > limit {
            return Err(too_large());
        }
        let end = Instant::now() + patience.whole;
        let _room = room(expected.upper().unwrap_or(limit).min(limit)).await?;
        let mut first = Bytes::new();
        let mut all = BytesMut::new();
        loop {
            let part = timeout_at(end, timeout(patience.part, self.body.frame())).await;
            let frame = match part {
                Ok(Ok(Some(Ok(frame)))) => frame,
                Ok(Ok(None)) => break,
                Ok(Ok(Some(Err(_)))) => {
                    return Err(Problem::new(Code::InvalidBody, "the body broke off, or its framing is wrong", "").into());
                }
                Ok(Err(_)) | Err(_) => {
                    let Patience { part, whole } = patience;
                    let detail = format!(
                        "the body did not come: {} s for a part, {} s for the whole",
                        part.as_secs(),
                        whole.as_secs()
                    );
                    return Err(Problem::new(Code::RequestTimeout, detail, "").into());
                }
            };
            // Trailers say nothing that we obey.
            let Ok(data) = frame.into_data() else { continue };
            let length = (first.len() + all.len() + data.len()) as u64;
            if length > limit {
                return Err(too_large());
            }
            // Most bodies come in one piece, which is passed on as it is.
            if first.is_empty() && all.is_empty() {
                first = data;
                continue;
            }
            if all.is_empty() {
                all.reserve(usize::try_from(expected.lower()).unwrap_or(0).max(first.len() + data.len()));
                all.extend_from_slice(&std::mem::take(&mut first));
            }
            all.extend_from_slice(&data);
        }
        Ok(if all.is_empty() { first } else { all.freeze() })
    }

    /// For calls that take no body: an empty one.
    pub(super) async fn none(&mut self) -> Result<(), Failure> {
        let refuse = || Problem::new(Code::InvalidBody, "this call takes no body", "").into();
        self.read(0, refuse).await.map(drop)
    }

    /// After a refusal: whether the rest of the body is still under way, in which case the connection cannot be used again. It is read and
    /// dropped for a moment, in the background: a client that is still sending would otherwise see its connection reset instead of why.
    pub(super) fn leave(&mut self) -> bool {
        let body = std::mem::take(&mut self.body);
        if body.is_end_stream() {
            return false;
        }
        if !self.waits {
            tokio::spawn(timeout(LINGER, drain(body)));
        }
        true
    }
}

/// A place in the memory for bodies.
async fn room(bytes: u64) -> Result<Option<OwnedSemaphorePermit>, Failure> {
    if bytes <= SMALL {
        return Ok(None);
    }
    let units = u32::try_from(bytes.min(bounds::VALUE_SIZE_MAX).div_ceil(SMALL)).unwrap_or(1);
    match timeout(TURN, Arc::clone(&ROOM).acquire_many_owned(units)).await {
        Ok(Ok(room)) => Ok(Some(room)),
        _ => Err(Problem::new(Code::Overloaded, "too many large bodies are being read; try again", "").into()),
    }
}

async fn drain(mut body: Body) {
    let mut taken = 0u64;
    while taken < LINGER_BYTES
        && let Some(Ok(frame)) = body.frame().await
    {
        taken += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures::StreamExt;

    use super::*;

    const SHORT: Patience = Patience {
        part: Duration::from_millis(100),
        whole: Duration::from_millis(500),
    };

    async fn read(body: Body, limit: u64) -> Result<Bytes, Code> {
        let refuse = || Problem::new(Code::ValueTooLarge, "", "").into();
        let outcome = Upload::new(body, &HeaderMap::new()).read_within(SHORT, limit, refuse).await;
        outcome.map_err(|failure| failure.0.code)
    }

    fn pieces(count: usize) -> impl futures::Stream<Item = Result<Bytes, std::io::Error>> {
        futures::stream::iter((0..count).map(|_| Ok(Bytes::from_static(b"0123456789"))))
    }

    #[tokio::test]
    async fn a_body_is_whole_or_refused() {
        assert_eq!(read(Body::empty(), 0).await.as_deref(), Ok(&b""[..]));
        assert_eq!(read(Body::from("abc"), 3).await.as_deref(), Ok(&b"abc"[..]));
        assert_eq!(read(Body::from("abcd"), 3).await, Err(Code::ValueTooLarge));
        assert_eq!(read(Body::from_stream(pieces(10)), 100).await.map(|body| body.len()), Ok(100));
        assert_eq!(read(Body::from_stream(pieces(10)), 99).await, Err(Code::ValueTooLarge));
        // An endless one is cut off at the limit.
        let endless = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(b"0123456789")));
        assert_eq!(read(Body::from_stream(endless), 1_000_000).await, Err(Code::ValueTooLarge));
        let broken = pieces(2).chain(futures::stream::iter([Err(std::io::Error::other("gone"))]));
        assert_eq!(read(Body::from_stream(broken), 100).await, Err(Code::InvalidBody));
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_given_up() {
        assert_eq!(
            read(Body::from_stream(pieces(1).chain(futures::stream::pending())), 100).await,
            Err(Code::RequestTimeout)
        );
        // A part comes now and then, the whole never.
        let drip = futures::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b"x")), ()))
        });
        assert_eq!(read(Body::from_stream(drip), 1_000).await, Err(Code::RequestTimeout));
    }
}
