//! How old what this member has applied may be, by monotonic clocks only. In: what appends tell of the leader's commit index, and what
//! openraft knows of the quorum. Out: the moment as of which the applied state is certainly complete. Absent: refusing a read for it
//! (`read`).
//!
//! That an append has just come says little: it may have lain in a buffer while the network was cut, and its sender may be a leader that
//! the others have replaced. So each age is measured on one clock, and the ages are added up:
//!
//! - a follower puts a tick of its clock into each answer, and the leader puts the last tick that it has from that follower into each
//!   append: the append was certainly made after that tick;
//! - the leader adds how long ago it sent what a quorum has acknowledged since: until then nobody else can have led.
//!
//! So the commit index in an append covers everything that was acknowledged up to *tick − age*. A leader tells its commit index only when
//! that is of its own term: before, it does not know how far its predecessor had come.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use openraft::{Instant as _, RaftMetrics, ServerState, async_runtime::watch::WatchReceiver as _, type_config::alias::WatchReceiverOf};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::time::Instant;

use super::types::Types;

/// How many commit indexes that are not applied yet are remembered. The last one then stands for all that come after it.
const AHEAD: usize = 64;

/// What a leader tells with its appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// The last tick that it has from the follower.
    pub(super) tick: u64,
    /// Its commit index.
    pub(super) index: u64,
    /// How long ago it sent what a quorum has acknowledged since, microseconds.
    pub(super) age_us: u32,
}

/// The last tick that was heard from one follower; 0 before the first.
pub(super) type Heard = Arc<AtomicU64>;

/// What one member knows of its own age.
pub(super) struct Freshness {
    origin: Instant,
    /// Where its ticks begin, at random: a tick of an earlier life of this member is not taken for one of this life.
    base: u64,
    metrics: OnceLock<WatchReceiverOf<Types, RaftMetrics<Types>>>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// What is applied was complete at this moment.
    complete: Option<Instant>,
    /// Commit indexes that were not applied when they were last looked at, and as of when each covers everything; both rise.
    ahead: VecDeque<(u64, Instant)>,
}

impl Freshness {
    pub(super) fn new() -> Self {
        let mut base = [0; 8];
        // Without randomness ticks begin at 0, and one of an earlier life is still refused unless that life was shorter.
        let _ = SystemRandom::new().fill(&mut base);
        Freshness {
            origin: Instant::now(),
            base: u64::from_be_bytes(base),
            metrics: OnceLock::new(),
            known: Mutex::default(),
        }
    }

    /// From now on this member knows when it leads.
    pub(super) fn follow(&self, metrics: WatchReceiverOf<Types, RaftMetrics<Types>>) {
        // Called once, when the group starts.
        let _ = self.metrics.set(metrics);
    }

    /// This member's clock, for an answer to an append.
    pub(super) fn tick(&self) -> u64 {
        self.base.wrapping_add(micros(self.origin.elapsed()))
    }

    /// What this member, if it leads, tells a follower that it heard this tick from.
    pub(super) fn tell(&self, heard: &AtomicU64) -> Option<Told> {
        let tick = heard.load(Ordering::Acquire);
        if tick == 0 {
            return None;
        }
        let (index, age) = self.led()?;
        Some(Told {
            tick,
            index,
            age_us: u32::try_from(age.as_micros()).ok()?,
        })
    }

    /// Takes in what the leader told.
    pub(super) fn hear(&self, told: Told) {
        let now = Instant::now();
        let since = Duration::from_micros(self.tick().wrapping_sub(told.tick));
        let age = since.saturating_add(Duration::from_micros(told.age_us.into()));
        // Older than this life: the tick is of another one, or the news is of no use.
        if since <= now.saturating_duration_since(self.origin)
            && let Some(moment) = now.checked_sub(age)
        {
            self.known().note(told.index, moment);
        }
    }

    /// How old at most the state is that has applied this index; none while that is not known.
    pub(super) fn age(&self, applied: Option<u64>) -> Option<Duration> {
        let led = self.led();
        let now = Instant::now();
        let mut known = self.known();
        if let Some((index, age)) = led
            && let Some(moment) = now.checked_sub(age)
        {
            known.note(index, moment);
        }
        known.complete_at(applied?).map(|moment| now.saturating_duration_since(moment))
    }

    /// On the leader: its commit index, and how long ago it certainly led.
    fn led(&self) -> Option<(u64, Duration)> {
        let metrics = self.metrics.get()?.borrow_watched();
        let committed = metrics.cluster_committed?;
        if metrics.state != ServerState::Leader || committed.leader_id.term != metrics.current_term {
            return None;
        }
        if let [voters] = metrics.membership_config.membership().get_joint_config().as_slice()
            && voters.len() == 1
        {
            return Some((committed.index, Duration::ZERO));
        }
        Some((committed.index, metrics.last_quorum_acked?.elapsed()))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn note(&mut self, index: u64, moment: Instant) {
        if self.complete.is_some_and(|complete| moment <= complete) {
            return;
        }
        let full = self.ahead.len() >= AHEAD;
        match self.ahead.back_mut() {
            Some((last, at)) if index == *last => *at = moment.max(*at),
            // Appends of two lanes may overtake each other: what says less than is known is left out.
            Some((last, at)) if index < *last || moment <= *at => {}
            Some(back) if full => *back = (index, moment),
            _ => self.ahead.push_back((index, moment)),
        }
    }

    fn complete_at(&mut self, applied: u64) -> Option<Instant> {
        while let Some((_, moment)) = self.ahead.pop_front_if(|(index, _)| *index <= applied) {
            self.complete = Some(moment);
        }
        self.complete
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
