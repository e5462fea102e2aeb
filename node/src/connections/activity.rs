//! What happens on one connection. In: requests that begin and end, writes that wait. Out: of how little use the connection is.
//!
//! Its own task writes, without a lock; the roster reads, and takes the connection away with one exchange that a beginning request loses or
//! wins as a whole: an idle connection that is let go has begun nothing.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// A client that connects sends a request's head with it, or within this time on any network.
const SILENT: Duration = Duration::from_secs(1);
/// A client that has taken nothing of its answers for this long does not read.
const STUCK: Duration = Duration::from_secs(5);
/// One that has taken nothing for this long may not.
const SLOW: Duration = Duration::from_secs(1);
/// One that has not taken all of its answers within this time takes them slowly, perhaps on purpose.
const DRIP: Duration = Duration::from_secs(10);
/// A client that takes nothing for this long is cut off, also when there is room.
const UNREAD: Duration = Duration::from_secs(30);

/// The low bits of the word: where the connection stands. The rest is since when, in milliseconds.
const PHASE_BITS: u32 = 3;
const PHASE: u64 = (1 << PHASE_BITS) - 1;
/// No request has come.
const NEW: u64 = 0;
/// A request is under way.
const BUSY: u64 = 1;
/// Its answer has been handed over, and is not sent yet.
const ANSWERED: u64 = 2;
/// Between two requests.
const IDLE: u64 = 3;
/// Let go.
const SHED: u64 = 4;

/// Of how little use a connection is, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Use {
    /// It has asked for nothing, and had the time.
    Silent,
    /// It takes no answers.
    Stuck,
    /// Between two requests.
    Idle,
    /// It takes its answers slowly.
    Slow,
    /// It has just come.
    New,
}

/// One connection's.
#[derive(Debug)]
pub struct Activity {
    epoch: Instant,
    word: AtomicU64,
    /// Since when a write has waited and nothing was taken, plus one; 0 while none waits.
    blocked: AtomicU64,
    /// Since when answers have waited, plus one; 0 when all are sent.
    unsent: AtomicU64,
}

impl Activity {
    pub(super) fn new(epoch: Instant) -> Self {
        let activity = Activity {
            epoch,
            word: AtomicU64::new(0),
            blocked: AtomicU64::new(0),
            unsent: AtomicU64::new(0),
        };
        let word = activity.now() << PHASE_BITS | NEW;
        activity.word.store(word, Ordering::Relaxed);
        activity
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A request begins; false when the connection has been let go, and nothing may begin.
    pub fn begin(&self) -> bool {
        self.step(|phase| (phase != SHED).then_some(BUSY))
    }

    /// The answer has been handed over.
    pub fn answered(&self) {
        self.step(|phase| (phase == BUSY).then_some(ANSWERED));
    }

    /// All that was handed over is sent.
    pub(super) fn flushed(&self) {
        if self.word.load(Ordering::Relaxed) & PHASE == ANSWERED {
            let now = self.now();
            let idle = |word: u64| (word & PHASE == ANSWERED).then_some(now << PHASE_BITS | IDLE);
            let _ = self.word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, idle);
        }
        if self.unsent.load(Ordering::Relaxed) != 0 {
            self.unsent.store(0, Ordering::Relaxed);
            self.blocked.store(0, Ordering::Relaxed);
        }
    }

    /// The client has taken something.
    pub(super) fn wrote(&self) {
        if self.blocked.load(Ordering::Relaxed) != 0 {
            self.blocked.store(0, Ordering::Relaxed);
        }
    }

    /// The client takes nothing at the moment.
    pub(super) fn write_waits(&self) {
        for since in [&self.blocked, &self.unsent] {
            if since.load(Ordering::Relaxed) == 0 {
                since.store(self.now() + 1, Ordering::Relaxed);
            }
        }
    }

    /// Whether the client has taken nothing for so long that the connection ends.
    pub fn is_unread(&self) -> bool {
        self.waited(&self.blocked, self.now()).is_some_and(|waited| waited >= UNREAD)
    }

    fn waited(&self, since: &AtomicU64, now: u64) -> Option<Duration> {
        let since = since.load(Ordering::Relaxed).checked_sub(1)?;
        Some(Duration::from_millis(now.saturating_sub(since)))
    }

    /// Of how little use it is, and since when (milliseconds); none while a request is under way whose client takes what it is sent.
    pub(super) fn standing(&self) -> Option<(Use, u64)> {
        let now = self.now();
        let word = self.word.load(Ordering::Relaxed);
        let (phase, since) = (word & PHASE, word >> PHASE_BITS);
        if phase == SHED {
            return None;
        }
        if let Some(blocked) = self.waited(&self.blocked, now)
            && blocked >= SLOW
        {
            let class = if blocked >= STUCK { Use::Stuck } else { Use::Slow };
            return Some((class, self.blocked.load(Ordering::Relaxed)));
        }
        if self.waited(&self.unsent, now).is_some_and(|unsent| unsent >= DRIP) {
            return Some((Use::Slow, self.unsent.load(Ordering::Relaxed)));
        }
        match phase {
            NEW if now.saturating_sub(since) >= SILENT.as_millis().try_into().unwrap_or(u64::MAX) => Some((Use::Silent, since)),
            NEW => Some((Use::New, since)),
            IDLE => Some((Use::Idle, since)),
            _ => None,
        }
    }

    /// Lets the connection go, unless something has happened on it that makes it more useful than `class`, or as useful but later.
    pub(super) fn shed(&self, class: Use, since: u64) -> bool {
        let word = self.word.load(Ordering::Relaxed);
        if self.standing().is_none_or(|standing| standing > (class, since)) {
            return false;
        }
        // A client that does not read loses what is under way: it would not read the answer.
        let shed = self.word.compare_exchange(word, SHED, Ordering::Relaxed, Ordering::Relaxed);
        shed.is_ok()
    }

    fn step(&self, next: impl Fn(u64) -> Option<u64>) -> bool {
        let step = |word: u64| next(word & PHASE);
        self.word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn after(time: Duration) {
        tokio::time::advance(time).await;
    }

    fn class(activity: &Activity) -> Option<Use> {
        activity.standing().map(|(class, _)| class)
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_new_silent_busy_and_idle() {
        let activity = Activity::new(Instant::now());
        assert_eq!(class(&activity), Some(Use::New));
        after(SILENT).await;
        assert_eq!(class(&activity), Some(Use::Silent));
        assert!(activity.begin());
        assert_eq!(class(&activity), None);
        activity.flushed();
        assert_eq!(class(&activity), None, "100 Continue is no answer");
        activity.answered();
        assert_eq!(class(&activity), None, "not sent yet");
        activity.flushed();
        assert_eq!(class(&activity), Some(Use::Idle));
        assert!(activity.begin() && class(&activity).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_slow_then_stuck_then_cut_off() {
        let activity = Activity::new(Instant::now());
        assert!(activity.begin());
        activity.write_waits();
        assert_eq!(class(&activity), None);
        after(SLOW).await;
        // Asked again, the socket has no room still: that is no progress.
        activity.write_waits();
        assert_eq!(class(&activity), Some(Use::Slow));
        after(STUCK - SLOW).await;
        assert_eq!(class(&activity), Some(Use::Stuck));
        activity.wrote();
        activity.write_waits();
        assert_eq!(class(&activity), None);
        after(DRIP - STUCK).await;
        assert_eq!(class(&activity), Some(Use::Stuck));
        activity.wrote();
        assert_eq!(class(&activity), Some(Use::Slow), "a little now and then");
        activity.write_waits();
        after(UNREAD).await;
        assert!(activity.is_unread());
        activity.answered();
        activity.flushed();
        assert_eq!(class(&activity), Some(Use::Idle));
        assert!(!activity.is_unread());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_and_the_end_of_its_connection_exclude_each_other() {
        let activity = Activity::new(Instant::now());
        let (class, since) = activity.standing().expect("new");
        assert!(activity.begin());
        assert!(!activity.shed(class, since), "a request has begun");
        activity.answered();
        activity.flushed();
        assert!(!activity.shed(Use::Silent, u64::MAX), "it has become more useful");
        let (class, since) = activity.standing().expect("idle");
        assert!(activity.shed(class, since));
        assert!(!activity.begin(), "nothing begins after that");
        assert!(!activity.shed(class, since), "once");
    }
}
