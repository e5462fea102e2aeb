//! The bytes between members. In: frames, or bytes as they come. Out: bytes, or whole frames; a length that is too large is refused
//! before anything is allocated for it. Absent: what a body means.
//!
//! ```text
//! length u32 (of all that follows) | format u8 | kind u8 | method u8 | detail u8 | cluster 16 B | sender u64 | target u64 |
//! clock_ms u64 | stamp_ms u64 | room u64 | request u64 | body
//! ```
//! Numbers are big-endian. The detail of a refusal is its reason; otherwise bit 0 says that the body is packed (`packing`), and the other
//! bits are 0.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::error::Refusal;
use crate::cluster_id::ClusterId;

/// The largest frame, header included. Larger bodies are refused by the sender.
pub const MAX_FRAME_BYTES: usize = 32 << 20;

const FORMAT: u8 = 2;
pub(super) const LENGTH_BYTES: usize = 4;
pub(super) const HEADER_BYTES: usize = 68;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Are you there? Answered by the connection itself.
    Ping,
    /// Who are you? The one request that needs no target.
    Identify,
    /// Entries, or a heartbeat.
    Append,
    /// A vote.
    Vote,
    /// Whether a vote would be granted.
    PreVote,
    /// Stand for election now.
    TransferLeader,
    /// Propose a command.
    Forward,
    /// The index that a linearizable read must have applied.
    ReadIndex,
    /// Who belongs to the group, or a change of that.
    Membership,
    /// Take this member into the place of another.
    Join,
    /// May this member put its data aside?
    Release,
    /// Say when a revision is applied.
    WaitApplied,
    /// A part of a snapshot, or its end.
    Snapshot,
    /// What the state was at fixed places of the log.
    Checkpoints,
}

impl Method {
    const fn code(self) -> u8 {
        match self {
            Method::Ping => 0,
            Method::Identify => 1,
            Method::Append => 2,
            Method::Vote => 3,
            Method::PreVote => 4,
            Method::TransferLeader => 5,
            Method::Forward => 6,
            Method::ReadIndex => 7,
            Method::Membership => 10,
            Method::Join => 11,
            Method::Release => 12,
            Method::WaitApplied => 13,
            Method::Snapshot => 8,
            Method::Checkpoints => 9,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Method::Ping,
            1 => Method::Identify,
            2 => Method::Append,
            3 => Method::Vote,
            4 => Method::PreVote,
            5 => Method::TransferLeader,
            6 => Method::Forward,
            7 => Method::ReadIndex,
            10 => Method::Membership,
            11 => Method::Join,
            12 => Method::Release,
            13 => Method::WaitApplied,
            8 => Method::Snapshot,
            9 => Method::Checkpoints,
            _ => return None,
        })
    }
}

/// Whether a frame asks or answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Request,
    Answer,
    Refusal(Refusal),
    /// The work on the request ended without an answer; what it did is not known.
    Lost,
}

/// The bit of the detail that says that the body is packed.
const PACKED: u8 = 1;

/// What is on top of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) method: Method,
    /// Whether the body is packed.
    pub(super) packed: bool,
    pub(super) cluster: ClusterId,
    pub(super) sender: u64,
    pub(super) target: u64,
    pub(super) clock_ms: u64,
    pub(super) stamp_ms: u64,
    /// What the sender's disk has above its reserve, bytes; the largest number when it does not know.
    pub(super) room: u64,
    /// Chosen by the asker, repeated in the answer; of one connection.
    pub(super) request: u64,
}

/// Why bytes are no frame. The connection has lost its place then and must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("a frame of {length} bytes: {HEADER_BYTES} to {MAX_FRAME_BYTES} are possible")]
    Length { length: usize },
    #[error("frame format {found}, and this version speaks {FORMAT}: run versions that follow each other")]
    Format { found: u8 },
    #[error("frame of kind {kind} and method {method}: run versions that follow each other")]
    Unknown { kind: u8, method: u8 },
}

/// Appends a frame to `bytes`. The caller has checked that it is not too large.
pub(super) fn write(bytes: &mut BytesMut, header: &Header, body: &[u8]) {
    let length = HEADER_BYTES + body.len();
    bytes.reserve(LENGTH_BYTES + length);
    bytes.put_u32(u32::try_from(length).expect("bodies are at most MAX_FRAME_BYTES long"));
    bytes.put_u8(FORMAT);
    let (kind, detail) = match header.kind {
        Kind::Request => (1, u8::from(header.packed) * PACKED),
        Kind::Answer => (2, u8::from(header.packed) * PACKED),
        Kind::Refusal(refusal) => (3, refusal.code()),
        Kind::Lost => (4, 0),
    };
    bytes.put_u8(kind);
    bytes.put_u8(header.method.code());
    bytes.put_u8(detail);
    bytes.put_slice(header.cluster.as_bytes());
    bytes.put_u64(header.sender);
    bytes.put_u64(header.target);
    bytes.put_u64(header.clock_ms);
    bytes.put_u64(header.stamp_ms);
    bytes.put_u64(header.room);
    bytes.put_u64(header.request);
    bytes.put_slice(body);
}

/// Takes the first whole frame off `bytes`; none when more bytes are needed (room for them is made).
pub(super) fn read(bytes: &mut BytesMut) -> Result<Option<(Header, Bytes)>, FrameError> {
    let Some(mut prefix) = bytes.get(..LENGTH_BYTES) else {
        return Ok(None);
    };
    let length = prefix.get_u32() as usize;
    if !(HEADER_BYTES..=MAX_FRAME_BYTES).contains(&length) {
        return Err(FrameError::Length { length });
    }
    if bytes.len() < LENGTH_BYTES + length {
        bytes.reserve(LENGTH_BYTES + length - bytes.len());
        return Ok(None);
    }
    bytes.advance(LENGTH_BYTES);
    let mut frame = bytes.split_to(length).freeze();
    let format = frame.get_u8();
    if format != FORMAT {
        return Err(FrameError::Format { found: format });
    }
    let (kind, method, detail) = (frame.get_u8(), frame.get_u8(), frame.get_u8());
    let unknown = FrameError::Unknown { kind, method };
    let packed = matches!(kind, 1 | 2) && detail == PACKED;
    let kind = match kind {
        1 | 2 if detail & !PACKED != 0 => return Err(unknown),
        1 => Kind::Request,
        2 => Kind::Answer,
        3 => Kind::Refusal(Refusal::from_code(detail)),
        4 => Kind::Lost,
        _ => return Err(unknown),
    };
    let method = Method::from_code(method).ok_or(unknown)?;
    let mut cluster = [0; 16];
    frame.copy_to_slice(&mut cluster);
    let header = Header {
        kind,
        method,
        packed,
        cluster: ClusterId::from_bytes(cluster),
        sender: frame.get_u64(),
        target: frame.get_u64(),
        clock_ms: frame.get_u64(),
        stamp_ms: frame.get_u64(),
        room: frame.get_u64(),
        request: frame.get_u64(),
    };
    Ok(Some((header, frame)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            kind: Kind::Request,
            method: Method::Append,
            packed: false,
            cluster: ClusterId::from_bytes([7; 16]),
            sender: 1,
            target: 2,
            clock_ms: 3,
            stamp_ms: 4,
            room: 5,
            request: 6,
        }
    }

    /// Golden bytes: members of two versions speak to each other.
    #[test]
    fn the_bytes_of_a_frame_stay() {
        let mut bytes = BytesMut::new();
        write(&mut bytes, &header(), b"body");
        let mut golden = vec![0, 0, 0, 72, 2, 1, 2, 0];
        golden.extend([7; 16]);
        for number in 1..=6_u64 {
            golden.extend(number.to_be_bytes());
        }
        golden.extend(b"body");
        assert_eq!(bytes, golden);
        bytes.clear();
        let packed = Header { packed: true, ..header() };
        write(&mut bytes, &packed, b"body");
        *golden.get_mut(7).unwrap() = 1;
        assert_eq!(bytes, golden);
        assert_eq!(read(&mut bytes), Ok(Some((packed, Bytes::from_static(b"body")))));
    }

    #[test]
    fn frames_come_out_as_they_went_in_however_the_bytes_come() {
        let mut sent = BytesMut::new();
        let refusal = Header {
            kind: Kind::Refusal(Refusal::NotMe),
            ..header()
        };
        write(&mut sent, &header(), b"one");
        write(&mut sent, &refusal, b"");
        let mut received = BytesMut::new();
        let mut frames = Vec::new();
        for byte in sent {
            received.put_u8(byte);
            while let Some(frame) = read(&mut received).unwrap() {
                frames.push(frame);
            }
        }
        assert_eq!(frames, [(header(), Bytes::from_static(b"one")), (refusal, Bytes::new())]);
    }

    #[test]
    fn lengths_are_checked_before_anything_is_allocated() {
        for length in [0, HEADER_BYTES - 1, MAX_FRAME_BYTES + 1, u32::MAX as usize] {
            let mut bytes = BytesMut::new();
            bytes.put_u32(length as u32);
            let before = bytes.capacity();
            assert_eq!(read(&mut bytes), Err(FrameError::Length { length }));
            assert_eq!(bytes.capacity(), before);
        }
    }

    #[test]
    fn other_formats_and_methods_are_refused() {
        let mut frame = BytesMut::new();
        write(&mut frame, &header(), b"");
        for (at, value, error) in [
            (4, 3, FrameError::Format { found: 3 }),
            (5, 9, FrameError::Unknown { kind: 9, method: 2 }),
            (6, 99, FrameError::Unknown { kind: 1, method: 99 }),
            (7, 2, FrameError::Unknown { kind: 1, method: 2 }),
        ] {
            let mut bytes = frame.clone();
            *bytes.get_mut(at).unwrap() = value;
            assert_eq!(read(&mut bytes), Err(error));
        }
    }
}
