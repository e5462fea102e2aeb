//! Where each entry stands on disk, by index. In: entries as they are queued, written, cut off and purged. Out: their places. Absent:
//! the entries themselves.

use std::collections::VecDeque;

/// The place of one entry's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The segment's sequence number; 0 while the entry is only queued.
    pub(super) segment: u64,
    /// Absolute, in bytes.
    pub(super) offset: u32,
    /// Bytes of the whole record.
    pub(super) length: u32,
    /// How many truncations were queued before the entry: tells it from an earlier entry of the same index whose write is only now
    /// reported.
    pub(super) epoch: u64,
}

impl Place {
    pub(super) fn queued(epoch: u64) -> Self {
        Self {
            segment: 0,
            offset: 0,
            length: 0,
            epoch,
        }
    }

    pub(super) fn written(&self) -> bool {
        self.segment != 0
    }
}

/// Places of a contiguous run of indexes.
#[derive(Debug, Default)]
pub(super) struct Table {
    base: u64,
    places: VecDeque<Place>,
}

impl Table {
    /// The index of the first entry held.
    pub(super) fn first(&self) -> u64 {
        self.base
    }

    /// One past the last entry held.
    pub(super) fn end(&self) -> u64 {
        self.base + self.places.len() as u64
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Adds the entry at `index`, which follows the last one; an empty table begins anywhere.
    pub(super) fn push(&mut self, index: u64, place: Place) {
        if self.places.is_empty() {
            self.base = index;
        }
        self.places.push_back(place);
    }

    pub(super) fn get(&self, index: u64) -> Option<&Place> {
        self.places.get(usize::try_from(index.checked_sub(self.base)?).ok()?)
    }

    /// Records where an entry was written, unless it was cut off or purged meanwhile.
    pub(super) fn written(&mut self, index: u64, place: Place) {
        let position = index.checked_sub(self.base).and_then(|position| usize::try_from(position).ok());
        if let Some(held) = position.and_then(|position| self.places.get_mut(position))
            && held.epoch == place.epoch
        {
            *held = place;
        }
    }

    /// Drops the entries from `index` on.
    pub(super) fn cut_from(&mut self, index: u64) {
        self.places
            .truncate(usize::try_from(index.saturating_sub(self.base)).unwrap_or(usize::MAX));
    }

    /// Drops the entries up to `index`.
    pub(super) fn drop_through(&mut self, index: u64) {
        let count = (index + 1).saturating_sub(self.base);
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(self.places.len());
        self.places.drain(..count);
        self.base = self.base.max(index + 1);
    }
}
