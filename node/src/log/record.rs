//! One record: `len u32 | crc32c u32 | group u64 | kind u8 | body`, little-endian. In: values. Out: bytes, and back. Absent: where
//! records stand and what they mean for the log (`group`, `replay`).
//!
//! `len` counts what follows the checksum. The checksum is keyed by the log's salt and covers the salt, `len` and everything after
//! the checksum, so bytes of another log, or of a user's value that imitates a record, do not pass for one. The top bit of `kind`
//! marks the last record of its group.

use bytes::Bytes;

use super::codec::{Fields, put_log_id, put_optional_log_id, put_vote};
use super::entry::{Entry, LogId, Vote};

/// Bytes before the body.
pub(super) const HEAD: usize = 17;
/// Bytes of an entry's record without its payload.
pub(super) const ENTRY_HEAD: usize = HEAD + 24;
/// `len` of a record with an empty body: group and kind.
const LEAST: u32 = 9;
/// The bit of the kind byte that closes a group.
pub(super) const CLOSES: u8 = 0x80;
/// Where the kind byte stands.
pub(super) const KIND_AT: usize = 16;

const ENTRY: u8 = 1;
const VOTE: u8 = 2;
const COMMITTED: u8 = 3;
const TRUNCATE: u8 = 4;
const PURGE: u8 = 5;

/// The log's random salt, and the checksum state after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Salt {
    pub(super) bytes: [u8; 16],
    seed: u32,
}

impl Salt {
    pub(super) fn new(bytes: [u8; 16]) -> Self {
        Self {
            bytes,
            seed: crc32c::crc32c(&bytes),
        }
    }

    /// The checksum of `parts`, one after the other, under this salt.
    pub(super) fn checksum(&self, parts: [&[u8]; 2]) -> u32 {
        parts.iter().fold(self.seed, |state, part| crc32c::crc32c_append(state, part))
    }
}

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Record<'a> {
    /// The entry at `id.index`.
    Entry { id: LogId, payload: &'a [u8] },
    /// The vote is now this.
    Vote(Vote),
    /// Entries up to here are known to be committed.
    Committed(Option<LogId>),
    /// Entries after this one are void.
    Truncate(Option<LogId>),
    /// Entries up to this one are no longer needed.
    Purge(LogId),
}

impl<'a> Record<'a> {
    /// The record of an entry.
    pub(super) fn entry(entry: &'a Entry) -> Self {
        Self::Entry {
            id: entry.id,
            payload: &entry.payload,
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Entry { .. } => ENTRY,
            Self::Vote(_) => VOTE,
            Self::Committed(_) => COMMITTED,
            Self::Truncate(_) => TRUNCATE,
            Self::Purge(_) => PURGE,
        }
    }

    /// Appends the record with its length but without its checksum: [`seal`] adds that once the group is complete.
    pub(super) fn put(&self, out: &mut Vec<u8>, group: u64) {
        let start = out.len();
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&group.to_le_bytes());
        out.push(self.kind());
        match *self {
            Self::Entry { id, payload } => {
                put_log_id(out, id);
                out.extend_from_slice(payload);
            }
            Self::Vote(vote) => put_vote(out, vote),
            Self::Committed(id) | Self::Truncate(id) => put_optional_log_id(out, id),
            Self::Purge(id) => put_log_id(out, id),
        }
        let length = u32::try_from(out.len() - start - 8).expect("payloads over 256 MiB are refused before they are queued");
        if let Some(field) = out.get_mut(start..start + 4) {
            field.copy_from_slice(&length.to_le_bytes());
        }
    }
}

/// Writes the checksum of the record that fills `bytes`.
pub(super) fn seal(bytes: &mut [u8], salt: &Salt) {
    if let Some((head, covered)) = bytes.split_first_chunk_mut::<8>()
        && let Some((length, checksum)) = head.split_first_chunk_mut::<4>()
    {
        checksum.copy_from_slice(&salt.checksum([&*length, &*covered]).to_le_bytes());
    }
}

/// A record whose checksum holds.
pub(super) struct Frame<'a> {
    pub(super) group: u64,
    pub(super) closes: bool,
    /// Bytes of the whole record.
    pub(super) length: usize,
    kind: u8,
    body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The record at the start of `bytes`; `None` unless one stands there, whole.
    pub(super) fn read(bytes: &'a [u8], salt: &Salt) -> Option<Self> {
        let mut fields = Fields(bytes);
        let length_bytes = fields.array::<4>()?;
        let length = u32::from_le_bytes(length_bytes);
        let checksum = fields.u32()?;
        if length < LEAST {
            return None;
        }
        let covered = fields.rest().get(..usize::try_from(length).ok()?)?;
        if salt.checksum([&length_bytes, covered]) != checksum {
            return None;
        }
        let mut fields = Fields(covered);
        let group = fields.u64()?;
        let kind = fields.u8()?;
        Some(Self {
            group,
            closes: kind & CLOSES != 0,
            length: covered.len() + 8,
            kind: kind & !CLOSES,
            body: fields.rest(),
        })
    }

    /// What it says; `None` if its kind or its body is not of this format.
    pub(super) fn record(&self) -> Option<Record<'a>> {
        let mut fields = Fields(self.body);
        let record = match self.kind {
            ENTRY => {
                return Some(Record::Entry {
                    id: fields.log_id()?,
                    payload: fields.rest(),
                });
            }
            VOTE => Record::Vote(fields.vote()?),
            COMMITTED => Record::Committed(fields.optional_log_id()?),
            TRUNCATE => Record::Truncate(fields.optional_log_id()?),
            PURGE => Record::Purge(fields.log_id()?),
            _ => return None,
        };
        fields.rest().is_empty().then_some(record)
    }

    /// The entry in it, copied out; `None` if it holds anything else.
    pub(super) fn entry(&self) -> Option<Entry> {
        match self.record()? {
            Record::Entry { id, payload } => Some(Entry {
                id,
                payload: Bytes::copy_from_slice(payload),
            }),
            _ => None,
        }
    }
}

/// Every whole record at any byte of `bytes` whose group is at least `group`: its offset, group and length. Cheap on zeros and on
/// an older life of the segment, because a checksum is computed only where kind and group are plausible.
pub(super) fn find_from<'a>(bytes: &'a [u8], salt: &'a Salt, group: u64) -> impl Iterator<Item = (usize, Frame<'a>)> {
    // Groups are numbered one by one: a number far above is noise.
    let newest = group.saturating_add(u64::from(u32::MAX));
    bytes.windows(HEAD).enumerate().filter_map(move |(offset, head)| {
        let (&kind, front) = head.split_last()?;
        if !(ENTRY..=PURGE).contains(&(kind & !CLOSES)) {
            return None;
        }
        let number = u64::from_le_bytes(*front.last_chunk::<8>()?);
        if number < group || number > newest {
            return None;
        }
        Some((offset, Frame::read(bytes.get(offset..)?, salt)?))
    })
}
