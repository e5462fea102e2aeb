//! A term has one leader at most.

use std::collections::BTreeMap;

#[derive(Default)]
pub(super) struct ElectionSafety(BTreeMap<u64, usize>);

impl ElectionSafety {
    pub(super) fn see(&mut self, at: usize, term: u64) -> Result<(), String> {
        match self.0.insert(term, at) {
            Some(other) if other != at => Err(format!("election safety: m{other} and m{at} both led term {term}")),
            _ => Ok(()),
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.0.len() as u64
    }
}
