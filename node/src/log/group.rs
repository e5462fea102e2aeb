//! The group under construction: records in one buffer, to be written with one call. In: records in order. Out: sealed bytes. Absent:
//! the disk.

use super::record::{CLOSES, KIND_AT, Record, Salt, seal};

/// Records that become durable together, or not at all.
#[derive(Default)]
pub(super) struct Group {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

impl Group {
    /// Empties it for the next group; the buffer is kept unless one large entry blew it up.
    pub(super) fn reset(&mut self, keep_bytes: usize) {
        self.starts.clear();
        self.bytes.clear();
        self.bytes.shrink_to(keep_bytes);
    }

    /// Adds a record; returns its offset inside the group and its length.
    pub(super) fn push(&mut self, number: u64, record: &Record<'_>) -> (usize, usize) {
        let start = self.bytes.len();
        self.starts.push(start);
        record.put(&mut self.bytes, number);
        (start, self.bytes.len() - start)
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Marks the last record as the last and computes the checksums. Call once, before [`Group::bytes`].
    pub(super) fn seal(&mut self, salt: &Salt) {
        let mut rest = self.bytes.as_mut_slice();
        for (position, &start) in self.starts.iter().enumerate() {
            let end = self.starts.get(position + 1).copied();
            let length = end.map_or(rest.len(), |end| end - start);
            let (record, after) = rest.split_at_mut(length);
            if end.is_none()
                && let Some(kind) = record.get_mut(KIND_AT)
            {
                *kind |= CLOSES;
            }
            seal(record, salt);
            rest = after;
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
