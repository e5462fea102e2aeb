//! What one member has applied at an index is what every other one applies there, and it is in the log of whoever applied it.

use std::collections::BTreeMap;

use crate::log::Entry;

#[derive(Default)]
pub(super) struct LogMatching(BTreeMap<u64, (usize, Entry)>);

impl LogMatching {
    pub(super) fn see(&mut self, at: usize, entry: Entry) -> Result<(), String> {
        let index = entry.id.index;
        let (first, known) = self.0.entry(index).or_insert_with(|| (at, entry.clone()));
        if *known == entry {
            return Ok(());
        }
        Err(format!(
            "log matching: entry {index} is of term {} on m{first} and of term {} on m{at}, or its bytes differ",
            known.id.term, entry.id.term
        ))
    }

    /// Everything committed, from the first entry on.
    pub(super) fn entries(&self) -> Result<Vec<Entry>, String> {
        let entries: Vec<_> = self.0.values().map(|(_, entry)| entry.clone()).collect();
        match entries.iter().zip(0..).find(|(entry, index)| entry.id.index != *index) {
            Some((_, missing)) => Err(format!(
                "log matching: no member was ever seen with entry {missing}, which was applied"
            )),
            None => Ok(entries),
        }
    }
}
