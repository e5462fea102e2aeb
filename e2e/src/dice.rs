//! Chance that can be thrown again: everything random in a fault run comes from one printed seed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A stream of numbers that its seed decides (SplitMix64, Steele and others 2014).
#[derive(Clone, Debug)]
pub struct Dice {
    state: u64,
}

impl Dice {
    /// The stream of this seed.
    pub fn new(seed: u64) -> Self {
        Dice { state: seed }
    }

    /// The next number.
    pub fn throw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 when `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.throw().checked_rem(end).unwrap_or(0)
    }

    /// An index below `end`.
    pub fn index(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).unwrap_or(0)
    }

    /// Whether something happens that happens in so many of a hundred cases.
    pub fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    /// A time between the two, in whole milliseconds.
    pub fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let span = most.saturating_sub(least).as_millis();
        least + Duration::from_millis(self.below(u64::try_from(span).unwrap_or(u64::MAX).saturating_add(1)))
    }

    /// A stream of its own for the `number`th of several that run side by side.
    pub fn fork(&self, number: u64) -> Dice {
        let mut fork = Dice::new(self.state ^ number.wrapping_add(1).wrapping_mul(0xD134_2543_DE82_EF95));
        fork.throw();
        fork
    }
}

/// `KVFLEET_SEED`, or one taken from the clock. The caller prints it.
///
/// # Panics
/// When the variable is no number: a run that ignores it would not be the one that was asked for.
pub fn seed() -> u64 {
    match std::env::var("KVFLEET_SEED") {
        Ok(text) => text
            .trim()
            .parse()
            .unwrap_or_else(|error| panic!("KVFLEET_SEED `{text}` is no number: {error}")),
        Err(_) => SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(1, |now| u64::try_from(now.as_micros()).unwrap_or(1) % 1_000_000_000),
    }
}

/// How many times a fault run repeats: the variable, or what suits a quick run.
///
/// # Panics
/// When the variable is no number.
pub fn count(variable: &str, quick: usize) -> usize {
    match std::env::var(variable) {
        Ok(text) => text
            .trim()
            .parse()
            .unwrap_or_else(|error| panic!("{variable} `{text}` is no number: {error}")),
        Err(_) => quick,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_everything() {
        let mut first = Dice::new(7);
        let mut second = Dice::new(7);
        let mut other = Dice::new(8);
        let drawn: Vec<u64> = (0..8).map(|_| first.throw()).collect();
        assert_eq!(drawn, (0..8).map(|_| second.throw()).collect::<Vec<_>>());
        assert_ne!(drawn, (0..8).map(|_| other.throw()).collect::<Vec<_>>());
        assert_ne!(Dice::new(7).fork(0).throw(), Dice::new(7).fork(1).throw());
    }

    #[test]
    fn what_is_drawn_stays_within_its_bounds() {
        let mut dice = Dice::new(3);
        let (least, most) = (Duration::from_millis(10), Duration::from_millis(12));
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let drawn = dice.between(least, most);
            assert!(drawn >= least && drawn <= most, "{drawn:?}");
            seen.insert(drawn);
            assert!(dice.below(3) < 3);
        }
        assert_eq!(seen.len(), 3, "both ends are drawn");
        assert_eq!(dice.below(0), 0);
    }
}
