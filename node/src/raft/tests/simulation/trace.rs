//! What happened, in order: the hash of it tells two runs apart, and the end of it is printed for a seed that failed.

use std::hash::{DefaultHasher, Hash, Hasher};

/// Every event with its simulated time.
#[derive(Default)]
pub(super) struct Trace {
    events: Vec<(u128, String)>,
}

impl Trace {
    pub(super) fn note(&mut self, event: String) {
        let at = turmoil::sim_elapsed().map_or(0, |at| at.as_nanos());
        self.events.push((at, event));
    }

    pub(super) fn note_at(&mut self, at: std::time::Duration, event: String) {
        self.events.push((at.as_nanos(), event));
    }

    pub(super) fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.events.hash(&mut hasher);
        hasher.finish()
    }

    pub(super) fn print_last(&self, count: usize) {
        for event in &self.events[self.events.len().saturating_sub(count)..] {
            println!("{}", line(event));
        }
        println!("{} events, hash {:016x}", self.events.len(), self.hash());
    }
}

fn line((at, event): &(u128, String)) -> String {
    format!("{:>12.6} {event}", *at as f64 / 1e9)
}
