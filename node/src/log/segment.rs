//! A segment file: its name, its header, its two mark slots. In: values. Out: bytes, and back. Absent: the records behind them.
//!
//! Header and slots stand in blocks of 4 KiB of their own: a write that is torn, or a page that is not written back, can spoil only
//! one of them. The slots are overwritten in turn, so the other one is always an older mark that is durable already.

use super::codec::{Fields, put_optional_log_id, put_vote};
use super::entry::{LogId, Vote};
use super::record::Salt;

/// Where records begin.
pub(super) const DATA_AT: u64 = 12 * 1024;
/// The smallest segment that leaves room for records.
pub(super) const MINIMUM_BYTES: u64 = 16 * 1024;
/// The format that this build writes, and the newest it reads.
pub(super) const FORMAT: u32 = 1;

const BLOCK: usize = 4096;
const MAGIC: [u8; 8] = *b"kvfl-wal";
/// Magic and checksum: what every format has in front.
const PREFIX: usize = 12;
const HEADER: usize = 136;
const SEALED: u8 = 1;

const SEGMENT_SUFFIX: &str = ".seg";
const SPARE_SUFFIX: &str = ".spare";
const UNFINISHED_SUFFIX: &str = ".tmp";

/// The name of the segment with this sequence number.
pub(super) fn name(sequence: u64) -> String {
    format!("{sequence:020}{SEGMENT_SUFFIX}")
}

/// The name under which that segment waits for reuse.
pub(super) fn spare_name(number: u64) -> String {
    format!("{number:020}{SPARE_SUFFIX}")
}

/// The name of a file that is still being zeroed.
pub(super) fn unfinished_name(number: u64) -> String {
    format!("prepare-{number}{UNFINISHED_SUFFIX}")
}

/// What a file name in the log's directory stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    Segment(u64),
    Spare(u64),
    Unfinished,
    Foreign,
}

impl Name {
    pub(super) fn parse(name: &str) -> Self {
        let number = |suffix| {
            name.strip_suffix(suffix)
                .filter(|digits| digits.len() == 20)
                .and_then(|digits| digits.parse().ok())
        };
        if let Some(sequence) = number(SEGMENT_SUFFIX) {
            Self::Segment(sequence)
        } else if let Some(number) = number(SPARE_SUFFIX) {
            Self::Spare(number)
        } else if name.ends_with(UNFINISHED_SUFFIX) {
            Self::Unfinished
        } else {
            Self::Foreign
        }
    }
}

/// What held when a group ended; a segment's header repeats it, so that older segments can go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Standing {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
    /// The last entry, or the last purged one if none is left.
    pub(super) last: Option<LogId>,
}

impl Standing {
    /// The index that the next entry must have; `None` when the log never held one.
    pub(super) fn next_index(&self) -> Option<u64> {
        self.last.map(|last| last.index + 1)
    }
}

/// The first block of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// The length of the file.
    pub(super) capacity: u64,
    pub(super) sequence: u64,
    pub(super) salt: Salt,
    /// The number of the last group before this segment.
    pub(super) group: u64,
    /// The index of the first entry in this segment, were it to start with one.
    pub(super) first_index: u64,
    pub(super) purged: Option<LogId>,
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
}

/// Why a header is not one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    /// Its checksum holds, but its format is newer.
    Newer(u32),
    /// What is wrong with it.
    Damaged(&'static str),
}

impl Header {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&(HEADER as u32).to_le_bytes());
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&self.capacity.to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.salt.bytes);
        out.extend_from_slice(&self.group.to_le_bytes());
        out.extend_from_slice(&self.first_index.to_le_bytes());
        put_optional_log_id(&mut out, self.purged);
        out.push(u8::from(self.vote.is_some()));
        put_vote(
            &mut out,
            self.vote.unwrap_or(Vote {
                term: 0,
                voted_for: None,
                committed: false,
            }),
        );
        put_optional_log_id(&mut out, self.committed);
        let checksum = crc32c::crc32c(out.get(PREFIX..).unwrap_or_default());
        if let Some(field) = out.get_mut(MAGIC.len()..PREFIX) {
            field.copy_from_slice(&checksum.to_le_bytes());
        }
        out
    }

    /// Reads the header at the start of `bytes`, which hold at least a whole block or all there is.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, BadHeader> {
        let damaged = |what| BadHeader::Damaged(what);
        let mut fields = Fields(bytes);
        if fields.array() != Some(MAGIC) {
            return Err(damaged("the header does not begin with the log's magic bytes"));
        }
        let short = || damaged("the header is cut short");
        let checksum = fields.u32().ok_or_else(short)?;
        let length = fields.u32().ok_or_else(short)?;
        let covered = usize::try_from(length)
            .ok()
            .filter(|length| *length <= BLOCK)
            .and_then(|length| bytes.get(PREFIX..length));
        if covered.is_none_or(|covered| crc32c::crc32c(covered) != checksum) {
            return Err(damaged("the header fails its checksum"));
        }
        let format = fields.u32().ok_or_else(short)?;
        if format > FORMAT {
            return Err(BadHeader::Newer(format));
        }
        Self::read_fields(&mut fields).ok_or_else(|| damaged("the header holds an impossible value"))
    }

    fn read_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let capacity = fields.u64()?;
        let sequence = fields.u64()?;
        let salt = Salt::new(fields.array()?);
        let group = fields.u64()?;
        let first_index = fields.u64()?;
        let purged = fields.optional_log_id()?;
        let voted = fields.u8()?;
        let vote = fields.vote()?;
        let committed = fields.optional_log_id()?;
        Some(Self {
            capacity,
            sequence,
            salt,
            group,
            first_index,
            purged,
            vote: (voted != 0).then_some(vote),
            committed,
        })
    }
}

/// What is durable: a log that ends below it has lost something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// The number of the last durable group.
    pub(super) group: u64,
    /// The last entry then.
    pub(super) last: Option<LogId>,
    /// Whether the log goes on in the next segment.
    pub(super) sealed: bool,
}

impl Mark {
    pub(super) fn bytes(&self, salt: &Salt) -> Vec<u8> {
        let mut out = Vec::with_capacity(38);
        out.extend_from_slice(&self.group.to_le_bytes());
        out.push(if self.sealed { SEALED } else { 0 });
        put_optional_log_id(&mut out, self.last);
        let checksum = salt.checksum([b"mark", &out]);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    pub(super) fn read(bytes: &[u8], salt: &Salt) -> Option<Self> {
        let (covered, rest) = bytes.split_at_checked(34)?;
        if Fields(rest).u32()? != salt.checksum([b"mark", covered]) {
            return None;
        }
        let mut fields = Fields(covered);
        let group = fields.u64()?;
        let flags = fields.u8()?;
        Some(Self {
            group,
            last: fields.optional_log_id()?,
            sealed: flags & SEALED != 0,
        })
    }
}

/// One of the two places for a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    First,
    Second,
}

impl Slot {
    pub(super) fn offset(self) -> u64 {
        match self {
            Self::First => BLOCK as u64,
            Self::Second => 2 * BLOCK as u64,
        }
    }

    pub(super) fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }

    /// The newest mark of the segment that starts with `bytes`, and where it stands.
    pub(super) fn newest(bytes: &[u8], salt: &Salt) -> Option<(Self, Mark)> {
        let read = |slot: Self| {
            let start = usize::try_from(slot.offset()).ok()?;
            Some((slot, Mark::read(bytes.get(start..)?, salt)?))
        };
        let marks = [read(Self::First), read(Self::Second)];
        // A sealing mark repeats the number of the one before it.
        marks.into_iter().flatten().max_by_key(|(_, mark)| (mark.group, mark.sealed))
    }
}

/// Everything before the records of a new segment: header, first mark, and an empty second slot.
pub(super) fn preamble(header: &Header, mark: &Mark) -> Vec<u8> {
    let mut out = header.bytes();
    out.resize(BLOCK, 0);
    out.extend_from_slice(&mark.bytes(&header.salt));
    out.resize(DATA_AT as usize, 0);
    out
}
