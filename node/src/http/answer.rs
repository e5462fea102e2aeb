//! The bodies of large answers: each holds its share of the member's memory until the last of its bytes has gone to the socket. In: bytes,
//! and the share. Out: a body whose length is known.
//!
//! A page is made in pieces, so that it never stands in memory twice while it grows, and a piece is freed when it has been sent.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use crate::app::Share;

/// The bytes of a piece. The first one grows from less: most pages are small.
const PIECE: usize = 64 << 10;
const FIRST: usize = 4 << 10;

/// Bytes that give back their share when the last view of them is dropped.
struct Held<B> {
    bytes: B,
    _share: Arc<Share>,
}

impl<B: AsRef<[u8]>> AsRef<[u8]> for Held<B> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

/// A body of these bytes.
pub(super) fn body(bytes: impl Into<Bytes>, share: Option<Share>) -> Body {
    let bytes = bytes.into();
    match share {
        None => Body::from(bytes),
        Some(share) => Body::from(held(bytes, &Arc::new(share))),
    }
}

fn held<B: AsRef<[u8]> + Send + Sync + 'static>(bytes: B, share: &Arc<Share>) -> Bytes {
    Bytes::from_owner(Held {
        bytes,
        _share: Arc::clone(share),
    })
}

/// A body that is being written.
#[derive(Default)]
pub(super) struct Pieces {
    full: Vec<Vec<u8>>,
    last: Vec<u8>,
    length: u64,
}

impl Pieces {
    /// The bytes written so far.
    pub(super) fn len(&self) -> u64 {
        self.length
    }

    /// The body of all of it; the share is cut down to what it needs.
    pub(super) fn body(self, mut share: Share) -> Body {
        let Pieces { full, last, length } = self;
        let spare = (last.capacity() - last.len()) as u64;
        share.shrink(length + spare);
        let share = Arc::new(share);
        let pieces: VecDeque<Bytes> = full.into_iter().chain([last]).map(|piece| held(piece, &share)).collect();
        Body::new(Sending { pieces, left: length })
    }
}

impl io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.last.len() == PIECE {
            self.full.push(std::mem::take(&mut self.last));
        }
        let (now, _) = bytes.split_at(bytes.len().min(PIECE - self.last.len()));
        let needed = self.last.len() + now.len();
        if needed > self.last.capacity() {
            let wanted = if self.full.is_empty() {
                (2 * needed).clamp(FIRST, PIECE)
            } else {
                PIECE
            };
            self.last.reserve_exact(wanted - self.last.len());
        }
        self.last.extend_from_slice(now);
        self.length += now.len() as u64;
        Ok(now.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A body of which some pieces are with the socket.
struct Sending {
    pieces: VecDeque<Bytes>,
    left: u64,
}

impl hyper::body::Body for Sending {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.pieces.pop_front().filter(|piece| !piece.is_empty());
        self.left -= piece.as_ref().map_or(0, |piece| piece.len() as u64);
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;

    use http_body_util::BodyExt;
    use hyper::body::Body as _;

    use super::*;
    use crate::{app::Shares, state::TenantId};

    #[tokio::test]
    async fn a_page_comes_whole_and_gives_back_its_share_when_it_is_sent() {
        for length in [0, 1, FIRST, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE, 1_000_000] {
            let memory = Shares::new(2 << 20);
            // All of it, so nothing may be held by anybody.
            let free = || memory.try_take(TenantId(1), 2 << 20).is_some();
            let text: Vec<u8> = (0..length).map(|number| number as u8).collect();
            let mut pieces = Pieces::default();
            for part in text.chunks(977) {
                pieces.write_all(part).unwrap();
            }
            assert_eq!(pieces.len(), length as u64);
            assert!(pieces.full.iter().chain([&pieces.last]).all(|piece| piece.capacity() <= PIECE));
            let mut body = pieces.body(memory.try_take(TenantId(1), 2 << 20).unwrap());
            assert_eq!(body.size_hint().exact(), Some(length as u64));
            let mut sent = Vec::new();
            let mut last = None;
            while let Some(frame) = body.frame().await {
                last = frame.unwrap().into_data().ok();
                sent.extend_from_slice(last.as_ref().unwrap());
            }
            assert_eq!(sent, text);
            drop(body);
            if length > 0 {
                assert!(!free(), "the socket has the last piece still: {length}");
            }
            drop(last);
            assert!(free(), "{length}");
        }
    }
}
