//! A kind of line that strangers can cause as often as they like: one a second is written, with the number of those that were left out.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// One kind of line.
#[derive(Debug, Default)]
pub struct Sample {
    /// The second in which the last one was written, plus one; 0 for none.
    last: AtomicU64,
    left_out: AtomicU64,
}

impl Sample {
    /// None was written.
    pub const fn new() -> Self {
        Sample {
            last: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
        }
    }

    /// How many were left out since the last one, if another one is due; else this one is left out.
    pub fn due(&self) -> Option<u64> {
        self.due_at(BEGUN.elapsed().as_secs())
    }

    fn due_at(&self, second: u64) -> Option<u64> {
        let last = self.last.load(Ordering::Relaxed);
        let due = last <= second
            && self
                .last
                .compare_exchange(last, second + 1, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if due {
            return Some(self.left_out.swap(0, Ordering::Relaxed));
        }
        self.left_out.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::Sample;

    #[test]
    fn one_a_second_is_written_and_says_how_many_were_not() {
        let sample = Sample::new();
        let written: Vec<_> = [0, 0, 0, 1, 1, 7].into_iter().map(|second| sample.due_at(second)).collect();
        assert_eq!(written, [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
