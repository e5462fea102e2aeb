//! A request's body, read up to a limit. In: the stream. Out: the bytes, or why not. Nothing above the limit is kept in memory, and a
//! body that does not come in time is given up.
//!
//! A large body takes from its tenant's share of the member's memory as its bytes arrive: what a client has announced and not sent
//! yet holds nothing, so slow clients keep no other out.

use std::time::Duration;

use axum::{body::Body, http::HeaderMap};
use bytes::Bytes;
use futures::FutureExt;
use http_body_util::BodyExt;
use hyper::body::{Body as _, SizeHint};
use kvfleet_api::{Code, Problem};
use tokio::time::{Instant, timeout, timeout_at};

use crate::{
    app::{FREE_BYTES, Memory, Share},
    problem::Failure,
};

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

/// How much of a body that nobody wants is still taken, and for how long, so that the client reads our answer before it meets a closed
/// connection.
const LINGER_BYTES: u64 = 32 << 20;
const LINGER: Duration = Duration::from_secs(2);

/// A body that has been read.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) value: Bytes,
    /// What it holds of its tenant's memory; small ones hold nothing. To be kept as long as the value.
    pub(super) share: Option<Share>,
}

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

    /// The length that the client has announced; 0 when it has announced none.
    pub(super) fn announced(&self) -> u64 {
        self.body.size_hint().lower()
    }

    /// The whole body, in memory of this tenant.
    ///
    /// # Errors
    /// The failure that `too_large` gives, as soon as it is known that the body is longer than `limit`: from its `Content-Length` before a
    /// byte is read, else at the byte that is one too many. 408 when it does not come, 503 when the tenant's share of memory is used up and
    /// nothing of it comes back for a moment.
    pub(super) async fn read(&mut self, limit: u64, memory: Memory<'_>, too_large: impl FnOnce() -> Failure) -> Result<Received, Failure> {
        self.read_within(PATIENCE, limit, Some(memory), too_large).await
    }

    async fn read_within(
        &mut self,
        patience: Patience,
        limit: u64,
        memory: Option<Memory<'_>>,
        too_large: impl FnOnce() -> Failure,
    ) -> Result<Received, Failure> {
        let expected = self.body.size_hint();
        if expected.lower() > limit {
            return Err(too_large());
        }
        let end = Instant::now() + patience.whole;
        let mut gathered = Gathered::new(&expected, limit);
        let mut place = None;
        while let Some(data) = self.part(patience, end, memory, &mut place).await? {
            if gathered.length() + data.len() as u64 > limit {
                return Err(too_large());
            }
            gathered.take(data, memory).await?;
        }
        Ok(gathered.whole())
    }

    /// The next part; none at the end. Once it has to be waited for, the request keeps a place to wait in.
    async fn part(
        &mut self,
        patience: Patience,
        end: Instant,
        memory: Option<Memory<'_>>,
        place: &mut Option<Share>,
    ) -> Result<Option<Bytes>, Failure> {
        loop {
            let part = match self.body.frame().now_or_never() {
                Some(frame) => Ok(Ok(frame)),
                None => {
                    if place.is_none() {
                        *place = memory.map(Memory::wait).transpose()?;
                    }
                    timeout_at(end, timeout(patience.part, self.body.frame())).await
                }
            };
            match part {
                Ok(Ok(Some(Ok(frame)))) => match frame.into_data() {
                    Ok(data) => return Ok(Some(data)),
                    // Trailers say nothing that we obey.
                    Err(_) => continue,
                },
                Ok(Ok(None)) => return Ok(None),
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
            }
        }
    }

    /// For calls that take no body: an empty one.
    pub(super) async fn none(&mut self) -> Result<(), Failure> {
        let refuse = || Problem::new(Code::InvalidBody, "this call takes no body", "").into();
        self.read_within(PATIENCE, 0, None, refuse).await.map(drop)
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

/// What has come of a body.
struct Gathered {
    /// Most bodies come in one piece, which is passed on as it is.
    first: Bytes,
    all: Vec<u8>,
    /// How long it may become.
    most: u64,
    share: Option<Share>,
}

impl Gathered {
    fn new(expected: &SizeHint, limit: u64) -> Self {
        Gathered {
            first: Bytes::new(),
            all: Vec::new(),
            most: expected.upper().unwrap_or(limit).min(limit),
            share: None,
        }
    }

    fn length(&self) -> u64 {
        (self.first.len() + self.all.len()) as u64
    }

    async fn take(&mut self, data: Bytes, memory: Option<Memory<'_>>) -> Result<(), Failure> {
        let length = self.length() + data.len() as u64;
        if self.length() == 0 {
            self.hold(length, memory).await?;
            self.first = data;
            return Ok(());
        }
        if length > self.all.capacity() as u64 {
            let capacity = self.next_capacity(length);
            self.hold(capacity, memory).await?;
            let capacity = usize::try_from(capacity).unwrap_or(usize::MAX);
            self.all.reserve_exact(capacity.saturating_sub(self.all.len()));
        }
        self.all.extend_from_slice(&std::mem::take(&mut self.first));
        self.all.extend_from_slice(&data);
        Ok(())
    }

    /// Twice what there is, so that few copies are made, and no more than will be needed.
    fn next_capacity(&self, length: u64) -> u64 {
        let doubled = (2 * length).min(self.most).max(length);
        // A small one does not count as large for what has not come yet.
        if length <= FREE_BYTES { doubled.min(FREE_BYTES) } else { doubled }
    }

    /// Takes the memory before it is used.
    async fn hold(&mut self, bytes: u64, memory: Option<Memory<'_>>) -> Result<(), Failure> {
        match memory {
            Some(memory) if bytes > FREE_BYTES => memory.hold(&mut self.share, bytes).await,
            _ => Ok(()),
        }
    }

    fn whole(self) -> Received {
        let Gathered { first, all, share, .. } = self;
        let value = if all.is_empty() { first } else { Bytes::from(all) };
        Received { value, share }
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
    use crate::{app::Shares, state::TenantId};

    const SHORT: Patience = Patience {
        part: Duration::from_millis(100),
        whole: Duration::from_millis(500),
    };

    async fn read(body: Body, limit: u64) -> Result<Bytes, Code> {
        let refuse = || Problem::new(Code::ValueTooLarge, "", "").into();
        let outcome = Upload::new(body, &HeaderMap::new()).read_within(SHORT, limit, None, refuse).await;
        outcome.map(|received| received.value).map_err(|failure| failure.0.code)
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
    fn upload(body: Body) -> Upload {
        Upload::new(body, &HeaderMap::new())
    }

    fn refuse() -> Failure {
        Problem::new(Code::ValueTooLarge, "", "").into()
    }

    #[tokio::test]
    async fn a_large_body_holds_what_has_come_of_it_until_it_is_let_go() {
        const LENGTH: u64 = 100_000;
        let (memory, waiting) = (Shares::new(4 * LENGTH), Shares::new(2));
        let tenant = Memory::new(&memory, &waiting, TenantId(1));
        let taken = || memory.held();
        let (sender, body) = futures::channel::mpsc::unbounded::<Result<Bytes, std::io::Error>>();
        let mut upload = upload(Body::from_stream(body));
        let mut reading = Box::pin(upload.read(LENGTH, tenant, refuse));
        let mut came = 0;
        let mut most = 0;
        while came < LENGTH {
            sender.unbounded_send(Ok(Bytes::from(vec![1; 1_000]))).unwrap();
            came += 1_000;
            assert!(futures::poll!(reading.as_mut()).is_pending());
            most = most.max(taken());
            assert!(
                taken() <= 2 * came && (came <= FREE_BYTES || taken() >= came),
                "{came}: {}",
                taken()
            );
            assert!(came > FREE_BYTES || taken() == 0, "a small body holds nothing: {came}");
        }
        drop(sender);
        let received = reading.await.unwrap();
        assert_eq!((received.value.len() as u64, taken()), (LENGTH, LENGTH));
        assert_eq!(most, LENGTH, "never more than it may become");
        drop(received.value);
        assert_eq!(taken(), LENGTH, "until the answer");
        drop(received.share);
        assert_eq!(taken(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn slow_uploads_of_one_tenant_keep_no_other_out() {
        let (memory, waiting) = (Shares::new(8 << 20), Shares::new(256));
        let of = |tenant| Memory::new(&memory, &waiting, TenantId(tenant));
        let (busy, other) = (of(1), of(2));
        // As many as could fill the memory many times, if what they announce counted.
        let mut slow: Vec<_> = (0..128)
            .map(|_| {
                let drip = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"x"))]).chain(futures::stream::pending());
                let mut upload = upload(Body::from_stream(drip));
                Box::pin(async move { upload.read(1 << 20, busy, refuse).await.map(drop) })
            })
            .collect();
        for slow in &mut slow {
            assert!(futures::poll!(slow.as_mut()).is_pending());
        }
        // And as many as do fill the tenant's share.
        let body = || Body::from(vec![1; 1 << 20]);
        let mut full = Vec::new();
        for _ in 0..4 {
            full.push(upload(body()).read(1 << 20, busy, refuse).await.unwrap());
        }
        let begun = Instant::now();
        let other = upload(Body::from(vec![1; 20 << 10])).read(1 << 20, other, refuse).await;
        assert!(other.is_ok() && begun.elapsed() < Duration::from_millis(1));
        let refused = upload(body()).read(1 << 20, busy, refuse).await.unwrap_err().0;
        assert_eq!(refused.code, Code::Overloaded);
        assert_eq!(refused.outcome, Some(kvfleet_api::error::Outcome::NotApplied));
        assert!(begun.elapsed() >= Duration::from_secs(5), "{:?}", begun.elapsed());
        full.pop();
        assert!(upload(body()).read(1 << 20, busy, refuse).await.is_ok());
    }
}
