//! A log laid open for a person. In: a directory that nobody writes to. Out: every entry that can be read, the vote, and what is wrong
//! with the log, if anything is. Absent: any write, and any verdict of its own: whether the log is damaged, `recovery` says.
//!
//! Recovery stops at the first damage, because nothing behind it may be voted with. Here what stands behind is shown as well, and said to
//! stand there: a person may want to know what was lost.

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use super::disk::{Directory, File};
use super::entry::{Entry, LogId, Vote};
use super::error::OpenError;
use super::record::{Frame, Record, Salt, find_from};
use super::recovery::{self, Opened};
use super::segment::{self, DATA_AT};

/// A log as it lies on the disk.
pub struct Inspection {
    segments: BTreeMap<u64, (Arc<dyn File>, Salt)>,
    entries: BTreeMap<u64, Found>,
    /// The last vote that can be read.
    pub vote: Option<Vote>,
    /// The last entry that the log says is committed; the group may have committed more.
    pub committed: Option<LogId>,
    /// Entries up to here have been purged.
    pub purged: Option<LogId>,
    /// Why a member must not start with this log.
    pub problem: Option<OpenError>,
}

/// One entry and where it was found.
pub struct Inspected {
    /// The entry.
    pub entry: Entry,
    /// Its segment's file name.
    pub segment: String,
    /// Where its record begins in it.
    pub offset: u64,
    /// Whether it stands behind the first damage: nothing vouches that those before it are all there.
    pub behind_damage: bool,
}

#[derive(Clone, Copy)]
struct Found {
    segment: u64,
    offset: u64,
    length: usize,
    behind_damage: bool,
}

impl Inspection {
    /// Reads the log in `directory`. Blocking.
    ///
    /// # Errors
    /// When the directory cannot be listed. A log that is damaged, or of which a file cannot be read, is no error: `problem` has it.
    pub fn of(directory: &Path) -> Result<Self, OpenError> {
        let disk = Directory::read_only(directory);
        let sequences = recovery::sequences(&disk)?;
        let mut inspection = Self {
            segments: BTreeMap::new(),
            entries: BTreeMap::new(),
            vote: None,
            committed: None,
            purged: None,
            problem: recovery::recover(&disk).err(),
        };
        let mut behind_damage = false;
        let mut group = None;
        for sequence in sequences {
            // Its problem is the one that recovery has met, or stands behind that.
            let Ok(segment) = Opened::open(&disk, sequence, None) else {
                behind_damage = true;
                continue;
            };
            behind_damage |= group.is_some_and(|group| group != segment.header.group);
            let Ok(bytes) = segment.read(&disk) else {
                behind_damage = true;
                continue;
            };
            group = Some(inspection.survey(&segment, &bytes, behind_damage));
        }
        Ok(inspection)
    }

    /// Takes in one segment; returns its last whole group.
    fn survey(&mut self, segment: &Opened, bytes: &[u8], behind_damage: bool) -> u64 {
        let salt = segment.header.salt;
        self.segments.insert(segment.sequence, (Arc::clone(&segment.file), salt));
        self.vote = segment.header.vote.or(self.vote);
        self.committed = segment.header.committed.max(self.committed);
        if let Some(purged) = segment.header.purged {
            self.apply(&Record::Purge(purged), None);
        }
        let mut group = segment.header.group;
        let mut waiting = Vec::new();
        let mut at = DATA_AT as usize;
        let mut whole_until = at;
        while let Some(frame) = bytes.get(at..).and_then(|bytes| Frame::read(bytes, &salt))
            && frame.group == group + 1
        {
            let closes = frame.closes;
            let found = Found {
                segment: segment.sequence,
                offset: at as u64,
                length: frame.length,
                behind_damage,
            };
            at += frame.length;
            waiting.push((frame, found));
            if closes {
                for (frame, found) in waiting.drain(..) {
                    self.take(&frame, found);
                }
                group += 1;
                whole_until = at;
            }
        }
        // In a log that recovery accepts, what is left is a torn tail: void.
        if self.problem.is_some() {
            for (offset, frame) in find_from(bytes.get(whole_until..).unwrap_or_default(), &salt, group + 1) {
                let found = Found {
                    segment: segment.sequence,
                    offset: (whole_until + offset) as u64,
                    length: frame.length,
                    behind_damage: true,
                };
                self.take(&frame, found);
            }
        }
        group
    }

    fn take(&mut self, frame: &Frame<'_>, found: Found) {
        if let Some(record) = frame.record() {
            self.apply(&record, Some(found));
        }
    }

    fn apply(&mut self, record: &Record<'_>, found: Option<Found>) {
        match *record {
            Record::Entry { id, .. } => {
                if let Some(found) = found {
                    self.entries.insert(id.index, found);
                }
            }
            Record::Vote(vote) => self.vote = Some(vote),
            Record::Committed(committed) => self.committed = committed,
            Record::Truncate(after) => drop(self.entries.split_off(&after.map_or(0, |id| id.index + 1))),
            Record::Purge(upto) => {
                self.entries = self.entries.split_off(&upto.index.saturating_add(1));
                self.purged = Some(upto);
            }
        }
    }

    /// The entries of a range, in order; each is read when it is asked for.
    pub fn entries(&self, range: RangeInclusive<u64>) -> impl Iterator<Item = io::Result<Inspected>> {
        let (first, last) = range.into_inner();
        // Not one range with both ends: where the first is above the last, a map panics.
        self.entries
            .range(first..)
            .take_while(move |(index, _)| **index <= last)
            .map(|(_, found)| self.read(*found))
    }

    fn read(&self, found: Found) -> io::Result<Inspected> {
        let changed = || {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "{} changed at byte {} while it was read; does a member run on it?",
                    segment::name(found.segment),
                    found.offset
                ),
            )
        };
        let (file, salt) = self.segments.get(&found.segment).ok_or_else(changed)?;
        let mut bytes = vec![0; found.length];
        file.read_at(&mut bytes, found.offset)?;
        let entry = Frame::read(&bytes, salt).and_then(|frame| frame.entry()).ok_or_else(changed)?;
        Ok(Inspected {
            entry,
            segment: segment::name(found.segment),
            offset: found.offset,
            behind_damage: found.behind_damage,
        })
    }
}
