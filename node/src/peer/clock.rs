//! What time the shard has. In: the clocks and stamps that frames of other members carry, the machine's own clock, and monotonic time. Out:
//! stamps for the leader, "now" for local reads, how far clocks are off. Absent: deciding who leads (`raft` says so).
//!
//! The shard's time runs on from the last stamp by the leader's *monotonic* clock. The voters' wall clocks only correct it, and every one of
//! them, this machine's too, is measured against monotonic time:
//!
//! - A majority of the voters' clocks are past it: it catches up at once. One of them at least is right, so nothing expires early; that is
//!   how time goes on after all machines have been off for a day.
//! - A majority of the voters' clocks are behind it: it runs slower by a [`SLOWER`]th, so it neither goes back nor stands still.
//! - Otherwise no correction: of two voters whose clocks disagree, neither is believed.
//!
//! So one wrong clock among several moves nothing, whoever leads. A single voter's clock is a majority, but a step of it is no passing of
//! time: the shard's time follows by a [`FASTER`]th of what passes, and believes the clock only at the first stamp after a start.
//!
//! A stamp is never below the last one given or heard. So time does not go back under a new leader: an election needs a quorum, and one of
//! any quorum has heard the last stamp that counts.

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
/// Time that is ahead of the voters' clocks passes slower by one part in so many: a record of an hour lives at most seven minutes longer.
const SLOWER: u128 = 10;
/// Time that is behind the clock of a single voter passes faster by one part in so many: a record of an hour ends at most 36 s early.
const FASTER: u128 = 100;
/// A stamp is given out again for this long, so that the cost of a new one is not paid for each request.
const RESOLUTION: Duration = Duration::from_millis(1);
/// The clock was stepped if it differs by this from what monotonic time says, milliseconds.
const STEP_MS: u64 = 500;
/// Two readings further apart than this say nothing of each other: the process was held up between them.
const TOGETHER: Duration = Duration::from_millis(50);
/// Clocks that are remembered before the voters are known. Afterwards only the voters' are.
const STRANGERS: usize = 16;

/// The shard's time as one member knows it.
#[derive(Debug)]
pub struct Clock {
    /// Whether this member leads: then its time is the shard's, otherwise it only follows what it hears.
    leading: AtomicBool,
    readings: Mutex<Readings>,
    /// How far tests have set the machine's clock, milliseconds.
    #[cfg(test)]
    offset_ms: std::sync::atomic::AtomicI64,
}

#[derive(Debug)]
struct Readings {
    /// The shard's time at the moment `at`, nanoseconds since 1970; 0 = not known. Nanoseconds, so that many small steps add up.
    time: u128,
    at: Instant,
    /// The time is from this member's disk, if it is known at all: it stood still while the process did not run.
    resumed: bool,
    /// The latest "now" that a read was given here.
    shown_ms: u64,
    own: u64,
    voters: Vec<u64>,
    /// The others' clocks.
    clocks: BTreeMap<u64, Reading>,
    /// The own clock when it was last looked at.
    looked: Option<Reading>,
    /// Room to sort clocks in, kept so that a stamp allocates nothing.
    sorted: Vec<u64>,
}

/// A wall clock, and the moment at which it showed that.
#[derive(Clone, Copy, Debug)]
struct Reading {
    clock_ms: u64,
    heard: Instant,
}

impl Reading {
    /// What it shows now, if it runs as monotonic time does.
    fn at(&self, now: Instant) -> u64 {
        self.clock_ms.saturating_add(millis(now.saturating_duration_since(self.heard)))
    }
}

impl Clock {
    /// The clock of member `own`.
    pub fn new(own: u64) -> Self {
        let readings = Readings {
            time: 0,
            at: Instant::now(),
            resumed: true,
            shown_ms: 0,
            own,
            voters: Vec::new(),
            clocks: BTreeMap::new(),
            looked: None,
            sorted: Vec::new(),
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
        // A group that is being formed has none yet, and its first stamp needs the clocks of those who vote for it.
        if !voters.is_empty() {
            readings.clocks.retain(|member, _| voters.contains(member));
        }
        readings.voters = voters;
    }

    /// Tells whether this member leads.
    pub fn set_leading(&self, leading: bool) {
        self.leading.store(leading, Ordering::Release);
    }

    fn leads(&self) -> bool {
        self.leading.load(Ordering::Acquire)
    }

    /// Takes in what a frame carried.
    pub fn hear(&self, sender: u64, clock_ms: u64, stamp_ms: u64) {
        self.hear_at(sender, clock_ms, stamp_ms, Instant::now());
    }

    fn hear_at(&self, sender: u64, clock_ms: u64, stamp_ms: u64, now: Instant) {
        let mut readings = self.lock();
        if readings.raise(stamp_ms, now) {
            readings.resumed = false;
        }
        let counts = if readings.voters.is_empty() {
            readings.clocks.len() < STRANGERS || readings.clocks.contains_key(&sender)
        } else {
            readings.voters.contains(&sender)
        };
        if counts && sender != readings.own {
            readings.clocks.insert(sender, Reading { clock_ms, heard: now });
        }
    }

    /// Takes in a stamp that an applied entry carries.
    pub fn hear_stamp(&self, stamp_ms: u64) {
        self.lock().raise(stamp_ms, Instant::now());
    }

    /// A new stamp. Only a leader may use it.
    pub fn stamp(&self) -> u64 {
        self.stamp_at(|| self.wall_ms(), Instant::now())
    }

    fn stamp_at(&self, own_ms: impl FnOnce() -> u64, now: Instant) -> u64 {
        let mut readings = self.lock();
        readings.advance(own_ms, now);
        readings.stamp_ms()
    }

    /// What this member's frames carry: its clock and the last stamp that it knows (a leader's: a new one).
    pub(super) fn speak(&self) -> (u64, u64) {
        self.speak_at(self.wall_ms(), Instant::now())
    }

    fn speak_at(&self, own_ms: u64, now: Instant) -> (u64, u64) {
        let mut readings = self.lock();
        if self.leads() {
            readings.advance(|| own_ms, now);
        }
        (own_ms, readings.stamp_ms())
    }

    /// Now, for a read that asks no other member: the last stamp heard plus the time since, never before `at_least`, and never before an
    /// earlier answer of this member. On a leader it is the shard's time.
    pub fn local(&self, at_least: u64) -> u64 {
        self.local_at(at_least, || self.wall_ms(), Instant::now())
    }

    fn local_at(&self, at_least: u64, own_ms: impl FnOnce() -> u64, now: Instant) -> u64 {
        let mut readings = self.lock();
        let found = if self.leads() {
            readings.advance(own_ms, now);
            readings.stamp_ms()
        } else if readings.time == 0 {
            readings.median(own_ms(), now)
        } else {
            to_millis(readings.unchecked(now))
        };
        // A frame that was held up takes the estimate back by as much.
        readings.shown_ms = readings.shown_ms.max(found);
        at_least.max(readings.shown_ms)
    }

    /// How far a voter's clock is ahead of the median of the voters' clocks, milliseconds; none when it has not been heard of late.
    pub fn skew_of(&self, member: u64) -> Option<i64> {
        let own_ms = self.wall_ms();
        let now = Instant::now();
        let mut readings = self.lock();
        let reading = *readings.clocks.get(&member)?;
        let median = readings.median(own_ms, now);
        reading.is_fresh(now).then(|| difference(reading.at(now), median))
    }

    /// How far this member's own clock is ahead of the median of the voters' clocks, milliseconds.
    pub fn skew_ms(&self) -> i64 {
        let own_ms = self.wall_ms();
        difference(own_ms, self.lock().median(own_ms, Instant::now()))
    }

    /// Looks at the own clock; call it several times a second. By how many milliseconds it was stepped since the last look, if it was: as
    /// far as can be told, for a machine that was suspended finds its clock stepped ahead.
    pub fn look(&self) -> Option<i64> {
        let now = Instant::now();
        let own_ms = self.wall_ms();
        let held_up = now.elapsed() > TOGETHER;
        self.look_at(own_ms, now, held_up)
    }

    fn look_at(&self, own_ms: u64, now: Instant, held_up: bool) -> Option<i64> {
        let mut readings = self.lock();
        if self.leads() {
            // Also when nothing is asked for: so what followers and sweeps make of the last stamp stays close to the next one.
            readings.advance(|| own_ms, now);
        }
        let seen = Reading {
            clock_ms: own_ms,
            heard: now,
        };
        let before = std::mem::replace(&mut readings.looked, (!held_up).then_some(seen))?;
        let step = difference(own_ms, before.at(now));
        (!held_up && step.unsigned_abs() >= STEP_MS).then_some(step)
    }
}

impl Reading {
    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard) <= FRESH
    }
}

impl Readings {
    fn stamp_ms(&self) -> u64 {
        to_millis(self.time)
    }

    /// The shard's time if nothing corrects it.
    fn unchecked(&self, now: Instant) -> u128 {
        self.time + now.saturating_duration_since(self.at).as_nanos()
    }

    /// Whether that was news.
    fn raise(&mut self, stamp_ms: u64, now: Instant) -> bool {
        let news = stamp_ms > self.stamp_ms();
        if news {
            self.time = nanos(stamp_ms);
            self.at = now;
        }
        news
    }

    /// Moves the shard's time on to now.
    fn advance(&mut self, own_ms: impl FnOnce() -> u64, now: Instant) {
        let passed = now.saturating_duration_since(self.at);
        if self.time != 0 && !self.resumed && passed < RESOLUTION {
            return;
        }
        let passed = passed.as_nanos();
        let free = self.unchecked(now);
        let own_ms = own_ms();
        let may_jump = self.resumed || self.voters.len() > 1;
        self.time = match self.majority(own_ms, now) {
            // Too few clocks are known to correct anything; the very first stamp has to be some time all the same.
            None if self.time == 0 => nanos(own_ms),
            None => free,
            Some((reached, _)) if reached > free && may_jump => reached,
            Some((reached, _)) if reached > free => reached.min(free + passed / FASTER),
            Some((_, bound)) if bound < free => bound.max(free - passed / SLOWER),
            Some(_) => free,
        };
        self.at = now.max(self.at);
        self.resumed = false;
    }

    /// What a majority of the voters' clocks have reached, and what a majority have not passed: equal for an odd number of known clocks,
    /// otherwise the first is the earlier. None when less than a majority of the clocks are known.
    fn majority(&mut self, own_ms: u64, now: Instant) -> Option<(u128, u128)> {
        self.sort(own_ms, now);
        // Before the voters are known, as if all who were heard were voters.
        let majority = self.voters.len().max(self.sorted.len()) / 2 + 1;
        let reached = self.sorted.len().checked_sub(majority)?;
        let at = |place: usize| self.sorted.get(place).copied().map(nanos);
        Some((at(reached)?, at(majority - 1)?))
    }

    /// The lower median of the voters' clocks that are known, our own among them.
    fn median(&mut self, own_ms: u64, now: Instant) -> u64 {
        self.sort(own_ms, now);
        self.sorted.get((self.sorted.len() - 1) / 2).copied().unwrap_or(own_ms)
    }

    /// The clocks that are known: our own is.
    fn sort(&mut self, own_ms: u64, now: Instant) {
        self.sorted.clear();
        self.sorted.push(own_ms);
        let others = self.clocks.values().filter(|reading| reading.is_fresh(now));
        self.sorted.extend(others.map(|reading| reading.at(now)));
        self.sorted.sort_unstable();
    }
}

fn nanos(milliseconds: u64) -> u128 {
    u128::from(milliseconds) * 1_000_000
}

fn to_millis(nanoseconds: u128) -> u64 {
    u64::try_from(nanoseconds / 1_000_000).unwrap_or(u64::MAX)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// By how much the first is later, milliseconds.
fn difference(clock_ms: u64, other_ms: u64) -> i64 {
    i64::try_from(i128::from(clock_ms) - i128::from(other_ms)).unwrap_or(if clock_ms > other_ms { i64::MAX } else { i64::MIN })
}

#[cfg(test)]
mod tests;
