//! Reading a log back. In: the directory. Out: what it holds and where the next group goes, or [`OpenError`]. Absent: any write
//! (`repair` does those), so that a damaged log stays as it was found.
//!
//! The rule, at the first place where no record of the next group stands:
//! - a later segment says how far this one reached: short of that is damage;
//! - in the last segment, any record of a group after the next one, at any byte behind, is damage: it was written only after the
//!   unreadable group was durable;
//! - otherwise the next group was being written, and its remains are void; unless the mark says that it was durable.

use std::sync::Arc;

use super::disk::{Disk, File};
use super::error::OpenError;
use super::record::{Frame, Salt, find_from};
use super::replay::Replay;
use super::segment::{self, BadHeader, DATA_AT, FORMAT, Header, Mark, Name, Slot, Standing};
use super::table::{Place, Table};

/// A segment that recovery has read.
pub(super) struct Held {
    pub(super) sequence: u64,
    pub(super) capacity: u64,
    /// The highest entry index ever written to it.
    pub(super) highest: Option<u64>,
    pub(super) file: Arc<dyn File>,
}

/// A log as it was found.
pub(super) struct Recovered {
    pub(super) standing: Standing,
    pub(super) group: u64,
    pub(super) table: Table,
    pub(super) salt: Salt,
    /// Oldest first, without the last.
    pub(super) older: Vec<Held>,
    pub(super) active: Held,
    /// The length of the last segment's file.
    pub(super) length: u64,
    /// Where the next group goes in it.
    pub(super) end: u64,
    /// Remains of a torn group stand before this offset.
    pub(super) remains_until: u64,
    /// The newest mark, and its slot.
    pub(super) slot: Slot,
    pub(super) mark: Mark,
    /// Purged segments that a crash left behind.
    pub(super) stale: Vec<u64>,
}

/// Reads the log; `None` if the directory holds no segment.
pub(super) fn recover(disk: &dyn Disk) -> Result<Option<Recovered>, OpenError> {
    let mut sequences = sequences(disk)?;
    // Purged segments are retired oldest first, but a power cut may keep an older name and lose a younger one. What stands before a
    // gap must be purged; `Replay::finish` fails if it is not.
    let gap = sequences
        .windows(2)
        .rposition(|pair| matches!(*pair, [older, newer] if older + 1 != newer));
    let run = sequences.split_off(gap.map_or(0, |gap| gap + 1));
    let stale = sequences;

    let mut opened = Vec::with_capacity(run.len());
    for sequence in run {
        opened.push(Opened::open(disk, sequence, opened.first())?);
    }
    let Some(last) = opened.pop() else { return Ok(None) };
    let salt = last.header.salt;
    let mut replay = Replay::start(&opened.first().unwrap_or(&last).header);
    let mut older = Vec::with_capacity(opened.len());
    let mut rest = opened.into_iter().peekable();
    while let Some(current) = rest.next() {
        let bound = rest.peek().unwrap_or(&last).header.group;
        current.enter(disk, &mut replay)?;
        let bytes = current.read(disk)?;
        let reached = read_groups(disk, &current, &bytes, &mut replay, bound)?;
        if replay.group != bound {
            let found = format!(
                "group {} is unreadable, and the next segment begins after group {bound}",
                replay.group + 1
            );
            return Err(current.damaged(disk, reached.unreadable, found));
        }
        older.push(current.held(replay.highest));
    }

    last.enter(disk, &mut replay)?;
    let bytes = last.read(disk)?;
    let reached = read_groups(disk, &last, &bytes, &mut replay, u64::MAX)?;
    let mut remains_until = reached.end;
    for (offset, frame) in find_from(bytes.get(reached.end..).unwrap_or_default(), &salt, replay.group + 1) {
        if frame.group > replay.group + 1 {
            let found = format!(
                "group {} is unreadable, but group {} stands behind it at byte {}",
                replay.group + 1,
                frame.group,
                reached.end + offset
            );
            return Err(last.damaged(disk, reached.unreadable, found));
        }
        remains_until = remains_until.max(reached.end + offset + frame.length);
    }
    let Some((slot, mark)) = Slot::newest(&bytes, &salt) else {
        return Err(last.damaged(disk, Slot::First.offset(), "neither mark is readable".to_owned()));
    };
    replay.finish().map_err(|found| last.damaged(disk, reached.end as u64, found))?;
    if mark.sealed {
        return Err(last.damaged(
            disk,
            slot.offset(),
            format!("the log goes on in {}, which is missing", segment::name(last.sequence + 1)),
        ));
    }
    if replay.group < mark.group || (replay.group == mark.group && replay.standing.last != mark.last) {
        let found = format!(
            "the log ends with group {} (last entry {:?}), but the mark says that group {} was durable (last entry {:?})",
            replay.group, replay.standing.last, mark.group, mark.last
        );
        return Err(last.damaged(disk, reached.unreadable, found));
    }
    let length = last.length;
    let active = last.held(replay.highest);
    Ok(Some(Recovered {
        standing: replay.standing,
        group: replay.group,
        table: replay.table,
        salt,
        older,
        active,
        length,
        end: reached.end as u64,
        remains_until: remains_until as u64,
        slot,
        mark,
        stale,
    }))
}

/// The numbers of the directory's segments, oldest first.
pub(super) fn sequences(disk: &dyn Disk) -> Result<Vec<u64>, OpenError> {
    let names = disk.names().map_err(|source| io_error(disk, "list", "", source))?;
    let mut sequences: Vec<u64> = names
        .iter()
        .filter_map(|name| match Name::parse(name) {
            Name::Segment(sequence) => Some(sequence),
            Name::Spare(_) | Name::Unfinished | Name::Foreign => None,
        })
        .collect();
    sequences.sort_unstable();
    Ok(sequences)
}

pub(super) fn io_error(disk: &dyn Disk, action: &'static str, name: &str, source: std::io::Error) -> OpenError {
    OpenError::Io {
        action,
        file: disk.describe(name),
        source,
    }
}

/// A segment whose header has been read.
pub(super) struct Opened {
    pub(super) sequence: u64,
    pub(super) header: Header,
    length: u64,
    pub(super) file: Arc<dyn File>,
}

impl Opened {
    pub(super) fn open(disk: &dyn Disk, sequence: u64, oldest: Option<&Self>) -> Result<Self, OpenError> {
        let name = segment::name(sequence);
        let file = disk.open(&name).map_err(|source| io_error(disk, "open", &name, source))?;
        let length = file
            .length()
            .map_err(|source| io_error(disk, "read the length of", &name, source))?;
        let damaged = |offset, found: &str| OpenError::Damaged {
            file: disk.describe(&name),
            offset,
            found: found.to_owned(),
        };
        let mut start = vec![0; usize::try_from(length.min(DATA_AT)).unwrap_or_default()];
        file.read_at(&mut start, 0)
            .map_err(|source| io_error(disk, "read", &name, source))?;
        let header = match Header::read(&start) {
            Ok(header) => header,
            Err(BadHeader::Newer(found)) => {
                return Err(OpenError::NewerFormat {
                    file: disk.describe(&name),
                    found,
                    supported: FORMAT,
                });
            }
            Err(BadHeader::Damaged(found)) => return Err(damaged(0, found)),
        };
        if header.sequence != sequence {
            return Err(damaged(0, &format!("the header belongs to segment {}", header.sequence)));
        }
        if oldest.is_some_and(|oldest| oldest.header.salt != header.salt) {
            return Err(damaged(0, "the segment belongs to another log (its salt differs)"));
        }
        if length < DATA_AT {
            return Err(damaged(length, "the file ends before its records begin"));
        }
        Ok(Self {
            sequence,
            header,
            length,
            file,
        })
    }

    fn enter(&self, disk: &dyn Disk, replay: &mut Replay) -> Result<(), OpenError> {
        replay.enter(&self.header).map_err(|found| self.damaged(disk, 0, found))
    }

    pub(super) fn read(&self, disk: &dyn Disk) -> Result<Vec<u8>, OpenError> {
        let mut bytes = vec![0; usize::try_from(self.length.min(self.header.capacity)).unwrap_or_default()];
        self.file
            .read_at(&mut bytes, 0)
            .map_err(|source| io_error(disk, "read", &segment::name(self.sequence), source))?;
        Ok(bytes)
    }

    fn damaged(&self, disk: &dyn Disk, offset: u64, found: String) -> OpenError {
        OpenError::Damaged {
            file: disk.describe(&segment::name(self.sequence)),
            offset,
            found,
        }
    }

    fn held(self, highest: Option<u64>) -> Held {
        Held {
            sequence: self.sequence,
            capacity: self.header.capacity,
            highest,
            file: self.file,
        }
    }
}

/// How far a segment's groups can be read.
struct Reached {
    /// The end of the last whole group.
    end: usize,
    /// The first byte that is no record of the next group.
    unreadable: u64,
}

/// Applies whole groups, one after the other, until `bound` or until the next one is not all there.
fn read_groups(disk: &dyn Disk, segment: &Opened, bytes: &[u8], replay: &mut Replay, bound: u64) -> Result<Reached, OpenError> {
    let mut end = DATA_AT as usize;
    let mut at = end;
    let mut waiting = Vec::new();
    while replay.group < bound
        && let Some(frame) = bytes.get(at..).and_then(|bytes| Frame::read(bytes, &segment.header.salt))
        && frame.group == replay.group + 1
    {
        let place = place(segment.sequence, at, frame.length);
        let (Some(record), Some(place)) = (frame.record(), place) else {
            return Err(segment.damaged(disk, at as u64, "a record passes its checksum but is of no known kind".to_owned()));
        };
        waiting.push((record, place));
        at += frame.length;
        if frame.closes {
            for (record, place) in waiting.drain(..) {
                replay
                    .apply(&record, place)
                    .map_err(|found| segment.damaged(disk, u64::from(place.offset), found))?;
            }
            replay.group += 1;
            end = at;
        }
    }
    Ok(Reached {
        end,
        unreadable: at as u64,
    })
}

fn place(segment: u64, offset: usize, length: usize) -> Option<Place> {
    Some(Place {
        segment,
        offset: u32::try_from(offset).ok()?,
        length: u32::try_from(length).ok()?,
        epoch: 0,
    })
}
