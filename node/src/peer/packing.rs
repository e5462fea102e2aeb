//! Bodies on their way: compressed where they are long and that makes them shorter. In: a body. Out: what is sent, and a body again; a
//! claimed length is checked before anything is allocated for it. Also counts what goes over the wire and what it stands for.
//!
//! A packed body is the length of the plain one (u32) and an LZ4 block. Whether a body is packed is a bit of the frame's header, so either
//! end may stop packing at any time.

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use bytes::{Buf, Bytes};
use lz4_flex::block;

use super::{
    carried::Carried,
    frame::{HEADER_BYTES, LENGTH_BYTES, MAX_FRAME_BYTES},
};
use crate::runtime;

/// The plain length in front of a packed body.
const PLAIN_BYTES: usize = 4;
/// No LZ4 block stands for more than this many times its own length.
const MOST_RATIO: usize = 255;
/// After bodies that did not shrink, at most this many are sent as they are before it is tried again.
const MOST_SKIPPED: u32 = 15;

/// From this plain length on a body is packed and unpacked on a thread for work that blocks: 64 KiB take some 50 µs, a whole frame tens of
/// milliseconds, and the thread that asks may be the one that sends heartbeats.
pub(super) const ASIDE: usize = 64 << 10;

/// A body as it is sent.
#[derive(Clone, Debug)]
pub(super) struct Body {
    pub(super) bytes: Bytes,
    pub(super) packed: bool,
    /// The length before packing.
    pub(super) plain: usize,
}

impl Body {
    /// As it is.
    pub(super) fn plain(bytes: Bytes) -> Self {
        Body {
            plain: bytes.len(),
            packed: false,
            bytes,
        }
    }
}

/// Bytes that this member has sent to its peers and received from them since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Sent, as they went over the wire (before TLS).
    pub sent: u64,
    /// Sent, as they would have gone without compression.
    pub sent_plain: u64,
    /// Received, as they came over the wire.
    pub received: u64,
    /// Received, as they would have come without compression.
    pub received_plain: u64,
}

/// Packs and unpacks for one member, and counts.
#[derive(Debug)]
pub(super) struct Packing {
    /// Bodies from this length on are packed; 0: none is.
    above: usize,
    /// How many attempts in a row have brought nothing, and how many bodies are still to be let pass for it: values that are random or
    /// compressed already cost no time then.
    misses: AtomicU32,
    skip: AtomicU32,
    sent: AtomicU64,
    sent_plain: AtomicU64,
    received: AtomicU64,
    received_plain: AtomicU64,
}

/// A packed body that cannot be one. The connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PackingError {
    #[error("a packed body of {packed} bytes claims {plain}: at most {} are possible", MAX_FRAME_BYTES - HEADER_BYTES)]
    Length { packed: usize, plain: usize },
    #[error("a packed body cannot be unpacked: it was damaged, or run versions that follow each other")]
    Damaged,
}

impl Packing {
    pub(super) fn new(above: u64) -> Self {
        Packing {
            above: usize::try_from(above).unwrap_or(0),
            misses: AtomicU32::new(0),
            skip: AtomicU32::new(0),
            sent: AtomicU64::new(0),
            sent_plain: AtomicU64::new(0),
            received: AtomicU64::new(0),
            received_plain: AtomicU64::new(0),
        }
    }

    /// Packs a body, if it is long and becomes shorter.
    pub(super) fn pack(&self, plain: Bytes) -> Body {
        if self.above == 0 || plain.len() < self.above || self.passes() {
            return Body::plain(plain);
        }
        match packed(&plain) {
            Some(bytes) => {
                self.misses.store(0, Ordering::Relaxed);
                Body {
                    bytes,
                    packed: true,
                    plain: plain.len(),
                }
            }
            None => {
                // Two threads may count one miss twice: then it is tried a little later.
                let misses = self.misses.fetch_add(1, Ordering::Relaxed).min(MOST_SKIPPED);
                self.skip.store((1 << misses).min(MOST_SKIPPED), Ordering::Relaxed);
                Body::plain(plain)
            }
        }
    }

    /// Whether packing this would hold up a thread of Raft's.
    pub(super) fn takes_long(&self, plain: &Bytes) -> bool {
        self.above != 0 && plain.len() >= self.above.max(ASIDE)
    }

    fn passes(&self) -> bool {
        let less = |skip: u32| skip.checked_sub(1);
        self.skip.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    /// Notes a frame that goes out.
    pub(super) fn count_sent(&self, body: &Body) {
        let frame = (LENGTH_BYTES + HEADER_BYTES) as u64;
        self.sent.fetch_add(frame + body.bytes.len() as u64, Ordering::Relaxed);
        self.sent_plain.fetch_add(frame + body.plain as u64, Ordering::Relaxed);
    }

    /// Notes a frame that came in with so many bytes of body, which stand for so many.
    pub(super) fn count_received(&self, wire: usize, plain: usize) {
        let frame = (LENGTH_BYTES + HEADER_BYTES) as u64;
        self.received.fetch_add(frame + wire as u64, Ordering::Relaxed);
        self.received_plain.fetch_add(frame + plain as u64, Ordering::Relaxed);
    }

    pub(super) fn traffic(&self) -> Traffic {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Traffic {
            sent: read(&self.sent),
            sent_plain: read(&self.sent_plain),
            received: read(&self.received),
            received_plain: read(&self.received_plain),
        }
    }
}

/// [Packs](Packing::pack), aside if that takes long.
pub(super) async fn pack_aside(carried: &Arc<Carried>, plain: Bytes) -> Body {
    if !carried.packing.takes_long(&plain) {
        return carried.packing.pack(plain);
    }
    let (carried, same) = (Arc::clone(carried), plain.clone());
    // A runtime that closes down runs nothing more; neither is the body sent then.
    let packed = runtime::blocking(move || carried.packing.pack(plain)).await;
    packed.unwrap_or_else(|_| Body::plain(same))
}

/// [Unpacks](unpack), aside if that takes long.
pub(super) async fn unpack_aside(body: Bytes) -> Result<Bytes, PackingError> {
    if plain_length(&body)? < ASIDE {
        return unpack(body);
    }
    let unpacked = runtime::blocking(move || unpack(body)).await;
    unpacked.unwrap_or(Err(PackingError::Damaged))
}

fn packed(plain: &[u8]) -> Option<Bytes> {
    let mut bytes = vec![0; PLAIN_BYTES + block::get_maximum_output_size(plain.len())];
    let (length, rest) = bytes.split_at_mut(PLAIN_BYTES);
    length.copy_from_slice(&u32::try_from(plain.len()).ok()?.to_be_bytes());
    let used = block::compress_into(plain, rest).ok()?;
    bytes.truncate(PLAIN_BYTES + used);
    if bytes.len() >= plain.len() {
        return None;
    }
    // It waits in queues whose bytes are counted.
    bytes.shrink_to_fit();
    Some(bytes.into())
}

/// How long a packed body is when it is unpacked.
pub(super) fn plain_length(body: &Bytes) -> Result<usize, PackingError> {
    let mut rest = body.clone();
    let plain = rest.try_get_u32().map_err(|_| PackingError::Damaged)? as usize;
    if plain > MAX_FRAME_BYTES - HEADER_BYTES || plain > rest.len().saturating_mul(MOST_RATIO) {
        return Err(PackingError::Length { packed: body.len(), plain });
    }
    Ok(plain)
}

/// Unpacks a body.
pub(super) fn unpack(mut body: Bytes) -> Result<Bytes, PackingError> {
    let mut plain = vec![0; plain_length(&body)?];
    body.advance(PLAIN_BYTES);
    match block::decompress_into(&body, &mut plain) {
        Ok(length) if length == plain.len() => Ok(plain.into()),
        Ok(_) | Err(_) => Err(PackingError::Damaged),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use ring::rand::{SecureRandom, SystemRandom};

    use super::*;

    fn noise(length: usize) -> Bytes {
        let mut bytes = vec![0; length];
        SystemRandom::new().fill(&mut bytes).unwrap();
        bytes.into()
    }

    /// Golden bytes: members of two versions speak to each other. Another version may choose other matches, but must read these.
    #[test]
    fn the_bytes_of_a_packed_body_stay() {
        let text = Bytes::from_static(b"abcabcabcabcabcabcabcabcabcabcabc");
        let golden = b"\x00\x00\x00\x21\x3fabc\x03\x00\x05\x60abcabc";
        assert_eq!(unpack(Bytes::from_static(golden)).unwrap(), text);
        let body = Packing::new(1).pack(text.clone());
        assert!(body.packed);
        assert_eq!(body.bytes.get(..4), golden.get(..4));
        assert_eq!(unpack(body.bytes).unwrap(), text);
    }

    #[test]
    fn short_bodies_and_those_that_do_not_shrink_stay_as_they_are() {
        let packing = Packing::new(100);
        assert!(!packing.pack(Bytes::from(vec![7; 99])).packed);
        assert!(packing.pack(Bytes::from(vec![7; 100])).packed);
        assert!(!packing.pack(noise(5_000)).packed);
        assert!(!Packing::new(0).pack(Bytes::from(vec![7; 1 << 20])).packed, "0 means never");
    }

    #[test]
    fn what_does_not_shrink_is_tried_less_often_and_tried_again() {
        let packing = Packing::new(1);
        for _ in 0..100 {
            assert!(!packing.pack(noise(1_000)).packed);
        }
        let text = Bytes::from(vec![b'x'; 1_000]);
        let first = (0..=MOST_SKIPPED).position(|_| packing.pack(text.clone()).packed);
        assert!(first.is_some(), "within {MOST_SKIPPED} bodies");
        assert!(packing.pack(text).packed, "and at once after that");
    }

    #[test]
    fn whatever_is_packed_comes_out_again() {
        let packing = Packing::new(1);
        for length in [1, 2, 63, 64, 4_096, 1 << 20] {
            let plain: Bytes = (0..length).map(|at| (at % 7 * at % 11) as u8).collect::<Vec<_>>().into();
            let body = packing.pack(plain.clone());
            assert_eq!(body.plain, length);
            assert_eq!(if body.packed { unpack(body.bytes).unwrap() } else { body.bytes }, plain);
        }
    }

    #[test]
    fn a_bomb_is_refused_before_it_is_unpacked() {
        let bomb = |plain: u32, rest: &[u8]| {
            let mut bytes = plain.to_be_bytes().to_vec();
            bytes.extend(rest);
            Bytes::from(bytes)
        };
        let most = u32::try_from(MAX_FRAME_BYTES - HEADER_BYTES).unwrap();
        for (plain, rest) in [(most + 1, 1 << 20), (u32::MAX, 1 << 20), (1 << 20, 10), (1, 0)] {
            let body = bomb(plain, &vec![0; rest]);
            assert!(matches!(unpack(body), Err(PackingError::Length { .. })), "{plain} out of {rest}");
        }
        assert_eq!(unpack(Bytes::from_static(&[0, 0])), Err(PackingError::Damaged));
    }

    #[test]
    fn damage_is_refused() {
        let text = Bytes::from("what was said, and what was said again, and again".repeat(20));
        let good = Packing::new(1).pack(text.clone()).bytes;
        let longer = [&[0, 0, 0, 255], good.get(4..).unwrap()].concat();
        assert_eq!(unpack(Bytes::from(longer)), Err(PackingError::Damaged));
        for at in 4..good.len() {
            let mut bytes = good.to_vec();
            *bytes.get_mut(at).unwrap() ^= 0x80;
            // LZ4 has no checksum (TLS has): what matters is that nothing longer than claimed comes out, and no panic.
            if let Ok(plain) = unpack(Bytes::from(bytes)) {
                assert_eq!(plain.len(), text.len());
            }
        }
        assert_eq!(unpack(good.slice(..good.len() - 1)), Err(PackingError::Damaged));
    }

    #[test]
    fn traffic_counts_what_went_over_the_wire_and_what_it_stands_for() {
        let packing = Packing::new(1);
        let body = packing.pack(Bytes::from(vec![1; 10_000]));
        packing.count_sent(&body);
        packing.count_received(10, 10);
        let traffic = packing.traffic();
        assert_eq!(traffic.sent_plain, 10_078);
        assert!(traffic.sent < 200, "{traffic:?}");
        assert_eq!((traffic.received, traffic.received_plain), (88, 88));
    }
}
