//! One frame: its bytes, and its parts again. Absent: what follows from the order of frames (`intake`).

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Applied, Heading, Level, Origin};
use crate::{
    cluster_id::ClusterId,
    state::digest::Digest,
    storage::{FORMAT as ROWS_FORMAT, Keyspace, Row},
};

const MAGIC: &[u8; 4] = b"KVSN";
const FORMAT: u16 = 2;
const BEGIN: u8 = 1;
const ROWS: u8 = 2;
const END: u8 = 3;
/// Kind, length and checksum.
const AROUND: usize = 9;

/// Rows per section, in order.
pub(super) type Counts = Vec<(Keyspace, u64)>;

/// A frame that has been read.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Frame {
    Begin {
        origin: Origin,
        rows_format: u64,
        /// What comes, in order.
        sections: Vec<Keyspace>,
        heading: Heading,
    },
    Rows {
        keyspace: Keyspace,
        rows: Vec<Row>,
    },
    End {
        counts: Counts,
        digest: u128,
    },
}

fn seal(kind: u8, body: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(AROUND + body.len());
    bytes.put_u8(kind);
    bytes.put_u32(u32::try_from(body.len()).expect("a frame has about a mebibyte, or one record"));
    bytes.put_slice(body);
    let checksum = crc32c::crc32c(&bytes);
    bytes.put_u32(checksum);
    bytes.freeze()
}

fn put_applied(body: &mut BytesMut, applied: Applied) {
    body.put_u64(applied.term);
    body.put_u64(applied.index);
}

/// The body of the first frame, and the frame.
pub(super) fn begin(origin: Origin, sections: &[Keyspace], heading: &Heading) -> (Bytes, Bytes) {
    let mut body = BytesMut::new();
    body.put_slice(MAGIC);
    body.put_u16(FORMAT);
    body.put_u64(ROWS_FORMAT);
    body.put_u32(heading.level.0);
    body.put_slice(origin.cluster.as_bytes());
    body.put_u32(origin.shard);
    put_applied(&mut body, heading.applied);
    body.put_u8(u8::try_from(sections.len()).expect("codes are bytes"));
    sections.iter().for_each(|section| body.put_u8(section.code()));
    body.put_u8(u8::from(heading.membership.is_some()));
    if let Some((at, membership)) = &heading.membership {
        put_applied(&mut body, *at);
        body.put_slice(membership);
    }
    let body = body.freeze();
    let frame = seal(BEGIN, &body);
    (body, frame)
}

/// Rows that are being gathered for one frame.
pub(super) struct Gathered {
    keyspace: Keyspace,
    rows: u32,
    bytes: BytesMut,
}

impl Gathered {
    pub(super) fn new(keyspace: Keyspace) -> Self {
        Gathered {
            keyspace,
            rows: 0,
            bytes: BytesMut::new(),
        }
    }

    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) {
        put_row(&mut self.bytes, key, value);
        self.rows += 1;
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    pub(super) fn seal(self) -> Bytes {
        let mut body = BytesMut::with_capacity(5 + self.bytes.len());
        body.put_u8(self.keyspace.code());
        body.put_u32(self.rows);
        body.put_slice(&self.bytes);
        seal(ROWS, &body)
    }
}

pub(super) fn put_row(bytes: &mut BytesMut, key: &[u8], value: &[u8]) {
    bytes.put_u16(u16::try_from(key.len()).expect("the store takes no longer keys"));
    bytes.put_u32(u32::try_from(value.len()).expect("values are at most 8 MiB long"));
    bytes.put_slice(key);
    bytes.put_slice(value);
}

pub(super) fn end(counts: &Counts, digest: u128) -> Bytes {
    let mut body = BytesMut::new();
    body.put_u8(u8::try_from(counts.len()).expect("codes are bytes"));
    for (section, rows) in counts {
        body.put_u8(section.code());
        body.put_u64(*rows);
    }
    body.put_u128(digest);
    seal(END, &body)
}

/// Why bytes are no frame; the caller knows where in the stream they stand.
pub(super) struct Unread(pub(super) String);

impl From<bytes::TryGetError> for Unread {
    fn from(_: bytes::TryGetError) -> Self {
        Unread("the frame ends too early".to_owned())
    }
}

fn reason<T>(reason: impl Into<String>) -> Result<T, Unread> {
    Err(Unread(reason.into()))
}

/// Reads one frame, which must be all of `bytes`. What is allocated follows the bytes that are there, not what they claim.
pub(super) fn read(bytes: &Bytes) -> Result<(Frame, Bytes), Unread> {
    let Some(checked) = bytes.len().checked_sub(4) else {
        return reason("a frame of less than four bytes");
    };
    let (mut frame, mut checksum) = (bytes.slice(..checked), bytes.slice(checked..));
    let (found, stored) = (crc32c::crc32c(&frame), checksum.try_get_u32()?);
    if found != stored {
        return reason(format!("a frame's checksum is {stored:08x}, and its bytes give {found:08x}"));
    }
    let (kind, length) = (frame.try_get_u8()?, frame.try_get_u32()?);
    if length as usize != frame.len() {
        return reason(format!("a frame of {} bytes says that it has {length}", frame.len()));
    }
    let body = frame.clone();
    let frame = match kind {
        BEGIN => read_begin(frame)?,
        ROWS => read_rows(frame)?,
        END => read_end(frame)?,
        _ => return reason(format!("a frame of kind {kind}: run versions that follow each other")),
    };
    Ok((frame, body))
}

fn read_begin(mut body: Bytes) -> Result<Frame, Unread> {
    if !body.starts_with(MAGIC) {
        return reason("it does not begin as a snapshot");
    }
    body.advance(MAGIC.len());
    let format = body.try_get_u16()?;
    if format != FORMAT {
        return reason(format!(
            "snapshot format {format}, and this version reads {FORMAT}: run versions that follow each other"
        ));
    }
    let rows_format = body.try_get_u64()?;
    let level = Level(body.try_get_u32()?);
    let mut cluster = [0; 16];
    body.try_copy_to_slice(&mut cluster)?;
    let shard = body.try_get_u32()?;
    let applied = read_applied(&mut body)?;
    let mut sections = Vec::new();
    for _ in 0..body.try_get_u8()? {
        let section = read_section(&mut body)?;
        if sections.last().is_some_and(|last| *last >= section) {
            return reason("its sections are not in order");
        }
        sections.push(section);
    }
    let membership = match body.try_get_u8()? {
        0 if body.is_empty() => None,
        1 => Some((read_applied(&mut body)?, body)),
        flag => return reason(format!("a membership flag of {flag}")),
    };
    Ok(Frame::Begin {
        origin: Origin {
            cluster: ClusterId::from_bytes(cluster),
            shard,
        },
        rows_format,
        heading: Heading {
            applied,
            level,
            membership,
        },
        sections,
    })
}

/// A code that is not known here was given by a newer program, and what follows it means something.
fn read_section(body: &mut Bytes) -> Result<Keyspace, Unread> {
    let code = body.try_get_u8()?;
    match Keyspace::of_code(code) {
        Some(section) => Ok(section),
        None => reason(format!("section {code} is of a newer program: upgrade this member")),
    }
}

fn read_applied(body: &mut Bytes) -> Result<Applied, Unread> {
    Ok(Applied {
        term: body.try_get_u64()?,
        index: body.try_get_u64()?,
    })
}

fn read_rows(mut body: Bytes) -> Result<Frame, Unread> {
    let keyspace = read_section(&mut body)?;
    let count = body.try_get_u32()?;
    let mut rows = Vec::new();
    for _ in 0..count {
        let (key, value) = (usize::from(body.try_get_u16()?), body.try_get_u32()? as usize);
        if body.len() < key.saturating_add(value) {
            return reason("a row is longer than its frame");
        }
        rows.push((body.split_to(key), body.split_to(value)));
    }
    if !body.is_empty() {
        return reason(format!("{} bytes are left over behind the rows", body.len()));
    }
    Ok(Frame::Rows { keyspace, rows })
}

fn read_end(mut body: Bytes) -> Result<Frame, Unread> {
    let mut counts = Counts::new();
    for _ in 0..body.try_get_u8()? {
        counts.push((read_section(&mut body)?, body.try_get_u64()?));
    }
    let digest = body.try_get_u128()?;
    if !body.is_empty() {
        return reason(format!("{} bytes are left over behind the digest", body.len()));
    }
    Ok(Frame::End { counts, digest })
}

/// Adds rows of keyspaces that the digest of the state covers.
pub(super) fn sum(digest: &mut Digest, keyspace: Keyspace, key: &[u8], value: &[u8]) {
    if Digest::covers(keyspace) {
        digest.add(keyspace, key, value);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const ORIGIN: Origin = Origin {
        cluster: ClusterId::from_bytes([7; 16]),
        shard: 3,
    };

    fn applied(index: u64) -> Applied {
        Applied { term: 5, index }
    }

    fn sealed(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut frame = vec![kind, 0, 0, 0, u8::try_from(body.len()).unwrap()];
        frame.extend(body);
        let checksum = crc32c::crc32c(&frame);
        frame.extend(checksum.to_be_bytes());
        frame
    }

    fn parsed(bytes: Vec<u8>) -> Frame {
        read(&Bytes::from(bytes)).ok().unwrap().0
    }

    /// Golden bytes: members of two versions send them to each other.
    #[test]
    fn the_bytes_of_the_frames_stay() {
        let heading = Heading {
            applied: applied(9),
            level: Level(2),
            membership: Some((applied(4), Bytes::from_static(b"members"))),
        };
        let mut body = b"KVSN\0\x02".to_vec();
        body.extend(2_u64.to_be_bytes());
        body.extend(2_u32.to_be_bytes());
        body.extend([7; 16]);
        body.extend(3_u32.to_be_bytes());
        body.extend([5_u64, 9].iter().flat_map(|number| number.to_be_bytes()));
        body.extend([3, 0, 3, 5, 1]);
        body.extend([5_u64, 4].iter().flat_map(|number| number.to_be_bytes()));
        body.extend(b"members");
        let golden = sealed(1, &body);
        let sections = vec![Keyspace::Meta, Keyspace::Records, Keyspace::Values];
        assert_eq!(begin(ORIGIN, &sections, &heading).1, golden);
        let frame = Frame::Begin {
            origin: ORIGIN,
            rows_format: 2,
            sections,
            heading,
        };
        assert_eq!(parsed(golden), frame);

        let mut gathered = Gathered::new(Keyspace::Records);
        gathered.push(b"key", b"value");
        gathered.push(b"l", b"");
        let golden = sealed(2, b"\x03\0\0\0\x02\0\x03\0\0\0\x05keyvalue\0\x01\0\0\0\0l");
        assert_eq!(gathered.seal(), golden);
        let row = |key: &'static [u8], value: &'static [u8]| (Bytes::from_static(key), Bytes::from_static(value));
        let frame = Frame::Rows {
            keyspace: Keyspace::Records,
            rows: vec![row(b"key", b"value"), row(b"l", b"")],
        };
        assert_eq!(parsed(golden), frame);

        let mut body = b"\x02\0\0\0\0\0\0\0\0\x01\x05\0\0\0\0\0\0\0\x02".to_vec();
        body.extend(6_u128.to_be_bytes());
        let golden = sealed(3, &body);
        let counts = vec![(Keyspace::Meta, 1), (Keyspace::Values, 2)];
        assert_eq!(end(&counts, 6), golden);
        let frame = Frame::End { counts, digest: 6 };
        assert_eq!(parsed(golden), frame);
    }

    /// The checksum is right in all of these: a sender of another version, or one that is wrong.
    #[test]
    fn frames_that_make_no_sense_are_refused() {
        for (kind, body, reason) in [
            (9, b"".as_slice(), "a frame of kind 9"),
            (1, b"nothing", "does not begin as a snapshot"),
            (1, b"KVSN\0\x01", "snapshot format 1"),
            (1, b"KVSN\0\x03", "snapshot format 3"),
            (1, b"KVSN\0\x02", "ends too early"),
            (2, b"\x09\0\0\0\0", "section 9 is of a newer program: upgrade this member"),
            (2, b"\x03\xff\xff\xff\xff", "ends too early"),
            (2, b"\x03\0\0\0\x01\0\x09\0\0\0\x09k", "longer than its frame"),
            (2, b"\x03\0\0\0\0left", "4 bytes are left over"),
            (3, b"\0", "ends too early"),
        ] {
            let Err(Unread(found)) = read(&Bytes::from(sealed(kind, body))) else {
                panic!("{reason}: it was read");
            };
            assert!(found.contains(reason), "{found}");
        }
    }
}
