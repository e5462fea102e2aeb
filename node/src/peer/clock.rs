//! What time the shard has. In: the clocks and stamps that frames of other members carry, and the machine's own clock. Out: stamps for
//! the leader, "now" for local reads. Absent: deciding who leads (`raft` says so).
//!
//! A stamp is the highest of the last stamp, the highest heard, and the median of the voters' clocks. So it never goes back, also under a
//! new leader (an election needs a quorum, and one of any quorum has heard the last stamp that counts), and one bad clock neither expires
//! everyone's data nor freezes time.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::runtime;

/// A clock heard longer ago than this no longer counts: its member may be gone, and its machine may have drifted.
const FRESH: Duration = Duration::from_secs(30);

/// The shard's time as one member knows it.
#[derive(Debug)]
pub struct Clock {
    /// Whether this member leads: then its stamp moves on with the median, otherwise it only follows what it hears.
    leading: AtomicBool,
    readings: Mutex<Readings>,
    /// How far tests have set the machine's clock, milliseconds.
    #[cfg(test)]
    offset_ms: std::sync::atomic::AtomicI64,
}

#[derive(Debug)]
struct Readings {
    stamp: u64,
    /// When the stamp last rose.
    risen: Instant,
    own: u64,
    voters: Vec<u64>,
    /// How far ahead of our clock the others' clocks are, milliseconds, and when we heard it.
    ahead: BTreeMap<u64, (i64, Instant)>,
}

impl Clock {
    /// The clock of member `own`.
    pub fn new(own: u64) -> Self {
        let readings = Readings {
            stamp: 0,
            risen: Instant::now(),
            own,
            voters: Vec::new(),
            ahead: BTreeMap::new(),
        };
        Clock {
            leading: AtomicBool::new(false),
            readings: Mutex::new(readings),
            #[cfg(test)]
            offset_ms: std::sync::atomic::AtomicI64::new(0),
        }
    }

    /// The machine's clock, Unix milliseconds.
    fn wall_ms(&self) -> u64 {
        let now = runtime::wall_ms();
        #[cfg(test)]
        let now = now.saturating_add_signed(self.offset_ms.load(Ordering::Relaxed));
        now
    }

    /// Sets the machine's clock, as far as this member sees it.
    #[cfg(test)]
    pub(crate) fn set_offset(&self, milliseconds: i64) {
        self.offset_ms.store(milliseconds, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Readings> {
        self.readings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose clocks count.
    pub fn set_voters(&self, voters: Vec<u64>) {
        let mut readings = self.lock();
        readings.ahead.retain(|member, _| voters.contains(member));
        readings.voters = voters;
    }

    /// Tells whether this member leads.
    pub fn set_leading(&self, leading: bool) {
        self.leading.store(leading, Ordering::Release);
    }

    /// Takes in what a frame carried.
    pub fn hear(&self, sender: u64, clock_ms: u64, stamp_ms: u64) {
        self.hear_at(sender, clock_ms, stamp_ms, self.wall_ms(), Instant::now());
    }

    /// Takes in a stamp that an applied entry carries.
    pub fn hear_stamp(&self, stamp_ms: u64) {
        self.lock().raise(stamp_ms, Instant::now());
    }

    fn hear_at(&self, sender: u64, clock_ms: u64, stamp_ms: u64, own_ms: u64, now: Instant) {
        let mut readings = self.lock();
        readings.raise(stamp_ms, now);
        // Only voters count, so only they are remembered: the table stays as small as the group.
        if readings.voters.contains(&sender) {
            let ahead = i64::try_from(i128::from(clock_ms) - i128::from(own_ms)).unwrap_or(i64::MAX);
            readings.ahead.insert(sender, (ahead, now));
        }
    }

    /// A new stamp. Only a leader may use it.
    pub fn stamp(&self) -> u64 {
        self.stamp_at(self.wall_ms(), Instant::now())
    }

    fn stamp_at(&self, own_ms: u64, now: Instant) -> u64 {
        let mut readings = self.lock();
        let median = readings.median(own_ms, now);
        readings.raise(median, now);
        readings.stamp
    }

    /// What this member's frames carry: its clock and the last stamp that it knows (a leader's: a new one).
    pub(super) fn speak(&self) -> (u64, u64) {
        let own_ms = self.wall_ms();
        let now = Instant::now();
        let stamp = if self.leading.load(Ordering::Acquire) {
            self.stamp_at(own_ms, now)
        } else {
            self.lock().stamp
        };
        (own_ms, stamp)
    }

    /// Now, for a read that asks nobody: the last stamp heard plus the time since, never before `at_least`.
    pub fn local(&self, at_least: u64) -> u64 {
        let now = Instant::now();
        let readings = self.lock();
        if readings.stamp == 0 {
            return at_least.max(readings.median(self.wall_ms(), now));
        }
        at_least.max(readings.stamp.saturating_add(millis(now.saturating_duration_since(readings.risen))))
    }

    /// How far a voter's clock is ahead of the median of the voters' clocks, milliseconds; none when it has not been heard of late.
    pub fn skew_of(&self, member: u64) -> Option<i64> {
        let own_ms = self.wall_ms();
        let now = Instant::now();
        let readings = self.lock();
        let (ahead, heard) = *readings.ahead.get(&member)?;
        let median = i128::from(readings.median(own_ms, now));
        let clock = i128::from(own_ms.saturating_add_signed(ahead));
        (now.saturating_duration_since(heard) <= FRESH).then(|| i64::try_from(clock - median).unwrap_or(i64::MAX))
    }

    /// How far this member's own clock is ahead of the median of the voters' clocks, milliseconds.
    pub fn skew_ms(&self) -> i64 {
        let own_ms = self.wall_ms();
        let median = self.lock().median(own_ms, Instant::now());
        i64::try_from(i128::from(own_ms) - i128::from(median)).unwrap_or(i64::MAX)
    }
}

impl Readings {
    fn raise(&mut self, stamp_ms: u64, now: Instant) {
        if stamp_ms > self.stamp {
            self.stamp = stamp_ms;
            self.risen = now;
        }
    }

    /// The lower median of the voters' clocks that are known, our own among them.
    fn median(&self, own_ms: u64, now: Instant) -> u64 {
        let others = self
            .ahead
            .iter()
            .filter(|(member, (_, heard))| **member != self.own && now.saturating_duration_since(*heard) <= FRESH);
        let mut clocks: Vec<u64> = others.map(|(_, (ahead, _))| own_ms.saturating_add_signed(*ahead)).collect();
        clocks.push(own_ms);
        clocks.sort_unstable();
        clocks.get((clocks.len() - 1) / 2).copied().unwrap_or(own_ms)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: u64 = 1_800_000_000_000;

    fn three() -> Clock {
        let clock = Clock::new(1);
        clock.set_voters(vec![1, 2, 3]);
        clock
    }

    #[test]
    fn one_bad_clock_moves_no_stamp() {
        let now = Instant::now();
        for (second, third, expected) in [
            (NOON + 5, NOON + 9_999_999, NOON + 5),
            (NOON - 5, 0, NOON - 5),
            (NOON + 3, NOON - 3, NOON),
        ] {
            let clock = three();
            clock.hear_at(2, second, 0, NOON, now);
            clock.hear_at(3, third, 0, NOON, now);
            assert_eq!(clock.stamp_at(NOON, now), expected);
        }
    }

    #[test]
    fn a_stamp_never_goes_back() {
        let clock = three();
        let now = Instant::now();
        clock.hear_at(2, NOON - 10_000, NOON + 500, NOON, now);
        assert_eq!(
            clock.stamp_at(NOON, now),
            NOON + 500,
            "a stamp heard is the least that the next one is"
        );
        assert_eq!(clock.stamp_at(NOON - 60_000, now), NOON + 500, "our clock set back");
        assert_eq!(
            clock.stamp_at(NOON + 20_000, now),
            NOON + 10_000,
            "the lower of the two clocks known"
        );
    }

    #[test]
    fn clocks_of_strangers_and_old_news_do_not_count() {
        let clock = three();
        let now = Instant::now();
        clock.hear_at(9, NOON + 7_000, 0, NOON, now);
        assert_eq!(clock.stamp_at(NOON, now), NOON);
        clock.hear_at(2, NOON - 9_000, 0, NOON, now);
        clock.hear_at(3, NOON - 9_000, 0, NOON, now);
        let later = now + FRESH + Duration::from_millis(1);
        assert_eq!(clock.stamp_at(NOON + 30_001, later), NOON + 30_001);
    }

    #[test]
    fn a_follower_repeats_what_it_heard() {
        let clock = three();
        clock.hear_at(2, NOON, NOON, NOON, Instant::now());
        assert_eq!(clock.speak().1, NOON);
        assert!(clock.local(0) >= NOON);
        assert_eq!(clock.local(u64::MAX), u64::MAX);
        clock.set_leading(true);
        assert!(clock.speak().1 >= NOON);
    }
}
