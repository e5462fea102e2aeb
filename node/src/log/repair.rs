//! Making a recovered log ready for the next group, and making a new one. In: what `recovery` found. Out: the same log, durable as
//! read. This is the only part of opening that writes.

use std::io;
use std::sync::Arc;

use super::disk::{Disk, File};
use super::recovery::Recovered;
use super::segment::{self, DATA_AT, Mark, Name};

/// Zeros are written a page at a time. The kernel keeps what one call writes as one large folio, and each small group written into it later
/// would cost a walk over all of the folio's blocks, in the write and again in the flush.
const CHUNK: usize = 4 << 10;
/// Zeroing flushes this often, so that the device's queue stays short for the log beside it.
const FLUSH_EVERY: u64 = 4 << 20;

/// Overwrites `from..until` with zeros and flushes them.
pub(super) fn zero(file: &dyn File, from: u64, until: u64) -> io::Result<()> {
    let zeros = vec![0; usize::try_from(until.saturating_sub(from)).unwrap_or(CHUNK).min(CHUNK)];
    let mut at = from;
    let mut flushed = from;
    while at < until {
        let length = zeros.len().min(usize::try_from(until - at).unwrap_or(CHUNK));
        file.write_at(zeros.get(..length).unwrap_or_default(), at)?;
        at += length as u64;
        if at - flushed >= FLUSH_EVERY {
            file.flush()?;
            flushed = at;
        }
    }
    file.flush()
}

/// Clears a torn group's remains, makes everything that was read durable, and raises the mark to it.
///
/// What was read may so far be in the page cache only (a process that was killed, not a machine that lost power). Raft will rely on
/// all of it, so it must be on disk, and below the mark, before the first answer.
pub(super) fn settle(disk: &dyn Disk, found: &mut Recovered) -> io::Result<()> {
    for sequence in found.stale.drain(..) {
        disk.remove(&segment::name(sequence))?;
    }
    let file = &found.active.file;
    if found.length < found.active.capacity {
        zero(file.as_ref(), found.length, found.active.capacity)?;
        found.length = found.active.capacity;
    }
    if found.remains_until > found.end {
        zero(file.as_ref(), found.end, found.remains_until.min(found.active.capacity))?;
    }
    file.flush()?;
    disk.flush_names()?;
    if found.mark.group < found.group {
        let mark = Mark {
            group: found.group,
            last: found.standing.last,
            sealed: false,
        };
        let slot = found.slot.other();
        file.write_at(&mark.bytes(&found.salt), slot.offset())?;
        file.flush()?;
        found.slot = slot;
        found.mark = mark;
    }
    debug_assert!(found.end >= DATA_AT, "records never stand in the header");
    Ok(())
}

/// Deletes unfinished files, and opens the spares of `capacity` bytes, at most `keep`; the others are deleted.
pub(super) fn collect_spares(disk: &dyn Disk, capacity: u64, keep: usize) -> io::Result<Vec<(u64, Arc<dyn File>)>> {
    let mut spares = Vec::new();
    for name in disk.names()? {
        match Name::parse(&name) {
            Name::Unfinished => disk.remove(&name)?,
            Name::Spare(number) => {
                let file = disk.open(&name)?;
                if spares.len() < keep && file.length()? == capacity {
                    spares.push((number, file));
                } else {
                    disk.remove(&name)?;
                }
            }
            Name::Segment(_) | Name::Foreign => {}
        }
    }
    Ok(spares)
}
