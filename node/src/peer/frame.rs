//! The bytes between members. In: frames, or bytes as they come. Out: bytes, or whole frames; a length that is too large is refused
//! before anything is allocated for it. Absent: what a body means.
//!
//! ```text
//! length u32 (of all that follows) | format u8 | kind u8 | method u8 | detail u8 | header u16 (its length, from the format on) |
//! shard u32 | cluster 16 B | sender u64 | target u64 | clock_ms u64 | stamp_ms u64 | room u64 | request u64 | body
//! ```
//! Numbers are big-endian. The detail of a refusal is its reason; otherwise bit 0 says that the body is packed (`packing`), and the other
//! bits are 0. A later program may write a longer header: what is behind the fields above is skipped. A kind, a detail or a method that is
//! not known costs no more than the one call: the frame's place is known, so it is answered.
//!
//! The format is what both ends of the connection said that they know (`hello`); it changes only when this layout does.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::error::Refusal;
use crate::cluster_id::ClusterId;

/// The largest frame, header included. Larger bodies are refused by the sender.
pub const MAX_FRAME_BYTES: usize = 32 << 20;

/// The oldest format that is read and written …
pub(super) const LOWEST: u8 = 3;
/// … and the newest.
pub(super) const HIGHEST: u8 = 3;
pub(super) const LENGTH_BYTES: usize = 4;
pub(super) const HEADER_BYTES: usize = 74;

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
    /// A call of a later program, by its code.
    Unknown(u8),
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
            Method::Unknown(code) => code,
        }
    }

    const fn from_code(code: u8) -> Self {
        match code {
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
            _ => Method::Unknown(code),
        }
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
    /// A kind of a later program, or one that it says more of.
    Other(u8),
}

/// The bit of the detail that says that the body is packed.
const PACKED: u8 = 1;

/// What is on top of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) format: u8,
    pub(super) kind: Kind,
    pub(super) method: Method,
    /// Whether the body is packed.
    pub(super) packed: bool,
    pub(super) shard: u32,
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
    #[error("a frame of format {found}, and this member knows {LOWEST} to {HIGHEST}")]
    Format { found: u8 },
    #[error("a header of {header} bytes in a frame of {length}: {HEADER_BYTES} are the least")]
    Header { header: usize, length: usize },
}

/// Appends a frame to `bytes`. The caller has checked that it is not too large.
pub(super) fn write(bytes: &mut BytesMut, header: &Header, body: &[u8]) {
    let length = HEADER_BYTES + body.len();
    bytes.reserve(LENGTH_BYTES + length);
    bytes.put_u32(u32::try_from(length).expect("bodies are at most MAX_FRAME_BYTES long"));
    bytes.put_u8(header.format);
    let (kind, detail) = match header.kind {
        Kind::Request => (1, u8::from(header.packed) * PACKED),
        Kind::Answer => (2, u8::from(header.packed) * PACKED),
        Kind::Refusal(refusal) => (3, refusal.code()),
        Kind::Lost => (4, 0),
        Kind::Other(kind) => (kind, 0),
    };
    bytes.put_u8(kind);
    bytes.put_u8(header.method.code());
    bytes.put_u8(detail);
    bytes.put_u16(u16::try_from(HEADER_BYTES).expect("it is 74"));
    bytes.put_u32(header.shard);
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
    if !(LOWEST..=HIGHEST).contains(&format) {
        return Err(FrameError::Format { found: format });
    }
    let (kind, method, detail) = (frame.get_u8(), frame.get_u8(), frame.get_u8());
    let header = usize::from(frame.get_u16());
    if !(HEADER_BYTES..=length).contains(&header) {
        return Err(FrameError::Header { header, length });
    }
    let packed = matches!(kind, 1 | 2) && detail == PACKED;
    let kind = match kind {
        1 | 2 if detail & !PACKED != 0 => Kind::Other(kind),
        1 => Kind::Request,
        2 => Kind::Answer,
        3 => Kind::Refusal(Refusal::from_code(detail)),
        4 => Kind::Lost,
        _ => Kind::Other(kind),
    };
    let body = frame.split_off(header - (length - frame.len()));
    let shard = frame.get_u32();
    let mut cluster = [0; 16];
    frame.copy_to_slice(&mut cluster);
    let header = Header {
        format,
        kind,
        method: Method::from_code(method),
        packed,
        shard,
        cluster: ClusterId::from_bytes(cluster),
        sender: frame.get_u64(),
        target: frame.get_u64(),
        clock_ms: frame.get_u64(),
        stamp_ms: frame.get_u64(),
        room: frame.get_u64(),
        request: frame.get_u64(),
    };
    Ok(Some((header, body)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            format: HIGHEST,
            kind: Kind::Request,
            method: Method::Append,
            packed: false,
            shard: 9,
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
        let mut golden = vec![0, 0, 0, 78, 3, 1, 2, 0, 0, 74, 0, 0, 0, 9];
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

    fn changed(at: usize, value: u8) -> Result<Option<(Header, Bytes)>, FrameError> {
        let mut bytes = BytesMut::new();
        write(&mut bytes, &header(), b"body");
        *bytes.get_mut(at).unwrap() = value;
        read(&mut bytes)
    }

    #[test]
    fn other_formats_and_headers_that_do_not_fit_are_refused() {
        for found in [LOWEST - 1, HIGHEST + 1] {
            assert_eq!(changed(4, found), Err(FrameError::Format { found }));
        }
        for header in [73, 79] {
            assert_eq!(
                changed(9, header),
                Err(FrameError::Header {
                    header: header.into(),
                    length: 78
                })
            );
        }
    }

    #[test]
    fn what_a_later_program_says_is_read_as_far_as_it_is_known() {
        let read = |at, value| changed(at, value).unwrap().unwrap().0;
        assert_eq!(read(5, 9).kind, Kind::Other(9));
        assert_eq!(read(6, 99).method, Method::Unknown(99));
        assert_eq!(read(7, 2).kind, Kind::Other(1), "something about the body that is not known");
        // Three more bytes of header.
        let (header, body) = changed(9, 77).unwrap().unwrap();
        assert_eq!((header, body.as_ref()), (self::header(), b"y".as_slice()));
    }
}
