//! What the leader refused, and when it is asked again.
//!
//! In: refusals. Out: the same words, without a call, until the next one is due. A call costs the leader a ping of every member, a release a
//! read barrier and up to an election time, and what it says holds figures that move: so the pause doubles from one refusal to the next. One
//! refusal per cluster is kept. Absent: the calls.

use std::time::{Duration, Instant};

use kvfleet_client::admin;
use kvfleet_crds::conditions::Reason;

use crate::{
    cluster::plan::Act,
    error::{Error, chain},
};

/// What time can alter is asked for again after this, and then after twice as long …
const SOON: Duration = Duration::from_millis(500);
/// … up to this.
const SOON_AT_MOST: Duration = Duration::from_secs(10);
/// The same for a release, and for what only a person or another member can alter.
const LATER: Duration = Duration::from_secs(1);
const LATER_AT_MOST: Duration = Duration::from_secs(30);

/// What the leader refused last.
#[derive(Debug, Default)]
pub struct Refusals(Option<Refused>);

#[derive(Debug)]
struct Refused {
    act: Act,
    /// Another leader may see it differently.
    leader: String,
    /// Whether time alone cannot alter it.
    lasts: bool,
    words: String,
    times: u32,
    again: Instant,
}

impl Refusals {
    /// The refusal of this act, while it is too early to ask again.
    #[must_use]
    pub fn standing(&self, act: &Act, leader: &str, now: Instant) -> Option<Error> {
        let refused = self.0.as_ref().filter(|refused| refused.is(act, leader))?;
        (now < refused.again).then(|| refused.error())
    }

    /// Keeps a refusal; its words are what a person must see while it lasts.
    pub fn note(&mut self, act: &Act, leader: &str, refusal: &admin::Error, now: Instant) -> Error {
        // The leader may say "not now" to a release for as long as it likes.
        let is_release = matches!(act, Act::Release { .. });
        let lasts = !is_release && !refusal.is_retryable();
        let before = self.0.take().filter(|refused| refused.is(act, leader));
        let times = before.map_or(0, |refused| refused.times.saturating_add(1));
        let (first, most) = match is_release || lasts {
            true => (LATER, LATER_AT_MOST),
            false => (SOON, SOON_AT_MOST),
        };
        let refused = self.0.insert(Refused {
            act: act.clone(),
            leader: leader.to_owned(),
            lasts,
            words: format!("{act}: {}", chain(refusal)),
            times,
            again: now + first.saturating_mul(1 << times.min(6)).min(most),
        });
        refused.error()
    }

    /// The last call was carried out.
    pub fn forget(&mut self) {
        self.0 = None;
    }
}

impl Refused {
    fn is(&self, act: &Act, leader: &str) -> bool {
        self.act == *act && self.leader == leader
    }

    fn error(&self) -> Error {
        match self.lasts {
            true => Error::Halted {
                reason: Reason::CHANGE_REFUSED,
                message: self.words.clone(),
            },
            false => Error::Waits(self.words.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use kvfleet_api::{Code, Problem};

    use super::*;
    use crate::error::Kind;

    fn refused(retryable: bool) -> admin::Error {
        let mut problem = Problem::new(Code::Conflict, "the name is taken", "t");
        problem.retryable = retryable;
        admin::Error::Refused(Box::new(problem))
    }

    fn remove() -> Act {
        Act::Remove {
            pod: "p1".to_owned(),
            id: 12,
        }
    }

    /// The pauses in which the act is not asked for again, as often as it is refused.
    fn pauses(act: &Act, retryable: bool) -> Vec<Duration> {
        let (mut refusals, mut now) = (Refusals::default(), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..8 {
            refusals.note(act, "p0", &refused(retryable), now);
            let mut pause = Duration::ZERO;
            while refusals.standing(act, "p0", now + pause).is_some() {
                pause += Duration::from_millis(500);
            }
            pauses.push(pause);
            now += pause;
        }
        pauses
    }

    #[test]
    fn what_is_refused_is_asked_again_more_and_more_rarely() {
        let seconds = |list: [f64; 8]| list.map(Duration::from_secs_f64).to_vec();
        assert_eq!(pauses(&remove(), true), seconds([0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0]));
        let slow = seconds([1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]);
        assert_eq!(pauses(&remove(), false), slow);
        let release = Act::Release { pod: "p1".to_owned() };
        assert_eq!(pauses(&release, true), slow);
        assert_eq!(pauses(&release, false), slow);
    }

    #[test]
    fn a_refusal_that_time_does_not_alter_is_told_with_its_words() {
        let mut refusals = Refusals::default();
        let now = Instant::now();
        let error = refusals.note(&remove(), "p0", &refused(false), now);
        assert_eq!(error.kind(), Kind::Refused);
        assert!(
            error.to_string().contains("taking p1 out of the group: the name is taken"),
            "{error}"
        );
        assert!(matches!(error, Error::Halted { reason, .. } if reason == Reason::CHANGE_REFUSED));
        // The same words while it is not asked again.
        assert_eq!(refusals.standing(&remove(), "p0", now).unwrap().to_string(), error.to_string());

        let error = refusals.note(&remove(), "p0", &refused(true), now);
        assert_eq!(error.kind(), Kind::Waits);
        // The leader's "not now" to a release is not final.
        let release = Act::Release { pod: "p1".to_owned() };
        assert_eq!(refusals.note(&release, "p0", &refused(false), now).kind(), Kind::Waits);
    }

    #[test]
    fn another_act_or_another_leader_is_asked_at_once() {
        let mut refusals = Refusals::default();
        let now = Instant::now();
        refusals.note(&remove(), "p0", &refused(false), now);
        assert!(refusals.standing(&remove(), "p1", now).is_none());
        let other = Act::Release { pod: "p1".to_owned() };
        assert!(refusals.standing(&other, "p0", now).is_none());
        refusals.forget();
        assert!(refusals.standing(&remove(), "p0", now).is_none());
    }
}
