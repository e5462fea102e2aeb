//! Members that have applied the same entries have the same rows.

use std::collections::BTreeMap;

#[derive(Default)]
pub(super) struct StateDigests(BTreeMap<u64, (usize, u64)>);

impl StateDigests {
    pub(super) fn see(&mut self, at: usize, end: u64, digest: u64) -> Result<(), String> {
        let (first, known) = *self.0.entry(end).or_insert((at, digest));
        if known == digest {
            return Ok(());
        }
        Err(format!(
            "state digests: m{first} and m{at} have applied what is below entry {end} and have different rows"
        ))
    }
}
