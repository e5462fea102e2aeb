//! What the records of the segments add up to. In: a header, then whole groups in order. Out: the standing and the place of every
//! entry, or why they don't fit together. Absent: the disk, and where a group ends (`recovery`).

use super::entry::LogId;
use super::record::Record;
use super::segment::{Header, Standing};
use super::table::{Place, Table};

/// The log as far as it has been read.
pub(super) struct Replay {
    pub(super) standing: Standing,
    /// The last whole group.
    pub(super) group: u64,
    pub(super) table: Table,
    /// The highest entry index written to the segment being read.
    pub(super) highest: Option<u64>,
    /// The first index that the oldest segment can vouch for.
    begins: u64,
}

impl Replay {
    /// Begins with the oldest segment.
    pub(super) fn start(header: &Header) -> Self {
        let last = header.first_index.checked_sub(1).map(|index| match header.purged {
            Some(purged) if purged.index == index => purged,
            // The entry stood in a segment that is gone, so a purge must follow that covers it and names its own id.
            _ => LogId { term: 0, leader: 0, index },
        });
        let standing = Standing {
            vote: header.vote,
            committed: header.committed,
            purged: header.purged,
            last,
        };
        Self {
            standing,
            group: header.group,
            table: Table::default(),
            highest: None,
            begins: header.first_index,
        }
    }

    /// Goes on with the next segment, whose header must agree with what has been read.
    pub(super) fn enter(&mut self, header: &Header) -> Result<(), String> {
        self.highest = None;
        let expected = (self.standing.vote, self.standing.purged, self.standing.next_index().unwrap_or(0));
        let found = (header.vote, header.purged, header.first_index);
        if expected != found {
            return Err(format!(
                "the header says {found:?} (vote, purged, first index), but the segments before it end with {expected:?}"
            ));
        }
        Ok(())
    }

    /// Takes in one record of a whole group.
    pub(super) fn apply(&mut self, record: &Record<'_>, place: Place) -> Result<(), String> {
        let Standing {
            vote,
            committed,
            purged,
            last,
        } = &mut self.standing;
        match *record {
            Record::Entry { id, .. } => {
                if let Some(last) = last
                    && id.index != last.index + 1
                {
                    return Err(format!("entry {id} follows entry {last}"));
                }
                self.table.push(id.index, place);
                self.highest = self.highest.max(Some(id.index));
                *last = Some(id);
            }
            Record::Vote(new) => *vote = Some(new),
            Record::Committed(new) => *committed = new,
            Record::Truncate(after) => {
                if after.map(|id| id.index) > last.map(|last| last.index) {
                    return Err(format!("a truncation keeps entries up to {after:?}, but the last one is {last:?}"));
                }
                self.table.cut_from(after.map_or(0, |id| id.index + 1));
                *last = after;
            }
            Record::Purge(upto) => {
                self.table.drop_through(upto.index);
                *purged = Some(upto);
                if last.is_none_or(|last| last.index <= upto.index) {
                    *last = Some(upto);
                }
            }
        }
        Ok(())
    }

    /// Checks that nothing between the purged entries and the last one is missing.
    pub(super) fn finish(&mut self) -> Result<(), String> {
        let Standing {
            committed, purged, last, ..
        } = &mut self.standing;
        let held_from = if self.table.is_empty() {
            last.map_or(0, |last| last.index + 1)
        } else {
            self.table.first()
        };
        let needed_from = match *purged {
            Some(purged) => purged.index + 1,
            None if self.begins == 0 => held_from,
            None => 0,
        };
        if held_from > needed_from {
            return Err(format!(
                "entries {needed_from} to {} are missing: an older segment file is gone",
                held_from - 1
            ));
        }
        *committed = committed.filter(|committed| last.is_some_and(|last| committed.index <= last.index));
        Ok(())
    }
}
