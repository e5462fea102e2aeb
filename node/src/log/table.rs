//! Where each entry stands on disk, and how many bytes stand before it, by index. In: entries as they are queued, written, cut off and
//! purged. Out: their places, and what a part of the log weighs. Absent: the entries themselves.
//!
//! A row is 32 bytes of memory per entry that is held; `raft/retention` bounds how many there are.

use std::collections::VecDeque;

/// The place of one entry's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The segment's sequence number; 0 while the entry is only queued.
    pub(super) segment: u64,
    /// Absolute, in bytes.
    pub(super) offset: u32,
    /// Bytes of the whole record; known while it is queued.
    pub(super) length: u32,
    /// How many truncations were queued before the entry: tells it from an earlier entry of the same index whose write is only now
    /// reported.
    pub(super) epoch: u64,
}

impl Place {
    pub(super) fn queued(epoch: u64, length: u32) -> Self {
        Self {
            segment: 0,
            offset: 0,
            length,
            epoch,
        }
    }

    pub(super) fn written(&self) -> bool {
        self.segment != 0
    }
}

/// What a part of the log weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Size {
    /// Entries.
    pub entries: u64,
    /// Bytes of their records on disk. A segment goes as a whole, so the files have a little more.
    pub bytes: u64,
}

/// Below this many rows the memory of a table that was larger is not worth giving back.
const ROWS_KEPT: usize = 16 << 10;

#[derive(Debug, Clone, Copy)]
struct Row {
    place: Place,
    /// Bytes of all entries up to this one and with it, from an arbitrary beginning.
    through: u64,
}

/// Places of a contiguous run of indexes.
#[derive(Debug, Default)]
pub(super) struct Table {
    base: u64,
    rows: VecDeque<Row>,
}

impl Table {
    /// The index of the first entry held.
    pub(super) fn first(&self) -> u64 {
        self.base
    }

    /// One past the last entry held.
    pub(super) fn end(&self) -> u64 {
        self.base + self.rows.len() as u64
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Adds the entry at `index`, which follows the last one; an empty table begins anywhere.
    pub(super) fn push(&mut self, index: u64, place: Place) {
        if self.rows.is_empty() {
            self.base = index;
        }
        let before = self.rows.back().map_or(0, |last| last.through);
        let through = before + u64::from(place.length);
        self.rows.push_back(Row { place, through });
    }

    pub(super) fn get(&self, index: u64) -> Option<&Place> {
        Some(&self.row(index)?.place)
    }

    fn row(&self, index: u64) -> Option<&Row> {
        self.rows.get(usize::try_from(index.checked_sub(self.base)?).ok()?)
    }

    /// Bytes before the first entry held, counted as [`Row::through`].
    fn before(&self) -> u64 {
        let first = self.rows.front();
        first.map_or(0, |first| first.through - u64::from(first.place.length))
    }

    /// What is held from `index` on.
    pub(super) fn size_from(&self, index: u64) -> Size {
        let from = index.max(self.base);
        let before = match from.checked_sub(1).and_then(|previous| self.row(previous)) {
            Some(previous) => previous.through,
            None => self.before(),
        };
        Size {
            entries: self.end().saturating_sub(from),
            bytes: match self.rows.back() {
                Some(last) if from < self.end() => last.through - before,
                _ => 0,
            },
        }
    }

    /// The first entry of the longest run up to the end of the log that is within `most`. The last entry is always in it.
    pub(super) fn first_within(&self, most: Size) -> u64 {
        let total = self.rows.back().map_or(0, |last| last.through);
        // Everything up to here is too much, so the run begins after it.
        let too_heavy = self
            .rows
            .partition_point(|row| total - (row.through - u64::from(row.place.length)) > most.bytes);
        let too_many = self.rows.len() - usize::try_from(most.entries).unwrap_or(usize::MAX).min(self.rows.len());
        self.base + too_heavy.max(too_many).min(self.rows.len().saturating_sub(1)) as u64
    }

    /// Records where an entry was written, unless it was cut off or purged meanwhile.
    pub(super) fn written(&mut self, index: u64, place: Place) {
        let position = index.checked_sub(self.base).and_then(|position| usize::try_from(position).ok());
        if let Some(held) = position.and_then(|position| self.rows.get_mut(position))
            && held.place.epoch == place.epoch
        {
            held.place = place;
        }
    }

    /// Drops the entries from `index` on.
    pub(super) fn cut_from(&mut self, index: u64) {
        self.rows
            .truncate(usize::try_from(index.saturating_sub(self.base)).unwrap_or(usize::MAX));
    }

    /// Drops the entries up to `index`.
    pub(super) fn drop_through(&mut self, index: u64) {
        let count = (index + 1).saturating_sub(self.base);
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(self.rows.len());
        self.rows.drain(..count);
        self.base = self.base.max(index + 1);
        if self.rows.capacity() > ROWS_KEPT.max(4 * self.rows.len()) {
            self.rows.shrink_to(ROWS_KEPT.max(2 * self.rows.len()));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Entries 10 to 14 of 100, 200, 300, 400 and 500 bytes.
    fn table() -> Table {
        let mut table = Table::default();
        for index in 10..15 {
            table.push(index, Place::queued(0, u32::try_from(index - 9).unwrap() * 100));
        }
        table
    }

    fn size(entries: u64, bytes: u64) -> Size {
        Size { entries, bytes }
    }

    #[test]
    fn what_a_part_of_the_log_weighs() {
        let mut table = table();
        for (from, expected) in [
            (0, size(5, 1_500)),
            (10, size(5, 1_500)),
            (11, size(4, 1_400)),
            (14, size(1, 500)),
            (15, size(0, 0)),
            (99, size(0, 0)),
        ] {
            assert_eq!(table.size_from(from), expected, "from {from}");
        }
        table.drop_through(11);
        assert_eq!(table.size_from(0), size(3, 1_200));
        assert_eq!(table.size_from(13), size(2, 900));
        table.cut_from(14);
        assert_eq!(table.size_from(0), size(2, 700));
        table.push(14, Place::queued(1, 7));
        assert_eq!(table.size_from(14), size(1, 7));
        table.drop_through(20);
        assert_eq!(table.size_from(0), size(0, 0));
        table.push(21, Place::queued(1, 9));
        assert_eq!(table.size_from(0), size(1, 9));
    }

    #[test]
    fn the_longest_run_within_a_bound() {
        let table = table();
        let most = u64::MAX;
        for (bound, first) in [
            (size(most, 1_500), 10),
            (size(most, 1_499), 11),
            (size(most, 900), 13),
            (size(most, 899), 14),
            (size(most, 0), 14),
            (size(5, most), 10),
            (size(2, most), 13),
            (size(0, most), 14),
            (size(2, 899), 14),
        ] {
            assert_eq!(table.first_within(bound), first, "{bound:?}");
        }
        assert_eq!(Table::default().first_within(size(1, 1)), 0);
    }

    /// Otherwise a log that was long once would keep its memory until the process ends.
    #[test]
    fn the_memory_of_dropped_rows_is_given_back() {
        let mut table = Table::default();
        for index in 0..100_000 {
            table.push(index, Place::queued(0, 1));
        }
        table.drop_through(99_990);
        assert!(table.rows.capacity() <= 2 * ROWS_KEPT, "{}", table.rows.capacity());
        assert_eq!(table.size_from(0), size(9, 9));
        assert_eq!(size_of::<Row>(), 32, "the docs say so");
    }
}
